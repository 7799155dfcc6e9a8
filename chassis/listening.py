"""Sockets to listen on: one meaning of LISTEN_HOST for all servers of a service."""

import errno
import os
import socket
from pathlib import Path
from typing import Final

from chassis.addresses import join_host_and_port
from chassis.errors import CannotListenError

_BACKLOG: Final = 1024
"""Connections that may wait to be accepted; servers that take the socket may set another number."""

_ADDRESS_MISSING: Final = (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL)
"""Numbers of the errors that the machine does not have an address, or no IPv6 at all."""


def _resolve(host: str, port: int, server: str) -> list[str]:
    """Return the IP addresses of a host, each once. Raises CannotListenError if the name cannot be resolved."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError, OverflowError) as error:
        raise _cannot_listen(server, host, port, error) from None
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


def bind_listeners(host: str, port: int, server: str) -> list[socket.socket]:
    """Return a listening socket for each address of the host; `server` is the server's name for the error.

    `::` takes connections by IPv4, too, where the machine has both. A name with several addresses, such as localhost,
    is bound to those that this machine has, one at least. Raises CannotListenError, and then no socket stays open.
    """
    bound: list[socket.socket] = []
    failures: list[OSError] = []
    for address in _resolve(host, port, server):
        try:
            bound.append(_bind(address, port))
        except OSError as error:
            failures.append(error)
            if error.errno not in _ADDRESS_MISSING:
                break
    serious = [error for error in failures if error.errno not in _ADDRESS_MISSING]
    if serious or not bound:
        for each in bound:
            each.close()
        raise _cannot_listen(server, host, port, (serious or failures)[0])
    return bound


def find_listen_addresses(host: str, port: int, server: str) -> list[str]:
    """Return the IP addresses of `bind_listeners`, which are bound for a moment only. Raises CannotListenError.

    For a server that makes its sockets itself, and does not give the reason when it cannot.
    """
    addresses = []
    for listener in bind_listeners(host, port, server):
        addresses.append(str(listener.getsockname()[0]))
        listener.close()
    return addresses


def _bind(address: str, port: int) -> socket.socket:
    """Return a socket that listens on one address. Raises OSError."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, address != "::")
        listener.bind((address, port))
        listener.listen(_BACKLOG)  # only now it is sure that no other process listens there
    except BaseException:  # whatever it is, the socket must not stay open
        listener.close()
        raise
    return listener


def bind_private_socket(path: str, server: str) -> socket.socket:
    """Return a listening Unix domain socket that only this process's user can reach; a file of that path is replaced.

    Raises CannotListenError, also if other users may enter its folder.
    """
    make_private_folder(Path(path).parent, server)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        Path(path).unlink(missing_ok=True)
        listener.bind(path)
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        raise CannotListenError(f"{server} cannot listen on {path}: {os.strerror(error.errno or 0)}.") from None
    return listener


def make_private_folder(folder: Path, server: str) -> None:
    """Make the folder of a Unix domain socket, which nobody but this process's user may enter, if it is missing.

    Raises CannotListenError, also for one that others may enter: not all systems ask for the rights of the socket.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        is_private = not folder.stat().st_mode & 0o077
    except OSError as error:
        raise CannotListenError(f"{server} cannot listen in {folder}: {os.strerror(error.errno or 0)}.") from None
    if not is_private:
        raise CannotListenError(f"{server} does not listen in {folder}, which others may enter: chmod 700 {folder}")


def describe_refusal(error: OSError) -> str:
    """Return the system's reason why a port cannot be listened on, with what to do where that is known."""
    reason = os.strerror(error.errno or 0)
    match error.errno:
        case errno.EADDRINUSE:
            return f"{reason}; stop what uses the port, or choose another"
        case errno.EACCES:
            return f"{reason}; ports below 1024 need a right that this process lacks: choose another"
        case _:
            return reason


def _cannot_listen(server: str, host: str, port: int, error: Exception) -> CannotListenError:
    """Return the error for a host and port that cannot be listened on, with the system's reason."""
    if isinstance(error, socket.gaierror) or not isinstance(error, OSError):
        reason = "LISTEN_HOST is no address or name of this machine"
    else:
        reason = describe_refusal(error)
    return CannotListenError(f"{server} cannot listen on {join_host_and_port(host, port)}: {reason}.")
