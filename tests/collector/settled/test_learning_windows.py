"""Properties of the search for the first windows with a usual: it finds what a walk from window to window finds."""

from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import UUID

import pytest
from hypothesis import example, given, settings, strategies as st

from collector.intervals import DAY, day_of
from collector.settled.history import HistoryTarget
from collector.settled.learning import Forecast
from collector.settled.learning_windows import list_window_groups
from domain.calendar import find_calendar, find_grid
from domain.interests import Direction
from domain.windows import HOUR_S, AlignedTo, Window, instant, seconds
from tests.collector.settled.learning_model import walk_to_first_judged

ICAOS: Final = ("KJFK", "EDDF", "VNKT", "YLHI", "PHNL", "NSFA", "CYYT", "NZCI", "YPAD")
"""With whole hours, halves and quarters, clocks that change by an hour or by half of one, and a skipped day."""
GRIDS: Final = ((Window.ONE_HOUR, AlignedTo.UTC), *((each, at) for each in list(Window)[1:] for at in AlignedTo))
MOMENTS: Final = tuple(
    datetime(*day, tzinfo=UTC)
    for day in (
        (2011, 12, 30), (2013, 1, 20), (2013, 3, 10), (2013, 3, 31), (2013, 4, 7), (2013, 10, 6), (2013, 10, 27),
        (2013, 11, 3),
    )
)  # fmt: skip
"""Days of which clocks change near most, somewhere."""


@st.composite
def forecasts(draw: st.DrawFn) -> tuple[str, Direction, Forecast]:
    """Draw an airport, a direction, and a forecast of when some of its days will be known."""
    icao, direction = draw(st.sampled_from(ICAOS)), draw(st.sampled_from(Direction))
    near = draw(st.sampled_from(MOMENTS)) + draw(st.integers(-10, 50)) * DAY
    now = near + DAY + timedelta(seconds=draw(st.sampled_from([0, 1, 6 * HOUR_S + 17, 24 * HOUR_S - 1])))
    history, expected, live = {}, {}, {}
    for part in direction.parts:
        key = icao, part
        until = near + draw(st.integers(-1, 0)) * DAY
        days = [until - back * DAY for back in range(1, 44)]
        fates = draw(st.lists(st.integers(0, 5), min_size=len(days), max_size=len(days)))
        is_rich = draw(st.integers(1, 4))
        covered = frozenset(day for day, fate in zip(days, fates, strict=True) if fate < is_rich)
        later = st.timedeltas(timedelta(0), draw(st.sampled_from([timedelta(0), DAY, 25 * DAY])))
        expected[key] = {
            day: now + draw(later) for day, fate in zip(days, fates, strict=True) if is_rich <= fate <= is_rich + 2
        }
        history[key] = HistoryTarget(icao, part, {UUID(int=1): near}, None, until, covered, (), frozenset())
        if draw(st.booleans()):
            live[key] = now - draw(st.timedeltas(timedelta(0), DAY))
    return icao, direction, Forecast(history, expected, live, now)


@settings(max_examples=60, deadline=None)
@given(drawn=forecasts(), grid=st.sampled_from(GRIDS))
def test_the_first_judged_window_is_that_of_a_walk(
    drawn: tuple[str, Direction, Forecast], grid: tuple[Window, AlignedTo]
) -> None:
    """In all zones, around changes of clocks, with days known, expected, and missing for good, settled and live."""
    icao, direction, forecast = drawn
    wanted = find_grid(icao, *grid)
    assert forecast.find_first_judged(icao, direction, wanted) == walk_to_first_judged(
        forecast, icao, direction, wanted
    )


@settings(max_examples=60, deadline=None)
@given(
    icao=st.sampled_from(ICAOS),
    grid=st.sampled_from(GRIDS),
    moment=st.sampled_from(MOMENTS),
    days=st.integers(-3, 45),
)
@example("KJFK", (Window.ONE_HOUR, AlignedTo.UTC), datetime(2013, 3, 10, tzinfo=UTC), 1)
@example("NSFA", (Window.ONE_DAY, AlignedTo.AIRPORT), datetime(2011, 12, 30, tzinfo=UTC), 7)
def test_groups_hold_the_days_of_each_base_window(
    icao: str, grid: tuple[Window, AlignedTo], moment: datetime, days: int
) -> None:
    """Each window that begins on the day is in one group, in order, with the days of its own base windows."""
    calendar, wanted, day = find_calendar(icao), find_grid(icao, *grid), seconds(moment) // (24 * HOUR_S) + days
    numbers = []
    for group in list_window_groups(calendar, wanted, day):
        for number in range(group.first, group.last + 1):
            numbers.append(number)
            bases = [each for each in calendar.list_base_windows(wanted, number) if each is not None]
            lies_in = [{seconds(day_of(instant(at))) // (24 * HOUR_S) for at in range(*base, 900)} for base in bases]
            assert [set(each) for each in group.base_days] == lies_in
    first = wanted.find_first_from(day * 24 * HOUR_S)
    assert numbers == list(range(first, wanted.find_first_from((day + 1) * 24 * HOUR_S)))


@pytest.mark.parametrize("icao", ["KJFK", "YLHI"])
def test_most_days_are_one_group(icao: str) -> None:
    """On a day whose weeks before had no change of clocks, all hours are looked at together."""
    day = seconds(datetime(2013, 8, 1, tzinfo=UTC)) // (24 * HOUR_S)
    assert len(list_window_groups(find_calendar(icao), Window.ONE_HOUR, day)) == 1
