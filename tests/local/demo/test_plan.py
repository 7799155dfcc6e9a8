"""The plan of a demo run: which days are recorded and asked for, and when the clock stops."""

from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given, strategies as st

from collector.live.region_planner import LONGEST_INTERVAL_S
from collector.sources.regions import WORLD_PRICE
from local.demo.live_credits import compute_live_credits
from local.demo.options import parse_interest
from local.demo.plan import (
    LIVE_INTERVAL_S,
    MAX_CLOCK_RATE,
    SCENARIO_S,
    SHORTEST_POLL_INTERVAL,
    DemoPlan,
    list_days,
    plan_demo,
)
from local.opensky.nightly_record import NIGHTLY, RecordSchedule

DAY = timedelta(days=1)
BEGIN, END = datetime(2013, 2, 8, tzinfo=UTC), datetime(2013, 2, 11, tzinfo=UTC)


def plan(**changes: object) -> DemoPlan:
    """Return the plan of the demo's own days with a record that differs in some fields."""
    return plan_demo(BEGIN, END, RecordSchedule(**changes))  # type: ignore[arg-type]


def test_the_default_demo_is_told_in_less_than_a_minute() -> None:
    """The clock needs 40 real seconds until the last day is covered, ten hours after its record appeared."""
    made = plan()
    assert (made.first_day, made.covered_until) == (BEGIN - DAY, END)
    assert made.settled_at == END + timedelta(hours=12, minutes=40)
    assert (made.settled_at - BEGIN).total_seconds() / made.rate == pytest.approx(SCENARIO_S)
    assert not made.must_reach_stop


@pytest.mark.parametrize(("targets", "is_live", "days"), [(1, True, 1), (4, True, 1), (5, True, 2), (2, False, 2)])
def test_with_thresholds_in_percent_the_clock_begins_before_the_story(targets: int, is_live: bool, days: int) -> None:
    """The weeks before are in the source, and there are credits and real seconds enough to collect them."""
    made = plan_demo(BEGIN, END, NIGHTLY, is_live=is_live, learning_targets=targets)
    assert made.is_learning
    assert made.start == BEGIN - days * DAY
    assert made.first_day == made.start - DAY
    assert made.schedule.first_day is not None
    assert made.schedule.first_day <= (made.start - 36 * DAY).date() or made.schedule.first_day == date(2013, 1, 1)
    assert (made.learned_by - made.start).total_seconds() / made.rate >= 18 * targets / 3 + 10
    assert not plan().is_learning


def test_a_late_day_is_waited_for() -> None:
    """The last day's record comes a day later, and so does the end."""
    assert plan(late_days=frozenset({date(2013, 2, 10)})).settled_at == plan().settled_at + DAY
    assert plan(late_days=frozenset({date(2013, 2, 9)})).settled_at == plan().settled_at


def test_a_missing_day_is_given_up_after_a_week() -> None:
    """In the middle it delays the days after it; at the end nothing is covered any more, and the clock runs on."""
    middle = plan(missing_days=frozenset({date(2013, 2, 9)}))
    assert middle.settled_at > datetime(2013, 2, 17, tzinfo=UTC)
    assert (middle.covered_until, middle.must_reach_stop) == (END, False)
    last = plan(missing_days=frozenset({date(2013, 2, 10)}))
    assert (last.covered_until, last.must_reach_stop) == (END - DAY, True)
    assert last.stop > datetime(2013, 2, 18, tzinfo=UTC)


@pytest.mark.parametrize("name", ["late_days", "missing_days"])
def test_the_day_before_is_asked_for_only_while_it_is_yesterday(name: str) -> None:
    """If its record has not appeared a day later, the first day that is asked for is the scenario's own first day."""
    assert plan(**{name: frozenset({date(2013, 2, 7)})}).first_day == BEGIN


def test_the_year_begins_without_a_day_before() -> None:
    """There are no flights of 2012."""
    begin = datetime(2013, 1, 1, tzinfo=UTC)
    assert plan_demo(begin, begin + DAY, NIGHTLY).first_day == begin


days = st.integers(0, 364).map(lambda number: datetime(2013, 1, 1, tzinfo=UTC) + number * DAY)
some_days = st.frozensets(st.dates(date(2013, 1, 1), date(2013, 12, 31)), max_size=3)


@given(days, st.integers(1, 365), some_days, some_days, st.booleans())
def test_no_day_after_the_scenario_is_ever_recorded(
    begin: datetime, count: int, late: frozenset[date], missing: frozenset[date], parts: bool
) -> None:
    """All recorded days are known long before the clock stops, and it is never faster than a stack can follow."""
    end = begin + count * DAY
    second = timedelta(hours=1) if parts else None
    schedule = RecordSchedule(second_part_after=second, late_days=late - missing, missing_days=missing)
    made = plan_demo(begin, end, schedule)
    assert not any(made.is_recorded(end + number * DAY) for number in range(30))
    assert made.first_day in (begin, begin - DAY)
    assert made.covered_until <= end
    for day in list_days(made.first_day, end):
        appears = made.schedule.find_completion_time(day.date())
        assert (appears is None) == (day.date() in missing)
        if appears is not None:
            assert appears < made.settled_at.timestamp() < made.stop.timestamp()
            assert day < made.covered_until
    assert 0 < made.rate <= MAX_CLOCK_RATE
    assert made.poll_interval >= SHORTEST_POLL_INTERVAL


def test_live_the_clock_runs_slowly_enough_for_a_poll_each_minute_and_a_half() -> None:
    """A poll may take a twentieth of a second, and two may lie as far apart as the detector bridges, or less."""
    made = plan_demo(BEGIN, END, NIGHTLY, is_live=True)
    assert made.is_live
    assert made.rate * 0.05 <= LIVE_INTERVAL_S <= LONGEST_INTERVAL_S
    assert made.covered_until == END
    assert made.settled_at < made.stop


def test_the_accounts_credits_last_for_a_poll_of_all_airports_each_interval() -> None:
    """Airports near each other share a box, and far ones need as many; more than four are the whole world's price."""
    near = [parse_interest(text, BEGIN) for text in ("KJFK:both:1h:high=1", "KBOS:both:1h:high=1")]
    far = [parse_interest(f"{icao}:both:1h:high=1", BEGIN) for icao in ("KJFK", "KLAX", "PHNL", "KATL", "KSEA", "KDEN")]
    assert compute_live_credits(near) == 86_400 // LIVE_INTERVAL_S
    assert compute_live_credits(far) == WORLD_PRICE * 86_400 // LIVE_INTERVAL_S
