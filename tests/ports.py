"""Free TCP ports for tests."""

import random
import socket
from contextlib import ExitStack, suppress

HOST = "127.0.0.1"


def free_ports(count: int) -> int:
    """Find `count` consecutive free ports and return the first; all lie below the kernel's ephemeral ports."""
    while True:
        base = random.randrange(10_000, 32_000)
        with suppress(OSError), ExitStack() as probes:
            for port in range(base, base + count):
                probes.enter_context(socket.socket()).bind((HOST, port))
            return base


def free_port() -> int:
    """Find a free port, below the kernel's ephemeral ports."""
    return free_ports(1)
