"""The memory of which recipients a mail server has accepted mails to, and when. Pure: the time is a parameter."""

from datetime import datetime


class AcceptedRecipients:
    """When one mail server last accepted a mail, for the last two different recipients.

    Only in memory: after a restart nothing is known, which proves nothing against any address.
    """

    def __init__(self) -> None:
        self._latest: tuple[tuple[str, datetime], ...] = ()
        """At most two recipients with the time of their last mail, the latest first."""

    def record(self, recipient: str, at: datetime) -> None:
        """Record that the server accepted a mail to this recipient."""
        key = recipient.casefold()
        self._latest = ((key, at), *(each for each in self._latest if each[0] != key))[:2]

    def find_other(self, recipient: str) -> datetime | None:
        """Return when the server last accepted a mail to another recipient than this one; None: not that we know."""
        return next((at for key, at in self._latest if key != recipient.casefold()), None)
