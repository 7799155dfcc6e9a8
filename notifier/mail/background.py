"""The sentences of a mail about one alert that say more than its count: what is usual, and what was before."""

from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from fractions import Fraction
from typing import Final

from domain.airports import find_airport
from domain.alerts import Alert, AlertState
from domain.calendar import WEEKS_BACK
from domain.local_times import format_time, is_start_of_day
from domain.usual import FEWEST_BASE_WINDOWS, compute_doubled_median
from domain.windows import AlignedTo, Window
from notifier.mail.levels import WindowFacts, is_breached, is_skipped, list_earlier_windows
from notifier.mail.times import ReaderTimes
from notifier.mail.wording import (
    WINDOW_NOUN,
    describe_breach,
    format_count,
    format_doubled,
    format_level,
    format_number,
    format_windows,
    get_bound_words,
)

EARLY: Final = "That was counted before the window ended; its final count may be higher."
"""Added to an alert that may have been raised before its window ended."""

_NUMBERS: Final = {3: "three", 4: "four", 5: "five"}


@dataclass(frozen=True, slots=True)
class _BreachesBefore:
    """The run of windows in breach that ends right before an alert's window, without those that its threshold skips."""

    windows: tuple[WindowFacts, ...]
    """The latest first."""
    has_skipped: bool
    """True if a window was skipped between the first of them and the alert's window."""
    is_begin_known: bool
    """False if all windows before that the alert knows of were in breach or skipped."""


def describe_background(alert: Alert, now: datetime) -> list[str]:
    """Return sentences about an alert's background, in this order, each only if it applies; the list may be empty.

    What is usual, and what the percent makes of it; that the final count may be higher (FIRING or STILL of a high
    threshold, perhaps before its window's end); how long the breach has lasted (FIRING after several windows, STILL) or
    had lasted (RESOLVED, with its peak); the count of the window before (not after a sentence about a resolved breach);
    the range of the earlier counts, if two are known.
    """
    sentences = describe_usual(alert)
    is_breach = alert.state in (AlertState.FIRING, AlertState.STILL)
    # The first count that breaches is said at once, and may still grow.
    if alert.bound.can_breach_while_open and is_breach and alert.count == alert.threshold + 1:
        ended = now >= alert.window_end
        sentences.append(EARLY if ended else "The window has not ended yet; its final count may be higher.")
    before = _find_breaches_before(alert)
    run, level = len(before.windows), describe_breach(alert)
    if alert.state is AlertState.FIRING and alert.for_windows > 1:
        in_a_row = f"{format_windows(alert.window, alert.for_windows)} in a row"
        without = _describe_skipping(is_possible=_may_have_skipped(alert))
        sentences.append(f"It has been so for {in_a_row}{without}, which is when you wanted to know.")
    elif alert.state is AlertState.STILL and run:
        without = _describe_skipping(is_possible=before.has_skipped)
        sentences.append(f"It has been {level} {_format_duration(alert, before, run + 1)} now{without}.")
    elif alert.state is AlertState.RESOLVED and run:
        most = f", at its {get_bound_words(alert.bound).worst} {_format_peak(alert, before)}" if run > 1 else ""
        without = _describe_skipping(is_possible=before.has_skipped)
        sentences.append(f"Before, it was {level} {_format_duration(alert, before, run)}{without}{most}.")
    known = [each for each in alert.earlier if each is not None]
    if known and alert.earlier[-1] is not None and not (alert.state is AlertState.RESOLVED and run):
        _, last = list_earlier_windows(alert)[0]
        sentences.append(f"The {WINDOW_NOUN[alert.window]} before had {_format_facts(alert, last)}.")
    if len(known) > 1:
        low, high = min(known), max(known)
        counts = f"between {format_number(low)} and {format_number(high)}"
        counts = counts if low != high else f"always {format_number(low)}"
        known_ones = "" if len(known) == len(alert.earlier) else ", as far as they are known"
        earlier = format_windows(alert.window, len(alert.earlier))
        sentences.append(f"In the {earlier} before{known_ones}, it was {counts}.")
    return sentences


def describe_usual(alert: Alert) -> list[str]:
    """Return two sentences: what is usual in an alert's window, and of what; and what its percent makes of that.

    The first has the counts of the weeks before if the usual is their median: a correction may have changed them since
    it was fixed, and then they would contradict it. Empty with a threshold in flights.
    """
    if alert.percent is None or alert.doubled_usual is None:
        return []
    days, which = _describe_base_windows(alert)
    known = len(alert.base_counts)
    if known >= FEWEST_BASE_WINDOWS and compute_doubled_median(alert.base_counts) == alert.doubled_usual:
        of_days = f"{'' if known == WEEKS_BACK else f'{_NUMBERS[known]} of '}the {_NUMBERS[WEEKS_BACK]} {days} before"
        *others, last = map(format_number, alert.base_counts)
        base = f"of {which}{of_days} ({', '.join(others)} and {last}, the latest first)"
    else:
        base = f"of {which}the {_NUMBERS[WEEKS_BACK]} {days} before, as far as they were known when it began"
    level = format_level(alert.bound, alert.percent, is_percent=True).removesuffix(" of usual").capitalize()
    flights = f"{get_bound_words(alert.bound).breach} {format_count(alert.direction, alert.threshold)}"
    return [
        f"Usually there are {format_doubled(alert.doubled_usual)}: the median {base}.",
        f"{level} of that is {flights}.",
    ]


def _describe_base_windows(alert: Alert) -> tuple[str, str]:
    """Return the weekday of the base windows, "Fridays", and their part of it: "the same hour (from 19:00 …) of ".

    By the airport's clock, or by UTC if no airport has the code. The part is empty for a whole day at the airport.
    """
    airport = find_airport(alert.airport)
    zone: tzinfo = (ReaderTimes.of(airport.time_zone, alert.window_start).zone if airport else None) or UTC
    start, end = alert.window_start.astimezone(zone), alert.window_end
    days = f"{start:%A}s"
    is_whole_day = is_start_of_day(start, zone) and is_start_of_day(end, zone)
    if alert.window is Window.ONE_DAY and (alert.aligned_to is AlignedTo.AIRPORT or is_whole_day):
        return days, ""
    noun = {Window.ONE_HOUR: "hour", Window.SIX_HOURS: "six hours", Window.ONE_DAY: "24 hours"}[alert.window]
    clock = "UTC" if airport is None else "at the airport"
    return days, f"the same {noun} (from {format_time(start, zone)} {clock}) of "


def _find_breaches_before(alert: Alert) -> _BreachesBefore:
    """Return the windows in breach just before the alert's own: up to the first that was not, or is not known."""
    found: list[WindowFacts] = []
    skipped, has_skipped = False, False
    for _, window in list_earlier_windows(alert):
        if is_skipped(alert, window):
            skipped = True
        elif is_breached(alert, window):
            found.append(window)
            has_skipped = skipped
        else:
            return _BreachesBefore(tuple(found), has_skipped, is_begin_known=True)
    return _BreachesBefore(tuple(found), has_skipped, is_begin_known=False)


def _may_have_skipped(alert: Alert) -> bool:
    """Return False if the alert's run of windows is known to have none that is skipped; else True."""
    if alert.percent is None:
        return False
    run = [window for _, window in list_earlier_windows(alert)[: alert.for_windows - 1]]
    return len(run) < alert.for_windows - 1 or not all(is_breached(alert, each) for each in run)


def _describe_skipping(*, is_possible: bool) -> str:
    """Return, if windows may have been skipped, the words that say which: ", leaving out those that …"; else ""."""
    return ", leaving out those that usually have fewer than 5 flights" if is_possible else ""


def _format_duration(alert: Alert, before: _BreachesBefore, run: int) -> str:
    """Return how long a breach of `run` windows has lasted: "for 3 hours", or "for at least 13 hours".

    "At least" if the beginning is not known.
    """
    at_least = "" if before.is_begin_known else "at least "
    return f"for {at_least}{format_windows(alert.window, run)}"


def _format_peak(alert: Alert, before: _BreachesBefore) -> str:
    """Return the count of the worst window of a breach: "35"; in percent that farthest from usual: "2, usually 10"."""
    ordered = sorted(before.windows, key=lambda each: Fraction(each.flights or 0, each.doubled_usual or 1))
    return _format_facts(alert, ordered[alert.bound.worst_of(range(len(ordered)))])


def _format_facts(alert: Alert, window: WindowFacts) -> str:
    """Return the count of a window, with what is usual in it if the threshold is in percent: "2", "2, usually 10"."""
    usual = "" if alert.percent is None or window.doubled_usual is None else format_doubled(window.doubled_usual)
    return f"{format_number(window.flights or 0)}{usual and f', usually {usual}'}"
