"""The axes of a chart: the size of the plot, positions on the axes, and their ticks.

Horizontal values are in percent of the width, vertical values in pixels from the top.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from domain.windows import Window
from streams.pages.windows import WindowShown
from streams.pages.wording import format_day

PLOT_TOP: Final = 26
"""Pixels above the highest bar, which leave room for the markers of alerts."""

PLOT_HEIGHT: Final = 170
AXIS_HEIGHT: Final = 34

_STEP_DIGITS: Final = (1, 2, 5)
"""First digits of the steps between the ticks of the axis of counts."""


@dataclass(frozen=True, slots=True)
class Tick:
    """A labelled position on an axis: percent of the width, or pixels from the top."""

    position: float
    label: str
    is_minor: bool = False
    """True: left out on narrow screens."""
    second_line: str = ""
    """Text below the label, as the day below the hour."""


def compute_y(count: float, top_count: int) -> float:
    """Return the pixels from the top to a count, on an axis from 0 to `top_count`."""
    return round_pixels(PLOT_TOP + PLOT_HEIGHT * (1 - count / top_count))


def round_pixels(value: float) -> float:
    return round(value, 1)


def round_percent(value: float) -> float:
    return round(value, 3)


def choose_count_ticks(highest: int) -> tuple[int, ...]:
    """Return round counts in equal steps, from 0 to the first that is at least `highest`: five at most."""
    step = next(digit * 10**power for power in range(7) for digit in _STEP_DIGITS if digit * 10**power * 4 >= highest)
    return tuple(range(0, -(-highest // step) * step + 1, step))


def build_time_ticks(windows: Sequence[WindowShown], length: Window, slot: float) -> tuple[Tick, ...]:
    """Build the ticks of the time axis: every six hours for windows of 1 h, every day for 6 h, every Monday for 1 d.

    About every second one is minor. A tick so near the right edge that its label would be cut is left out.
    """
    ticks = []
    for index, window in enumerate(windows):
        start, x = window.start, round_percent(index * slot)
        match length:
            case Window.ONE_HOUR:
                if start.hour == 0:
                    ticks.append(Tick(x, "00:00", second_line=format_day(start)))
                elif start.hour % 6 == 0:
                    ticks.append(Tick(x, f"{start:%H:%M}", is_minor=start.hour != 12))
            case Window.SIX_HOURS:
                if start.hour == 0:
                    ticks.append(Tick(x, f"{start.day} {start:%b}", is_minor=start.toordinal() % 2 == 1))
            case Window.ONE_DAY:
                if start.weekday() == 0:
                    ticks.append(Tick(x, f"{start.day} {start:%b}", is_minor=start.isocalendar().week % 2 == 1))
    return tuple(tick for tick in ticks if tick.position <= 97)
