"""The memory of which recipients each mail server has accepted mails to, and when. Pure: the time is a parameter."""

from datetime import datetime
from typing import Final

_MAX_SERVERS: Final = 64
"""One host name may have many servers, which come and go; of more than these the one used longest ago is forgotten."""


class AcceptedRecipients:
    """The times at which each mail server last accepted a mail, for its last two different recipients.

    Servers are told apart by IP address and port: of several behind one host name, one may relay and another not. Only
    in memory: after a restart nothing is known, which proves nothing against any address.
    """

    def __init__(self) -> None:
        self._latest: dict[str, tuple[tuple[str, datetime], ...]] = {}
        """By server at most two recipients with the time of their last mail, the latest first."""

    def record(self, server: str, recipient: str, at: datetime) -> None:
        """Record that a server accepted a mail to this recipient."""
        key = recipient.casefold()
        others = (each for each in self._latest.pop(server, ()) if each[0] != key)
        self._latest[server] = ((key, at), *others)[:2]
        if len(self._latest) > _MAX_SERVERS:
            del self._latest[next(iter(self._latest))]

    def find_other(self, server: str, recipient: str) -> datetime | None:
        """Return when a server last accepted a mail to another recipient than this one; None: not that we know."""
        return next((at for key, at in self._latest.get(server, ()) if key != recipient.casefold()), None)
