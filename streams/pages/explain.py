"""The explanation of an interest's alerts: for each window, why there was an alert or none. Names no person."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final
from uuid import UUID

from pydantic import TypeAdapter

from domain.airports import find_airport
from domain.explanation import Knowledge, judge_windows
from domain.interests import Direction, Interest
from domain.measures import Measure, list_measured_thresholds
from domain.reasons import WindowExplanation, describe_threshold, explain_windows
from domain.windows import AlignedTo, Window
from streams.join_state import JoinState
from streams.pages.airport import Series, build_interest_series
from streams.pages.wording import name_flights

WINDOWS_PER_PAGE: Final = 48


@dataclass(frozen=True, slots=True)
class InterestExplanation:
    """An interest, the explanation of every window whose flights are still kept, and the series of its chart."""

    interest_id: UUID
    airport: str
    name: str
    direction: Direction
    window: Window
    high: int | None
    low: int | None
    for_windows: int
    repeat: bool
    effective_from: datetime
    version: int
    at: datetime
    """Time of the explanation, by the stack's clock."""
    windows: tuple[WindowExplanation, ...]
    """Windows, the newest first."""
    series: Series
    high_percent: int | None = None
    low_percent: int | None = None
    aligned_to: AlignedTo = AlignedTo.UTC

    @property
    def alert_count(self) -> int:
        """The number of alerts due, without withdrawn ones."""
        return sum(bound.said for window in self.windows for bound in window.bounds)


EXPLANATION_ADAPTER: Final = TypeAdapter(InterestExplanation)
"""JSON encoder of an explanation."""


def explain_interest(join_state: JoinState, interest: Interest, now: datetime) -> InterestExplanation:
    """Build the explanation of an interest: judge its windows again, and give the reason of each result in words.

    The windows are those whose flights are still kept, the newest first. They are judged by the interest's present
    version and the present counts: an alert that an earlier version raised, or that was withdrawn, is therefore not in
    the explanation. Name is empty for an airport that is not in the list of airports.
    """
    _, traffic = join_state.read_traffic(interest.airport)
    listed = find_airport(interest.airport)
    past = {part: join_state.read_history(interest.airport, part) for part in interest.direction.parts}
    windows = list(explain_windows(interest, list(judge_windows(interest, traffic))))
    return InterestExplanation(
        interest_id=interest.interest_id,
        airport=interest.airport,
        name=listed.name if listed else "",
        direction=interest.direction,
        window=interest.window,
        high=interest.high,
        low=interest.low,
        for_windows=interest.for_windows,
        repeat=interest.repeat,
        effective_from=interest.effective_from,
        version=interest.version,
        at=now,
        windows=tuple(reversed(windows)),
        series=build_interest_series(interest, traffic, past),
        high_percent=interest.high_percent,
        low_percent=interest.low_percent,
        aligned_to=interest.aligned_to,
    )


def merge_unknown_windows(windows: Sequence[WindowExplanation]) -> list[WindowExplanation]:
    """Return the windows, with neighbouring unknown windows that have the same explanation merged into one.

    `windows`: the newest first. Windows with an alert, and those of which all flights are known, stay as they are.
    """
    merged: list[WindowExplanation] = []
    for each in windows:
        newer = merged[-1] if merged else None
        unknown = _describe_unknown(each)
        is_same = newer is not None and newer.start == each.end and _describe_unknown(newer) == unknown
        if newer is not None and unknown is not None and is_same:
            merged[-1] = replace(newer, start=each.start)
        else:
            merged.append(each)
    return merged


def _describe_unknown(window: WindowExplanation) -> tuple[Knowledge, int, tuple[str, ...]] | None:
    """Return what a page says of a window that is not judged, as not all its flights are known; None for any other."""
    is_judged = any(bound.state is not None or bound.is_past for bound in window.bounds)
    if is_judged or window.knowledge in (Knowledge.CLOSED, Knowledge.OPEN):
        return None
    return window.knowledge, window.count, tuple(bound.why for bound in window.shown_bounds)


def describe_interest(interest: InterestExplanation) -> str:
    """Return an interest's condition in words, as `more than 20 departures, 2 windows in a row`.

    With a threshold in percent as `departures: fewer than 50 % of the usual`.
    """
    conditions = [
        describe_threshold(bound, threshold, measure)
        for measure, bound, threshold in list_measured_thresholds(interest)
    ]
    run = f", {interest.for_windows} windows in a row" if interest.for_windows > 1 else ""
    flights = name_flights(interest.direction)
    if any(measure is Measure.PERCENT for measure, _, _ in list_measured_thresholds(interest)):
        return f"{flights}: {' or '.join(conditions)}{run}"
    return f"{' or '.join(conditions)} {flights}{run}"
