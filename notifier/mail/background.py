"""The sentences of a mail about one alert that say more than its count: what is usual, and what was before."""

from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from fractions import Fraction

from chassis.texts import Texts
from domain.airports import find_airport
from domain.alerts import Alert, AlertState
from domain.calendar import WEEKS_BACK
from domain.local_times import format_time, is_start_of_day
from domain.usual import FEWEST_BASE_WINDOWS, compute_doubled_median
from domain.windows import AlignedTo, Window
from notifier.mail.levels import WindowFacts, is_breached, is_skipped, list_earlier_windows
from notifier.mail.times import find_zone
from notifier.mail.wording import describe_breach, format_count, format_doubled, format_windows


@dataclass(frozen=True, slots=True)
class _BreachesBefore:
    """The run of windows in breach that ends right before an alert's window, without those that its threshold skips."""

    windows: tuple[WindowFacts, ...]
    """The latest first."""
    has_skipped: bool
    """True if a window was skipped between the first of them and the alert's window."""
    is_begin_known: bool
    """False if all windows before that the alert knows of were in breach or skipped."""


def describe_background(texts: Texts, alert: Alert, now: datetime) -> list[str]:
    """Return sentences about an alert's background, in this order, each only if it applies; the list may be empty.

    What is usual, and what the percent makes of it; that the final count may be higher (FIRING or STILL of a high
    threshold, perhaps before its window's end); how long the breach has lasted (FIRING after several windows, STILL) or
    had lasted (RESOLVED, with its peak); the count of the window before (not after a sentence about a resolved breach);
    the range of the earlier counts, if two are known.
    """
    sentences = describe_usual(texts, alert)
    is_breach = alert.state in (AlertState.FIRING, AlertState.STILL)
    # The first count that breaches is said at once, and may still grow.
    if alert.bound.can_breach_while_open and is_breach and alert.count == alert.threshold + 1:
        sentences.append(texts.get("early.ended" if now >= alert.window_end else "early.open"))
    before = _find_breaches_before(alert)
    run = len(before.windows)
    sentences += _describe_duration(texts, alert, before)
    known = [each for each in alert.earlier if each is not None]
    if known and alert.earlier[-1] is not None and not (alert.state is AlertState.RESOLVED and run):
        _, last = list_earlier_windows(alert)[0]
        sentences.append(texts.get(f"background.before.{alert.window}", facts=_format_facts(texts, alert, last)))
    if len(known) > 1:
        low, high = min(known), max(known)
        between = texts.get("background.between", low=low, high=high)
        counts = between if low != high else texts.get("background.always", count=low)
        key = "background.range" if len(known) == len(alert.earlier) else "background.range.known"
        windows = format_windows(texts, alert.window, len(alert.earlier))
        sentences.append(texts.get(key, windows=windows, counts=counts))
    return sentences


def _describe_duration(texts: Texts, alert: Alert, before: _BreachesBefore) -> list[str]:
    """Return a sentence about how long a breach has lasted, or had lasted if it ended; empty if there is none to say.

    "At least" if its beginning is not known.
    """
    run, level = len(before.windows), describe_breach(texts, alert)
    exact = "exact" if before.is_begin_known else "least"
    if alert.state is AlertState.FIRING and alert.for_windows > 1:
        windows = format_windows(texts, alert.window, alert.for_windows)
        in_a_row = texts.get("in_a_row.windows", windows=windows)
        skipping = _describe_skipping(texts, is_possible=_may_have_skipped(alert))
        return [texts.get("background.lasts", in_a_row=in_a_row, skipping=skipping)]
    skipping = _describe_skipping(texts, is_possible=before.has_skipped)
    if alert.state is AlertState.STILL and run:
        windows = format_windows(texts, alert.window, run + 1)
        return [texts.get(f"background.still.{exact}", level=level, windows=windows, skipping=skipping)]
    if alert.state is AlertState.RESOLVED and run:
        windows, most = format_windows(texts, alert.window, run), ""
        if run > 1:
            most = texts.get(f"background.most.{alert.bound}", facts=_format_peak(texts, alert, before))
        return [texts.get(f"background.was.{exact}", level=level, windows=windows, skipping=skipping, most=most)]
    return []


def describe_usual(texts: Texts, alert: Alert) -> list[str]:
    """Return two sentences: what is usual in an alert's window, and of what; and what its percent makes of that.

    The first has the counts of the weeks before if the usual is their median: a correction may have changed them since
    it was fixed, and then they would contradict it. Empty with a threshold in flights.
    """
    if alert.percent is None or alert.doubled_usual is None:
        return []
    weekday, part = _describe_base_windows(texts, alert)
    known = len(alert.base_counts)
    weekdays = texts.get(f"usual.weekdays.{weekday}")
    if known >= FEWEST_BASE_WINDOWS and compute_doubled_median(alert.base_counts) == alert.doubled_usual:
        some = "" if known == WEEKS_BACK else texts.get(f"usual.some.{known}")
        *others, last = map(texts.format_number, alert.base_counts)
        counts = texts.get("and", one=", ".join(others), other=last)
        base = f"{part}{some}{weekdays}{texts.get('usual.counts', counts=counts)}"
    else:
        base = f"{part}{weekdays}{texts.get('usual.as_far')}"
    flights = format_count(texts, alert.direction, alert.threshold)
    return [
        texts.get("usual.median", usual=format_doubled(texts, alert.doubled_usual), base=base),
        texts.get(f"level.{alert.bound}.of_that", count=alert.percent, flights=flights),
    ]


def _describe_base_windows(texts: Texts, alert: Alert) -> tuple[int, str]:
    """Return the weekday (0: Monday) of the base windows, and which part of it they are.

    The part is " of the same hour (from 19:00 at the airport)": by the airport's clock, or by UTC if no airport has the
    code. It is empty for a whole day at the airport.
    """
    airport = find_airport(alert.airport)
    zone: tzinfo = (find_zone(airport.time_zone) if airport else None) or UTC
    start, end = alert.window_start.astimezone(zone), alert.window_end
    is_whole_day = is_start_of_day(start, zone) and is_start_of_day(end, zone)
    if alert.window is Window.ONE_DAY and (alert.aligned_to is AlignedTo.AIRPORT or is_whole_day):
        return start.weekday(), ""
    clock = "UTC" if airport is None else texts.get("usual.clock.airport")
    return start.weekday(), texts.get(f"usual.part.{alert.window}", time=format_time(start, zone), clock=clock)


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


def _describe_skipping(texts: Texts, *, is_possible: bool) -> str:
    """Return, if windows may have been skipped, the words that say which: ", leaving out those that …"; else ""."""
    return texts.get("background.skipping") if is_possible else ""


def _format_peak(texts: Texts, alert: Alert, before: _BreachesBefore) -> str:
    """Return the count of the worst window of a breach: "35"; in percent that farthest from usual: "2, usually 10"."""
    ordered = sorted(before.windows, key=lambda each: Fraction(each.flights or 0, each.doubled_usual or 1))
    return _format_facts(texts, alert, ordered[alert.bound.worst_of(range(len(ordered)))])


def _format_facts(texts: Texts, alert: Alert, window: WindowFacts) -> str:
    """Return the count of a window, with what is usual in it if the threshold is in percent: "2", "2, usually 10"."""
    count = texts.format_number(window.flights or 0)
    if alert.percent is None or window.doubled_usual is None:
        return count
    return count + texts.get("usual.after", usual=format_doubled(texts, window.doubled_usual))
