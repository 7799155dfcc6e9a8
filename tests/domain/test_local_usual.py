"""What is usual in windows by the airport's own clock: the windows that it follows from, by hand and by the clock."""

from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from random import Random
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings, strategies as st

from domain.calendar import WEEKS_BACK, Calendar, find_calendar, find_grid
from domain.changes import NO_TRAFFIC
from domain.explanation import WindowVerdict, judge_windows
from domain.grids import LOCAL_WINDOWS
from domain.interest_alerts import compute_alerts
from domain.interests import Direction
from domain.traffic import Coverage, Observation, Traffic
from domain.usual import EMPTY_USUAL_DAY, read_doubled_usual
from domain.usual_fold import fold_with_usual
from domain.usual_week import list_usual_week
from domain.windows import HOUR_S, AlignedTo, Window, instant, seconds
from tests.domain.brute_force import list_local_starts
from tests.domain.logs import an_interest
from tests.domain.test_calendar import CHANGES
from tests.domain.test_usual import fold_all
from tests.domain.usual_logs import DAY_S, generate_usual_log

WEEK = timedelta(days=7)


def tell_days(
    first: datetime, days: int, every_s: int, without: frozenset[datetime] = frozenset()
) -> list[Observation]:
    """Return messages of some UTC days with a departure every so many seconds, but for those at the times `without`."""
    begin, log = seconds(first), []
    for start in range(begin, begin + days * DAY_S, DAY_S):
        times = [at for at in range(start, start + DAY_S, every_s) if instant(at) not in without]
        log.append(Observation(Direction.DEPARTURES, start, start + DAY_S, tuple(times), Coverage.COMPLETE))
    return log


def judge(airport: str, log: list[Observation], since: datetime, **changes) -> list[WindowVerdict]:
    """Return the verdicts of an interest in the airport's days below 90 percent of the usual, from `since` on."""
    values = {"window": Window.ONE_DAY, "low_percent": 90, "high": None, "aligned_to": AlignedTo.AIRPORT}
    interest = an_interest(airport=airport, effective_from=since, **values | changes)
    traffic = fold_all(log, calendar=find_calendar(airport))
    return [each for each in judge_windows(interest, traffic) if each.start >= since]


@pytest.mark.parametrize(
    ("airport", "every_s", "changed", "flights", "then"),
    [
        ("KJFK", HOUR_S, datetime(2013, 3, 10, 5, tzinfo=UTC), 23, 24),
        ("KJFK", HOUR_S, datetime(2013, 11, 3, 4, tzinfo=UTC), 25, 24),
        ("YLHI", HOUR_S // 2, datetime(2013, 10, 5, 13, 30, tzinfo=UTC), 47, 48),
        ("YLHI", HOUR_S // 2, datetime(2013, 4, 6, 13, tzinfo=UTC), 49, 48),
        ("NZCI", HOUR_S // 4, datetime(2013, 4, 6, 10, 15, tzinfo=UTC), 100, 96),
        ("HECA", HOUR_S, datetime(2014, 5, 15, 22, tzinfo=UTC), 23, 24),
    ],
)
def test_a_day_of_another_length_is_judged_and_is_a_base_as_it_is(airport, every_s, changed, flights, then):
    """It is judged by the whole days of the weeks before, and is one of the five of the weeks after it.

    At Cairo it begins at 01:00: it is the day of its date all the same.
    """
    first = changed.replace(hour=0, minute=0) - timedelta(days=39)
    log = tell_days(first, 39 + 31, every_s)
    at_once = judge(airport, log[:42], changed)[0]
    assert (at_once.start, at_once.count) == (changed, flights)
    assert (at_once.doubled_usual, at_once.base_counts) == (2 * then, (then,) * 5)
    for weeks in range(1, 5):
        later = judge(airport, log[: 42 + 7 * weeks], changed)[7 * weeks]
        expected = [then] * 5
        expected[weeks - 1] = flights
        assert (later.count, later.doubled_usual) == (then, 2 * then)
        assert later.base_counts == tuple(expected)


def test_in_the_weeks_after_a_change_of_clocks_local_windows_have_a_usual_and_those_by_utc_have_none():
    """By UTC no window of six hours began at that local time in the weeks before; by the airport's clock each has."""
    first = datetime(2013, 2, 1, tzinfo=UTC)
    log = tell_days(first, 46, HOUR_S)
    since = datetime(2013, 3, 13, tzinfo=UTC)
    local, by_utc = (
        judge("KJFK", log, since, window=Window.SIX_HOURS, aligned_to=each) for each in reversed(AlignedTo)
    )
    assert {each.doubled_usual for each in local if each.knowledge == "closed"} == {12}
    assert {each.doubled_usual for each in by_utc} == {None}


def test_a_date_that_did_not_exist_is_no_base_and_its_neighbours_are():
    """Apia had no 30 December 2011: the Fridays after it lack it; the Saturdays have the 31st, after the 29th."""
    log = tell_days(datetime(2011, 11, 25, tzinfo=UTC), 44, HOUR_S)
    verdicts = judge("NSFA", log, datetime(2011, 12, 31, 10, tzinfo=UTC))
    clock = ZoneInfo("Pacific/Apia")
    by_date = {each.start.astimezone(clock).date(): each for each in verdicts}
    assert [len(by_date[date(2012, 1, day)].base_counts) for day in (5, 6, 7)] == [5, 4, 5]
    calendar, grid = find_calendar("NSFA"), find_grid("NSFA", Window.ONE_DAY, AlignedTo.AIRPORT)
    bases = calendar.list_base_windows(grid, grid.find_number(seconds(by_date[date(2012, 1, 6)].start)))
    dates = [base and instant(base[0]).astimezone(clock).date() for base in bases]
    assert dates == [None, *[date(2011, 12, 30) - weeks * WEEK for weeks in range(1, 5)]]


def test_a_flight_on_either_side_of_midnight_is_of_its_own_day():
    """At Kathmandu, where a day begins at 18:15 UTC: of the base days as of the one that is judged."""
    first = datetime(2013, 4, 1, tzinfo=UTC)
    gone = frozenset(
        first + timedelta(days=day, hours=18, minutes=minute) for day in range(29, 40) for minute in (15, 30)
    )
    quiet = frozenset(each for each in gone if each.day == 6)
    verdicts = judge("VNKT", tell_days(first, 40, HOUR_S // 4, quiet), first + timedelta(days=30), low_percent=99)
    assert [(each.start, each.count, each.low) for each in verdicts if each.low is not None] == [
        (datetime(2013, 5, 6, 18, 15, tzinfo=UTC), 94, "FIRING"),
        (datetime(2013, 5, 7, 18, 15, tzinfo=UTC), 96, "RESOLVED"),
    ]


def test_the_usual_is_fixed_when_the_coverage_reaches_midnight_at_the_airport():
    """Not with the UTC day before it: a correction of a past week before that counts, one after it does not."""
    first, calendar = datetime(2013, 4, 1, tzinfo=UTC), find_calendar("VNKT")
    grid = find_grid("VNKT", Window.ONE_DAY, AlignedTo.AIRPORT)
    traffic = fold_all(tell_days(first, 23, HOUR_S), calendar=calendar)
    day = seconds(first) + 23 * DAY_S
    number = grid.find_first_from(day)

    def cover(until: int, begin: int, back: tuple[int, ...], before: Traffic) -> Traffic:
        """Return the traffic after a message of hours, and then ten flights more in each of some past weeks."""
        hours = Observation(Direction.DEPARTURES, begin, until, (), Coverage.COMPLETE)
        after = fold_with_usual(before, hours, calendar)
        for week in back:
            base = grid.find_begin(number) - week * 7 * DAY_S
            late = Observation(
                Direction.DEPARTURES, base, base + HOUR_S, tuple(range(base, base + 10)), Coverage.COMPLETE
            )
            after = fold_with_usual(after, late, calendar)
        return after

    reached = grid.find_begin(number)
    assert reached == day + 18 * HOUR_S + 900
    before = cover(reached - 900, day, (1, 2, 3), traffic)
    assert read_doubled_usual(before.usual.departures, grid, number) == 2 * 34
    after = cover(reached, day, (1, 2, 3), traffic)
    assert read_doubled_usual(after.usual.departures, grid, number) == 2 * 24
    in_between = cover(reached - 900, day, (1, 2), traffic)
    assert read_doubled_usual(cover(reached, reached - 900, (3,), in_between).usual.departures, grid, number) == 2 * 34


def test_days_that_an_older_version_fixed_have_no_usual_by_the_airports_clock():
    """They are as long as that version made them, and what follows them is read as before."""
    calendar, day = Calendar("America/New_York"), seconds(datetime(2013, 5, 1, tzinfo=UTC)) // DAY_S
    traffic = fold_all(tell_days(datetime(2013, 4, 1, tzinfo=UTC), 31, HOUR_S), calendar=calendar)
    packed = traffic.usual.departures[day]
    assert len(packed) == len(EMPTY_USUAL_DAY) + 3 * 5
    grid = calendar.find_local_grid(Window.ONE_DAY)
    number = grid.find_first_from(day * DAY_S)
    assert read_doubled_usual({day: packed}, grid, number) == 48
    older = {day: packed[: len(EMPTY_USUAL_DAY)]}
    assert read_doubled_usual(older, grid, number) is None
    assert read_doubled_usual(older, Window.ONE_DAY, day) == 48


def test_a_local_day_is_told_with_its_usual_and_base_counts():
    """The alert has the local window's own usual, and what the percent makes of it."""
    quiet = frozenset(instant(seconds(datetime(2013, 3, 17, 4, tzinfo=UTC)) + hour * HOUR_S) for hour in range(20))
    log = tell_days(datetime(2013, 2, 1, tzinfo=UTC), 47, HOUR_S, quiet)
    interest = an_interest(
        airport="KJFK", window=Window.ONE_DAY, aligned_to=AlignedTo.AIRPORT, high=None, low_percent=50,
        effective_from=datetime(2013, 3, 14, tzinfo=UTC),
    )  # fmt: skip
    traffic = fold_all(log, calendar=find_calendar("KJFK"))
    (alert, resolved) = compute_alerts(interest, NO_TRAFFIC, traffic)
    assert (alert.window_start, alert.count, alert.threshold) == (datetime(2013, 3, 17, 4, tzinfo=UTC), 4, 12)
    assert (alert.doubled_usual, alert.base_counts) == (48, (23, 24, 24, 24, 24))
    assert resolved.earlier_usual[-2:] == (48, 48)


def test_the_usual_week_is_of_the_airports_days():
    """Seven days from the airport's midnight on, each with the windows that it follows from."""
    traffic = fold_all(tell_days(datetime(2013, 2, 1, tzinfo=UTC), 36, HOUR_S), calendar=find_calendar("KJFK"))
    since = datetime(2013, 3, 8, 5, tzinfo=UTC)
    for window, windows in ((Window.SIX_HOURS, 28), (Window.ONE_DAY, 7)):
        grid = find_grid("KJFK", window, AlignedTo.AIRPORT)
        week = list_usual_week(traffic, "KJFK", Direction.DEPARTURES, grid, since)
        assert len(week) == windows
        assert week[0].start == since
        assert {each.doubled_usual for each in week} == {2 * window.hours}
    assert [each.start.hour for each in week] == [5, 5, 5, 4, 4, 4, 4]


@pytest.mark.parametrize("zone", CHANGES)
def test_base_windows_have_the_date_and_the_part_of_the_day_of_weeks_before(zone):
    """Around all changes of clocks, as somebody finds them who looks at the clock every quarter of an hour.

    He names each window by what the clock shows when it begins. A window has no base where no window had that name.
    """
    calendar, clock = Calendar(zone), ZoneInfo(zone)
    for changed in CHANGES[zone]:
        middle = datetime(changed.year, changed.month, changed.day, tzinfo=UTC)
        for window in LOCAL_WINDOWS:
            first, last = middle - timedelta(days=50), middle + timedelta(days=45)
            starts = list_local_starts(zone, window.hours, first, last)
            shown = [each.astimezone(clock) for each in starts]
            names = {(each.date(), each.hour // window.hours): at for at, each in enumerate(shown)}
            ends = [(seconds(begin), seconds(end)) for begin, end in pairwise(starts)]
            grid = calendar.find_local_grid(window)
            for (day, part), at in names.items():
                if starts[at] < first + timedelta(days=38) or at == len(ends):
                    continue
                number = grid.find_number(seconds(starts[at]))
                wanted = [names.get((day - weeks * WEEK, part)) for weeks in range(1, WEEKS_BACK + 1)]
                bases = tuple(None if each is None else ends[each] for each in wanted)
                assert calendar.list_base_windows(grid, number) == bases, (zone, window, starts[at])
                plan = calendar.plan_local_day(seconds(starts[at]) // DAY_S)
                assert (seconds(starts[at]), window, bases) in plan.starts


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_it_does_not_matter_in_how_many_messages_the_hours_come(seed):
    """Whole days at once, or quarters of an hour: what is usual is the same in the end, without corrections."""
    chance = Random(seed)
    log = generate_usual_log(chance)
    calendar, traffic = Calendar(log.zone), NO_TRAFFIC
    plain = [each for each in log.past if each.direction is Direction.DEPARTURES]
    for message in plain:
        begin, after = message.begin, traffic
        while begin < message.end:
            end = min(begin + chance.choice((900, 2700, HOUR_S, 7 * HOUR_S, DAY_S)), message.end)
            times = [at for at in zip(message.event_times, message.fingerprints, strict=True) if begin <= at[0] < end]
            piece = Observation(
                message.direction, begin, end, tuple(at for at, _ in times), message.coverage,
                tuple(fingerprint for _, fingerprint in times),
            )  # fmt: skip
            after = fold_with_usual(after, piece, calendar)
            begin = end
        traffic = after
    assert traffic.usual == fold_all(plain, calendar=calendar).usual
