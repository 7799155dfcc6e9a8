"""The windows of the last weeks with their counts and what is usual in them, for the chart of a preview. Pure."""

from dataclasses import dataclass
from datetime import datetime

from domain.interests import Interest
from domain.percent_counts import PercentCounts
from domain.rule import find_interest_grid
from domain.traffic import Traffic
from domain.window_counts import WindowCounts
from domain.windows import instant, seconds


@dataclass(frozen=True, slots=True)
class PastWindow:
    """A window [start, end) that has ended: what is known of its flights, for a chart."""

    start: datetime
    end: datetime
    flights: int | None
    """None: not all of them are known."""
    doubled_usual: int | None
    """Twice the count that is usual in it, by which thresholds in percent are judged; None: nothing is, or the window
    was not reached by the coverage."""


def list_past_windows(interest: Interest, traffic: Traffic, since: datetime, until: datetime) -> list[PastWindow]:
    """Return the windows of an interest that begin at `since` or later and end at `until` or earlier, in order.

    Windows of which nothing is known are in it, so that a chart shows what is missing. `effective_from` is ignored.
    """
    grid = find_interest_grid(interest)
    counts = WindowCounts(traffic, interest.direction, grid)
    percents = PercentCounts(traffic, interest.direction, grid)
    return [
        PastWindow(
            start=instant(grid.find_begin(number)),
            end=instant(grid.find_begin(number + 1)),
            flights=counts[number].flights if counts[number].is_closed else None,
            doubled_usual=percents.find_doubled_usual(number) if number <= percents.reached else None,
        )
        for number in range(grid.find_first_from(seconds(since)), grid.find_number(seconds(until)))
    ]
