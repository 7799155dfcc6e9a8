"""Polling for a condition with a deadline: the only way in which tests wait."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def eventually(look: Callable[[], T], what: str = "it", within_s: float = 120) -> T:
    """Call `look` until it returns a true value, and return that value. Fails after `within_s` seconds.

    `what` names the expected event in the failure's message.
    """
    deadline = time.monotonic() + within_s
    while not (found := look()):
        assert time.monotonic() < deadline, f"{what} did not happen within {within_s:g} s"
        time.sleep(0.02)
    return found
