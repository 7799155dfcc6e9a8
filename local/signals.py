"""Signals that ask us to end, kept out of where they must not be heard."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

ENDING: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextmanager
def held() -> Iterator[None]:
    """Signals that ask us to end wait until the block is over.

    Around the start of a process: Python runs handlers inside of a fork's hooks too, where what they raise is swallowed
    and the request lost. And around an orderly end, which a second Ctrl-C must not break off. For programs of one
    thread, since any other would take the signal. A process that is started meanwhile calls `hear` before it becomes
    another program.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def hear() -> None:
    """In a child between fork and exec: end `held`, which it has inherited."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDING)
