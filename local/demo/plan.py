"""The plan of a demo run: which days the source records, how far coverage comes, and how fast the clock runs. Pure."""

from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from typing import Final

from local.opensky.nightly_record import RecordSchedule
from local.opensky.record_options import FIRST_DAY

DAY: Final = timedelta(days=1)

SCENARIO_S: Final = 40
"""Real seconds from the begin of the scenario's first day until its last day is covered, as a rule."""
LIVE_CLOCK_RATE: Final = 900
"""Clock seconds per real second while positions are polled. A poll may then take 100 ms, and 133 ms may lie between two
of them: more is a gap."""
LIVE_INTERVAL_S: Final = 45
"""Seconds between two polls of positions, with the credits that the demo's account has."""
MAX_CLOCK_RATE: Final = 72_000
"""Maximum of clock seconds per real second: a stack on two cores must keep up."""
POLL_S: Final = 0.3
"""Real seconds between two polls of the collector, unless that is less than SHORTEST_POLL_INTERVAL on the clock."""
SHORTEST_POLL_INTERVAL: Final = timedelta(minutes=15)

GIVEN_UP_AFTER: Final = timedelta(days=7)
"""Time after the end of a day at which the collector gives up a record that is still not there, as a gap."""
SETTLED_AFTER: Final = timedelta(hours=10)
"""Time after the record of a day appears by which the day is covered, as a rule: an hour or more until the record is
asked for, six on a day that is late, and three until it is asked for again."""
COVERED_AFTER: Final = timedelta(hours=40)
"""With POLLS_UNTIL_COVERED: the longest time after the record of a day appears until the day is covered."""
POLLS_UNTIL_COVERED: Final = 8
"""The longest time is COVERED_AFTER and this many poll intervals: several empty answers in a row may each have to be
asked for again, six hours later."""

LEARNED_FROM: Final = 38 * DAY
"""Time before the first day that is collected from which the source has flights, for what is usual: five weeks, and
some days for clocks that were set."""
_HISTORY_PRICE: Final = 18 * 30
"""Credits for the weeks before the story of one airport and direction."""
_HISTORY_CREDITS: Final = 2_400
"""Credits of a day that are left for history, at least."""
_LEARNING_S: Final = 15.0
_LEARNING_S_EACH: Final = 10.0
"""Real seconds that the days before the story take at least, in all and for each airport and direction, so that the
weeks before are collected by then: 18 calls, of which a busy machine makes three a second."""


@dataclass(frozen=True, slots=True)
class DemoPlan:
    """The plan of one demo run. Days are UTC midnights."""

    schedule: RecordSchedule
    """The record of the replay, which has no day before the one before `begin`, and neither `end` nor a later day."""
    start: datetime
    """The clock's time until it is released: `begin`, or days before it if percents need earlier weeks."""
    begin: datetime
    """The scenario's first day."""
    first_day: datetime
    """The first day that the collector asks for when it is due: the day before `start`, or the day of `start`."""
    end: datetime
    """The midnight that the scenario's last day ends with."""
    covered_until: datetime
    """The end of the last day that the source records at all: coverage reaches this midnight."""
    settled_at: datetime
    """Time of the clock at which all days are covered or given up, as a rule."""
    rate: float
    """Clock seconds per real second."""
    poll_interval: timedelta
    stop: datetime
    """Time at which the clock stops: by then all days are covered or given up in any case."""
    is_live: bool
    """True: positions are polled, and the record settles afterwards what they told."""

    @property
    def is_learning(self) -> bool:
        """True if the clock begins before the story, so that the weeks before it are collected first."""
        return self.start < self.begin

    @property
    def learned_by(self) -> datetime:
        """The time at which the weeks before must be collected, because the story's first day is covered then."""
        return self.begin if self.is_live else self.begin + DAY

    def is_recorded(self, day: datetime) -> bool:
        """Return True if the source's record of the day appears at some time, False if never."""
        return self.schedule.find_completion_time(day.date()) is not None

    @property
    def must_reach_stop(self) -> bool:
        """True if the run must last until the clock stops, because the last days have no record and are not covered.

        Then the end of the coverage does not show that all mails have come.
        """
        return self.covered_until < self.end


def plan_demo(
    begin: datetime, end: datetime, schedule: RecordSchedule, *, is_live: bool = False, learning_targets: int = 0
) -> DemoPlan:
    """Plan a demo run over the days [begin, end), with a source that records them by this schedule.

    `is_live`: True if positions are polled, for which the clock must run slowly. `learning_targets`: the number of
    airports and directions whose weeks before are needed for thresholds in percent. Then the clock begins some days
    before the story, and the source has those weeks, too.

    The source is limited to these days and the day before, by which the collector decides whether an airport is heard.
    So no later day is ever covered, even if the clock runs on.
    """
    start = begin - _count_learning_days(learning_targets, is_live) * DAY
    first = max(start.date() - (DAY + LEARNED_FROM if start < begin else DAY), FIRST_DAY)
    schedule = replace(schedule, first_day=first, last_day=(end - DAY).date())
    # The collector asks for the day before its interests begin, as long as that is yesterday.
    appears = schedule.find_completion_time(start.date() - DAY)
    asks_for_day_before = appears is not None and appears < (start + DAY).timestamp()
    first_day = start - DAY if asks_for_day_before else start
    days = list_days(first_day, end)
    recorded = [day for day in days if schedule.find_completion_time(day.date()) is not None]
    covered_until = recorded[-1] + DAY if recorded else first_day
    last_decided = max(_find_decision_time(schedule, day.date()) for day in days)
    settled_at = last_decided + SETTLED_AFTER
    rate = LIVE_CLOCK_RATE if is_live else min((settled_at - begin).total_seconds() / SCENARIO_S, MAX_CLOCK_RATE)
    if start < begin and not is_live:
        rate = min(rate, (begin - start).total_seconds() / (_LEARNING_S + learning_targets * _LEARNING_S_EACH))
    poll_interval = max(timedelta(seconds=round(rate * POLL_S)), SHORTEST_POLL_INTERVAL)
    return DemoPlan(
        schedule=schedule,
        start=start,
        begin=begin,
        first_day=first_day,
        end=end,
        covered_until=covered_until,
        settled_at=settled_at,
        rate=rate,
        poll_interval=poll_interval,
        stop=last_decided + COVERED_AFTER + POLLS_UNTIL_COVERED * poll_interval,
        is_live=is_live,
    )


def _count_learning_days(targets: int, is_live: bool) -> int:
    """Return how many days before the story the clock begins: as many as the credits for the weeks before take.

    Without positions it is one more: the clock is so fast that a day is over in a second or two.
    """
    if not targets:
        return 0
    return -(-targets * _HISTORY_PRICE // _HISTORY_CREDITS) + (0 if is_live else 1)


def list_days(begin: datetime, end: datetime) -> list[datetime]:
    """Return the UTC midnights of the days that [begin, end) touches, in order."""
    first = begin.replace(hour=0, minute=0, second=0, microsecond=0)
    return [first + number * DAY for number in range(-((first - end) // DAY))]


def _find_decision_time(schedule: RecordSchedule, day: date) -> datetime:
    """Return when the record of a day is whole or, if it never appears, when the collector gives the day up."""
    completed_at = schedule.find_completion_time(day)
    if completed_at is not None:
        return datetime.fromtimestamp(completed_at, UTC)
    return datetime(day.year, day.month, day.day, tzinfo=UTC) + DAY + GIVEN_UP_AFTER
