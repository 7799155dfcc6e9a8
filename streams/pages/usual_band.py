"""The usual counts of a chart's windows, and the levels that thresholds in percent make of them, for the templates.

Both may have a different height in each window, so each is one SVG path; its horizontal unit is a window, its vertical
one a pixel from the top. The template stretches them to the width of the chart.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from domain.alerts import Bound
from domain.measures import Measure, convert_to_flights
from domain.reasons import describe_threshold
from domain.usual import LEAST_DOUBLED_USUAL
from streams.pages.airport import ThresholdShown
from streams.pages.axes import PLOT_HEIGHT, PLOT_TOP, compute_y
from streams.pages.windows import WindowShown
from streams.pages.wording import describe_run

_MIN_LABEL_DISTANCE: Final = 15
"""Least distance in pixels between the labels of two thresholds, so that both can be read."""


@dataclass(frozen=True, slots=True)
class UsualBand:
    """The SVG paths of a field that is as high, in each window, as the usual count: the field and its upper edge."""

    area: str
    """The field, as data of an SVG path; empty if nothing is usual in any window."""
    edge: str
    """Its upper edge."""


@dataclass(frozen=True, slots=True)
class StepLine:
    """The level of a threshold in percent: a line with a step wherever what is usual changes."""

    bound: Bound
    path: str
    label: str
    label_y: float | None
    """None: the label is left out, because the label of another threshold is too near."""


def find_level(threshold: ThresholdShown, window: WindowShown) -> int | None:
    """Return the flights beyond which a window breaches a threshold; None if the threshold does not judge it."""
    if threshold.measure is Measure.FLIGHTS:
        return threshold.threshold
    if window.doubled_usual is None or window.doubled_usual < LEAST_DOUBLED_USUAL:
        return None
    return convert_to_flights(threshold.bound, threshold.threshold, window.doubled_usual)


def find_highest_level(threshold: ThresholdShown, windows: Sequence[WindowShown]) -> int:
    """Return the highest level of a threshold in any of some windows; 0 if it judges none."""
    return max((level for window in windows if (level := find_level(threshold, window)) is not None), default=0)


def build_usual_band(windows: Sequence[WindowShown], top_count: int) -> UsualBand:
    """Build the field below what is usual. `top_count`: the count at the top of the plot."""
    heights = [
        None if window.doubled_usual is None else compute_y(window.doubled_usual / 2, top_count) for window in windows
    ]
    bottom = PLOT_TOP + PLOT_HEIGHT
    area = "".join(f"M{at} {bottom}V{y}H{at + 1}V{bottom}Z" for at, y in enumerate(heights) if y is not None)
    return UsualBand(area, _build_steps(heights))


def build_step_lines(
    thresholds: Sequence[ThresholdShown], windows: Sequence[WindowShown], top_count: int, label_positions: list[float]
) -> tuple[StepLine, ...]:
    """Build the line of each threshold in percent that judges any of the windows, in the order of `thresholds`.

    A label is left out if it is nearer than `_MIN_LABEL_DISTANCE` to an earlier one. `label_positions`: of the labels
    that are drawn already.
    """
    taken = [*label_positions]
    lines = []
    for threshold in thresholds:
        levels = [find_level(threshold, window) for window in windows]
        heights = [None if level is None else compute_y(level, top_count) for level in levels]
        drawn = [y for y in heights if y is not None]
        if not drawn:
            continue
        label_y = drawn[0] - 5
        has_room = all(abs(label_y - other) >= _MIN_LABEL_DISTANCE for other in taken)
        if has_room:
            taken.append(label_y)
        condition = describe_threshold(threshold.bound, threshold.threshold, threshold.measure)
        label = f"{condition}{describe_run(threshold.for_windows)}"
        lines.append(StepLine(threshold.bound, _build_steps(heights), label, label_y if has_room else None))
    return tuple(lines)


def _build_steps(heights: Sequence[float | None]) -> str:
    """Return the data of an SVG path with a step at each window; None interrupts it."""
    path = ""
    before = None
    for at, y in enumerate(heights):
        if y is not None:
            path += f"{f'M{at} {y}' if before is None else '' if y == before else f'V{y}'}H{at + 1}"
        before = y
    return path
