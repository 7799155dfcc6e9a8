"""The reasons of an interest's alerts, in words: for each window, why there is an alert or none. Names no person."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import assert_never

from domain.alerts import AlertState, Bound
from domain.calendar import find_grid
from domain.explanation import Knowledge, Usualness, WindowVerdict
from domain.grids import show_on_clock
from domain.interests import Interest
from domain.measures import Measure, convert_to_flights, list_measured_thresholds


def format_number(value: int) -> str:
    """Return a number with commas between thousands."""
    return f"{value:,}"


def pluralize(value: int, one: str, many: str | None = None) -> str:
    """Return a count with its unit, singular only for 1, as `1,000 alerts`.

    `many`: the plural, if it is not `one` with an s.
    """
    return f"{value:,} {one if value == 1 else many or f'{one}s'}"


def describe_threshold(bound: Bound, threshold: int | str, measure: Measure = Measure.FLIGHTS) -> str:
    """Return the condition of a threshold: `more than 20`, `fewer than 5`, or `fewer than 50 % of the usual`."""
    unit = " % of the usual" if measure is Measure.PERCENT else ""
    match bound:
        case Bound.HIGH:
            return f"more than {threshold}{unit}"
        case Bound.LOW:
            return f"fewer than {threshold}{unit}"
        case _:
            assert_never(bound)


def format_usual(doubled_usual: int, base_counts: Sequence[int]) -> str:
    """Return the usual count of a window with the counts of the weeks before, as `27 (25, 27, 31, 26)` or `26.5`.

    `doubled_usual`: twice the usual count.
    """
    usual = format_number(doubled_usual // 2) + (".5" if doubled_usual % 2 else "")
    return f"{usual} ({', '.join(map(format_number, base_counts))})" if base_counts else usual


def is_alert_due(interest: Interest, state: AlertState) -> bool:
    """Return True if a window's state causes an alert to the interest; False for STILL if `repeat` is off."""
    return state is not AlertState.STILL or interest.repeat


@dataclass(frozen=True, slots=True)
class BoundExplanation:
    """The judgement of one threshold on a window: its state, whether an alert is due, and the reason."""

    bound: Bound
    state: AlertState | None
    """None: the window is not judged, or not enough windows in a row are in breach."""
    said: bool
    """True if an alert is due, False if none is."""
    is_past: bool
    """True if the count breaches the threshold and the window counts in a run of such windows, else False."""
    why: str
    """Reason of the judgement, in one sentence."""


@dataclass(frozen=True, slots=True)
class WindowExplanation:
    """A window with its count, and the judgement of each threshold of the interest on it."""

    start: datetime
    end: datetime
    count: int
    knowledge: Knowledge
    """The part of the window's flights that is known."""
    bounds: tuple[BoundExplanation, ...]
    usual: str = ""
    """The usual count in words, with the counts of the weeks before. Empty: the window has no usual count, or the
    interest has no threshold in percent."""

    @property
    def has_alert(self) -> bool:
        """True if an alert is due for the window, by either threshold; else False."""
        return any(bound.said for bound in self.bounds)

    @property
    def shown_bounds(self) -> tuple[BoundExplanation, ...]:
        """The judgements that the page shows: those in breach or with a state; if there are none, the first alone."""
        notable = tuple(bound for bound in self.bounds if bound.is_past or bound.state is not None)
        return notable or self.bounds[:1]


def explain_windows(interest: Interest, judged: Iterable[WindowVerdict]) -> Iterator[WindowExplanation]:
    """Yield the explanation of each verdict of `judged`, which must be in the order of time.

    For each bound it counts the windows in breach in a row, because the reasons name their number.
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
    """Return why a threshold in percent does not judge a window, in one sentence; `usual`: its usual count in words."""
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
