"""Polling for a condition with a deadline: the only way in which tests wait."""

import time
from collections.abc import Callable
from typing import Final, TypeVar

T = TypeVar("T")

_FIRST_PAUSE_S: Final = 0.02
_LONGEST_PAUSE_S: Final = 0.1
_GROWTH: Final = 1.3


def eventually(look: Callable[[], T], what: str = "it", within_s: float = 240) -> T:
    """Call `look` until it returns a true value, and return that value. Fails after `within_s` seconds.

    `what` names the expected event in the failure's message. The pauses between two looks grow from 20 ms to 100 ms: a
    look at a broker or a service costs both sides computing, which what is waited for would need.
    """
    deadline = time.monotonic() + within_s
    pause = _FIRST_PAUSE_S
    while not (found := look()):
        assert time.monotonic() < deadline, f"{what} did not happen within {within_s:g} s"
        time.sleep(pause)
        pause = min(pause * _GROWTH, _LONGEST_PAUSE_S)
    return found
