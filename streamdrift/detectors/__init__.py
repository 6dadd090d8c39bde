"""Detectors, one file each. A new one is its file and a line in ``table()``; the law tests then cover it.

``effects`` are the scores that people know, as plain functions; ``river`` adapts the detectors of River.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from streamdrift.detectors.detector import DetectorFactory


def table() -> Mapping[str, DetectorFactory]:
    """Every detector that runs on each model with a baseline, by the name that stands in its alerts."""
    # Imported here, since windows need the effects of this package.
    from streamdrift.detectors.psi_windows import PsiWindows

    return {PsiWindows.name: PsiWindows}
