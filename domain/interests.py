"""Interests: an airport, a direction, a window length and one or two thresholds, set by a person."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from uuid import UUID

from domain.windows import Window

HIGHEST_THRESHOLD = 100_000
"""Flights; no airport has nearly as many in a day, so a larger threshold is a typing error."""

LOWEST_LOW = 1
"""The lowest low threshold that a person may ask for: no count is below 0, so a low of 0 is never breached.
Interests of earlier versions may have it."""

LOW_TOO_LOW = "must be 1 or more, because no count is below 0; with 1 you are told when there is no flight at all"
"""What is wrong with a low threshold below `LOWEST_LOW`, and what to do."""

MAX_FOR_WINDOWS = 30
"""Windows in a row that an interest may require at most: a month of days.
Hourly counts are not retained for much longer (`domain.traffic.RETAINED_HOURS`)."""


class Direction(StrEnum):
    """The flights that count: flights that end at the airport, flights that begin there, or both."""

    ARRIVALS = "arrivals"
    DEPARTURES = "departures"
    BOTH = "both"

    @property
    def parts(self) -> "tuple[Direction, ...]":
        """The directions in which flights are collected: for BOTH arrivals and departures, else itself alone."""
        return (Direction.ARRIVALS, Direction.DEPARTURES) if self is Direction.BOTH else (self,)


class InterestError(ValueError):
    """Values of an interest are out of range or contradict each other; the message names the correction."""

    def __init__(self, text: str, *fields: str) -> None:
        """`fields`: the fields of `Interest` that are concerned."""
        super().__init__(text)
        self.fields = fields


@dataclass(frozen=True, slots=True)
class Interest:
    """One version of an interest. Airport, direction and window never change; any other change makes a new version."""

    interest_id: UUID
    user_id: UUID
    airport: str
    direction: Direction
    window: Window
    high: int | None
    """The threshold of which more flights are a breach; None: no high threshold."""
    low: int | None
    """The threshold of which fewer flights are a breach; None: no low threshold."""
    for_windows: int
    """The number of consecutive windows that must breach the threshold."""
    repeat: bool
    """True if each window of a lasting breach is reported (STILL), False if only its beginning and its end are."""
    effective_from: datetime
    """Windows that start before this instant are not judged."""
    version: int
    """Grows with each change."""


def check_thresholds(high: int | None, low: int | None, for_windows: int) -> None:
    """Raise InterestError unless an interest may have these values together; the first fault found is reported.

    At least one threshold is needed; each is from 0 to HIGHEST_THRESHOLD, `low` is below `high`, and `for_windows` is
    from 1 to MAX_FOR_WINDOWS.
    """
    if high is None and low is None:
        raise InterestError("give a high or a low threshold, or both", "high", "low")
    for name, value in (("high", high), ("low", low)):
        if value is not None and not 0 <= value <= HIGHEST_THRESHOLD:
            raise InterestError(f"{name} must be from 0 to {HIGHEST_THRESHOLD}", name)
    if high is not None and low is not None and low >= high:
        raise InterestError("high must be above low", "high", "low")
    if not 1 <= for_windows <= MAX_FOR_WINDOWS:
        raise InterestError(f"for must be from 1 to {MAX_FOR_WINDOWS} windows", "for_windows")


def check_low(low: int | None) -> None:
    """Raise InterestError if a person asks for a low threshold that no count is below; None: no low threshold."""
    if low is not None and low < LOWEST_LOW:
        raise InterestError(f"low {LOW_TOO_LOW}", "low")
