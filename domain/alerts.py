"""Alerts: statements about one interest and one window, and the bounds of thresholds."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final, Protocol, assert_never
from uuid import UUID, uuid5

from domain.calendar import find_grid
from domain.grids import Grid
from domain.interests import Direction
from domain.live_record import Provenance
from domain.windows import AlignedTo, Window, instant, seconds

_NAMESPACE = UUID("6f3b1f0e-58a5-5f0b-9d4f-2a1f6f5d8c11")
"""The namespace of alert ids (UUIDv5)."""


class HasThresholds(Protocol):
    """An interest, or a description of an interest, with at most one threshold of each bound; None: no threshold."""

    @property
    def high(self) -> int | None: ...

    @property
    def low(self) -> int | None: ...


class Bound(StrEnum):
    """The kind of a threshold: HIGH is breached by more flights, LOW by fewer; an equal count is never a breach.

    The methods of this class alone compare a count with a threshold.
    """

    HIGH = "high"
    """More flights than the threshold are a breach."""
    LOW = "low"
    """Fewer flights than the threshold are a breach."""

    def is_breached(self, count: int, threshold: int) -> bool:
        """Return True if `count` is more than `threshold` (HIGH) or less than it (LOW), else False; equal is False."""
        match self:
            case Bound.HIGH:
                return count > threshold
            case Bound.LOW:
                return count < threshold
            case _:
                assert_never(self)

    def worst_of(self, counts: Iterable[int]) -> int:
        """Return the count that is farthest in the direction of a breach: the largest for HIGH, the smallest for LOW.

        Raises ValueError if `counts` is empty.
        """
        match self:
            case Bound.HIGH:
                return max(counts)
            case Bound.LOW:
                return min(counts)
            case _:
                assert_never(self)

    @property
    def can_breach_while_open(self) -> bool:
        """True if a window can be in breach before it closes (HIGH), False if its final count is required (LOW)."""
        match self:
            case Bound.HIGH:
                return True
            case Bound.LOW:
                return False
            case _:
                assert_never(self)

    def threshold_of(self, interest: HasThresholds) -> int | None:
        """Return the interest's threshold of this bound, or None if the interest has none."""
        match self:
            case Bound.HIGH:
                return interest.high
            case Bound.LOW:
                return interest.low
            case _:
                assert_never(self)


_BOUNDS: Final = tuple(Bound)
"""All bounds; iterating over a tuple is faster than over an enum."""


class AlertState(StrEnum):
    """The report of an alert on a threshold in a window: a comparison with the window before, or a withdrawal.

    With `for_windows = n` a breach needs n windows in a row.
    """

    FIRING = "FIRING"
    """A breach, and none before."""
    RESOLVED = "RESOLVED"
    """No breach, and one before."""
    STILL = "STILL"
    """A breach, and one before; reported only to interests with `repeat`."""
    WITHDRAWN = "WITHDRAWN"
    """An alert is no longer true, because a correction changed the count: flights that came late or were retracted."""

    @property
    def is_breach(self) -> bool:
        """True if the state says that the threshold is breached (FIRING, STILL), False if not (RESOLVED, WITHDRAWN)."""
        return self in (AlertState.FIRING, AlertState.STILL)


@dataclass(frozen=True, slots=True)
class Alert:
    """A statement that a threshold of an interest is in breach in a window, still or no longer, or its withdrawal."""

    alert_id: UUID
    interest_id: UUID
    user_id: UUID
    version: int
    airport: str
    direction: Direction
    window: Window
    window_start: datetime
    bound: Bound
    state: AlertState
    count: int
    """Distinct flights in the window; in an open window the first count that breached the threshold."""
    threshold: int
    for_windows: int
    withdrawn_count: int | None = None
    """With WITHDRAWN: the count before the correction. None: another state."""
    earlier: tuple[int | None, ...] = ()
    """The counts of the windows right before this one, the oldest first; None: the count is not known."""
    episode_id: UUID | None = None
    """The alert_id of the FIRING with which the alert's breach began; with FIRING its own. None: not recorded."""
    withdrawn_state: AlertState | None = None
    """With WITHDRAWN: the state that is withdrawn; RESOLVED: the breach had not ended. None: another state, or not
    recorded (then it was a breach)."""
    revision: int = 0
    """How often such a statement about the window was withdrawn before; with WITHDRAWN that of the withdrawn alert."""
    provenance: Provenance | None = None
    """Where the fact that caused the alert comes from; of an alert that an interest gets when it is set, where what is
    known of the window comes from. None: not recorded."""
    corrects: bool = False
    """True if the alert follows only from the settled record, which corrects what was known from positions before."""
    count_before: int | None = None
    """With `corrects`: the count that was known before the correction. None: no correction."""
    percent: int | None = None
    """The interest's threshold in percent of what is usual; `threshold` is then the number of flights that it makes of
    the window's usual: more than that (HIGH), or fewer (LOW), are a breach. None: the threshold is in flights."""
    doubled_usual: int | None = None
    """With `percent`: twice the count that is usual in the window, an integer. None: the threshold is in flights."""
    base_counts: tuple[int, ...] = ()
    """With `percent`: the counts of the same window of the weeks before, the latest first, as far as they are known."""
    earlier_usual: tuple[int | None, ...] = ()
    """With `percent`: twice the usual counts of the windows in `earlier`, as many; None: nothing was usual there.
    Empty: the threshold is in flights, or they are not recorded."""
    aligned_to: AlignedTo = AlignedTo.UTC
    """The clock by which the interest's windows begin."""
    live_windows: int = 0
    """The windows of which a part is known from positions alone, and may still be corrected: bit 0 is the alert's own
    window, bit n the one n windows before it."""
    own_end: datetime | None = None
    """The window's end, if it is by the airport's clock: a day may have 23 or 25 hours. None: it is as long as most."""

    @property
    def window_end(self) -> datetime:
        """The end of the window."""
        return self.own_end or self.window_start + self.window.length

    @property
    def grid(self) -> Grid:
        """The grid of the interest's windows: it computes where each begins and ends."""
        return find_grid(self.airport, self.window, self.aligned_to)

    def find_earlier_start(self, back: int) -> datetime:
        """Return the start of the window that is `back` windows before the alert's own; of a later one if it is < 0."""
        if self.aligned_to is AlignedTo.UTC or back == 0:
            return self.window_start - back * self.window.length
        grid = self.grid
        return instant(grid.find_begin(grid.find_number(seconds(self.window_start)) - back))

    def list_earlier_starts(self, how_many: int) -> list[datetime]:
        """Return the starts of the `how_many` windows before the alert's own, the latest first."""
        if self.aligned_to is not AlignedTo.UTC:
            return [self.find_earlier_start(back) for back in range(1, how_many + 1)]
        start, length = self.window_start, self.window.length
        return [start := start - length for _ in range(how_many)]

    def count_windows(self, begin: datetime, end: datetime) -> int:
        """Return the number of the interest's windows from the one that begins at `begin` to the one before `end`."""
        if self.aligned_to is AlignedTo.UTC:
            return (end - begin) // self.window.length
        return self.grid.find_number(seconds(end)) - self.grid.find_number(seconds(begin))

    @property
    def reports_breach(self) -> bool:
        """True if by this alert the window is in breach: FIRING, STILL, or WITHDRAWN of RESOLVED; else False."""
        return self.state.is_breach or self.withdrawn_state is AlertState.RESOLVED

    @property
    def is_about_end(self) -> bool:
        """True if the alert reports or withdraws the end of a breach (RESOLVED); False: a breach."""
        return AlertState.RESOLVED in (self.state, self.withdrawn_state)


def list_thresholds(interest: HasThresholds) -> list[tuple[Bound, int]]:
    """Return the bounds of which an interest has a threshold, each with its threshold: HIGH first, then LOW."""
    thresholds = []
    for bound in _BOUNDS:
        threshold = bound.threshold_of(interest)
        if threshold is not None:
            thresholds.append((bound, threshold))
    return thresholds


def compute_alert_id(
    interest_id: UUID,
    version: int,
    bound: Bound,
    window_start: datetime,
    state: AlertState,
    withdrawn_state: AlertState | None = None,
    revision: int = 0,
) -> UUID:
    """Return the id of an alert (UUIDv5, RFC 9562): equal arguments always give the same id, different ones another.

    `withdrawn_state`: with WITHDRAWN, the state that is withdrawn; a breach (FIRING or STILL) or None gives the same
    id. `revision`: how often such a statement about the window was withdrawn before; 0 gives the id that statements had
    before there were revisions.
    """
    name = f"{interest_id}|{version}|{bound}|{window_start.isoformat()}|{state}"
    if withdrawn_state is AlertState.RESOLVED:
        name += f"|{AlertState.RESOLVED}"
    if revision:
        name += f"|{revision}"
    return uuid5(_NAMESPACE, name)
