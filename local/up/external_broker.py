"""Whether the broker that KAFKA_BOOTSTRAP_SERVERS names can be reached, in words."""

import socket
from contextlib import suppress
from typing import Final

from chassis.addresses import split_host_and_port

_CONNECT_WITHIN_S: Final = 3.0
_KAFKA_PORT: Final = 9092


def explain_missing_broker(servers: str) -> str | None:
    """Return a sentence if none of the servers takes a connection, None if one does, or if the list cannot be read.

    `servers`: host:port, with commas between them. What speaks behind the port is not asked; an invalid list is refused
    by the services, which say why.
    """
    addresses = []
    for each in servers.split(","):
        try:
            host, port = split_host_and_port(each.strip())
        except ValueError:
            return None
        addresses.append((host.strip("[]"), port or _KAFKA_PORT))
    for address in addresses:
        with suppress(OSError, UnicodeError), socket.create_connection(address, _CONNECT_WITHIN_S):
            return None
    return (
        f"nothing takes connections at {servers}, which KAFKA_BOOTSTRAP_SERVERS names in .env or in the shell: start "
        "that broker, or remove the variable, and Towerwatch runs its own"
    )
