"""Interests: an airport, a direction, a window length and one or two thresholds, set by a person."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from uuid import UUID

from domain.windows import AlignedTo, Window

HIGHEST_THRESHOLD = 100_000
"""Flights; no airport has nearly as many in a day, so a larger threshold is a typing error."""

HIGH_PERCENTS = range(101, 10_001)
"""Percents of what is usual that a high threshold may be: what is usual itself is no alarm, it is passed every other
time; and a hundred times the usual is the most that an airport with 5 flights can reach within HIGHEST_THRESHOLD."""
LOW_PERCENTS = range(1, 100)
"""Percents of what is usual that a low threshold may be. With 1 an alert needs next to no flights."""

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
    high_percent: int | None = None
    """The percent of what is usual of which more flights are a breach; None: no such threshold."""
    low_percent: int | None = None
    """The percent of what is usual of which fewer flights are a breach; None: no such threshold."""
    aligned_to: AlignedTo = AlignedTo.UTC
    """The clock by which windows begin; never changes either."""


def check_thresholds(
    high: int | None,
    low: int | None,
    for_windows: int,
    high_percent: int | None = None,
    low_percent: int | None = None,
) -> None:
    """Raise InterestError unless an interest may have these values together; the first fault found is reported.

    At least one threshold is needed, and of each bound one at most, in flights or in percent of what is usual; flights
    are from 0 to HIGHEST_THRESHOLD, `low` is below `high`, percents are in HIGH_PERCENTS and LOW_PERCENTS, and
    `for_windows` is from 1 to MAX_FOR_WINDOWS.
    """
    if high is None and low is None and high_percent is None and low_percent is None:
        raise InterestError("give a high or a low threshold, or both", "high", "low")
    _check_percent("high", high, high_percent, HIGH_PERCENTS)
    _check_percent("low", low, low_percent, LOW_PERCENTS)
    for name, value in (("high", high), ("low", low)):
        if value is not None and not 0 <= value <= HIGHEST_THRESHOLD:
            raise InterestError(f"{name} must be from 0 to {HIGHEST_THRESHOLD}", name)
    if high is not None and low is not None and low >= high:
        raise InterestError("high must be above low", "high", "low")
    if not 1 <= for_windows <= MAX_FOR_WINDOWS:
        raise InterestError(f"for must be from 1 to {MAX_FOR_WINDOWS} windows", "for_windows")


def _check_percent(bound: str, flights: int | None, percent: int | None, allowed: range) -> None:
    """Raise InterestError if a bound has a threshold in flights and one in percent, or a percent out of range."""
    if percent is None:
        return
    name = f"{bound}_percent"
    if flights is not None:
        raise InterestError(f"give {bound} (flights) or {name} (percent of what is usual), not both", bound, name)
    if percent not in allowed:
        raise InterestError(f"{name} must be from {allowed.start} to {allowed.stop - 1}", name)


def check_alignment(aligned_to: AlignedTo, window: Window) -> None:
    """Raise InterestError unless windows of this length may be aligned to this clock.

    Windows of six hours and of a day may be aligned to the airport's clock, windows of an hour only to UTC.
    """
    if aligned_to is AlignedTo.AIRPORT and window is Window.ONE_HOUR:
        raise InterestError("an hour is not aligned to the airport's clock: leave aligned_to out", "aligned_to")


def check_low(low: int | None) -> None:
    """Raise InterestError if a person asks for a low threshold that no count is below; None: no low threshold."""
    if low is not None and low < LOWEST_LOW:
        raise InterestError(f"low {LOW_TOO_LOW}", "low")
