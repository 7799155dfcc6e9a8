"""The explanation of an interest's alerts: for each window, why there was an alert or none. Names no person."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final, assert_never
from uuid import UUID

from pydantic import TypeAdapter

from domain.airports import find_airport
from domain.alerts import AlertState, Bound
from domain.calendar import find_grid
from domain.explanation import Knowledge, Usualness, WindowVerdict, judge_windows
from domain.grids import show_on_clock
from domain.interests import Direction, Interest
from domain.measures import Measure, convert_to_flights, list_measured_thresholds
from domain.windows import AlignedTo, Window
from streams.join_state import JoinState
from streams.pages.airport import Series, build_interest_series, is_alert_due
from streams.pages.wording import describe_threshold, format_number, format_usual, name_flights, pluralize

WINDOWS_PER_PAGE: Final = 48


@dataclass(frozen=True, slots=True)
class BoundExplanation:
    """The judgement of one threshold on a window: its state, whether an alert is due, and the reason."""

    bound: Bound
    state: AlertState | None
    """None: the window is not judged, or not enough windows in a row are in breach."""
    said: bool
    """True: an alert is due. False: none."""
    is_past: bool
    """True: the count breaches the threshold, and the window counts in a run of such windows."""
    why: str
    """Reason of the judgement, in one sentence."""


@dataclass(frozen=True, slots=True)
class WindowExplanation:
    """A window with its count, and the judgement of each threshold of the interest on it."""

    start: datetime
    end: datetime
    count: int
    knowledge: Knowledge
    """How much of the window's flights is known."""
    bounds: tuple[BoundExplanation, ...]
    usual: str = ""
    """What is usual in the window, with the counts of the weeks before. Empty: nothing is, or no threshold asks."""

    @property
    def has_alert(self) -> bool:
        """True if an alert is due for the window, by either threshold; else False."""
        return any(bound.said for bound in self.bounds)

    @property
    def shown_bounds(self) -> tuple[BoundExplanation, ...]:
        """The judgements that the page shows: those in breach or with a state; if there are none, the first alone."""
        notable = tuple(bound for bound in self.bounds if bound.is_past or bound.state is not None)
        return notable or self.bounds[:1]


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
    windows = list(_explain_windows(interest, list(judge_windows(interest, traffic))))
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


def fold_equal_windows(windows: Sequence[WindowExplanation]) -> list[WindowExplanation]:
    """Return the windows, with neighbouring unknown windows that have the same explanation merged into one.

    `windows`: the newest first. Windows with an alert, and those of which all flights are known, stay as they are.
    """
    folded: list[WindowExplanation] = []
    for each in windows:
        newer = folded[-1] if folded else None
        unknown = _describe_unknown(each)
        is_same = newer is not None and newer.start == each.end and _describe_unknown(newer) == unknown
        if newer is not None and unknown is not None and is_same:
            folded[-1] = replace(newer, start=each.start)
        else:
            folded.append(each)
    return folded


def _describe_unknown(window: WindowExplanation) -> tuple[Knowledge, int, tuple[str, ...]] | None:
    """Return what a page says of a window that is not judged, as not all its flights are known; None for any other."""
    is_judged = any(bound.state is not None or bound.is_past for bound in window.bounds)
    if is_judged or window.knowledge in (Knowledge.CLOSED, Knowledge.OPEN):
        return None
    return window.knowledge, window.count, tuple(bound.why for bound in window.shown_bounds)


def _explain_windows(interest: Interest, judged: list[WindowVerdict]) -> Iterator[WindowExplanation]:
    """Yield the explanation of each window, in the order of `judged`, which must be the order of time.

    Counts, for each bound, the windows in breach in a row, which the reasons name.
    """
    runs = dict.fromkeys(Bound, 0)
    grid = find_grid(interest.airport, interest.window, interest.aligned_to)
    for verdict in judged:
        bounds = []
        usual = ""
        if verdict.doubled_usual is not None:
            usual = format_usual(verdict.doubled_usual, verdict.base_counts)
        for measure, bound, value in list_measured_thresholds(interest):
            is_in_effect = verdict.knowledge not in (Knowledge.EARLY, Knowledge.UNCOVERED)
            if measure is Measure.PERCENT and verdict.unjudged is not None and is_in_effect:
                if verdict.unjudged is not Usualness.SKIPPED:
                    runs[bound] = 0
                bounds.append(BoundExplanation(bound, None, False, False, _explain_unjudged(verdict, usual)))
                continue
            state = verdict.state_of(bound)
            threshold, condition = value, describe_threshold(bound, value, measure)
            if measure is Measure.PERCENT:
                threshold = convert_to_flights(bound, value, verdict.doubled_usual or 0)
                condition = f"{condition} {usual}"
            is_breached = _is_part_of_run(bound, verdict, threshold)
            runs[bound] = runs[bound] + 1 if is_breached else 0
            has_alert = state is not None and is_alert_due(interest, state)
            reason = _explain_bound(interest, bound, threshold, condition, verdict, state, runs[bound])
            bounds.append(BoundExplanation(bound, state, has_alert, is_breached, reason))
        start, end = show_on_clock(grid, verdict.start), show_on_clock(grid, verdict.end)
        yield WindowExplanation(start, end, verdict.count, verdict.knowledge, tuple(bounds), usual)


def _explain_unjudged(verdict: WindowVerdict, usual: str) -> str:
    """Return why a window is not judged by a threshold in percent, in one sentence; `usual`: what is usual there."""
    match verdict.unjudged:
        case Usualness.SKIPPED:
            return f"It usually has {usual}, fewer than 5: it is skipped, and neither alerts nor ends a breach."
        case Usualness.UNREACHED:
            return "The coverage has not reached its start, and what is usual there is not known before."
        case Usualness.UNKNOWN | None:
            return (
                "Of the same window of the five weeks before, fewer than three were known when the coverage reached "
                "it: nothing is usual there, so it is not judged. While the weeks before are collected, learning_until "
                "of the interest in the collector's answers says until when."
            )
        case _:
            assert_never(verdict.unjudged)


def _is_part_of_run(bound: Bound, verdict: WindowVerdict, threshold: int) -> bool:
    """Return True if the window counts in a run of windows in breach of the threshold.

    False if its count does not breach the threshold, if a gap touches the window or it is not judged, or if the breach
    may still end, as of a low threshold in an open window.
    """
    known = (Knowledge.CLOSED, Knowledge.OPEN) if bound.can_breach_while_open else (Knowledge.CLOSED,)
    return verdict.knowledge in known and bound.is_breached(verdict.count, threshold)


def _explain_bound(
    interest: Interest,
    bound: Bound,
    threshold: int,
    condition: str,
    verdict: WindowVerdict,
    state: AlertState | None,
    run: int,
) -> str:
    """Return the reason of a threshold's state on a window, or of its missing state (None), in one sentence.

    A window that is not judged, has a gap, or is open under a low threshold is explained by that alone. `threshold`: in
    flights; `condition`: the threshold in words. `run`: number of windows in breach in a row, this one included.
    """
    match verdict.knowledge:
        case Knowledge.EARLY:
            return "It starts before the interest is in effect, so it is not judged."
        case Knowledge.UNCOVERED:
            return "It starts before the first coverage, so it is not judged."
        case Knowledge.GAP if state is not None:
            return (
                f"A gap in coverage touches it, but the {pluralize(verdict.count, 'flight')} that are known are "
                f"{condition} already."
            )
        case Knowledge.GAP:
            return "A gap in coverage touches it: its count is unknown, so it counts as no breach, unless it is filled."
        case Knowledge.OPEN if not bound.can_breach_while_open:
            return f"It is open; whether there are {condition} is known when it closes."
    count = format_number(verdict.count)
    needs_run = interest.for_windows > 1
    is_breached = bound.is_breached(verdict.count, threshold)
    match state:
        case AlertState.FIRING if needs_run:
            return f"{count} is {condition}, and so were the windows before: {interest.for_windows} in a row."
        case AlertState.FIRING:
            return f"{count} is {condition}; the window before was not in breach."
        case AlertState.STILL if interest.repeat:
            return f"{count} is still {condition}, and the interest wants to be told again."
        case AlertState.STILL:
            return f"{count} is still {condition}; it was said when the breach began."
        case AlertState.RESOLVED:
            return f"{count} is no longer {condition}."
    if is_breached and needs_run and run < interest.for_windows:
        return f"{count} is {condition}: {run} of the {interest.for_windows} windows in a row that it takes."
    if is_breached:
        return f"{count} is {condition}; it is said as soon as the window before is closed."
    so_far = " so far" if verdict.knowledge is Knowledge.OPEN else ""
    match bound:
        case Bound.HIGH if interest.low is not None and not so_far and verdict.count >= interest.low:
            return f"{count} is neither {condition} nor {describe_threshold(Bound.LOW, interest.low)}."
        case Bound.HIGH | Bound.LOW:
            return f"{count}{so_far} is not {condition}."
        case _:
            assert_never(bound)


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
