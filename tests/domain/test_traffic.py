"""Tests of traffic: the flights that count, gaps, and the limit of its memory."""

from hypothesis import example, given, strategies as st

from domain.interests import Direction
from domain.traffic import LONGEST_INTERVAL_S, MAX_DAYS, Coverage, DirectionTraffic, Observation
from domain.windows import HOUR_S, seconds
from tests.domain.logs import BASE

DEPARTURES = Direction.DEPARTURES
NOON = seconds(BASE) + 12 * HOUR_S
YEAR_9999 = 253_370_764_800


def seen(begin: int, end: int, *times: int, coverage: Coverage = Coverage.COMPLETE) -> Observation:
    """Return an observation of departures; all times in seconds since 1970."""
    return Observation(DEPARTURES, begin, end, times, coverage)


def test_a_late_flight_counts_and_one_at_an_invalid_time_does_not():
    """A flight before its interval counts, as late flights do; one after it, or forty days before, does not."""
    flow = DirectionTraffic().fold(seen(NOON, NOON + HOUR_S))
    late = seen(NOON + HOUR_S, NOON + 2 * HOUR_S, NOON, NOON + 2 * HOUR_S, YEAR_9999, 0, -(10**12))
    assert flow.fold(late).counts.total(0, 10**7) == 1
    assert [at in late.valid_times for at in late.event_times] == [True, False, False, False, False]


def test_a_skipped_interval_is_a_gap_at_once():
    """An interval that the collector skips is a gap from the next batch on, be that batch partial or complete."""
    flow = DirectionTraffic().fold(seen(NOON, NOON + HOUR_S))
    begin, end = NOON + 3 * HOUR_S, NOON + 4 * HOUR_S
    partial = flow.fold(seen(begin, end, begin, coverage=Coverage.PARTIAL))
    assert partial.gaps == ((NOON + HOUR_S, begin),)
    assert partial.watermark == begin
    assert partial.fold(seen(begin, end)) == flow.fold(seen(begin, end, begin))


@st.composite
def hostile_observations(draw) -> Observation:
    """Draw an observation with any interval up to the year 9999 and any event times."""
    begin = draw(st.integers(0, YEAR_9999) | st.integers(NOON - 10**7, NOON + 10**7))
    end = begin + draw(st.integers(1, LONGEST_INTERVAL_S))
    coverage = draw(st.sampled_from(Coverage))
    if coverage is Coverage.GAP:
        end = draw(st.integers(begin + 1, YEAR_9999 + 1))
    anywhere = st.integers(-(2**63), 2**63 - 1) | st.integers(begin - 10**7, end + 10**7)
    return Observation(DEPARTURES, begin, end, tuple(draw(st.lists(anywhere, max_size=5))), coverage)


@example(log=[seen(NOON, NOON + 1, NOON, coverage=Coverage.PARTIAL), seen(0, 1, 0)])
@given(log=st.lists(hostile_observations(), max_size=8))
def test_no_log_takes_more_memory_than_the_retained_days_and_one_interval(log):
    """Event times of the years 1970 and 9999 do not make an airport store all the hours in between."""
    flow = DirectionTraffic()
    for each in log:
        flow = flow.fold(each)
        assert len(flow.counts.days) <= MAX_DAYS + 1
        assert len(flow.gaps) <= len(log) * 2
