"""Alerts: what is said of one interest and one window."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final, Protocol, assert_never
from uuid import UUID, uuid5

from domain.interests import Direction
from domain.windows import Window

_NAMESPACE = UUID("6f3b1f0e-58a5-5f0b-9d4f-2a1f6f5d8c11")


class HasThresholds(Protocol):
    """An interest, or a description of an interest, with at most one threshold of each bound."""

    @property
    def high(self) -> int | None: ...

    @property
    def low(self) -> int | None: ...


class Bound(StrEnum):
    """The side of a threshold on which a count is a breach. All comparisons of a count with a threshold are here."""

    HIGH = "high"
    """More flights than the threshold are a breach."""
    LOW = "low"
    """Fewer flights than the threshold are a breach."""

    def is_breached(self, count: int, threshold: int) -> bool:
        """Return True if `count` flights breach a threshold of this bound, False if they equal it or are within it."""
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


class AlertState(StrEnum):
    """What is said, by comparison with the window before."""

    FIRING = "FIRING"
    RESOLVED = "RESOLVED"
    STILL = "STILL"
    WITHDRAWN = "WITHDRAWN"


@dataclass(frozen=True, slots=True)
class Alert:
    """One statement about one interest and one window."""

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
    """Distinct flights in the window; of a window that was still open, those with which the threshold was passed."""
    threshold: int
    for_windows: int
    withdrawn_count: int | None = None
    """With WITHDRAWN: the count of which the withdrawn alert spoke."""
    earlier: tuple[int | None, ...] = ()
    """The counts of some windows before, the oldest first, the last right before this one; None: not known."""
    episode_id: UUID | None = None
    """The alert_id of the FIRING with which the breach began that this is of: its own with FIRING; None: not told."""


def list_thresholds(interest: HasThresholds) -> list[tuple[Bound, int]]:
    """Return the bounds of which an interest has a threshold, each with its threshold, in the order of `Bound`."""
    thresholds = []
    for bound in _BOUNDS:
        threshold = bound.threshold_of(interest)
        if threshold is not None:
            thresholds.append((bound, threshold))
    return thresholds


def alert_id(interest_id: UUID, version: int, bound: Bound, window_start: datetime, state: AlertState) -> UUID:
    """The same statement has the same id, whenever and however often it is computed (UUIDv5, RFC 9562)."""
    return uuid5(_NAMESPACE, f"{interest_id}|{version}|{bound}|{window_start.isoformat()}|{state}")
