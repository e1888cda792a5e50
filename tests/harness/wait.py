"""Waiting for conditions. Nothing in the tests sleeps for a time and hopes."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

#: Multiplies every deadline; raise it on a slow or busy machine.
PATIENCE = float(os.environ.get("WARREN_TEST_PATIENCE", "1"))

#: Seconds that an ordinary condition may take: far beyond what a healthy broker needs.
SOON = 30.0 * PATIENCE


def bound(seconds: float) -> float:
    """`seconds`, stretched by the patience of this run."""
    return seconds * PATIENCE


def eventually(
    check: Callable[[], T],
    timeout: float = SOON,
    what: str | None = None,
    interval: float = 0.02,
) -> T:
    """Calls `check` until it returns something truthy and returns that.

    An `AssertionError` counts as "not yet"; the last one is shown when the time is up.
    """
    deadline = time.monotonic() + timeout
    last: BaseException | None = None
    while True:
        try:
            value = check()
            last = None
            if value:
                return value
        except AssertionError as error:
            last = error
        if time.monotonic() >= deadline:
            label = what or getattr(check, "__name__", "condition")
            raise AssertionError(f"not within {timeout:.0f} s: {label}") from last
        time.sleep(interval)
        interval = min(interval * 1.5, 0.25)
