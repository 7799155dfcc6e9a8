"""Bounds on HTTP connections: how long a client may take for a request or an answer, and how many it may keep open.

Without them one client that sends a byte now and then on a thousand connections keeps every other client out, the
health probes included. Pure; both HTTP servers apply it (`chassis/web/wsgi.py`, `chassis/aiohttp_server.py`).
"""

from collections import Counter
from collections.abc import Callable, Collection
from enum import Enum, auto
from typing import Final, Protocol, TypeVar

REQUEST_WITHIN_S: Final = 30.0
"""Seconds from a request's first byte, or from the opening of the connection, until all of it must be received."""
ANSWER_WITHIN_S: Final = 60.0
"""Seconds until a client must have read an answer."""
IDLE_WITHIN_S: Final = 75.0
"""Seconds that a connection may stay open without a request; longer than proxies keep idle connections (60 s)."""
MAX_PER_CLIENT: Final = 100
"""Connections that one client (`identify_client`) may have at a time."""
MAX_CONNECTIONS: Final = 500
"""Connections of all clients; below the 1,024 open files that many systems allow a process."""


class TransferState(Enum):
    """The event that a connection waits for."""

    IDLE = auto()
    """For the next request, of which nothing is received."""
    RECEIVING = auto()
    """For the rest of a request."""
    HANDLING = auto()
    """For the service, which has the whole request."""
    ANSWERING = auto()
    """For the client, to read the answer."""


class TransferDeadlines:
    """The deadlines of one connection. Bytes that arrive or leave extend none of them, only a whole request does."""

    def __init__(self, now: float) -> None:
        """`now`, here and below, is in seconds of a monotonic clock."""
        self._requests = 0
        self._idle_since = now
        self._receiving_since: float | None = now
        self._answering_since: float | None = None

    def detect_missed_deadline(self, now: float, state: TransferState, requests: int) -> bool:
        """Note the present state of the connection; return True if the client has missed a deadline, else False.

        `requests`: how many whole requests the connection has had. Stray line breaks between requests are none.
        """
        if requests != self._requests or state is TransferState.HANDLING:
            self._requests, self._idle_since, self._receiving_since = requests, now, None
        if state is TransferState.RECEIVING and self._receiving_since is None:
            self._receiving_since = now
        if state is not TransferState.ANSWERING:
            self._answering_since = None
        elif self._answering_since is None:
            self._answering_since = now
        if self._answering_since is not None:
            self._idle_since, self._receiving_since = now, None
            return now - self._answering_since > ANSWER_WITHIN_S
        if self._receiving_since is not None:
            return now - self._receiving_since > REQUEST_WITHIN_S
        return now - self._idle_since > IDLE_WITHIN_S


class ClientConnection(Protocol):
    """An open connection: the facts by which the bound on their number chooses the one that is closed."""

    client: str | None
    """The client (`identify_client`); None: a trusted proxy, whose connections are of many clients."""
    opened_at: float

    @property
    def is_waiting_for_client(self) -> bool:
        """True if the connection may be closed without loss: the service has no request of it, and sends nothing."""
        ...


C = TypeVar("C", bound=ClientConnection)


def make_room(client: str | None, others: Collection[C], close: Callable[[C], None]) -> bool:
    """Return True if one more connection of a client may stay open beside these; False: close it.

    If the client has too many, its oldest one that waits for the client is closed for the new one: so its own probe of
    `/health/live` is still answered. If there are too many in all, the client that has most of them loses one. False if
    all of them are at work.
    """
    own = [each for each in others if each.client == client]
    if client is not None and len(own) >= MAX_PER_CLIENT:
        candidates = own
    elif len(others) >= MAX_CONNECTIONS:
        ((most, _),) = Counter(each.client for each in others).most_common(1)
        candidates = [each for each in others if each.client == most]
    else:
        return True
    waiting = [each for each in candidates if each.is_waiting_for_client]
    if not waiting:
        return False
    close(min(waiting, key=lambda each: each.opened_at))
    return True
