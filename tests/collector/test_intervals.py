"""Which stretches of time to collect: the rules, for any instants."""

from datetime import UTC, datetime, timedelta

from hypothesis import given, strategies as st

from collector.intervals import DAY, FARTHEST_BACK, Lags, by_days, day_of, first_begin, known_until
from domain.interests import Direction

INSTANTS = st.datetimes(datetime(2000, 1, 1), datetime(2040, 1, 1), timezones=st.just(UTC))
SECONDS = INSTANTS.map(lambda instant: instant.replace(microsecond=0))
LAGS = st.builds(
    Lags,
    departures=st.timedeltas(timedelta(0), timedelta(days=2)),
    arrivals=st.timedeltas(timedelta(0), timedelta(days=2)),
)


@given(SECONDS, st.timedeltas(timedelta(days=-2), timedelta(days=40)))
def test_days_lie_end_to_end_and_fill_the_stretch(begin: datetime, length: timedelta) -> None:
    """No hole, no overlap, no empty interval, and none crosses midnight."""
    end = begin + length
    intervals = list(by_days("KJFK", Direction.DEPARTURES, begin, end))
    assert bool(intervals) == (begin < end)
    edges = [begin, *(interval.end for interval in intervals)]
    assert [interval.begin for interval in intervals] == edges[:-1]
    assert edges[-1] == max(begin, end)
    for interval in intervals:
        assert interval.begin < interval.end
        assert day_of(interval.begin) == day_of(interval.end - timedelta(microseconds=1))


@given(INSTANTS, LAGS)
def test_departures_are_known_once_their_lag_has_passed(now: datetime, lags: Lags) -> None:
    """To the whole second, for the source knows no other."""
    until = known_until(Direction.DEPARTURES, now, lags)
    assert until.microsecond == 0
    assert timedelta(0) <= now - lags.departures - until < timedelta(seconds=1)


@given(INSTANTS, LAGS)
def test_arrivals_are_known_of_days_whose_batch_is_done(now: datetime, lags: Lags) -> None:
    """Up to a midnight that lies at least the lag behind, and the last such midnight."""
    until = known_until(Direction.ARRIVALS, now, lags)
    assert until == day_of(until)
    assert until + lags.arrivals <= now < until + DAY + lags.arrivals


@given(INSTANTS, st.sampled_from([Direction.ARRIVALS, Direction.DEPARTURES]), LAGS, st.timedeltas(timedelta(0), DAY))
def test_what_is_known_is_never_unknown_later(
    now: datetime, direction: Direction, lags: Lags, passed: timedelta
) -> None:
    """Coverage only grows."""
    assert known_until(direction, now, lags) <= known_until(direction, now + passed, lags)


@given(INSTANTS, INSTANTS)
def test_a_first_collection_begins_with_what_is_wanted(wanted_from: datetime, now: datetime) -> None:
    """With yesterday at the latest, so that a first mail can come at once; never farther back than allowed."""
    begin = first_begin(wanted_from, now)
    assert begin == day_of(begin)
    assert day_of(now - FARTHEST_BACK) <= begin <= day_of(now) - DAY
    assert begin <= wanted_from or begin == day_of(now - FARTHEST_BACK)
