"""Periodic background work besides deletions: delete what has expired, count accounts."""

from time import perf_counter

from chassis.clock import Clock
from chassis.db.database import Database
from chassis.metrics import Metrics
from user_manager.accounts import Accounts
from user_manager.idempotency import IdempotencyStore
from user_manager.mail_requests import delete_expired_requests
from user_manager.mailbox_limits import MailboxLimits
from user_manager.sign_in_links import delete_expired_sign_in_links

EXPIRY_INTERVAL_S = 30.0
"""Seconds between two runs of `delete_expired_answers`."""

FORGET_INTERVAL_S = 600.0
"""Seconds between two runs of `delete_expired_mail_records`, and of the purge of unconfirmed accounts."""

COUNT_INTERVAL_S = 10.0
"""Seconds between two updates of a gauge from the database."""


class Housekeeping:
    """Three periodic tasks: delete expired answers, delete expired records of mails, and count existing accounts.

    A background task of the service calls each method periodically. Safe on any number of replicas at once. Each method
    may raise DatabaseUnavailableError.
    """

    def __init__(
        self,
        database: Database,
        accounts: Accounts,
        answers: IdempotencyStore,
        limits: MailboxLimits,
        clock: Clock,
        metrics: Metrics,
    ) -> None:
        self._database = database
        self._accounts = accounts
        self._answers = answers
        self._limits = limits
        self._clock = clock
        # These three names are the original system's.
        self._deleted = metrics.counter("cache_cleaned_entries_total", "Expired idempotency records that were deleted")
        self._seconds = metrics.histogram("cache_cleanup_duration_seconds", "Time to delete expired records")
        self._users = metrics.gauge("active_users_total", "Accounts that exist; every replica reports all of them")

    def delete_expired_answers(self) -> None:
        """Delete the stored answers that have expired, in one transaction; then report their number and the duration.

        A failed run reports no metric.
        """
        started = perf_counter()
        with self._database.transaction() as session:
            deleted = self._answers.delete_expired(session, self._clock.now())
        self._deleted.labels().inc(deleted)
        self._seconds.labels().observe(perf_counter() - started)

    def delete_expired_mail_records(self) -> None:
        """Delete the rows of mailboxes, mail counts, requested mails and links in them whose retention is over."""
        with self._database.transaction() as session:
            self._limits.delete_expired(session, self._clock.now())
            delete_expired_requests(session, self._clock.now())
            delete_expired_sign_in_links(session, self._clock.now())

    def update_user_gauge(self) -> None:
        """Set the gauge of existing accounts from the database, so that the accounts of all replicas are counted."""
        self._users.labels().set(self._accounts.count())
