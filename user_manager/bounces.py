"""Mail that came back for good: what the notifier reports of it, and what that changes. ADR 19."""

from datetime import datetime
from enum import StrEnum
from uuid import UUID

import structlog

from chassis.clock import Clock
from chassis.db.database import Database
from chassis.metrics import Metrics
from user_manager.access import account_of

log = structlog.get_logger()


class Outcome(StrEnum):
    """What a report changed."""

    SUPPRESSED = "suppressed"
    """Nothing goes to the address any more, but for confirmation mails."""
    REPEATED = "repeated"
    """The address is suppressed already."""
    OUTDATED = "outdated"
    """The address was confirmed since the mail came back."""
    NOBODY = "nobody"
    """There is no such user (any more)."""


class Bounces:
    """The use case. May raise DatabaseAwayError, and may be called by several threads at once."""

    def __init__(self, database: Database, clock: Clock, metrics: Metrics) -> None:
        self._database = database
        self._clock = clock
        self._reported = metrics.counter(
            "bounces_reported_total", "Mails that came back for good; outcome=suppressed counts addresses", "outcome"
        )
        for outcome in Outcome:
            self._reported.labels(outcome=outcome)  # from zero, so that the first one is an increase

    def report(self, user_id: str, bounced_at: datetime) -> None:
        """Suppress the address of this user, unless it was confirmed since `bounced_at`.

        The latest bounce counts, in whatever order and however often they are reported. What is no UUID is nobody.
        """
        wanted = _uuid(user_id)
        outcome = Outcome.NOBODY if wanted is None else self._recorded(wanted, bounced_at)
        self._reported.labels(outcome=outcome).inc()
        if outcome is Outcome.SUPPRESSED:
            log.info("account.suppressed", user_id=str(wanted))

    def _recorded(self, user_id: UUID, bounced_at: datetime) -> Outcome:
        now = self._clock.now()
        with self._database.transaction() as session:
            user = account_of(session, user_id, lock=True)
            if user is None:
                return Outcome.NOBODY
            # By the clock of another machine: no mail came back before there was an account, nor will one tomorrow,
            # which would outlast the confirmation of today.
            instant = max(user.created_at, min(bounced_at, now))
            if user.confirmed_at is not None and instant <= user.confirmed_at:
                return Outcome.OUTDATED
            outcome = Outcome.REPEATED if user.suppressed else Outcome.SUPPRESSED
            user.bounced_at = max(instant, user.bounced_at or instant)
            if outcome is Outcome.SUPPRESSED:
                user.version += 1
            return outcome


def _uuid(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None
