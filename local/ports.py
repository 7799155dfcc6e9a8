"""The ports of the local stack: a row of neighbours, so that one option moves them all."""

import socket
from dataclasses import dataclass, fields
from typing import Self

from local.errors import LocalError

HOST = "127.0.0.1"
DEFAULT_BASE = 8420


@dataclass(frozen=True, slots=True)
class Ports:
    """One TCP port for each of the stack's listeners."""

    user_manager_http: int
    user_manager_grpc: int
    collector_http: int
    collector_grpc: int
    streams_web: int
    notifier_web: int
    opensky: int
    mailbox: int
    kafka: int

    @classmethod
    def from_base(cls, base: int) -> Self:
        """The ports from `base` on. Raises LocalError where they would not be ports that a user may take."""
        count = len(fields(cls))
        if not 1024 <= base <= 65_536 - count:
            raise LocalError(f"the first port must be from 1024 to {65_536 - count}, not {base}")
        return cls(*range(base, base + count))

    def require_free(self, used: tuple[str, ...]) -> None:
        """Raises LocalError, naming it, where one of the ports `used` (field names) is taken."""
        for name in used:
            port = getattr(self, name)
            with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                try:
                    probe.bind((HOST, port))
                except OSError:
                    raise LocalError(
                        f"port {port} (for {name}) is in use: stop what uses it, or move the whole stack with "
                        f"--port-base, e.g. --port-base {DEFAULT_BASE + 1000}"
                    ) from None
