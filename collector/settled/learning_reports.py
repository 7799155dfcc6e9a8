"""Loads the forecast of learning from the database, so that any replica can answer it."""

from collections.abc import Collection, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from datetime import datetime, timedelta
from threading import Lock
from typing import Final

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from chassis.clock import Clock
from chassis.db.database import Database
from collector.intervals import DAY
from collector.model import LiveCoverageRow
from collector.settled.history_schedule import load_forecast_history
from collector.settled.learning import Budget, Forecast, Key, LearningEnds, compute_ordinary_price, expect_history
from collector.settled.quota import QuotaStore
from collector.settled.schedule import CollectionTiming, load_schedule
from collector.settled.source_failure import load_failure
from domain.interests import Direction, Interest

KEPT_FOR: Final = timedelta(seconds=10)
"""Time for which a replica keeps the forecast, by a clock that nobody sets."""


@dataclass(frozen=True, slots=True)
class _KeptForecast:
    """A forecast, and until when it is kept."""

    forecast: Forecast
    until: timedelta
    """By `Clock.elapsed`."""


class LearningReports:
    """The query that forecasts when interests in percent will be judged, from the stored coverage and the credits.

    The forecast takes the wishes of all people, so it costs the more the more airports there are, and depends on
    nobody. It is kept for KEPT_FOR, for all who ask. Thread-safe.
    """

    def __init__(
        self, database: Database, clock: Clock, timing: CollectionTiming, quota: QuotaStore, live_credits: int = 0
    ) -> None:
        """`live_credits`: credits that may be spent a day (UTC) on departures of the day itself."""
        self._database = database
        self._clock = clock
        self._timing = timing
        self._quota = quota
        self._live_credits = live_credits
        self._lock = Lock()
        self._kept: _KeptForecast | None = None

    def find_learning_ends(self, interests: Sequence[Interest]) -> LearningEnds:
        """Return the instant from which each interest that is not judged by percent yet will be.

        Interests without percents are left out, as are those that are judged already. The forecast may be as old as
        KEPT_FOR, unless an interest's airport was not wanted then. Raises DatabaseUnavailableError.
        """
        learners = [each for each in interests if each.high_percent is not None or each.low_percent is not None]
        if not learners:
            return LearningEnds({})
        with self._database.reading() as session:
            learners = self._select_unjudged(session, learners, self._clock.now())
            if not learners:
                return LearningEnds({})
            failure = load_failure(session)
        forecast = self._get_forecast(_list_keys(learners))
        ends = {each.interest_id: forecast.find_learning_end(each) for each in learners}
        return LearningEnds(
            {interest_id: end for interest_id, end in ends.items() if end is not None},
            None if failure is None else failure.at,
        )

    def _select_unjudged(self, session: Session, learners: Sequence[Interest], now: datetime) -> list[Interest]:
        """Return the interests that are not judged by what is known now.

        It looks at their own airports alone: the forecast, for which everybody's wishes count, is not made for others.
        """
        airports = {each.airport for each in learners}
        live_until = _load_live_ends(session, _list_keys(learners), now)
        schedule = load_schedule(session, self._timing, now, airports)
        history = load_forecast_history(session, schedule, now, airports)
        keys = [(each.airport, each.direction) for each in history]
        present = Forecast(dict(zip(keys, history, strict=True)), {key: {} for key in keys}, live_until, now)
        return [each for each in learners if present.find_learning_end(each) is not None]

    def _get_forecast(self, wanted: Set[Key]) -> Forecast:
        """Return the kept forecast; make one if it is too old, or does not hold all that is wanted.

        One thread makes it, and those that ask meanwhile wait for it. Raises DatabaseUnavailableError.
        """
        with self._lock:
            begun = self._clock.elapsed()
            kept = self._kept
            if kept is None or kept.until <= begun or not wanted <= kept.forecast.expected.keys():
                kept = self._kept = _KeptForecast(self._make_forecast(wanted), begun + KEPT_FOR)
            return kept.forecast

    def _make_forecast(self, wanted: Set[Key]) -> Forecast:
        """Return the forecast for all history that anybody wants, and for `wanted`."""
        now = self._clock.now()
        with self._database.reading() as session:
            schedule = load_schedule(session, self._timing, now)
            history = load_forecast_history(session, schedule, now)
            keys = wanted | {(each.airport, each.direction) for each in history}
            live_until = _load_live_ends(session, keys, now)
            balance = self._quota.load_balance(session, now)
        price = compute_ordinary_price(
            schedule.targets, are_corrected=bool(self._timing.corrections_after), live_credits=self._live_credits
        )
        budget = Budget(balance, schedule.payments, price, self._timing.poll_interval)
        return expect_history(keys, history, schedule.targets, budget, live_until, now)


def _list_keys(interests: Iterable[Interest]) -> Set[Key]:
    """Return the airports and directions of some interests."""
    return {(each.airport, part) for each in interests for part in each.direction.parts}


def _load_live_ends(session: Session, wanted: Collection[Key], now: datetime) -> Mapping[Key, datetime]:
    """Return the end of the live coverage of those airports and directions that were covered live within a day."""
    query = (
        select(LiveCoverageRow.airport, LiveCoverageRow.direction, func.max(LiveCoverageRow.end_at))
        .where(LiveCoverageRow.published, LiveCoverageRow.airport.in_({airport for airport, _ in wanted}))
        .group_by(LiveCoverageRow.airport, LiveCoverageRow.direction)
    )
    ends = {(airport, Direction(direction)): end for airport, direction, end in session.execute(query)}
    return {key: end for key, end in ends.items() if key in wanted and now - DAY <= end}
