"""Charts as geometry: what the templates draw as SVG. Across in percent of the width, so that a chart fits every
screen and its text keeps its size; up and down in pixels."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, assert_never

from domain.alerts import AlertState, Bound
from domain.windows import Window
from streams.pages.airport import Known, Series, Statement, ThresholdShown, WindowShown
from streams.pages.wording import (
    PER_WINDOW,
    SIGNS,
    counted,
    day,
    flights,
    limit,
    number,
    plural,
    run,
    window_of,
)

PLOT_TOP: Final = 26
"""Pixels above the highest bar, for the signs of the alerts."""

PLOT_HEIGHT: Final = 170
AXIS_HEIGHT: Final = 34

_LEAST_SEEN: Final = 3
"""Pixels that a window in breach takes at least: none of its flights may be all that there is to see."""

_BAR_SHARE: Final = 0.74
"""How much of its window's width a bar takes; the rest keeps it from the next."""

_FAR: Final = 2.5
"""A threshold so many times above all counts would flatten them; it is named above the chart instead of drawn."""

_LABEL_APART: Final = 15
"""Pixels between the names of two thresholds, so that both can be read."""

_STEPS: Final = (1, 2, 5)


@dataclass(frozen=True, slots=True)
class Bar:
    """The flights of one window."""

    x: float
    width: float
    y: float
    height: float
    kind: str
    """A class: closed, open, gap, not-covered, kept; with `over` or `under` where a threshold is passed."""
    says: str


@dataclass(frozen=True, slots=True)
class Band:
    """A stretch of time of which not everything is known."""

    x: float
    width: float
    kind: str
    says: str


@dataclass(frozen=True, slots=True)
class Line:
    """A threshold, and the stretch of counts that is past it."""

    y: float
    bound: Bound
    band_y: float
    band_height: float
    label: str
    label_y: float | None
    """None where the name of another threshold stands too near."""


@dataclass(frozen=True, slots=True)
class Sign:
    """What is said of a window."""

    x: float
    sign: str
    kind: str
    says: str


@dataclass(frozen=True, slots=True)
class Tick:
    """A place on an axis: percent across, or pixels down."""

    at: float
    label: str
    is_minor: bool = False
    """Left out on narrow screens."""
    below: str = ""
    """A second line, as the day beneath the hour."""


@dataclass(frozen=True, slots=True)
class Chart:
    """One direction of an airport."""

    title: str
    summary: str
    """For those who do not see it."""
    bars: tuple[Bar, ...]
    bands: tuple[Band, ...]
    lines: tuple[Line, ...]
    beyond: tuple[str, ...]
    """Thresholds that are too far above the counts to be drawn."""
    signs: tuple[Sign, ...]
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]

    plot_top: int = PLOT_TOP
    plot_bottom: int = PLOT_TOP + PLOT_HEIGHT
    height: int = PLOT_TOP + PLOT_HEIGHT + AXIS_HEIGHT


def chart(series: Series) -> Chart | None:
    """The chart of some windows; None where there are none."""
    windows = series.windows
    if not windows:
        return None
    most = max(each.count for each in windows)
    drawn = [each for each in series.thresholds if each.threshold <= max(most, 4) * _FAR]
    ticks = _counts_axis(max([most, 1, *(each.threshold for each in drawn)]))
    top = ticks[-1]
    slot = 100 / len(windows)
    what = flights(series.direction)
    return Chart(
        title=f"{what.capitalize()} {PER_WINDOW[series.window]}",
        summary=_summary(series, most),
        bars=tuple(
            Bar(
                x=_percent((index + (1 - _BAR_SHARE) / 2) * slot),
                width=_percent(slot * _BAR_SHARE),
                y=_px(PLOT_TOP + PLOT_HEIGHT - height),
                height=height,
                kind=kind,
                says=_says(each, series),
            )
            for index, each in enumerate(windows)
            for kind in (_kind(each, series.thresholds),)
            for height in (_height(each, top, kind),)
        ),
        bands=_bands(windows, slot),
        lines=_lines(drawn, top),
        beyond=tuple(f"{limit(each.bound, each.threshold)}{run(each.for_windows)}" for each in series.thresholds
                     if each not in drawn),
        signs=_signs(series, slot),
        x_ticks=_time_axis(windows, series.window, slot),
        y_ticks=tuple(Tick(_y(each, top), number(each)) for each in ticks),
    )  # fmt: skip


def _y(count: int, top: int) -> float:
    return _px(PLOT_TOP + PLOT_HEIGHT * (1 - count / top))


def _says(window: WindowShown, series: Series) -> str:
    when = window_of(window.start, series.window)
    return f"{when}: {counted(window.count, series.direction)}, {window.known.value}"


def _height(window: WindowShown, top: int, kind: str) -> float:
    height = _px(PLOT_HEIGHT * window.count / top)
    return max(height, _LEAST_SEEN) if kind.endswith("under") else height


def _px(value: float) -> float:
    return round(value, 1)


def _percent(value: float) -> float:
    return round(value, 3)


def _counts_axis(most: int) -> tuple[int, ...]:
    """Round numbers from 0 to the first that is not below `most`; four or five of them, or fewer of few flights."""
    step = next(digit * 10**power for power in range(7) for digit in _STEPS if digit * 10**power * 4 >= most)
    return tuple(range(0, -(-most // step) * step + 1, step))


def _kind(window: WindowShown, thresholds: Sequence[ThresholdShown]) -> str:
    kind = {Known.GAP: "gap", Known.OPEN: "open", Known.UNCOVERED: "not-covered", Known.KEPT: "kept"}.get(
        window.known, "closed"
    )
    for bound in Bound:
        name, judged = _breach_class(bound)
        if window.known in judged and any(
            each.bound is bound and bound.is_breached(window.count, each.threshold) for each in thresholds
        ):
            return f"{kind} {name}"
    return kind


def _breach_class(bound: Bound) -> tuple[str, tuple[Known, ...]]:
    """Return the CSS class of a window in breach of a bound, and what must be known of a window to show its breach."""
    match bound:
        case Bound.HIGH:
            return "over", (Known.CLOSED, Known.KEPT, Known.OPEN, Known.GAP)
        case Bound.LOW:
            return "under", (Known.CLOSED, Known.KEPT)
        case _:
            assert_never(bound)


def _bands(windows: Sequence[WindowShown], slot: float) -> tuple[Band, ...]:
    """Neighbouring windows of one kind in one band."""
    names = {
        Known.GAP: ("gap", "a gap in coverage: the source will never tell of all flights here"),
        Known.UNCOVERED: ("not-covered", "not covered"),
    }
    bands: list[Band] = []
    begin = 0
    for index in range(1, len(windows) + 1):
        if index == len(windows) or windows[index].known is not windows[begin].known:
            if windows[begin].known in names:
                kind, says = names[windows[begin].known]
                bands.append(Band(_percent(begin * slot), _percent((index - begin) * slot), kind, says))
            begin = index
    return tuple(bands)


def _lines(thresholds: Sequence[ThresholdShown], top: int) -> tuple[Line, ...]:
    """The thresholds that most interests have are named first; others are named where there is room."""
    named: list[float] = []
    lines = []
    for each in thresholds:
        y = _y(each.threshold, top)
        band_top: float
        band_bottom: float
        match each.bound:
            case Bound.HIGH:
                band_top, band_bottom = PLOT_TOP, y
            case Bound.LOW:
                band_top, band_bottom = y, PLOT_TOP + PLOT_HEIGHT
            case _:
                assert_never(each.bound)
        place = y - 5
        has_room = all(abs(place - other) >= _LABEL_APART for other in named)
        if has_room:
            named.append(place)
        lines.append(
            Line(
                y=y,
                bound=each.bound,
                band_y=band_top,
                band_height=_px(band_bottom - band_top),
                label=f"{limit(each.bound, each.threshold)}{run(each.for_windows)}",
                label_y=place if has_room else None,
            )
        )
    return tuple(lines)


_RANK: Final = (AlertState.FIRING, AlertState.WITHDRAWN, AlertState.RESOLVED, AlertState.STILL)


def _signs(series: Series, slot: float) -> tuple[Sign, ...]:
    """One for a window: the gravest of what is said of it, and all of it in words."""
    by_start: dict[datetime, list[Statement]] = defaultdict(list)
    for each in series.statements:
        by_start[each.start].append(each)
    signs = []
    for index, window in enumerate(series.windows):
        said = sorted(by_start.get(window.start, ()), key=lambda each: _RANK.index(each.state))
        if said:
            words = "; ".join(
                f"{each.state}: {limit(each.bound, each.threshold)}{run(each.for_windows)} "
                f"({plural(each.interests, 'interest')})"
                for each in said
            )
            kind = f"{said[0].state.lower()} {said[0].bound}"
            where = window_of(window.start, series.window)
            signs.append(
                Sign(_percent((index + 0.5) * slot), SIGNS[said[0].bound, said[0].state], kind, f"{where}: {words}")
            )
    return tuple(signs)


def _time_axis(windows: Sequence[WindowShown], window: Window, slot: float) -> tuple[Tick, ...]:
    """Ticks where windows begin: midnights, noons of the last days, or Mondays of the last months."""
    ticks = []
    for index, each in enumerate(windows):
        start, at = each.start, _percent(index * slot)
        match window:
            case Window.ONE_HOUR:
                if start.hour == 0:
                    ticks.append(Tick(at, "00:00", below=day(start)))
                elif start.hour % 6 == 0:
                    ticks.append(Tick(at, f"{start:%H:%M}", is_minor=start.hour != 12))
            case Window.SIX_HOURS:
                if start.hour == 0:
                    ticks.append(Tick(at, f"{start.day} {start:%b}", is_minor=start.toordinal() % 2 == 1))
            case Window.ONE_DAY:
                if start.weekday() == 0:
                    ticks.append(Tick(at, f"{start.day} {start:%b}", is_minor=start.isocalendar().week % 2 == 1))
    return tuple(tick for tick in ticks if tick.at <= 97)


def _summary(series: Series, most: int) -> str:
    first, last = series.windows[0], series.windows[-1]
    span = f"{window_of(first.start, series.window)} to {window_of(last.start, series.window)} UTC"
    fired = sum(each.state is AlertState.FIRING for each in series.statements)
    closed = [each for each in series.windows if each.known in (Known.CLOSED, Known.KEPT)]
    newest = f"{number(closed[-1].count)} in the last closed window, " if closed else ""
    return (
        f"{flights(series.direction).capitalize()} {PER_WINDOW[series.window]}, {span}: {newest}"
        f"at most {number(most)}; thresholds were passed {plural(fired, 'time')}."
    )


@dataclass(frozen=True, slots=True)
class Spark:
    """A few numbers in a row, without axes: of each the height in percent."""

    heights: tuple[float, ...]
    gaps: tuple[int, ...]
    slots: int


def spark(values: Sequence[int], slots: int, gaps: Sequence[int] = ()) -> Spark:
    """`values` at the right end of `slots` places; none is taller than the whole."""
    top = max([*values, 1])
    missing = slots - len(values)
    heights = (0.0,) * missing + tuple(_px(100 * value / top) for value in values)
    return Spark(heights, tuple(missing + gap for gap in gaps), slots)
