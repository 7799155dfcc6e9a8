"""Numbers, durations and times as people read them; and the pulse that some of them come from."""

import asyncio
from datetime import timedelta

import pytest

from domain.windows import Window
from streams.pages.pulse import WorkerSampler
from streams.pages.wording import format_duration, format_interval, format_rate, format_window, pluralize
from tests.domain.logs import BASE

HOUR = timedelta(hours=1)


@pytest.mark.parametrize(
    ("seconds", "told"),
    [
        (-5, "0 s"), (0.9, "0 s"), (59, "59 s"), (60, "1 min"), (3599, "59 min"), (3600, "1 h"), (8400, "2 h 20 min"),
        (86400, "24 h"), (172799, "47 h 59 min"), (172800, "2 d"), (190000, "2 d 4 h"), (434_898_000, "5033 d 13 h"),
    ],
)  # fmt: skip
def test_durations_have_two_units_at_most(seconds, told) -> None:
    """Nobody reads seconds of days."""
    assert format_duration(seconds) == told


@pytest.mark.parametrize(("value", "told"), [(0, "0"), (0.24, "0.2"), (9.96, "10.0"), (12.4, "12"), (1234.5, "1,234")])
def test_rates_have_the_digits_that_matter(value, told) -> None:
    """None behind the point of hundreds."""
    assert format_rate(value) == told


def test_counts_have_their_unit() -> None:
    """One flight, two flights, a thousand with a comma."""
    assert [pluralize(count, "flight") for count in (0, 1, 2, 1000)] == [
        "0 flights",
        "1 flight",
        "2 flights",
        "1,000 flights",
    ]
    assert pluralize(3, "entry", "entries") == "3 entries"


def test_windows_are_told_by_day_and_hours() -> None:
    """A whole day by its name alone; midnight ends a day, and does not begin another."""
    assert format_window(BASE, Window.ONE_DAY) == "Fri 8 Feb"
    assert format_window(BASE, Window.ONE_HOUR) == "Fri 8 Feb 00:00–01:00"
    assert format_window(BASE + 18 * HOUR, Window.SIX_HOURS) == "Fri 8 Feb 18:00–00:00"
    assert format_interval(BASE + 20 * HOUR, BASE + 30 * HOUR) == "Fri 8 Feb 20:00 – Sat 9 Feb 06:00"


class Late:
    """A sleeper that wakes late by what it is told, on a clock of its own."""

    def __init__(self, *lags: float) -> None:
        self.now = 0.0
        self._lags = list(lags)

    def monotonic(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        if not self._lags:
            raise asyncio.CancelledError
        self.now += seconds + self._lags.pop(0)


def test_the_event_loop_s_lag_is_how_late_a_sleeper_wakes() -> None:
    """The newest, the median and the worst of a minute."""
    late = Late(0.0, 0.25, 0.001, 0.002, 0.003)
    pulse = WorkerSampler(dict, late.monotonic, late.sleep)
    assert pulse.compute_loop_lag() is None
    with pytest.raises(asyncio.CancelledError):
        asyncio.run(pulse.take_samples())
    lag = pulse.compute_loop_lag()
    assert (lag.newest_ms, lag.median_ms, lag.most_ms) == (3.0, 2.0, 250.0)
    assert pulse.uptime_s == pytest.approx(5.256)


def test_rates_are_of_the_last_ten_seconds() -> None:
    """What came before them is forgotten; what was never counted is none."""
    late = Late(*[0.0] * 30)
    counts = {"in": 0}

    def count() -> dict[str, int]:
        counts["in"] += 100 if late.now > 20 else 7
        return counts

    pulse = WorkerSampler(count, late.monotonic, late.sleep)
    with pytest.raises(asyncio.CancelledError):
        asyncio.run(pulse.take_samples())
    assert pulse.compute_rate("in") == 100.0
    assert pulse.compute_rate("out") == 0.0
