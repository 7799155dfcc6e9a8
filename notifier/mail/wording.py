"""The sentences and phrases of the mails of alerts: the same in the text and in the HTML."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final, NamedTuple, assert_never

from domain.airports import find_airport
from domain.alerts import Alert, AlertState, Bound
from domain.interests import Direction
from domain.windows import Window
from notifier.mail.summary import BreachRun, ThresholdSummary
from notifier.mail.times import ReaderTimes

_WINDOW_NOUN: Final = {Window.ONE_HOUR: "hour", Window.SIX_HOURS: "six hours", Window.ONE_DAY: "day"}
_WINDOWS_NOUN: Final = {Window.ONE_HOUR: "hours", Window.SIX_HOURS: "six-hour windows", Window.ONE_DAY: "days"}
_IN_A_WINDOW: Final = {Window.ONE_HOUR: "in an hour", Window.SIX_HOURS: "in six hours", Window.ONE_DAY: "in a day"}

EARLY: Final = "That was counted before the window ended; its final count may be higher."
"""Added to an alert that may have been raised before its window ended."""


class _BoundWords(NamedTuple):
    """The words for one bound in sentences about a threshold or a count."""

    beyond: str
    """The word for a count in breach, before the threshold: "above" 20."""
    breach: str
    """The words for flights in breach, before the threshold: "more than" 20."""
    within: str
    """The words for flights that are no breach, before the threshold: "at most" 20."""
    worst: str
    """The word for the worst of some counts, after "at its": at its "highest" 35."""


def _get_bound_words(bound: Bound) -> _BoundWords:
    """Return the words for a bound."""
    match bound:
        case Bound.HIGH:
            return _BoundWords("above", "more than", "at most", "highest")
        case Bound.LOW:
            return _BoundWords("below", "fewer than", "at least", "lowest")
        case _:
            assert_never(bound)


def format_number(value: int) -> str:
    """Return a number with commas between thousands: "1,200"."""
    return f"{value:,}"


def name_flights(direction: Direction, count: int | None = None) -> str:
    """Return the noun for the flights of a direction: "departures", "arrivals", "arrivals and departures".

    In the singular for a count of 1, "departure"; `count` None: in the plural.
    """
    match direction:
        case Direction.ARRIVALS:
            return "arrival" if count == 1 else "arrivals"
        case Direction.DEPARTURES:
            return "departure" if count == 1 else "departures"
        case Direction.BOTH:
            return "arrival or departure" if count == 1 else "arrivals and departures"


def format_count(direction: Direction, count: int) -> str:
    """Return a count of flights with its noun: "24 departures", "1 arrival"."""
    return f"{format_number(count)} {name_flights(direction, count)}"


def format_windows(window: Window, how_many: int) -> str:
    """Return a number of windows of one length in words: "3 hours", "1 six-hour window", "2 days"."""
    if how_many == 1:
        return {Window.ONE_HOUR: "1 hour", Window.SIX_HOURS: "1 six-hour window", Window.ONE_DAY: "1 day"}[window]
    return f"{format_number(how_many)} {_WINDOWS_NOUN[window]}"


def format_level(bound: Bound, threshold: int) -> str:
    """Return a threshold as its bound's word and its number: "above 20" (high), "below 5" (low)."""
    return f"{_get_bound_words(bound).beyond} {format_number(threshold)}"


def describe_threshold(alert: Alert) -> str:
    """Return the threshold that an alert is about: "Departures in an hour: more than 20".

    If it must be breached in several windows, adds ", 3 hours in a row".
    """
    run = f", {format_windows(alert.window, alert.for_windows)} in a row" if alert.for_windows > 1 else ""
    flights = f"{name_flights(alert.direction).capitalize()} {_IN_A_WINDOW[alert.window]}"
    return f"{flights}: {_get_bound_words(alert.bound).breach} {format_number(alert.threshold)}{run}"


def find_airport_names(icao: str) -> tuple[str, str]:
    """Return an airport's name and city; for an unknown airport its ICAO code and the empty text."""
    known = find_airport(icao)
    return (known.name, known.city) if known is not None else (icao, "")


def format_airport(icao: str) -> str:
    """Return an airport for use in a sentence: "John F Kennedy International Airport (KJFK), New York,".

    Without the city and its commas if it is not known; an unknown airport is its ICAO code alone.
    """
    name, city = find_airport_names(icao)
    if name == icao:
        return icao
    return f"{name} ({icao}){f', {city},' if city else ''}"


def format_status(alert: Alert) -> str:
    """Return the state that an alert reports in a few words: "Above your level", "Back to normal", "Correction"."""
    match alert.state:
        case AlertState.FIRING:
            return f"{_get_bound_words(alert.bound).beyond.capitalize()} your level"
        case AlertState.STILL:
            return f"Still {_get_bound_words(alert.bound).beyond} your level"
        case AlertState.RESOLVED:
            return "Back to normal"
        case AlertState.WITHDRAWN:
            return "Correction"


def choose_tone(alert: Alert) -> str:
    """Return the name of the CSS class that colours an alert's status.

    A breach: its bound, "high" or "low"; RESOLVED: "calm"; WITHDRAWN: "plain", but if the breach goes on, its bound.
    """
    match alert.state:
        case AlertState.RESOLVED:
            return "calm"
        case AlertState.WITHDRAWN:
            return alert.bound.value if alert.reports_breach else "plain"
        case AlertState.FIRING | AlertState.STILL:
            return alert.bound.value


def format_comparison(alert: Alert) -> str:
    """Return the comparison with the threshold that follows a count: "more than your level of 20".

    By the alert's state it begins with "still" (STILL), "no longer" (RESOLVED) or "not" (WITHDRAWN; "still" if it
    withdraws the end of a breach). A withdrawn breach of several windows ends with ", 3 hours in a row": the count of
    its last window alone may well be beyond the level. What is said again after a withdrawal ends with ", again after a
    further correction".
    """
    again = ", again after a further correction" if alert.revision else ""
    comparison = f"{_get_bound_words(alert.bound).breach} your level of {format_number(alert.threshold)}"
    match alert.state:
        case AlertState.FIRING:
            return f"{comparison}{again}"
        case AlertState.STILL:
            return f"still {comparison}{again}"
        case AlertState.RESOLVED:
            return f"no longer {comparison}{again}"
        case AlertState.WITHDRAWN:
            if alert.reports_breach:
                return f"still {comparison}"
            run = f", {format_windows(alert.window, alert.for_windows)} in a row" if alert.for_windows > 1 else ""
            return f"not {comparison}{run}"


def format_statement(alert: Alert) -> str:
    """Return the whole alert in one to three sentences: airport, count and comparison with the threshold.

    RESOLVED begins with "KJFK is back to normal.", WITHDRAWN with the sentences that take the earlier alert back.
    """
    place, count = format_airport(alert.airport), format_count(alert.direction, alert.count)
    match alert.state:
        case AlertState.FIRING | AlertState.STILL:
            return f"{place} had {count}: {format_comparison(alert)}."
        case AlertState.RESOLVED:
            return f"{place} is back to normal. It had {count}: {format_comparison(alert)}."
        case AlertState.WITHDRAWN:
            return f"{format_withdrawal(alert)} {place} had {count}: {format_comparison(alert)}."


def format_withdrawal(alert: Alert) -> str:
    """Return the sentences that withdraw an earlier alert: what, why, and with the count before if it was another.

    A flight that no longer counts may have been moved to another window: the mail does not say that there was none.
    """
    what = "that this had ended" if alert.reports_breach else "an earlier alert"
    # More flights end a breach of too few, and go on with one of too many.
    came_late = (alert.bound is Bound.LOW) is not alert.reports_breach
    why = "flights turned up late" if came_late else "some flights were counted wrongly"
    counted = f" We had counted {format_number(alert.withdrawn_count or 0)}." if has_other_count(alert) else ""
    once_more = " once more" if alert.revision else ""
    return f"We take back {what}{once_more}, because {why}.{counted}"


def has_other_count(alert: Alert) -> bool:
    """Return True if the count before a correction is known and is another one; False also for other alerts.

    It is the same if another window of the alert's run was corrected.
    """
    return alert.withdrawn_count is not None and alert.withdrawn_count != alert.count


def format_headline(breached: int, ended: int) -> str:
    """Return the headline of a mail about several alerts: "3 of your levels are passed, 2 back to normal".

    `breached`, `ended`: how many thresholds are in breach, and how many are not any more. If one is 0, the headline
    names the other alone; without breaches it is "Back to normal".
    """
    if not ended:
        return "One of your levels is passed" if breached == 1 else f"{breached} of your levels are passed"
    if not breached:
        return "Back to normal"
    return f"{breached} of your levels {'is' if breached == 1 else 'are'} passed, {ended} back to normal"


def describe_run(run: BreachRun) -> str:
    """Return one run (a breach, or corrections) in a line: "above 20 for 3 hours: 24 to 30 departures".

    Adds "still" to a breach from an earlier mail, "at least" to a count that may still grow, and ", then back to normal
    with 18" to a breach that has ended. Other runs: "back to normal: …" (its end alone), "correction: …". What is said
    again after a withdrawal has "again after a further correction", its own withdrawal is "another correction: …".
    """
    first, last = run.alerts[0], run.alerts[-1]
    level = format_level(first.bound, first.threshold)
    if run.is_correction:
        is_single = len(run.alerts) == 1 and has_other_count(last)
        instead = f", not {format_number(last.withdrawn_count or 0)}" if is_single else ""
        in_a_row = f" for {format_windows(last.window, last.for_windows)} in a row" if last.for_windows > 1 else ""
        verdict = f"still {level}" if last.reports_breach else f"not {level}{in_a_row}"
        correction = "another correction" if any(each.revision for each in run.alerts) else "correction"
        return f"{correction}: {_format_count_range([each.count for each in run.alerts], last)}{instead}; {verdict}"
    again = (
        " again after a further correction" if any(each.revision for each in run.breach_alerts or run.alerts) else ""
    )
    if not run.breach_alerts:
        return f"back to normal{again}: {format_count(last.direction, last.count)}, not {level}"
    how_many = (run.end - run.begin) // first.window.length
    duration = f" for {format_windows(first.window, how_many)}" if how_many > 1 else ""
    still = "still " if first.state is AlertState.STILL else ""
    counts = run.list_breach_counts()
    open_end = first.bound.can_breach_while_open and counts == [first.threshold + 1] and run.resolving_alert is None
    breach = f"{still}{level}{duration}{again}: {'at least ' if open_end else ''}{_format_count_range(counts, first)}"
    if run.resolving_alert is None:
        return breach
    return f"{breach}, then back to normal with {format_number(last.count)}"


def _format_count_range(counts: Sequence[int], alert: Alert) -> str:
    """Return the least and the most of some counts with their noun: "24 to 30 departures"; if equal, "24 departures".

    `alert`: for its direction.
    """
    low, high = min(counts), max(counts)
    if low == high:
        return format_count(alert.direction, low)
    return f"{format_number(low)} to {format_number(high)} {name_flights(alert.direction)}"


def describe_background(alert: Alert, now: datetime) -> list[str]:
    """Return sentences about an alert's background, in this order, each only if it applies; the list may be empty.

    That the final count may be higher (FIRING or STILL of a high threshold, perhaps before its window's end); how long
    the breach has lasted (FIRING after several windows, STILL) or had lasted (RESOLVED, with its peak); the count of
    the window before (not after a sentence about a resolved breach); the range of the earlier counts, if two are known.
    """
    sentences = []
    if (
        alert.bound.can_breach_while_open
        and alert.state in (AlertState.FIRING, AlertState.STILL)
        and _may_be_early(alert)
    ):
        ended = now >= alert.window_start + alert.window.length
        sentences.append(EARLY if ended else "The window has not ended yet; its final count may be higher.")
    run = _count_breaches_before(alert)
    level = format_level(alert.bound, alert.threshold)
    if alert.state is AlertState.FIRING and alert.for_windows > 1:
        sentences.append(
            f"It has been so for {format_windows(alert.window, alert.for_windows)} in a row, "
            "which is when you wanted to know."
        )
    elif alert.state is AlertState.STILL and run:
        sentences.append(f"It has been {level} {_format_duration(alert, run + 1)} now.")
    elif alert.state is AlertState.RESOLVED and run:
        past = [each for each in alert.earlier[-run:] if each is not None]
        peak = alert.bound.worst_of(past)
        most = f", at its {_get_bound_words(alert.bound).worst} {format_number(peak)}" if run > 1 else ""
        sentences.append(f"Before, it was {level} {_format_duration(alert, run)}{most}.")
    known = [each for each in alert.earlier if each is not None]
    if known and alert.earlier[-1] is not None and not (alert.state is AlertState.RESOLVED and run):
        sentences.append(f"The {_WINDOW_NOUN[alert.window]} before had {format_number(alert.earlier[-1])}.")
    if len(known) > 1:
        low, high = min(known), max(known)
        counts = f"between {format_number(low)} and {format_number(high)}"
        counts = counts if low != high else f"always {format_number(low)}"
        known_ones = "" if len(known) == len(alert.earlier) else ", as far as they are known"
        earlier = format_windows(alert.window, len(alert.earlier))
        sentences.append(f"In the {earlier} before{known_ones}, it was {counts}.")
    return sentences


def format_times(alert: Alert, reader_times: ReaderTimes) -> list[tuple[str, str, str]]:
    """Return an alert's window as rows for a table: in UTC and, where it differs, in the reader's time zone.

    Each row: a label ("UTC", "Your time"), the window's time range, and the zone's name (empty for UTC).
    """
    start, end = alert.window_start, alert.window_start + alert.window.length
    rows = [("UTC", reader_times.format_range(start, end, UTC), "")]
    zone = reader_times.local_zone(start, end)
    if zone is not None:
        rows.append(("Your time", reader_times.format_range(start, end, zone), zone.key))
    return rows


def describe_chart(alert: Alert, counts: list[int | None]) -> str:
    """Return the counts of a chart, oldest first, and its threshold in words, for readers who do not see the image.

    `counts`: in the order of the windows; None becomes "unknown".
    """
    shown = ", ".join("unknown" if each is None else format_number(each) for each in counts)
    allowed = f"{_get_bound_words(alert.bound).within} {format_number(alert.threshold)}"
    flights = name_flights(alert.direction).capitalize()
    return (
        f"{flights} at {alert.airport} {_IN_A_WINDOW[alert.window]}, the latest last: {shown}. "
        f"Within your level: {allowed}."
    )


def _may_be_early(alert: Alert) -> bool:
    """Return True if a high alert may have been raised before its window ended; False: the window had ended.

    True for the count `threshold` + 1, the first that breaches: it may still grow. `alert`: a high one, unchecked.
    """
    return alert.count == alert.threshold + 1


def _count_breaches_before(alert: Alert) -> int:
    """Return how many windows in a row just before the alert's window were in breach.

    Counts back from the latest one, and stops at the first window that was not in breach or whose count is unknown.
    """
    run = 0
    for count in reversed(alert.earlier):
        if count is None or not alert.bound.is_breached(count, alert.threshold):
            break
        run += 1
    return run


def _format_duration(alert: Alert, run: int) -> str:
    """Return how long a breach of `run` windows has lasted: "for 3 hours", or "for at least 13 hours".

    "At least" if all earlier windows that the alert knows were in breach, so that the beginning is not known.
    """
    at_least = "at least " if _count_breaches_before(alert) == len(alert.earlier) else ""
    return f"for {at_least}{format_windows(alert.window, run)}"


def format_catch_up_headline(alerts: int) -> str:
    """Return the first sentence of a catch-up mail, without its full stop, for a number of alerts."""
    if alerts == 1:
        return "We could not mail you 1 alert in time"
    return f"We could not mail you {format_number(alerts)} alerts in time"


def explain_catch_up(alerts: int) -> str:
    """Return the sentences of a catch-up mail that say why the alerts are late and what follows from it."""
    those, they = ("this alert", "It is") if alerts == 1 else ("these alerts", "They are")
    return (
        f"Towerwatch, or the way of its mails to you, was out of order when {those} came up. {they} told here once, "
        "and by no other mail. Traffic may have changed since then: newer alerts come as usual."
    )


def format_omission(omitted: Sequence[ThresholdSummary]) -> str:
    """Return the sentence about the thresholds that a catch-up mail does not show; empty if it shows all."""
    if not omitted:
        return ""
    alerts = sum(len(each.alerts) for each in omitted)
    airports = sorted({each.latest.airport for each in omitted})
    names = ", ".join(airports[:20]) + (f" and {len(airports) - 20} more" if len(airports) > 20 else "")
    more = "alert is" if alerts == 1 else "alerts are"
    return f"{format_number(alerts)} more {more} not shown, to keep this mail short: at {names}"
