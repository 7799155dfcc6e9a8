"""The thresholds that a change of counts may have crossed in one window, found before any state is compared."""

from collections.abc import Container, Mapping

from domain.alerts import Bound
from domain.percent_counts import PercentCounts
from domain.rule import ANY_THRESHOLD, NO_HIGH, NO_LOW, THRESHOLDS_END, Counts, ThresholdRange


def find_crossed_ranges(
    then: Counts,
    now: Counts,
    number: int,
    for_windows: int,
    is_first_complete: bool,
    is_correction: bool,
) -> tuple[ThresholdRange, ThresholdRange]:
    """Return the ranges of high and of low thresholds that may have new alerts, except STILL, in window `number`.

    The ranges hold every such threshold of all run lengths up to `for_windows`, and may hold more: all thresholds if
    this window or one of the `for_windows` before it is lost, else none if all these windows are unchanged, else all
    after a correction (`is_correction`): counts may have gone down, and alerts may have to be withdrawn.
    `then` and `now`: the counts before and after the change. `is_first_complete`: True if some interests' runs can be
    complete in this window for the first time.
    """
    window, window_then = now[number], then[number]
    if window.is_lost:
        return ANY_THRESHOLD, ANY_THRESHOLD
    last = now[number - 1]
    flights, flights_then = window.flights, window_then.flights
    least = most = last.flights
    are_earlier_unchanged = True
    for back in range(number - for_windows, number):
        earlier = now[back]
        if earlier.is_lost:
            return ANY_THRESHOLD, ANY_THRESHOLD
        if earlier.flights < least:
            least = earlier.flights
        elif earlier.flights > most:
            most = earlier.flights
        are_earlier_unchanged = are_earlier_unchanged and earlier == then[back]
    if are_earlier_unchanged and window == window_then:
        return NO_HIGH, NO_LOW
    if is_correction:
        return ANY_THRESHOLD, ANY_THRESHOLD
    high, low = NO_HIGH, NO_LOW
    fired = flights_then if are_earlier_unchanged else 0  # lower thresholds were breached before, and have fired
    if last.is_closed:
        # FIRING needs a window before that does not breach the threshold, RESOLVED needs the last one to breach it.
        if not window.is_closed:
            high = ThresholdRange(max(least, fired), flights)
        else:
            high = ThresholdRange(min(least, flights), max(last.flights, flights))
            low = ThresholdRange(min(flights, last.flights) + 1, max(flights, most) + 1)
    if is_first_complete:  # for some interests there was no breach before
        high = ThresholdRange(min(high.begin, fired) if last.is_closed else fired, max(high.end, flights))
        if window.is_closed:
            low = ThresholdRange(min(low.begin, flights + 1), THRESHOLDS_END)
    return high, low


def find_crossed_percents(
    then: PercentCounts,
    now: PercentCounts,
    number: int,
    for_windows: int,
    first_windows: Mapping[int, Container[int]],
    is_correction: bool,
) -> tuple[ThresholdRange, ThresholdRange]:
    """Return the ranges of high and of low thresholds in percent that may have new alerts, except STILL, in a window.

    As `find_crossed_ranges`, for window `number`, which is not skipped. `first_windows`: the first windows of the
    interests by the length of their run.
    """
    earlier = now.list_earlier(number, for_windows)
    is_first_complete = False
    for length, begun in first_windows.items():
        run = [number, *earlier]
        is_first_complete = is_first_complete or any(
            first in begun for first in range(run[length] + 1, run[length - 1] + 1)
        )
    ranges = []
    for bound in Bound:
        before, after = then.take_levels(bound, number, earlier), now.take_levels(bound, number, earlier)
        ranges.append(find_crossed_ranges(before, after, number, for_windows, is_first_complete, is_correction))
    return ranges[0][0], ranges[1][1]
