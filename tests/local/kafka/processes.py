"""Helpers for processes, as /proc shows them."""

import time
from collections.abc import Callable
from pathlib import Path


def until(condition: Callable[[], bool], within_s: float = 20.0) -> bool:
    """Wait until `condition` returns True; return False if it does not within the time."""
    deadline = time.monotonic() + within_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def children(pid: int) -> list[int]:
    """Return the ids of the running processes that `pid` has started."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def runs(pid: int) -> bool:
    """Return True if the process runs, False if it has ended, reaped or not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
