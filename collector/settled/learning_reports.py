"""Loads the forecast of learning from the database, so that any replica can answer it."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime

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


class LearningReports:
    """The query that forecasts when interests in percent will be judged, from the stored coverage and the credits."""

    def __init__(
        self, database: Database, clock: Clock, timing: CollectionTiming, quota: QuotaStore, live_credits: int = 0
    ) -> None:
        """`live_credits`: credits that may be spent a day (UTC) on departures of the day itself."""
        self._database = database
        self._clock = clock
        self._timing = timing
        self._quota = quota
        self._live_credits = live_credits

    def find_learning_ends(self, interests: Sequence[Interest]) -> LearningEnds:
        """Return the instant from which each interest that is not judged by percent yet will be.

        Interests without percents are left out, as are those that are judged already. Raises DatabaseUnavailableError.
        """
        learners = [each for each in interests if each.high_percent is not None or each.low_percent is not None]
        if not learners:
            return LearningEnds({})
        now = self._clock.now()
        wanted = {(each.airport, part) for each in learners for part in each.direction.parts}
        with self._database.reading() as session:
            live_until = _load_live_ends(session, wanted, now)
            learners = self._select_unjudged(session, learners, live_until, now)
            if not learners:
                return LearningEnds({})
            wanted = {(each.airport, part) for each in learners for part in each.direction.parts}
            schedule = load_schedule(session, self._timing, now)
            history = load_forecast_history(session, schedule, now)
            balance = self._quota.load_balance(session, now)
            failure = load_failure(session)
        price = compute_ordinary_price(
            schedule.targets, are_corrected=bool(self._timing.corrections_after), live_credits=self._live_credits
        )
        budget = Budget(balance, schedule.payments, price, self._timing.poll_interval)
        forecast = expect_history(wanted, history, schedule.targets, budget, live_until, now)
        ends = {each.interest_id: forecast.find_learning_end(each) for each in learners}
        return LearningEnds(
            {interest_id: end for interest_id, end in ends.items() if end is not None},
            None if failure is None else failure.at,
        )

    def _select_unjudged(
        self, session: Session, learners: list[Interest], live_until: Mapping[Key, datetime], now: datetime
    ) -> list[Interest]:
        """Return the interests that are not judged by what is known now; all if they are not in one airport alone.

        It looks at that airport alone: the forecast, for which everybody's wishes count, is only made for those.
        """
        airport = learners[0].airport
        if any(each.airport != airport for each in learners):
            return learners
        schedule = load_schedule(session, self._timing, now, airport)
        history = load_forecast_history(session, schedule, now)
        keys = [(each.airport, each.direction) for each in history]
        present = Forecast(dict(zip(keys, history, strict=True)), {key: {} for key in keys}, live_until, now)
        return [each for each in learners if present.find_learning_end(each) is not None]


def _load_live_ends(session: Session, wanted: Collection[Key], now: datetime) -> Mapping[Key, datetime]:
    """Return the end of the live coverage of those airports and directions that were covered live within a day."""
    query = (
        select(LiveCoverageRow.airport, LiveCoverageRow.direction, func.max(LiveCoverageRow.end_at))
        .where(LiveCoverageRow.published, LiveCoverageRow.airport.in_({airport for airport, _ in wanted}))
        .group_by(LiveCoverageRow.airport, LiveCoverageRow.direction)
    )
    ends = {(airport, Direction(direction)): end for airport, direction, end in session.execute(query)}
    return {key: end for key, end in ends.items() if key in wanted and now - DAY <= end}
