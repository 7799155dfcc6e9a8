"""Tests of the comparison of the service's clock with the dates of the source's answers."""

import math
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
import structlog
from hypothesis import given, strategies as st

from chassis.clock import ScaledClock
from chassis.metrics import Metrics, ServiceIdentity
from collector.sources.opensky.clock_check import TOLERATED_ERROR, ClockCheck, ClockReading, measure_clock_error
from tests.fakes.clock import FakeClock

TRUE = datetime(2026, 11, 29, 12, tzinfo=UTC)
"""The source's time when the request is sent."""
SECOND = timedelta(seconds=1)
SLACK = 2 * SECOND
"""A date is cut to whole seconds, and an error smaller than the resolution is none."""

offsets = st.timedeltas(timedelta(days=-400), timedelta(days=400))
durations = st.timedeltas(timedelta(0), timedelta(hours=3))
parts = st.floats(0, 1)


def take_date(took: timedelta, part: float) -> datetime:
    """Return the `Date` that the source gives when this part of the call's duration has passed."""
    return (TRUE + took * part).replace(microsecond=0)


@given(took=durations, part=parts)
def test_a_right_clock_has_no_error_however_long_the_call_takes(took: timedelta, part: float) -> None:
    """At a thousand times real speed a call of a second takes a quarter of an hour on the service's clock."""
    sent, received = ClockReading(TRUE, timedelta(5)), ClockReading(TRUE + took, timedelta(5) + took)
    assert measure_clock_error(take_date(took, part), sent, received) == timedelta(0)


@given(took=durations, part=parts, ahead=offsets)
def test_an_error_has_the_sign_and_nearly_the_size_of_the_clocks(
    took: timedelta, part: float, ahead: timedelta
) -> None:
    """It is never larger than the true error, and smaller only by the call's duration and the resolution."""
    sent, received = ClockReading(TRUE + ahead, timedelta(0)), ClockReading(TRUE + ahead + took, took)
    error = measure_clock_error(take_date(took, part), sent, received)
    assert not error or (error > timedelta(0)) == (ahead > timedelta(0)), "positive means ahead"
    assert abs(error) <= abs(ahead)
    assert abs(error) >= abs(ahead) - took - SLACK


@given(took=durations, part=parts, before=offsets, after=offsets)
def test_a_clock_that_is_set_during_the_call_hides_no_error(
    took: timedelta, part: float, before: timedelta, after: timedelta
) -> None:
    """The larger error of the two readings counts, also when the date lies between them."""
    sent, received = ClockReading(TRUE + before, timedelta(0)), ClockReading(TRUE + after + took, took)
    largest = max(abs(before), abs(after))
    error = abs(measure_clock_error(take_date(took, part), sent, received))
    assert largest - took - SLACK <= error <= largest


def test_a_halted_clock_that_agrees_has_no_error() -> None:
    """The replay's clock halts at the same instant as the service's; elapsed time goes on."""
    real = FakeClock(TRUE)
    clock = ScaledClock(TRUE, 3600, TRUE, TRUE + timedelta(hours=1), real)
    for _ in range(3):
        sent = ClockReading(clock.now(), clock.elapsed())
        real.advance(SECOND)
        date = clock.now()
        real.advance(SECOND)
        assert measure_clock_error(date, sent, ClockReading(clock.now(), clock.elapsed())) == timedelta(0)


@pytest.mark.parametrize(
    ("date", "error_s"),
    [(-3, 2), (-2, 1), (-1, 0), (0, 0), (10, 0), (11, 0), (12, -1), (100, -89)],
)
def test_the_distance_is_measured_from_the_nearer_end(date: int, error_s: int) -> None:
    """The interval of ten seconds is widened by one second at both ends."""
    sent, received = ClockReading(TRUE, timedelta(0)), ClockReading(TRUE + 10 * SECOND, 10 * SECOND)
    assert measure_clock_error(TRUE + date * SECOND, sent, received) == error_s * SECOND


class CheckUnderTest:
    """A check with a fake clock and a source whose clock is right."""

    def __init__(self) -> None:
        self.clock = FakeClock(TRUE)
        self._metrics = Metrics(ServiceIdentity("collector", "local"))
        self._check = ClockCheck(self.clock, self._metrics)

    def compare(self, ahead: timedelta) -> timedelta | None:
        """Compare with an answer that takes no time, while the service's clock is ahead of the source's."""
        headers = {"Date": format_datetime(self.clock.now() - ahead, usegmt=True)}
        return self.compare_headers(headers)

    def compare_headers(self, headers: dict[str, str]) -> timedelta | None:
        """Compare with an answer of these headers."""
        reading = self._check.read_clock()
        return self._check.compare_with_answer(headers, reading, reading)

    def gauge(self) -> float:
        """Return the metric's value."""
        labels = {"service": "collector", "node": "local"}
        value = self._metrics.registry.get_sample_value("opensky_clock_error_seconds", labels)
        assert value is not None
        return value


def test_the_gauge_shows_the_last_error_and_nan_if_it_is_unknown() -> None:
    """Unknown is not zero: nobody may take it for a clock that agrees."""
    check = CheckUnderTest()
    assert math.isnan(check.gauge())
    assert check.compare(timedelta(hours=2)) == timedelta(hours=2) - SECOND
    assert check.gauge() == 7199
    assert check.compare(timedelta(hours=-2)) == SECOND - timedelta(hours=2)
    assert check.gauge() == -7199
    assert check.compare(timedelta(0)) == timedelta(0)
    assert check.gauge() == 0
    for headers in ({}, {"Date": "noon"}):
        assert check.compare_headers(headers) is None
        assert math.isnan(check.gauge())


@pytest.mark.parametrize("sign", [1, -1])
def test_a_wrong_clock_is_logged_once_an_hour(sign: int) -> None:
    """More than two minutes are logged, in either direction; the hour is elapsed time, whatever the clock shows."""
    check = CheckUnderTest()
    with structlog.testing.capture_logs() as logs:
        check.compare(sign * (TOLERATED_ERROR + SECOND))
        assert logs == []
        check.compare(sign * (TOLERATED_ERROR + 2 * SECOND))
        check.compare(sign * timedelta(days=400))
        for days in (400, -800):
            check.clock.set_wall_clock(check.clock.now() + timedelta(days=days))
            check.compare(sign * timedelta(days=400))
        check.clock.advance(timedelta(minutes=59))
        check.compare(sign * timedelta(days=400))
        assert [(entry["event"], entry["ahead_s"]) for entry in logs] == [("opensky.clock_differs", sign * 121)]
        check.clock.advance(timedelta(minutes=1))
        check.compare(sign * timedelta(days=400))
    assert len(logs) == 2
