"""quixstreams in an environment of its own: it pins versions that are not ours."""

from __future__ import annotations

import subprocess
import sys
import venv
from pathlib import Path
from typing import Final

DIRECTORY: Final = Path(__file__).parents[2] / ".cache" / "bench-quix"
PACKAGES: Final = ("quixstreams>=3.20", "river>=0.26")


class QuixUnavailable(Exception):
    """It cannot be installed here."""


def environment() -> Path:
    """The Python of the environment, which is made once. Raises ``QuixUnavailable``."""
    python = DIRECTORY / "bin" / "python"
    complete = DIRECTORY / ".complete"
    if not complete.exists():
        print(f"Installing {' and '.join(PACKAGES)} into {DIRECTORY} …", file=sys.stderr)
        venv.create(DIRECTORY, clear=True, with_pip=True)
        pip = [str(python), "-m", "pip", "--quiet", "--disable-pip-version-check", "--no-input", "install"]
        installed = subprocess.run([*pip, *PACKAGES], check=False, stdout=sys.stderr)
        if installed.returncode:
            raise QuixUnavailable(f"pip could not install {' and '.join(PACKAGES)}")
        complete.touch()
    return python
