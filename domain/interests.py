"""What a person wants to be told: an airport, a direction, a window length and one or two thresholds."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from uuid import UUID

from domain.windows import Window

HIGHEST_THRESHOLD = 100_000
"""No airport comes near it in a day; a larger number is a slip."""

MOST_WINDOWS = 30
"""A month of days: traffic is not remembered for much longer (`domain.traffic.RETAINED_HOURS`)."""


class Direction(StrEnum):
    """Which flights count: those that end at the airport, those that begin there, or both."""

    ARRIVALS = "arrivals"
    DEPARTURES = "departures"
    BOTH = "both"

    @property
    def parts(self) -> "tuple[Direction, ...]":
        """The directions in which flights are collected: both is two."""
        return (Direction.ARRIVALS, Direction.DEPARTURES) if self is Direction.BOTH else (self,)


class InterestError(ValueError):
    """What a person asked for contradicts itself; the text says what to change."""


@dataclass(frozen=True, slots=True)
class Interest:
    """One version of an interest. Airport, direction and window never change; a change of the rest is a version."""

    interest_id: UUID
    user_id: UUID
    airport: str
    direction: Direction
    window: Window
    high: int | None
    """More flights than this are a breach."""
    low: int | None
    """Fewer flights than this are a breach."""
    for_windows: int
    """So many windows in a row must be past the threshold."""
    repeat: bool
    """Whether to say again, in each window, that a breach lasts."""
    effective_from: datetime
    """Windows that start before are not judged."""
    version: int


def check_thresholds(high: int | None, low: int | None, for_windows: int) -> None:
    """Raises InterestError unless at least one threshold is given and they fit together."""
    if high is None and low is None:
        raise InterestError("give a high or a low threshold, or both")
    for name, value in (("high", high), ("low", low)):
        if value is not None and not 0 <= value <= HIGHEST_THRESHOLD:
            raise InterestError(f"{name} must be from 0 to {HIGHEST_THRESHOLD}")
    if high is not None and low is not None and low >= high:
        raise InterestError("high must be above low")
    if not 1 <= for_windows <= MOST_WINDOWS:
        raise InterestError(f"for must be from 1 to {MOST_WINDOWS} windows")
