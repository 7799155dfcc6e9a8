"""Why an interest was told something, or was not: window by window, in words. No person is named."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Final, assert_never
from uuid import UUID

from pydantic import TypeAdapter

from domain.airports import find_airport
from domain.alerts import AlertState, Bound, list_thresholds
from domain.explanation import Knowledge, WindowVerdict, judge_windows
from domain.interests import Direction, Interest
from domain.windows import Window
from streams.join_state import JoinState
from streams.pages.airport import Series, is_said, series_of
from streams.pages.wording import flights, limit, number, plural

WINDOWS_A_PAGE: Final = 48


@dataclass(frozen=True, slots=True)
class BoundExplained:
    """What one threshold makes of a window."""

    bound: Bound
    state: AlertState | None
    said: bool
    """Whether an alert was due."""
    is_past: bool
    """Whether the count is past the threshold."""
    why: str


@dataclass(frozen=True, slots=True)
class WindowExplained:
    """One window."""

    start: datetime
    end: datetime
    count: int
    knowledge: Knowledge
    bounds: tuple[BoundExplained, ...]

    @property
    def said(self) -> bool:
        return any(each.said for each in self.bounds)

    @property
    def notable(self) -> tuple[BoundExplained, ...]:
        """The thresholds to speak of: where one is past or has something to say, the other goes without saying."""
        notable = tuple(each for each in self.bounds if each.is_past or each.state is not None)
        return notable or self.bounds[:1]


@dataclass(frozen=True, slots=True)
class Explained:
    """An interest, and every window that is remembered."""

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
    """On the clock of the stack."""
    windows: tuple[WindowExplained, ...]
    """The newest first."""
    series: Series

    @property
    def alerts(self) -> int:
        """How many alerts were due, withdrawn ones aside."""
        return sum(bound.said for each in self.windows for bound in each.bounds)


EXPLAINED: Final = TypeAdapter(Explained)


def explained(desk: JoinState, interest: Interest, now: datetime) -> Explained:
    """What the rule makes of each window for an interest, as it stands now."""
    _, traffic = desk.read_traffic(interest.airport)
    known = find_airport(interest.airport)
    past = {part: desk.read_history(interest.airport, part) for part in interest.direction.parts}
    windows = list(_windows(interest, list(judge_windows(interest, traffic))))
    return Explained(
        interest_id=interest.interest_id,
        airport=interest.airport,
        name=known.name if known else "",
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
        series=series_of(interest, traffic, past),
    )


def _windows(interest: Interest, judged: list[WindowVerdict]) -> Iterator[WindowExplained]:
    runs = dict.fromkeys(Bound, 0)
    for verdict in judged:
        bounds = []
        for bound, threshold in list_thresholds(interest):
            state = verdict.state_of(bound)
            is_past = _counts_in_run(bound, verdict, threshold)
            runs[bound] = runs[bound] + 1 if is_past else 0
            said = state is not None and is_said(interest, state)
            bounds.append(
                BoundExplained(
                    bound, state, said, is_past, _why(interest, bound, threshold, verdict, state, runs[bound])
                )
            )
        yield WindowExplained(verdict.start, verdict.end, verdict.count, verdict.knowledge, tuple(bounds))


def _counts_in_run(bound: Bound, verdict: WindowVerdict, threshold: int) -> bool:
    """Whether the window counts in a run of windows past the threshold."""
    known = (Knowledge.CLOSED, Knowledge.OPEN) if bound.can_breach_while_open else (Knowledge.CLOSED,)
    return verdict.knowledge in known and bound.is_breached(verdict.count, threshold)


def _why(
    interest: Interest, bound: Bound, threshold: int, verdict: WindowVerdict, state: AlertState | None, run: int
) -> str:
    """One sentence."""
    match verdict.knowledge:
        case Knowledge.EARLY:
            return "It starts before the interest is in effect, so it is not judged."
        case Knowledge.UNCOVERED:
            return "It starts before the first coverage, so it is not judged."
        case Knowledge.GAP if state is not None:
            return (
                f"A gap in coverage touches it, but the {plural(verdict.count, 'flight')} that are known are "
                f"{limit(bound, threshold)} already."
            )
        case Knowledge.GAP:
            return "A gap in coverage touches it: its count will never be known, so it counts as no breach."
        case Knowledge.OPEN if not bound.can_breach_while_open:
            return f"It is open; whether there are {limit(bound, threshold)} is known when it closes."
    count = number(verdict.count)
    many = interest.for_windows > 1
    is_past = bound.is_breached(verdict.count, threshold)
    says = limit(bound, threshold)
    match state:
        case AlertState.FIRING if many:
            return f"{count} is {says}, and so were the windows before: {interest.for_windows} in a row."
        case AlertState.FIRING:
            return f"{count} is {says}; the window before was not in breach."
        case AlertState.STILL if interest.repeat:
            return f"{count} is still {says}, and the interest wants to be told again."
        case AlertState.STILL:
            return f"{count} is still {says}; it was said when the breach began."
        case AlertState.RESOLVED:
            return f"{count} is no longer {says}."
    if is_past and many and run < interest.for_windows:
        return f"{count} is {says}: {run} of the {interest.for_windows} windows in a row that it takes."
    if is_past:
        return f"{count} is {says}; it is said as soon as the window before is closed."
    so_far = " so far" if verdict.knowledge is Knowledge.OPEN else ""
    match bound:
        case Bound.HIGH if interest.low is not None and not so_far and verdict.count >= interest.low:
            return f"{count} is neither {says} nor {limit(Bound.LOW, interest.low)}."
        case Bound.HIGH | Bound.LOW:
            return f"{count}{so_far} is not {says}."
        case _:
            assert_never(bound)


def in_words(interest: Explained) -> str:
    """What the interest asks for."""
    limits = [limit(bound, threshold) for bound, threshold in list_thresholds(interest)]
    run = f", {interest.for_windows} windows in a row" if interest.for_windows > 1 else ""
    return f"{' or '.join(limits)} {flights(interest.direction)}{run}"
