"""Tests of the texts for numbers, durations and times, and of the sampler of lag and rates."""

import asyncio
from datetime import timedelta

import pytest

from domain.reasons import pluralize
from domain.windows import Window
from streams.pages.pulse import WorkerSampler
from streams.pages.wording import format_duration, format_interval, format_rate, format_window
from tests.domain.logs import BASE

HOUR = timedelta(hours=1)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-5, "0 s"), (0.9, "0 s"), (59, "59 s"), (60, "1 min"), (3599, "59 min"), (3600, "1 h"), (8400, "2 h 20 min"),
        (86400, "24 h"), (172799, "47 h 59 min"), (172800, "2 d"), (190000, "2 d 4 h"), (434_898_000, "5033 d 13 h"),
    ],
)  # fmt: skip
def test_durations_have_two_units_at_most(seconds, text) -> None:
    """Seconds are left out of a duration of days."""
    assert format_duration(seconds) == text


@pytest.mark.parametrize(("value", "text"), [(0, "0"), (0.24, "0.2"), (9.96, "10.0"), (12.4, "12"), (1234.5, "1,234")])
def test_rates_have_a_decimal_only_below_ten(value, text) -> None:
    """A rate of ten or more is a whole number, with commas."""
    assert format_rate(value) == text


def test_counts_have_their_unit() -> None:
    """The unit of one flight is singular, that of any other count plural."""
    assert [pluralize(count, "flight") for count in (0, 1, 2, 1000)] == [
        "0 flights",
        "1 flight",
        "2 flights",
        "1,000 flights",
    ]
    assert pluralize(3, "entry", "entries") == "3 entries"


def test_windows_are_shown_by_day_and_hours() -> None:
    """A whole day is shown by its date alone; a window that ends at midnight is shown with one date."""
    assert format_window(BASE, Window.ONE_DAY) == "Fri 8 Feb"
    assert format_window(BASE, Window.ONE_HOUR) == "Fri 8 Feb 00:00–01:00"
    assert format_window(BASE + 18 * HOUR, Window.SIX_HOURS) == "Fri 8 Feb 18:00–00:00"
    assert format_interval(BASE + 20 * HOUR, BASE + 30 * HOUR) == "Fri 8 Feb 20:00 – Sat 9 Feb 06:00"


class LateSleeper:
    """A fake clock and sleep, where each sleep takes longer by the next of `lags` seconds; cancelled after the last."""

    def __init__(self, *lags: float) -> None:
        self.now = 0.0
        self._lags = list(lags)

    def monotonic(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        if not self._lags:
            raise asyncio.CancelledError
        self.now += seconds + self._lags.pop(0)


def test_the_lag_of_the_event_loop_is_the_delay_of_a_sleeping_task() -> None:
    """The lag has the newest, the median and the highest delay of a minute."""
    sleeper = LateSleeper(0.0, 0.25, 0.001, 0.002, 0.003)
    sampler = WorkerSampler(dict, sleeper.monotonic, sleeper.sleep)
    assert sampler.compute_loop_lag() is None
    with pytest.raises(asyncio.CancelledError):
        asyncio.run(sampler.take_samples())
    lag = sampler.compute_loop_lag()
    assert (lag.newest_ms, lag.median_ms, lag.most_ms) == (3.0, 2.0, 250.0)
    assert sampler.uptime_s == pytest.approx(5.256)


def test_rates_are_of_the_last_ten_seconds() -> None:
    """Growth before the last ten seconds does not count; a name that was never counted has rate 0."""
    sleeper = LateSleeper(*[0.0] * 30)
    counts = {"in": 0}

    def count() -> dict[str, int]:
        counts["in"] += 100 if sleeper.now > 20 else 7
        return counts

    sampler = WorkerSampler(count, sleeper.monotonic, sleeper.sleep)
    with pytest.raises(asyncio.CancelledError):
        asyncio.run(sampler.take_samples())
    assert sampler.compute_rate("in") == 100.0
    assert sampler.compute_rate("out") == 0.0
