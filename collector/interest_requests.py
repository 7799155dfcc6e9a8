"""The requests of a person: the fields of an interest to set, and new values for some of them."""

from dataclasses import dataclass
from datetime import datetime
from typing import TypedDict

from domain.interests import Direction, check_alignment, check_thresholds
from domain.windows import AlignedTo, Window


@dataclass(frozen=True, slots=True)
class InterestRequest:
    """The fields of an interest that a person chooses: all but its ids and its version."""

    airport: str
    direction: Direction
    window: Window
    high: int | None
    low: int | None
    for_windows: int
    repeat: bool
    effective_from: datetime | None
    """None: the start of the last collected day for a new interest, the present for a changed one."""
    high_percent: int | None = None
    low_percent: int | None = None
    aligned_to: AlignedTo = AlignedTo.UTC

    def check(self) -> None:
        """Raise InterestError unless an interest may have these thresholds together, and windows by this clock."""
        check_thresholds(self.high, self.low, self.for_windows, self.high_percent, self.low_percent)
        check_alignment(self.aligned_to, self.window)


class InterestUpdate(TypedDict, total=False):
    """New values for some fields of an interest. A field that is left out stays; a threshold of None is removed."""

    high: int | None
    low: int | None
    high_percent: int | None
    low_percent: int | None
    for_windows: int
    repeat: bool
    effective_from: datetime


def replace_measures(update: InterestUpdate) -> InterestUpdate:
    """Return the update with the other threshold of a bound removed where it gives one: flights, or a percent.

    A bound has one threshold, so an update that gives a percent removes the threshold in flights, and the reverse. A
    value that the update itself gives for the other one stays.
    """
    replaced: InterestUpdate = {}
    if update.get("high_percent") is not None:
        replaced["high"] = None
    if update.get("low_percent") is not None:
        replaced["low"] = None
    if update.get("high") is not None:
        replaced["high_percent"] = None
    if update.get("low") is not None:
        replaced["low_percent"] = None
    return {**replaced, **update}
