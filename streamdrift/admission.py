"""Which model versions are watched where there are more than may be."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Final

from streamdrift.entries import admission_rank
from streamdrift.gridbook import ModelKey

MAX_VERSIONS: Final = 16
"""Versions of a configured model that are admitted beyond the bound: their names are the users' events' to choose."""


@dataclass(frozen=True, slots=True)
class Admission:
    """The bound of a partition, and what is exempt from it."""

    configured: Collection[ModelKey]
    """Always admitted, never retired."""
    max_models: int
    """Other model versions that are watched."""
    listed: Collection[str] = ()
    """Ids of models whose versions are admitted first, and up to ``MAX_VERSIONS`` of each beyond the bound."""

    def refused(self, new: Iterable[ModelKey], watched: Iterable[ModelKey]) -> set[ModelKey]:
        """Which new model versions have no place, in an order that no arrival decides."""
        versions = Counter(key[0] for key in watched if key not in self.configured)
        taken = sum(max(0, n - self._free_places(model_id)) for model_id, n in versions.items())
        refused = set()
        for key in sorted(new, key=lambda k: (k[0] not in self.listed, *admission_rank(*k))):
            model_id = key[0]
            needs_place = key not in self.configured and versions[model_id] >= self._free_places(model_id)
            if needs_place and taken >= self.max_models:
                refused.add(key)
                continue
            taken += needs_place
            versions[model_id] += key not in self.configured
        return refused

    def _free_places(self, model_id: str) -> int:
        """Versions of a model that take none of the places that are bounded."""
        return MAX_VERSIONS if model_id in self.listed else 0
