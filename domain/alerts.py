"""Alerts: what is said of one interest and one window."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from uuid import UUID, uuid5

from domain.interests import Direction
from domain.windows import Window

_NAMESPACE = UUID("6f3b1f0e-58a5-5f0b-9d4f-2a1f6f5d8c11")


class Bound(StrEnum):
    """Which threshold is meant."""

    HIGH = "high"
    LOW = "low"


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


def alert_id(interest_id: UUID, version: int, bound: Bound, window_start: datetime, state: AlertState) -> UUID:
    """The same statement has the same id, whenever and however often it is computed (UUIDv5, RFC 9562)."""
    return uuid5(_NAMESPACE, f"{interest_id}|{version}|{bound}|{window_start.isoformat()}|{state}")
