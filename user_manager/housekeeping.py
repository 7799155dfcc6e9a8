"""What the background does besides deletions: expired answers are swept, accounts are counted."""

from time import perf_counter

from chassis.clock import Clock
from chassis.db.database import Database
from chassis.metrics import Metrics
from user_manager.accounts import Accounts
from user_manager.idempotency import IdempotentAnswers

SWEEP_EVERY_S = 30.0
COUNT_EVERY_S = 10.0


class Housekeeping:
    """Any number of replicas may do it at once. Each method may raise DatabaseAwayError."""

    def __init__(
        self, database: Database, accounts: Accounts, answers: IdempotentAnswers, clock: Clock, metrics: Metrics
    ) -> None:
        self._database = database
        self._accounts = accounts
        self._answers = answers
        self._clock = clock
        # These three names are the original system's.
        self._swept = metrics.counter("cache_cleaned_entries_total", "Expired idempotency records that were deleted")
        self._seconds = metrics.histogram("cache_cleanup_duration_seconds", "Time to delete expired records")
        self._users = metrics.gauge("active_users_total", "Accounts that exist; every replica reports all of them")

    def sweep_answers(self) -> None:
        """Delete the answers that have expired."""
        started = perf_counter()
        with self._database.transaction() as session:
            swept = self._answers.sweep(session, self._clock.now())
        self._swept.labels().inc(swept)
        self._seconds.labels().observe(perf_counter() - started)

    def count_users(self) -> None:
        """Set the gauge from the database, so that it is right whichever replica did what."""
        self._users.labels().set(self._accounts.count())
