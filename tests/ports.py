"""Ports that nobody listens on."""

import random
import socket
from contextlib import ExitStack, suppress

HOST = "127.0.0.1"


def free_ports(count: int) -> int:
    """The first of `count` neighbouring free ports, below those that the kernel gives to outgoing connections."""
    while True:
        base = random.randrange(10_000, 32_000)
        with suppress(OSError), ExitStack() as probes:
            for port in range(base, base + count):
                probes.enter_context(socket.socket()).bind((HOST, port))
            return base


def free_port() -> int:
    return free_ports(1)
