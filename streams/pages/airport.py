"""The page of one airport: its windows, its thresholds in force, the alerts that these raise, and its coverage."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Final
from uuid import UUID

from pydantic import TypeAdapter

from domain.airports import find_airport
from domain.alerts import AlertState, Bound
from domain.calendar import find_grid
from domain.explanation import judge_windows
from domain.grids import LOCAL_WINDOWS, Grid, LocalGrid, show_on_clock
from domain.hourly_counts import HourlyCounts
from domain.interests import Direction, Interest
from domain.measures import Measure, list_measured_thresholds
from domain.percent_counts import LOOKBACK_HOURS, PercentCounts
from domain.reasons import is_alert_due
from domain.threshold_index import ThresholdInForce
from domain.traffic import Traffic
from domain.windows import AlignedTo, Window, instant, seconds
from streams.join_state import JoinState
from streams.pages.agreement import NOTHING_AGREED, AirportAgreement
from streams.pages.overview import BreachShown
from streams.pages.windows import WindowShown, build_window, select_windows
from streams.recent_activity import AlertGroup

MAX_CHARTED_THRESHOLDS: Final = 6
"""Largest number of thresholds in one chart; more lines could not be distinguished."""

_PLACEHOLDER_ID: Final = UUID(int=0)


@dataclass(frozen=True, slots=True)
class ThresholdShown:
    """A threshold in force, and the number of interests that have it."""

    direction: Direction
    window: Window
    bound: Bound
    threshold: int
    for_windows: int
    """Number of windows in a row that must breach the threshold before an alert."""
    interests: int
    measure: Measure = Measure.FLIGHTS
    aligned_to: AlignedTo = AlignedTo.UTC


@dataclass(frozen=True, slots=True)
class ChartedAlert:
    """An alert of a window, due to all interests with one threshold that are in effect since before the window."""

    start: datetime
    bound: Bound
    state: AlertState
    threshold: int
    for_windows: int
    interests: int
    measure: Measure = Measure.FLIGHTS


@dataclass(frozen=True, slots=True)
class Series:
    """The data of one chart: the windows of one direction, in order, with thresholds and alerts."""

    direction: Direction
    window: Window
    windows: tuple[WindowShown, ...]
    thresholds: tuple[ThresholdShown, ...]
    """Thresholds in flights, of those with the most interests, at most `MAX_CHARTED_THRESHOLDS`."""
    statements: tuple[ChartedAlert, ...]
    """Alerts of these thresholds and of those in percent, in the order of the windows."""
    percents: tuple[ThresholdShown, ...] = ()
    """Thresholds in percent, of the same `MAX_CHARTED_THRESHOLDS`."""
    clock: str = "UTC"
    """The time zone by whose clock the windows begin, and in which their times are."""


@dataclass(frozen=True, slots=True)
class CoverageShown:
    """The coverage of one direction of an airport."""

    direction: Direction
    covered_from: datetime | None
    watermark: datetime | None
    """End of the coverage. None: never covered."""
    lag_s: int | None
    """Seconds by which the watermark is behind the stack's clock. None: never covered."""
    gaps: tuple[tuple[datetime, datetime], ...]
    """Begin and end of each gap in coverage, the newest first."""
    settled_until: datetime | None = None
    """End of the night's record; what is known after it was seen live. None: the record has covered nothing."""
    is_live: bool = False
    """True if the newest coverage was seen live, False if it comes from the night's record, or nothing is covered."""


@dataclass(frozen=True, slots=True)
class AirportDetail:
    """The data of an airport's page."""

    icao: str
    name: str
    city: str
    at: datetime
    """Time of the data, by the stack's clock."""
    window: Window
    """Length of the windows in `series`."""
    interests: int
    """Number of interests at the airport."""
    series: tuple[Series, ...]
    """Series of departures, of arrivals, and of both together if an interest counts both together; then those of
    windows by the airport's own clock, of the directions in which an interest has some."""
    thresholds: tuple[ThresholdShown, ...]
    breaches: tuple[BreachShown, ...]
    coverage: tuple[CoverageShown, ...]
    alerts: tuple[AlertGroup, ...]
    """Alerts that this worker raised since its start, the newest first."""
    agreement: AirportAgreement = NOTHING_AGREED
    """How well live agrees with the night's record, as the collector tells it."""


DETAIL_ADAPTER: Final = TypeAdapter(AirportDetail)
"""JSON encoder of an airport's data."""


def build_airport_detail(
    join_state: JoinState, icao: str, window: Window, now: datetime, alerts: Iterable[AlertGroup]
) -> AirportDetail:
    """Build the data of an airport's page: its charts with windows of one length, thresholds, breaches and coverage.

    Only the charts depend on `window`: thresholds and breaches are those of all window lengths. Departures come first,
    then arrivals; a third chart counts both together if an interest with such windows does. `alerts` are taken as they
    are: recent ones, the newest first. Name and city are empty for an airport that is not in the list of airports.
    """
    _, traffic = join_state.read_traffic(icao)
    thresholds = join_state.find_thresholds(icao)
    in_force = tuple(sorted((_convert_threshold(each) for each in thresholds.list_in_force()), key=_compute_sort_key))
    breaches = thresholds.count_in_breach(traffic)
    listed = find_airport(icao)
    past = {
        direction: join_state.read_history(icao, direction) for direction in (Direction.DEPARTURES, Direction.ARRIVALS)
    }
    directions = [Direction.DEPARTURES, Direction.ARRIVALS]
    if any(each.direction is Direction.BOTH and _fits(each, window) for each in in_force):
        directions.append(Direction.BOTH)
    grids: list[tuple[Grid, Direction]] = [(window, direction) for direction in directions]
    if window in LOCAL_WINDOWS:
        local = find_grid(icao, window, AlignedTo.AIRPORT)
        watched = {each.direction for each in in_force if _fits(each, local)}
        grids += [
            (local, each) for each in (Direction.DEPARTURES, Direction.ARRIVALS, Direction.BOTH) if each in watched
        ]
    return AirportDetail(
        icao=icao,
        name=listed.name if listed else "",
        city=listed.city if listed else "",
        at=now,
        window=window,
        interests=len(thresholds),
        series=tuple(
            _build_series(icao, traffic, past, direction, grid, select_windows(traffic, past, grid), in_force)
            for grid, direction in grids
        ),
        thresholds=in_force,
        breaches=tuple(BreachShown(*key, breaches[key]) for key in sorted(breaches)),
        coverage=tuple(_summarize_coverage(direction, traffic, now) for direction in past),
        alerts=tuple(alerts),
    )


def _fits(threshold: ThresholdShown, grid: Grid) -> bool:
    """Return True if a threshold is of the windows of a grid: of their length, and by the same clock."""
    return threshold.window is grid.window and threshold.aligned_to is grid.aligned_to


def _compute_sort_key(threshold: ThresholdShown) -> tuple[int, int, bool, Measure, Bound, int, int]:
    """Return the sort key of a threshold: direction (departures first), window, clock, measure, bound, value, run."""
    order = (Direction.DEPARTURES, Direction.ARRIVALS, Direction.BOTH).index(threshold.direction)
    is_local = threshold.aligned_to is AlignedTo.AIRPORT
    value = threshold.measure, threshold.bound, threshold.threshold, threshold.for_windows
    return order, threshold.window.hours, is_local, *value


def _convert_threshold(threshold: ThresholdInForce) -> ThresholdShown:
    """Convert a threshold of the index to one that the page shows, with the same values."""
    return ThresholdShown(
        threshold.direction,
        threshold.window,
        threshold.bound,
        threshold.threshold,
        threshold.for_windows,
        threshold.interests,
        threshold.measure,
        threshold.aligned_to,
    )


def _build_series(
    icao: str,
    traffic: Traffic,
    past: Mapping[Direction, HourlyCounts],
    direction: Direction,
    grid: Grid,
    numbers: range,
    in_force: Iterable[ThresholdShown],
) -> Series:
    """Build the series of one direction: the windows with these numbers, the thresholds and their alerts.

    Of the thresholds `in_force` the series takes those of its direction and windows: at most
    `MAX_CHARTED_THRESHOLDS`, those with the most interests first. The alerts are ordered by the start of their window.
    """
    parts = [(traffic.select_directions(part)[0], past[part]) for part in direction.parts]
    fitting = [each for each in in_force if each.direction is direction and _fits(each, grid)]
    charted = tuple(sorted(fitting, key=lambda each: -each.interests)[:MAX_CHARTED_THRESHOLDS])
    windows = tuple(build_window(number, grid, parts) for number in numbers)
    if isinstance(grid, Window):  # by the airport's clock nothing is usual
        percents = PercentCounts(traffic, direction, grid)
        windows = tuple(
            replace(shown, doubled_usual=percents.find_doubled_usual(number) if number <= percents.reached else None)
            for number, shown in zip(numbers, windows, strict=True)
        )
    return Series(
        direction=direction,
        window=grid.window,
        windows=windows,
        thresholds=tuple(each for each in charted if each.measure is Measure.FLIGHTS),
        statements=tuple(
            sorted(
                (alert for each in charted for alert in _find_charted_alerts(icao, grid, each, traffic, numbers)),
                key=lambda alert: alert.start,
            )
        ),
        percents=tuple(each for each in charted if each.measure is Measure.PERCENT),
        clock=grid.time_zone if isinstance(grid, LocalGrid) else "UTC",
    )


def _find_charted_alerts(
    icao: str, grid: Grid, threshold: ThresholdShown, traffic: Traffic, numbers: range
) -> Iterator[ChartedAlert]:
    """Yield the alerts that a threshold causes in the windows shown, except STILL, in the order of the windows.

    The windows are judged for a made-up interest that has this threshold alone and is in effect since `for_windows`
    windows before them (in percent: as long before as windows are sought). Nothing is yielded without windows.
    """
    if not numbers:
        return
    first = instant(grid.find_begin(numbers.start))
    is_percent = threshold.measure is Measure.PERCENT
    before = LOOKBACK_HOURS // threshold.window.hours if is_percent else threshold.for_windows
    sample_interest = Interest(
        interest_id=_PLACEHOLDER_ID,
        user_id=_PLACEHOLDER_ID,
        airport=icao,
        direction=threshold.direction,
        window=threshold.window,
        high=_select_value(threshold, Bound.HIGH, Measure.FLIGHTS),
        low=_select_value(threshold, Bound.LOW, Measure.FLIGHTS),
        for_windows=threshold.for_windows,
        repeat=False,
        effective_from=instant(grid.find_begin(numbers.start - before)),
        version=1,
        high_percent=_select_value(threshold, Bound.HIGH, Measure.PERCENT),
        low_percent=_select_value(threshold, Bound.LOW, Measure.PERCENT),
        aligned_to=threshold.aligned_to,
    )
    for verdict in judge_windows(sample_interest, traffic):
        state = verdict.state_of(threshold.bound)
        if state is not None and state is not AlertState.STILL and verdict.start >= first:
            yield ChartedAlert(
                show_on_clock(grid, verdict.start),
                threshold.bound,
                state,
                threshold.threshold,
                threshold.for_windows,
                threshold.interests,
                threshold.measure,
            )


def _select_value(threshold: ThresholdShown, bound: Bound, measure: Measure) -> int | None:
    """Return the threshold's value if it is of this bound and measure, else None."""
    return threshold.threshold if threshold.bound is bound and threshold.measure is measure else None


def build_interest_series(interest: Interest, traffic: Traffic, past: Mapping[Direction, HourlyCounts]) -> Series:
    """Build the series of one interest: its windows, its own thresholds, and the alerts due to it, in order of time.

    Unlike the series of an airport, it has no alerts before `effective_from`, and STILL alerts if `repeat` is on.
    `past`: the counts of each direction as far back as they are kept.
    """
    grid = find_grid(interest.airport, interest.window, interest.aligned_to)
    numbers = select_windows(traffic, {part: past[part] for part in interest.direction.parts}, grid)
    own = {
        bound: ThresholdShown(
            interest.direction,
            interest.window,
            bound,
            threshold,
            interest.for_windows,
            1,
            measure,
            interest.aligned_to,
        )
        for measure, bound, threshold in list_measured_thresholds(interest)
    }
    first = instant(grid.find_begin(numbers.start))
    statements = tuple(
        ChartedAlert(
            show_on_clock(grid, verdict.start),
            bound,
            state,
            own[bound].threshold,
            interest.for_windows,
            1,
            own[bound].measure,
        )
        for verdict in judge_windows(interest, traffic)
        for bound in Bound
        if (state := verdict.state_of(bound)) is not None and is_alert_due(interest, state) and verdict.start >= first
    )
    series = _build_series(interest.airport, traffic, past, interest.direction, grid, numbers, own.values())
    return replace(series, statements=statements)


def _summarize_coverage(direction: Direction, traffic: Traffic, now: datetime) -> CoverageShown:
    """Summarize the coverage of one direction (not BOTH): its begin, watermark, lag and gaps, the newest gap first.

    The lag is at least 0. Begin, watermark and lag are None if the direction was never covered.
    """
    direction_traffic = traffic.select_directions(direction)[0]
    return CoverageShown(
        direction=direction,
        covered_from=_convert_to_utc(direction_traffic.covered_from),
        watermark=_convert_to_utc(direction_traffic.watermark),
        lag_s=None if direction_traffic.watermark is None else max(seconds(now) - direction_traffic.watermark, 0),
        gaps=tuple((instant(begin), instant(end)) for begin, end in reversed(direction_traffic.gaps)),
        settled_until=_convert_to_utc(direction_traffic.settled_until),
        is_live=direction_traffic.is_live,
    )


def _convert_to_utc(at: int | None) -> datetime | None:
    """Convert seconds since 1970 to a time in UTC; None stays None."""
    return None if at is None else instant(at).astimezone(UTC)
