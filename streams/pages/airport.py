"""The page of one airport: its windows, what the thresholds in force say of them, and what is covered."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum
from typing import Final, assert_never
from uuid import UUID

from pydantic import TypeAdapter

from domain.airports import find_airport
from domain.alerts import AlertState, Bound, list_thresholds
from domain.explanation import judge_windows
from domain.interests import Direction, Interest
from domain.threshold_index import ThresholdInForce
from domain.traffic import RETAINED_HOURS, DirectionTraffic, HourlyCounts, Traffic
from domain.windows import HOUR_S, Window, instant, seconds
from streams.join_state import JoinState
from streams.pages.overview import BreachShown
from streams.recent_activity import AlertGroup

SHOWN_WINDOWS: Final = {Window.ONE_HOUR: 72, Window.SIX_HOURS: 56, Window.ONE_DAY: 90}
"""How many of the last windows a chart shows: three days, two weeks, and all that is kept."""

LEAST_WINDOWS: Final = {Window.ONE_HOUR: 24, Window.SIX_HOURS: 28, Window.ONE_DAY: 30}
"""How many a chart has room for at least, covered or not: a day, a week, a month."""

CHARTED_THRESHOLDS: Final = 6
"""In one chart, those that most interests have; more lines could not be told apart."""

_NOBODY: Final = UUID(int=0)


class Known(StrEnum):
    """What is known of a window on the chart."""

    CLOSED = "closed"
    OPEN = "open"
    GAP = "gap"
    UNCOVERED = "not covered"
    KEPT = "closed, from the history"
    """So old that its coverage is forgotten; windows go to the history when they are closed."""


@dataclass(frozen=True, slots=True)
class WindowShown:
    """One window and its flights."""

    start: datetime
    count: int
    known: Known


@dataclass(frozen=True, slots=True)
class ThresholdShown:
    """A threshold in force, and how many interests have it."""

    direction: Direction
    window: Window
    bound: Bound
    threshold: int
    for_windows: int
    interests: int


@dataclass(frozen=True, slots=True)
class Statement:
    """What is said of a window to interests with one threshold that are in effect since before it."""

    start: datetime
    bound: Bound
    state: AlertState
    threshold: int
    for_windows: int
    interests: int


@dataclass(frozen=True, slots=True)
class Series:
    """The windows of one direction, in order, the thresholds charted with them, and what these say."""

    direction: Direction
    window: Window
    windows: tuple[WindowShown, ...]
    thresholds: tuple[ThresholdShown, ...]
    """Those that most interests have, at most `CHARTED_THRESHOLDS`."""
    statements: tuple[Statement, ...]
    """In the order of the windows."""


@dataclass(frozen=True, slots=True)
class CoverageShown:
    """What is covered of one direction."""

    direction: Direction
    covered_from: datetime | None
    watermark: datetime | None
    lag_s: int | None
    gaps: tuple[tuple[datetime, datetime], ...]
    """The newest first."""


@dataclass(frozen=True, slots=True)
class AirportDetail:
    """All that the page of an airport shows."""

    icao: str
    name: str
    city: str
    at: datetime
    """On the clock of the stack."""
    window: Window
    """Of the series."""
    interests: int
    series: tuple[Series, ...]
    """Departures, arrivals, and both together where an interest counts them together."""
    thresholds: tuple[ThresholdShown, ...]
    breaches: tuple[BreachShown, ...]
    coverage: tuple[CoverageShown, ...]
    alerts: tuple[AlertGroup, ...]
    """Raised by this worker, the newest first."""


DETAIL: Final = TypeAdapter(AirportDetail)


def airport_detail(
    desk: JoinState, icao: str, window: Window, now: datetime, alerts: Iterable[AlertGroup]
) -> AirportDetail:
    """What is known of an airport, by windows of one length."""
    _, traffic = desk.read_traffic(icao)
    thresholds = desk.find_thresholds(icao)
    in_force = tuple(sorted((_shown(each) for each in thresholds.list_in_force()), key=_by_length))
    breaches = thresholds.count_in_breach(traffic)
    known = find_airport(icao)
    past = {direction: desk.read_history(icao, direction) for direction in (Direction.DEPARTURES, Direction.ARRIVALS)}
    directions = [Direction.DEPARTURES, Direction.ARRIVALS]
    if any(each.direction is Direction.BOTH and each.window is window for each in in_force):
        directions.append(Direction.BOTH)
    shown = shown_windows(traffic, past, window)
    return AirportDetail(
        icao=icao,
        name=known.name if known else "",
        city=known.city if known else "",
        at=now,
        window=window,
        interests=len(thresholds),
        series=tuple(_series(traffic, past, direction, window, shown, in_force) for direction in directions),
        thresholds=in_force,
        breaches=tuple(BreachShown(*key, breaches[key]) for key in sorted(breaches)),
        coverage=tuple(_coverage(direction, traffic, now) for direction in past),
        alerts=tuple(alerts),
    )


def _by_length(each: ThresholdShown) -> tuple[int, int, Bound, int, int]:
    """Departures first, then by the length of the window."""
    order = (Direction.DEPARTURES, Direction.ARRIVALS, Direction.BOTH).index(each.direction)
    return order, each.window.hours, each.bound, each.threshold, each.for_windows


def _shown(each: ThresholdInForce) -> ThresholdShown:
    return ThresholdShown(each.direction, each.window, each.bound, each.threshold, each.for_windows, each.interests)


def shown_windows(traffic: Traffic, past: Mapping[Direction, HourlyCounts], window: Window) -> range:
    """The numbers of the windows that a chart shows: the same for all directions, so that they can be compared."""
    begins, ends = [], []
    for direction, counts in past.items():
        flow = traffic.select_directions(direction)[0]
        if flow.covered_from is not None and flow.watermark is not None:
            begins.append(flow.covered_from // HOUR_S)
            ends.append(-(-flow.watermark // HOUR_S))
        if counts.first_hour < counts.end_hour:
            ends.append(_last_flight(counts) + 1)
            if flow.watermark is None or counts.first_hour < _forgotten_until(flow.watermark):
                begins.append(counts.first_hour)
    if not ends:
        return range(0)
    end = -(-max(ends) // window.hours)
    begin = min(min(begins, default=end) // window.hours, end - LEAST_WINDOWS[window])
    return range(max(begin, end - SHOWN_WINDOWS[window]), end)


def _last_flight(counts: HourlyCounts) -> int:
    """The last hour that has flights; the first, where none has."""
    hours = range(counts.end_hour - 1, counts.first_hour, -1)
    return next((hour for hour in hours if counts.total(hour, 1)), counts.first_hour)


def _forgotten_until(watermark: int) -> int:
    """The hour up to which coverage may be forgotten; that goes by days."""
    return watermark // HOUR_S - RETAINED_HOURS + 24


def _series(
    traffic: Traffic,
    past: Mapping[Direction, HourlyCounts],
    direction: Direction,
    window: Window,
    numbers: range,
    in_force: Iterable[ThresholdShown],
) -> Series:
    flows = [(traffic.select_directions(part)[0], past[part]) for part in direction.parts]
    fitting = [each for each in in_force if each.direction is direction and each.window is window]
    charted = tuple(sorted(fitting, key=lambda each: -each.interests)[:CHARTED_THRESHOLDS])
    return Series(
        direction=direction,
        window=window,
        windows=tuple(_window(number, window, flows) for number in numbers),
        thresholds=charted,
        statements=tuple(
            sorted(
                (said for each in charted for said in _statements(each, traffic, numbers)), key=lambda said: said.start
            )
        ),
    )


def _window(number: int, window: Window, flows: list[tuple[DirectionTraffic, HourlyCounts]]) -> WindowShown:
    hour = number * window.hours
    start, end = hour * HOUR_S, (hour + window.hours) * HOUR_S
    known = {_known(flow, past, hour, start, end) for flow, past in flows}
    worst = next(each for each in (Known.UNCOVERED, Known.GAP, Known.OPEN, Known.KEPT, Known.CLOSED) if each in known)
    return WindowShown(instant(start), sum(past.total(hour, window.hours) for _, past in flows), worst)


def _known(flow: DirectionTraffic, past: HourlyCounts, hour: int, start: int, end: int) -> Known:
    if flow.covered_from is None or flow.watermark is None:
        return Known.UNCOVERED
    if start < flow.covered_from:
        # Coverage is remembered for some forty days, closed windows for ninety.
        is_kept = past.first_hour <= hour < min(past.end_hour, _forgotten_until(flow.watermark))
        return Known.KEPT if is_kept else Known.UNCOVERED
    if flow.has_gap_in(start, end):
        return Known.GAP
    return Known.CLOSED if end <= flow.watermark else Known.OPEN


def _statements(threshold: ThresholdShown, traffic: Traffic, numbers: range) -> Iterator[Statement]:
    """As an interest would be told that is in effect since before the windows shown."""
    if not numbers:
        return
    length_s = threshold.window.hours * HOUR_S
    first = instant(numbers.start * length_s)
    high, low = _high_and_low(threshold)
    stand_in = Interest(
        interest_id=_NOBODY,
        user_id=_NOBODY,
        airport="",
        direction=threshold.direction,
        window=threshold.window,
        high=high,
        low=low,
        for_windows=threshold.for_windows,
        repeat=False,
        effective_from=instant((numbers.start - threshold.for_windows) * length_s),
        version=1,
    )
    for verdict in judge_windows(stand_in, traffic):
        state = verdict.state_of(threshold.bound)
        if state is not None and state is not AlertState.STILL and verdict.start >= first:
            yield Statement(
                verdict.start, threshold.bound, state, threshold.threshold, threshold.for_windows, threshold.interests
            )


def _high_and_low(threshold: ThresholdShown) -> tuple[int | None, int | None]:
    """Return the high and the low threshold of an interest that has this threshold alone."""
    match threshold.bound:
        case Bound.HIGH:
            return threshold.threshold, None
        case Bound.LOW:
            return None, threshold.threshold
        case _:
            assert_never(threshold.bound)


def series_of(interest: Interest, traffic: Traffic, past: Mapping[Direction, HourlyCounts]) -> Series:
    """The chart of one interest: its windows, its own thresholds, and what was to be said to it."""
    numbers = shown_windows(traffic, {part: past[part] for part in interest.direction.parts}, interest.window)
    own = {
        bound: ThresholdShown(interest.direction, interest.window, bound, threshold, interest.for_windows, 1)
        for bound, threshold in list_thresholds(interest)
    }
    first = instant(numbers.start * interest.window.hours * HOUR_S)
    statements = tuple(
        Statement(verdict.start, bound, state, own[bound].threshold, interest.for_windows, 1)
        for verdict in judge_windows(interest, traffic)
        for bound in Bound
        if (state := verdict.state_of(bound)) is not None and is_said(interest, state) and verdict.start >= first
    )
    series = _series(traffic, past, interest.direction, interest.window, numbers, own.values())
    return replace(series, statements=statements)


def is_said(interest: Interest, state: AlertState) -> bool:
    """Whether it makes an alert: STILL is told only to those who want to be told again."""
    return state is not AlertState.STILL or interest.repeat


def _coverage(direction: Direction, traffic: Traffic, now: datetime) -> CoverageShown:
    flow = traffic.select_directions(direction)[0]
    return CoverageShown(
        direction=direction,
        covered_from=_instant(flow.covered_from),
        watermark=_instant(flow.watermark),
        lag_s=None if flow.watermark is None else max(seconds(now) - flow.watermark, 0),
        gaps=tuple((instant(begin), instant(end)) for begin, end in reversed(flow.gaps)),
    )


def _instant(at: int | None) -> datetime | None:
    return None if at is None else instant(at).astimezone(UTC)
