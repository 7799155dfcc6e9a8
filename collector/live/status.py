"""The state of live collection for operators, loaded from the database, so that any replica can show it."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy.orm import Session

from chassis.clock import Clock
from chassis.db.database import Database
from chassis.metrics import Metrics
from collector.live.explain import explain_live
from collector.live.reports import FeedReport, load_reports
from collector.settled.quota import QuotaStore


@dataclass(frozen=True, slots=True)
class LiveState:
    """A snapshot of live collection: the report of each feed, and the day's credits for positions."""

    feeds: tuple[FeedReport, ...] = ()
    """The last stored report of each feed of this replica's settings."""
    budget: int | None = None
    """Credits of the day (UTC) for positions; None: OpenSky is not asked for them."""
    left: int | None = None
    """Those that are left today."""


class LiveStatus:
    """A reader of the feeds' reports and of the credits for positions; thread-safe."""

    def __init__(
        self, database: Database, clock: Clock, feeds: tuple[str, ...], quota: QuotaStore | None, metrics: Metrics
    ) -> None:
        """`quota`: of the bucket for positions; None: OpenSky is not asked for them."""
        self._database = database
        self._clock = clock
        self._feeds = feeds
        self._quota = quota
        gauge = metrics.gauge("opensky_position_credits_left", "Credits left of the day's budget for positions")
        self._left = None if quota is None else gauge.labels()

    def load_state(self) -> LiveState:
        """Return the state as it is stored now. Raises DatabaseUnavailableError."""
        if not self._feeds:
            return LiveState()
        with self._database.reading() as session:
            reports = load_reports(session, self._feeds)
            balance = self._quota.load_balance(session, self._clock.now()) if self._quota is not None else None
        if balance is None:
            return LiveState(tuple(reports))
        return LiveState(tuple(reports), balance.budget, balance.left)

    def explain_airport(self, session: Session, icao: str, now: datetime) -> str | None:
        """Return in words whether an airport is heard live; None if nothing is collected live."""
        return explain_live(icao, load_reports(session, self._feeds), now) if self._feeds else None

    def update_gauge(self) -> None:
        """Set the gauge of the credits that are left, if OpenSky is asked. Raises DatabaseUnavailableError."""
        if self._quota is None or self._left is None:
            return
        with self._database.reading() as session:
            self._left.set(self._quota.load_balance(session, self._clock.now()).left)
