"""The geometry of the charts, which the templates draw as SVG.

Horizontal values are in percent of the width, so that a chart fits every screen and its text keeps its size; vertical
values are in pixels from the top.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, assert_never

from domain.alerts import AlertState, Bound
from domain.measures import Measure
from domain.reasons import describe_threshold, format_number, format_usual, pluralize
from streams.pages.airport import ChartedAlert, Series, ThresholdShown
from streams.pages.axes import (
    AXIS_HEIGHT,
    PLOT_HEIGHT,
    PLOT_TOP,
    Tick,
    build_time_ticks,
    choose_count_ticks,
    compute_y,
    round_percent,
    round_pixels,
)
from streams.pages.provenance_lane import LANE_HEIGHT, LaneStretch, build_lane, describe_knowledge, summarize_knowledge
from streams.pages.usual_band import (
    StepLine,
    UsualBand,
    build_step_lines,
    build_usual_band,
    find_highest_level,
    find_level,
)
from streams.pages.windows import WindowCoverage, WindowShown
from streams.pages.wording import (
    ALERT_SYMBOLS,
    PER_WINDOW,
    describe_run,
    format_flight_count,
    format_window,
    name_flights,
)

_MIN_BREACH_HEIGHT: Final = 3
"""Least height in pixels of the bar of a window below a low threshold, which can have no flights at all."""

_BAR_WIDTH_SHARE: Final = 0.74
"""Share of a window's width that its bar takes; the rest separates the bar from the next one."""

_MAX_THRESHOLD_RATIO: Final = 2.5
"""Largest ratio of a threshold to the highest count. A threshold above it would flatten the bars, and is only named."""

_MIN_LABEL_DISTANCE: Final = 15
"""Least distance in pixels between the labels of two thresholds, so that both can be read."""


@dataclass(frozen=True, slots=True)
class Bar:
    """The bar of one window, in percent (x, width) and pixels (y, height): its height shows the number of flights."""

    x: float
    width: float
    y: float
    height: float
    css_class: str
    """One of closed, open, gap, not-covered, kept; followed by `over` or `under` if a threshold is breached."""
    tooltip: str


@dataclass(frozen=True, slots=True)
class Band:
    """A background behind neighbouring windows that are not covered, or that a gap touches."""

    x: float
    width: float
    css_class: str
    tooltip: str


@dataclass(frozen=True, slots=True)
class ThresholdLine:
    """The line of a threshold, and the area of the counts that breach the threshold."""

    y: float
    bound: Bound
    breach_y: float
    breach_height: float
    label: str
    label_y: float | None
    """None: the label is left out, because the label of another threshold is too near."""


@dataclass(frozen=True, slots=True)
class AlertMarker:
    """The marker above a window that has alerts."""

    x: float
    symbol: str
    css_class: str
    """State and bound of the gravest alert, in lower case."""
    tooltip: str


@dataclass(frozen=True, slots=True)
class Chart:
    """The chart of one direction of an airport: all that a template needs to draw it, in percent and pixels."""

    title: str
    summary: str
    """Description of the chart for people who cannot see it."""
    bars: tuple[Bar, ...]
    bands: tuple[Band, ...]
    lines: tuple[ThresholdLine, ...]
    steps: tuple[StepLine, ...]
    """The lines of thresholds in percent."""
    usual: UsualBand
    undrawn_thresholds: tuple[str, ...]
    """Names of the thresholds that are too far above the counts to be drawn."""
    markers: tuple[AlertMarker, ...]
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    lane: tuple[LaneStretch, ...]
    """The marks below the axis of time that say which windows are live, settled, or a gap."""

    plot_top: int = PLOT_TOP
    plot_bottom: int = PLOT_TOP + PLOT_HEIGHT
    lane_top: int = PLOT_TOP + PLOT_HEIGHT + AXIS_HEIGHT
    height: int = PLOT_TOP + PLOT_HEIGHT + AXIS_HEIGHT + LANE_HEIGHT


def build_chart(series: Series) -> Chart | None:
    """Build the chart of a series of windows. Return None if the series has no window.

    The axis of counts goes from 0 to a round number that is at least the highest count, the highest usual, and the
    highest drawn threshold. A threshold above `_MAX_THRESHOLD_RATIO` times the highest count or usual (taken as at
    least 4) is named and not drawn.
    """
    windows = series.windows
    if not windows:
        return None
    highest_count = max(window.count for window in windows)
    highest_usual = max(-(-(window.doubled_usual or 0) // 2) for window in windows)
    max_drawn = max(highest_count, highest_usual, 4) * _MAX_THRESHOLD_RATIO
    levels = [(each, find_highest_level(each, windows)) for each in (*series.thresholds, *series.percents)]
    drawn = [threshold for threshold, level in levels if level <= max_drawn]
    drawn_levels = [level for _, level in levels if level <= max_drawn]
    ticks = choose_count_ticks(max([highest_count, highest_usual, 1, *drawn_levels]))
    top_count = ticks[-1]
    slot = 100 / len(windows)
    lines = _build_threshold_lines([each for each in drawn if each.measure is Measure.FLIGHTS], top_count)
    label_positions = [line.label_y for line in lines if line.label_y is not None]
    steps = [each for each in drawn if each.measure is Measure.PERCENT]
    return Chart(
        title=f"{name_flights(series.direction).capitalize()} {PER_WINDOW[series.window]}{_name_clock(series)}",
        summary=_describe_chart(series, highest_count),
        bars=tuple(_build_bar(window, index, slot, top_count, series) for index, window in enumerate(windows)),
        bands=_build_bands(windows, slot),
        lines=lines,
        steps=build_step_lines(steps, windows, top_count, label_positions),
        usual=build_usual_band(windows, top_count),
        undrawn_thresholds=tuple(_label_threshold(threshold) for threshold, level in levels if level > max_drawn),
        markers=_build_alert_markers(series, slot),
        x_ticks=build_time_ticks(windows, series.window, slot),
        y_ticks=tuple(Tick(compute_y(count, top_count), format_number(count)) for count in ticks),
        lane=build_lane(windows, series.window, slot),
    )


def _name_clock(series: Series) -> str:
    """Return by whose clock the windows of a series begin, if it is not UTC: ", by the clock of Europe/Rome"."""
    return "" if series.clock == "UTC" else f", by the clock of {series.clock}"


def _build_bar(window: WindowShown, index: int, slot: float, top_count: int, series: Series) -> Bar:
    """Build the bar of the window at `index` of the series, centred in the window's slot.

    `slot`: width of a window in percent; `top_count`: count at the top of the plot.
    """
    css_class = _choose_bar_class(window, (*series.thresholds, *series.percents))
    height = _compute_bar_height(window, top_count, css_class)
    return Bar(
        x=round_percent((index + (1 - _BAR_WIDTH_SHARE) / 2) * slot),
        width=round_percent(slot * _BAR_WIDTH_SHARE),
        y=round_pixels(PLOT_TOP + PLOT_HEIGHT - height),
        height=height,
        css_class=css_class,
        tooltip=_describe_window(window, series),
    )


def _describe_window(window: WindowShown, series: Series) -> str:
    """Return a window's time, its number of flights, what is usual in it, and its coverage, as one text."""
    time = format_window(window.start, series.window)
    usual = "" if window.doubled_usual is None else f" (usually {format_usual(window.doubled_usual, ())})"
    return f"{time}: {format_flight_count(window.count, series.direction)}{usual}, {describe_knowledge(window)}"


def _compute_bar_height(window: WindowShown, top_count: int, css_class: str) -> float:
    """Return a bar's height in pixels, at least `_MIN_BREACH_HEIGHT` if the count is below a low threshold."""
    height = round_pixels(PLOT_HEIGHT * window.count / top_count)
    return max(height, _MIN_BREACH_HEIGHT) if css_class.endswith("under") else height


def _label_threshold(threshold: ThresholdShown) -> str:
    """Return a threshold in words, as `more than 20, 2 windows in a row`."""
    condition = describe_threshold(threshold.bound, threshold.threshold, threshold.measure)
    return f"{condition}{describe_run(threshold.for_windows)}"


def _choose_bar_class(window: WindowShown, thresholds: Sequence[ThresholdShown]) -> str:
    """Return the CSS classes of a window's bar, as `Bar.css_class` lists them.

    The class of the coverage is followed by `over` or `under` if the count breaches any of the thresholds for certain;
    by `over` alone if it breaches thresholds of both bounds.
    """
    coverage_class = {
        WindowCoverage.GAP: "gap",
        WindowCoverage.OPEN: "open",
        WindowCoverage.UNCOVERED: "not-covered",
        WindowCoverage.FROM_HISTORY: "kept",
    }.get(window.known, "closed")
    for bound in Bound:
        breach_class, judged = _choose_breach_class(bound)
        if window.known in judged and any(
            threshold.bound is bound
            and (level := find_level(threshold, window)) is not None
            and bound.is_breached(window.count, level)
            for threshold in thresholds
        ):
            return f"{coverage_class} {breach_class}"
    return coverage_class


def _choose_breach_class(bound: Bound) -> tuple[str, tuple[WindowCoverage, ...]]:
    """Return the CSS class of a window in breach of a bound, and the coverages with which such a breach is certain.

    A count above a high threshold is certain in an open window or one with a gap, too; one below a low threshold only
    in a closed window.
    """
    match bound:
        case Bound.HIGH:
            return "over", (
                WindowCoverage.CLOSED,
                WindowCoverage.FROM_HISTORY,
                WindowCoverage.OPEN,
                WindowCoverage.GAP,
            )
        case Bound.LOW:
            return "under", (WindowCoverage.CLOSED, WindowCoverage.FROM_HISTORY)
        case _:
            assert_never(bound)


def _build_bands(windows: Sequence[WindowShown], slot: float) -> tuple[Band, ...]:
    """Build one band for each run of neighbouring windows that all have a gap, or that all are not covered.

    Other windows have no band. `slot`: width of a window in percent.
    """
    texts = {
        WindowCoverage.GAP: ("gap", "a gap: not all flights are known, unless the night's record fills it"),
        WindowCoverage.UNCOVERED: ("not-covered", "not covered"),
    }
    bands: list[Band] = []
    begin = 0
    for index in range(1, len(windows) + 1):
        if index == len(windows) or windows[index].known is not windows[begin].known:
            if windows[begin].known in texts:
                css_class, tooltip = texts[windows[begin].known]
                width = round_percent((index - begin) * slot)
                bands.append(Band(round_percent(begin * slot), width, css_class, tooltip))
            begin = index
    return tuple(bands)


def _build_threshold_lines(thresholds: Sequence[ThresholdShown], top_count: int) -> tuple[ThresholdLine, ...]:
    """Build the line and the breach area of each threshold, in the order of `thresholds`.

    The breach area lies above the line of a high threshold and below that of a low one. A label is left out if it is
    nearer than `_MIN_LABEL_DISTANCE` to the label of an earlier threshold.
    """
    label_positions: list[float] = []
    lines = []
    for threshold in thresholds:
        y = compute_y(threshold.threshold, top_count)
        breach_top: float
        breach_bottom: float
        match threshold.bound:
            case Bound.HIGH:
                breach_top, breach_bottom = PLOT_TOP, y
            case Bound.LOW:
                breach_top, breach_bottom = y, PLOT_TOP + PLOT_HEIGHT
            case _:
                assert_never(threshold.bound)
        label_y = y - 5
        has_room = all(abs(label_y - other) >= _MIN_LABEL_DISTANCE for other in label_positions)
        if has_room:
            label_positions.append(label_y)
        lines.append(
            ThresholdLine(
                y=y,
                bound=threshold.bound,
                breach_y=breach_top,
                breach_height=round_pixels(breach_bottom - breach_top),
                label=_label_threshold(threshold),
                label_y=label_y if has_room else None,
            )
        )
    return tuple(lines)


_STATES_BY_SEVERITY: Final = (AlertState.FIRING, AlertState.WITHDRAWN, AlertState.RESOLVED, AlertState.STILL)
"""States of alerts, the gravest first."""


def _build_alert_markers(series: Series, slot: float) -> tuple[AlertMarker, ...]:
    """Build one marker for each window with alerts: the symbol of the gravest alert, and all alerts in the tooltip.

    The tooltip lists the gravest alert first, by `_STATES_BY_SEVERITY`. Alerts of windows out of the series are left
    out.
    """
    by_start: dict[datetime, list[ChartedAlert]] = defaultdict(list)
    for alert in series.statements:
        by_start[alert.start].append(alert)
    markers = []
    for index, window in enumerate(series.windows):
        alerts = sorted(by_start.get(window.start, ()), key=lambda alert: _STATES_BY_SEVERITY.index(alert.state))
        if alerts:
            gravest = alerts[0]
            texts = "; ".join(
                f"{alert.state}: {describe_threshold(alert.bound, alert.threshold, alert.measure)}"
                f"{describe_run(alert.for_windows)} ({pluralize(alert.interests, 'interest')})"
                for alert in alerts
            )
            markers.append(
                AlertMarker(
                    x=round_percent((index + 0.5) * slot),
                    symbol=ALERT_SYMBOLS[gravest.bound, gravest.state],
                    css_class=f"{gravest.state.lower()} {gravest.bound}",
                    tooltip=f"{format_window(window.start, series.window)}: {texts}",
                )
            )
    return tuple(markers)


def _describe_usual(windows: Sequence[WindowShown]) -> str:
    """Return the least and the most that is usual in any window, as `, usually 4 to 26.5`; empty if nothing is."""
    usual = [window.doubled_usual for window in windows if window.doubled_usual is not None]
    if not usual:
        return ""
    low, high = format_usual(min(usual), ()), format_usual(max(usual), ())
    return f", usually {low if low == high else f'{low} to {high}'}"


def _describe_chart(series: Series, highest_count: int) -> str:
    """Return a chart in words: its time, newest closed and highest count, what is usual, FIRING alerts, what is known.

    The newest closed count is left out if no window is closed.
    """
    first, last = series.windows[0], series.windows[-1]
    span = f"{format_window(first.start, series.window)} to {format_window(last.start, series.window)} {series.clock}"
    fired = sum(alert.state is AlertState.FIRING for alert in series.statements)
    closed = [
        window for window in series.windows if window.known in (WindowCoverage.CLOSED, WindowCoverage.FROM_HISTORY)
    ]
    newest = f"{format_number(closed[-1].count)} in the last closed window, " if closed else ""
    return (
        f"{name_flights(series.direction).capitalize()} {PER_WINDOW[series.window]}, {span}: {newest}"
        f"at most {format_number(highest_count)}{_describe_usual(series.windows)}; "
        f"thresholds were passed {pluralize(fired, 'time')}. "
        f"{summarize_knowledge(series.windows)}"
    )
