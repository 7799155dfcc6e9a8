"""Free TCP ports for tests."""

import os
import random
import socket
from collections import deque
from contextlib import ExitStack, suppress
from typing import Final

HOST = "127.0.0.1"

_FIRST, _END = 10_000, 32_000  # below the kernel's ephemeral ports
_WORKERS: Final = 10
"""Number of parts of the range. A worker with a higher number shares the part of another one."""


def free_ports(count: int) -> int:
    """Find `count` consecutive free ports and return the first; all lie below the kernel's ephemeral ports.

    Nothing holds a port from here until its server listens, seconds later on a busy machine. So each worker of a run
    has a part of the range to itself, and gives out a port again only after many others.
    """
    begin, end = _find_range()
    while True:
        base = random.randrange(begin, end - count)
        wanted = range(base, base + count)
        if any(port in wanted for port in _given):
            continue
        with suppress(OSError), ExitStack() as probes:
            for port in wanted:
                probes.enter_context(socket.socket()).bind((HOST, port))
            _given.extend(wanted)
            return base


def free_port() -> int:
    """Find a free port, below the kernel's ephemeral ports."""
    return free_ports(1)


def _find_range() -> tuple[int, int]:
    """Return the first port of this process's part of the range, and the first port after it."""
    worker = os.environ.get("PYTEST_XDIST_WORKER")
    if worker is None:
        return _FIRST, _END
    size = (_END - _FIRST) // _WORKERS
    begin = _FIRST + int(worker.removeprefix("gw")) % _WORKERS * size
    return begin, begin + size


_given: Final[deque[int]] = deque(maxlen=100)
"""The ports that this process has given out last: few enough to leave long gaps in a worker's part of the range."""
