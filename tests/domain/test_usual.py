"""Tests of what is usual: the median of the same windows of the weeks before, fixed once, when a window is reached."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from random import Random

import pytest
from hypothesis import given, settings, strategies as st

from domain.calendar import Calendar, find_calendar
from domain.changes import NO_TRAFFIC
from domain.grids import LOCAL_WINDOWS, Grid, LocalGrid
from domain.interests import Direction
from domain.percent_counts import PercentCounts
from domain.traffic import Coverage, Observation, Traffic
from domain.usual import LEAST_DOUBLED_USUAL, compute_doubled_median, read_doubled_usual
from domain.usual_fold import fold_with_usual, list_base_counts
from domain.windows import HOUR_S, Window, seconds
from tests.domain.filled_logs import build_filled_log
from tests.domain.usual_logs import CLOCKS, DAY_S, ModelUsual, UsualLog, generate_usual_log

UTC_CLOCK = Calendar("UTC")
MONDAY = seconds(datetime(2013, 2, 4, tzinfo=UTC)) // DAY_S
"""A Monday, in days since 1970."""

usual_logs = st.integers(0, 2**32).map(lambda seed: generate_usual_log(Random(seed)))
"""Logs of some weeks, each from a seed."""


def count_day(day: int, flights: int, direction=Direction.DEPARTURES, coverage=Coverage.COMPLETE) -> Observation:
    """Return a message of a whole day (`day` after MONDAY) with some flights in its hour from 08:00."""
    begin = (MONDAY + day) * DAY_S
    times = tuple(begin + 8 * HOUR_S + number for number in range(flights))
    return Observation(direction, begin, begin + DAY_S, times, coverage, tuple(range(1, flights + 1)))


def fold_all(log, traffic: Traffic = NO_TRAFFIC, calendar: Calendar = UTC_CLOCK) -> Traffic:
    """Return the traffic after some messages."""
    for message in log:
        traffic = fold_with_usual(traffic, message, calendar)
    return traffic


def read_usual(traffic: Traffic, day: int, window: Window = Window.ONE_HOUR, direction=Direction.DEPARTURES):
    """Return what is usual in the window that holds 08:00 of a day after MONDAY; None: nothing, or not reached."""
    number = ((MONDAY + day) * 24 + 8) // window.hours
    counts = PercentCounts(traffic, direction, window)
    doubled = counts.find_doubled_usual(number) if number <= counts.reached else None
    return None if doubled is None else doubled / 2


def weeks_before(day: int, *counts: int | None) -> list[Observation]:
    """Return messages of all days of some weeks before `day`: its weekday has these counts, other days have 1.

    The count of the latest week comes first; None: the day is a gap.
    """
    log = []
    for back in range(7 * len(counts), 0, -1):
        count = counts[back // 7 - 1] if back % 7 == 0 else 1
        coverage = Coverage.GAP if count is None else Coverage.COMPLETE
        log.append(count_day(day - back, count or 0, coverage=coverage))
    return log


@pytest.mark.parametrize(
    ("counts", "usual"),
    [
        ((25, 27, 31, 26), 26.5),
        ((25, 27, 31, 26, 90), 27),
        ((25, 27, 31), 27),
        ((25, 27), None),
        ((25, None, 31, 26), 26),
        ((25, None, None, 26, 30), 26),
        ((None, None, 31, 26), None),
        ((25, 27, 31, 26, 90, 0), 27),
        ((0, 0, 0), 0),
    ],
)
def test_the_usual_is_the_median_of_the_known_windows_of_five_weeks(counts, usual):
    """Three known weeks are needed, of five at most; of four it is the mean of the two in the middle."""
    traffic = fold_all(weeks_before(50, *counts))
    assert read_usual(traffic, 50) is None, "not reached"
    traffic = fold_all([count_day(50, 3)], traffic)
    for window in Window:
        assert read_usual(traffic, 50, window) == usual


def test_the_usual_is_fixed_when_the_window_is_reached_and_never_changes():
    """A message that ends where a window starts reaches it; late flights of past weeks come too late for it."""
    traffic = fold_all(weeks_before(50, 25, 27, 31))
    assert read_usual(traffic, 50, Window.ONE_DAY) == 27
    late = [replace(count_day(day, 40), coverage=Coverage.COMPLETE) for day in (29, 36, 43)]
    traffic = fold_all(late, traffic)
    assert read_usual(traffic, 50, Window.ONE_DAY) == 27
    traffic = fold_all([count_day(50, 3)], traffic)
    assert read_usual(traffic, 50, Window.ONE_DAY) == 27
    assert read_usual(traffic, 50) == 67, "08:00 was reached after the late flights"


def test_a_window_that_was_reached_without_a_usual_has_none_for_good():
    """A past that is published later is the base of later windows alone."""
    traffic = fold_all([*weeks_before(50, 25, 27), count_day(50, 3)])
    traffic = fold_all([count_day(29, 31), count_day(22, 31)], traffic)
    assert read_usual(traffic, 50) is None
    traffic = fold_all([count_day(day, 4) for day in range(51, 58)], traffic)
    assert read_usual(traffic, 57) == 27, "the median of 3, 25, 27, 31, 31"


def test_both_directions_are_reached_with_the_smaller_watermark():
    """What is usual in both is the median of their sums, and waits for the direction that is covered less far."""
    departures = weeks_before(50, 25, 27, 31)
    arrivals = [replace(message, direction=Direction.ARRIVALS) for message in weeks_before(50, 5, 0, 5)]
    traffic = fold_all([*departures, *arrivals, count_day(50, 3)])
    assert read_usual(traffic, 50) == 27
    assert read_usual(traffic, 50, direction=Direction.BOTH) is None
    assert read_usual(traffic, 50, Window.ONE_DAY, Direction.BOTH) == 30
    traffic = fold_all([count_day(50, 3, Direction.ARRIVALS)], traffic)
    assert read_usual(traffic, 50, direction=Direction.BOTH) == 30


def test_a_message_of_a_week_fixes_the_same_usual_as_one_of_each_day():
    """Also of its first days, whose fifth week before is not retained any more after the message."""
    past = [count_day(day, 5 + day % 9) for day in range(50)]
    days = [count_day(day, 5 + day % 9) for day in range(50, 57)]
    times = tuple(at for day in days for at in day.event_times)
    week = Observation(Direction.DEPARTURES, days[0].begin, days[-1].end, times, Coverage.COMPLETE)
    before = fold_all(past)
    one, each = fold_all([week], before), fold_all(days, before)
    for day in range(50, 57):
        for window in Window:
            assert read_usual(one, day, window) == read_usual(each, day, window) is not None


def test_what_is_kept_is_bounded():
    """Only the retained days are kept, whatever the length of the log, and nothing while nothing is usual."""
    traffic = fold_all([count_day(day, 6) for day in range(120)])
    assert 40 <= len(traffic.usual.departures) <= 42
    assert not traffic.usual.arrivals
    assert not traffic.usual.both
    assert not fold_all([count_day(day, 6) for day in range(18)]).usual.departures


def test_a_direction_that_begins_anew_has_no_usual_nor_has_what_is_counted_with_it():
    """It was lost; the other direction keeps its own."""
    log = [count_day(day, 6, part) for day in range(40) for part in Direction.BOTH.parts]
    traffic = fold_all(log).without_direction(Direction.ARRIVALS)
    assert not traffic.usual.arrivals
    assert not traffic.usual.both
    assert traffic.usual.departures


def test_the_base_counts_are_named_the_latest_week_first():
    """A person reads them beside the usual."""
    traffic = fold_all(weeks_before(50, 25, 27, None, 26))
    number = (MONDAY + 50) * 24 + 8
    assert list_base_counts(traffic, UTC_CLOCK, Direction.DEPARTURES, Window.ONE_HOUR, number) == (25, 27, 26)


def test_a_median_of_nothing_is_an_error_of_the_caller():
    """There is none."""
    with pytest.raises(ValueError, match="nothing"):
        compute_doubled_median([])


def test_an_hour_follows_the_airports_clock():
    """In New York 08:00 is 12:00 UTC in summer and 13:00 in winter; what counts is the local hour."""
    begin = seconds(datetime(2013, 2, 1, tzinfo=UTC))
    log = []
    for day in range(begin // DAY_S, begin // DAY_S + 50):
        hour = 12 if day >= seconds(datetime(2013, 3, 10, tzinfo=UTC)) // DAY_S else 13
        times = tuple(day * DAY_S + hour * HOUR_S + number for number in range(20))
        log.append(Observation(Direction.DEPARTURES, day * DAY_S, (day + 1) * DAY_S, times, Coverage.COMPLETE))
    traffic = fold_all(log, calendar=find_calendar("KJFK"))
    days = traffic.usual.departures
    for day in (9, 10, 11, 17):
        hour = seconds(datetime(2013, 3, day, tzinfo=UTC)) // HOUR_S
        usual = [read_doubled_usual(days, Window.ONE_HOUR, hour + at) for at in range(24)]
        assert usual.index(40) == (13 if day < 10 else 12)
    # The grid of six hours and of days is UTC's, and is another one by the clock after the change.
    hour = seconds(datetime(2013, 3, 11, tzinfo=UTC)) // HOUR_S
    assert read_doubled_usual(days, Window.ONE_DAY, hour // 24) is None
    assert read_doubled_usual(days, Window.ONE_DAY, hour // 24 - 2) == 40


@settings(max_examples=25, deadline=None)
@given(log=usual_logs)
def test_what_is_usual_is_what_its_text_says(log: UsualLog):
    """Of each window, direction and zone, whatever was corrected, filled, skipped or told late, after each message."""
    check_usual(log)


def check_usual(log: UsualLog) -> None:
    """Assert that the fold fixes what the model does, after each message of a log's detailed part."""
    calendar = Calendar(log.zone)
    traffic = fold_all(log.past, calendar=calendar)
    since = log.begin + timedelta(hours=1)
    models: dict[tuple[Direction, Grid], ModelUsual] = {}
    for part in Direction:
        models |= {(part, window): ModelUsual(log.zone, window.value, since) for window in Window}
        for window in LOCAL_WINDOWS:
            grid = calendar.find_local_grid(window)
            models[part, grid] = ModelUsual(log.zone, window.value, since, is_local=True)
    for number, message in enumerate(log.present, start=len(log.past) + 1):
        traffic = fold_with_usual(traffic, message, calendar)
        logs = {
            part: build_filled_log(
                (each for each in log.messages[:number] if each.direction is part), is_for_usual=True
            )
            for part in Direction.BOTH.parts
        }
        for (direction, grid), model in models.items():
            model.fix_reached([logs[part] for part in direction.parts])
            days = traffic.usual.select_days(direction)
            for start, usual in model.fixed.items():
                number = grid.find_number(seconds(start))
                assert grid.find_begin(number) == seconds(start)
                doubled = read_doubled_usual(days, grid, number)
                assert doubled == (None if usual is None else 2 * usual), (direction, grid, start)
            if model.fixed:
                last = grid.find_number(seconds(max(model.fixed)))
                assert PercentCounts(traffic, direction, grid).reached == last, "the next one is not reached yet"


def test_the_logs_have_what_they_are_meant_to_have():
    """Else the properties would say little: all zones, windows with a usual above and below 5, and some without."""
    zones, found = set(), set()
    for seed in range(40):
        log = generate_usual_log(Random(seed))
        zones.add(log.zone)
        calendar = Calendar(log.zone)
        usual = fold_all(log.messages, calendar=calendar).usual
        for grid in (*Window, *map(calendar.find_local_grid, LOCAL_WINDOWS)):
            first = grid.find_number(seconds(log.begin))
            for number in range(first, first + 24 // grid.hours):
                doubled = read_doubled_usual(usual.departures, grid, number)
                found.add((isinstance(grid, LocalGrid), None if doubled is None else doubled >= LEAST_DOUBLED_USUAL))
    assert found == {(is_local, each) for is_local in (False, True) for each in (None, True, False)}
    assert zones == set(CLOCKS)
