"""The use case of the link "Stop this alert" in mails: show what it stops, and stop it."""

from typing import Protocol
from uuid import UUID

import structlog

from domain.interests import Interest
from user_manager.links import LinkSigner

log = structlog.get_logger()


class InterestKeeper(Protocol):
    """A client of the service that keeps interests, implemented by `user_manager.collector_client`."""

    def load_interest(self, user_id: UUID, interest_id: UUID) -> Interest | None:
        """Return one interest of the user, or None. Raises CollectorUnavailableError, CollectorRefusedError."""
        ...

    def delete_interest(self, user_id: UUID, interest_id: UUID) -> Interest | None:
        """Delete one interest of the user and return it, or None. Raises as `load_interest`."""
        ...


class AlertStops:
    """The use case of links that stop one alert: they remove the interest that it comes from.

    A link names a user and an interest, and whoever has it may remove that interest, without signing in. Accounts are
    not looked up: an account that is deleted has no interests. Each method raises LinkForgedError,
    CollectorUnavailableError and CollectorRefusedError.
    """

    def __init__(self, links: LinkSigner, interests: InterestKeeper) -> None:
        self._links = links
        self._interests = interests

    def load_interest(self, link_token: str) -> Interest | None:
        """Return the interest that a link would remove, and change nothing; None: it is gone, or not this user's."""
        link = self._links.parse_alert_stop_link(link_token)
        return self._interests.load_interest(link.user_id, link.interest_id)

    def stop(self, link_token: str) -> Interest | None:
        """Remove the interest that a link names, and return it; None: it was gone before, or is not this user's.

        Idempotent.
        """
        link = self._links.parse_alert_stop_link(link_token)
        removed = self._interests.delete_interest(link.user_id, link.interest_id)
        if removed is not None:
            log.info("alert.stopped", user_id=str(link.user_id), interest_id=str(link.interest_id))
        return removed
