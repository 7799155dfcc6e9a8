"""Blocking of the signals that request an end, around code that they must not interrupt."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

ENDING_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextmanager
def signals_blocked() -> Iterator[None]:
    """Block the signals of ENDING_SIGNALS for the block; they are delivered after it.

    For the start of a process: Python runs handlers inside a fork's hooks too, where their exceptions are swallowed and
    the signal is lost. And for an orderly stop, which a second Ctrl-C must not interrupt. Only for programs of one
    thread, since any other thread would take the signal. A process that is started in the block must call
    `unblock_signals` before it becomes another program.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ENDING_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def unblock_signals() -> None:
    """Unblock ENDING_SIGNALS in a child process between fork and exec; the child has inherited `signals_blocked`."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDING_SIGNALS)
