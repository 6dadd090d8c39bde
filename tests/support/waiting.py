"""Waiting for what happens in another thread or process, for as long as it may take and no longer."""

from __future__ import annotations

import time
from collections.abc import Callable


def wait_until(happened: Callable[[], object], timeout: float, what: str) -> None:
    """Return as soon as ``happened`` says so; fail with ``what`` after ``timeout`` seconds."""
    deadline = time.monotonic() + timeout
    while not happened():
        assert time.monotonic() < deadline, f"within {timeout:g} s: {what}"
        time.sleep(0.02)
