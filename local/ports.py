"""The TCP ports of the local stack: consecutive numbers, so that one option moves them all."""

import socket
from dataclasses import dataclass, fields
from typing import Self

from local.errors import LocalError

HOST = "127.0.0.1"
DEFAULT_BASE = 8420


@dataclass(frozen=True, slots=True)
class Ports:
    """The TCP port of each listener of the stack, in the order in which the ports are numbered."""

    user_manager_http: int
    user_manager_grpc: int
    collector_http: int
    collector_grpc: int
    streams_web: int
    notifier_web: int
    opensky: int
    mailbox: int
    kafka: int
    mailbox_web: int
    gateway_http: int
    """The port of the gateway, by which people reach the stack."""
    gateway_web: int
    """The gateway's own health and metrics."""

    @classmethod
    def from_base(cls, base: int) -> Self:
        """Return consecutive ports from `base` on, one for each field; this does not check whether they are free.

        Raises LocalError unless all are port numbers from 1024 to 65535.
        """
        count = len(fields(cls))
        if not 1024 <= base <= 65_536 - count:
            raise LocalError(
                f"the first port (PORT_BASE, or --port-base) must be from 1024 to {65_536 - count}, not {base}"
            )
        return cls(*range(base, base + count))

    def require_free(self, used: tuple[str, ...]) -> None:
        """Raise LocalError, which names the port, if one of the ports `used` (field names) is in use on this machine.

        Each port is probed by binding it for a moment; ports in `TIME_WAIT` count as free.
        """
        for name in used:
            port = getattr(self, name)
            with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                try:
                    probe.bind((HOST, port))
                except OSError:
                    raise LocalError(
                        f"port {port} (for {name}) is in use: stop what uses it, or move the whole stack, e.g. to "
                        f"{DEFAULT_BASE + 1000} (the demo: --port-base, `make up`: PORT_BASE in .env)"
                    ) from None
