"""Bounces (mail that a server rejected for good): record what the notifier reports, suppress the address. ADR 19."""

from datetime import datetime
from enum import StrEnum
from uuid import UUID

import structlog

from chassis.clock import Clock
from chassis.db.database import Database
from chassis.metrics import Metrics
from user_manager.access import find_account
from user_manager.web_sessions import delete_sessions_of_user

log = structlog.get_logger()


class BounceResult(StrEnum):
    """The effect of one bounce report."""

    SUPPRESSED = "suppressed"
    """The address is now suppressed: it gets no mail except confirmation mails."""
    REPEATED = "repeated"
    """The address was suppressed before."""
    OUTDATED = "outdated"
    """The address was confirmed after the mail bounced, so the report has no effect."""
    NOBODY = "nobody"
    """No such user exists (any more)."""


class Bounces:
    """Use case that records bounces that the notifier reports, and counts the results as a metric.

    Safe for several threads; may raise DatabaseUnavailableError.
    """

    def __init__(self, database: Database, clock: Clock, metrics: Metrics) -> None:
        self._database = database
        self._clock = clock
        self._reported = metrics.counter(
            "bounces_reported_total", "Mails that came back for good; outcome=suppressed counts addresses", "outcome"
        )
        for result in BounceResult:
            self._reported.labels(outcome=result)  # from zero, so that the first one is an increase

    def report(self, user_id: str, bounced_at: datetime) -> None:
        """Suppress the address of this user unless it was confirmed after `bounced_at`, and count the result.

        The sessions of a newly suppressed address end: its mailbox proved who had signed in. The latest bounce counts,
        in whatever order and however often bounces are reported. An id that is no UUID counts as an unknown user. A
        newly suppressed address is logged; the result is counted in `bounces_reported_total`.
        """
        parsed_id = _parse_uuid(user_id)
        result = BounceResult.NOBODY if parsed_id is None else self._record_bounce(parsed_id, bounced_at)
        self._reported.labels(outcome=result).inc()
        if result is BounceResult.SUPPRESSED:
            log.info("account.suppressed", user_id=str(parsed_id))

    def _record_bounce(self, user_id: UUID, bounced_at: datetime) -> BounceResult:
        """Store the time of the bounce in the user's row unless it has no effect, and return the effect.

        The row is locked. The time is limited to the span from the account's creation to now, because `bounced_at` is
        from another machine's clock; a stored later bounce stays. The version increases only if the address becomes
        suppressed.
        """
        now = self._clock.now()
        with self._database.transaction() as session:
            user = find_account(session, user_id, lock=True)
            if user is None:
                return BounceResult.NOBODY
            # `bounced_at` is by the clock of another machine. No mail bounced before the account existed, and none will
            # bounce in the future: a bounce of tomorrow would outlast the confirmation of today.
            instant = max(user.created_at, min(bounced_at, now))
            if user.confirmed_at is not None and instant <= user.confirmed_at:
                return BounceResult.OUTDATED
            result = BounceResult.REPEATED if user.suppressed else BounceResult.SUPPRESSED
            user.bounced_at = max(instant, user.bounced_at or instant)
            if result is BounceResult.SUPPRESSED:
                user.version += 1
                delete_sessions_of_user(session, user.user_id)
            return result


def _parse_uuid(text: str) -> UUID | None:
    """Parse a UUID; return None if `text` is not a UUID."""
    try:
        return UUID(text)
    except ValueError:
        return None
