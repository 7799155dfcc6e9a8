"""The sentences and phrases of the mails of alerts: the same in the text and in the HTML."""

from collections.abc import Sequence
from datetime import UTC
from typing import Final, NamedTuple, assert_never

from domain.airports import find_airport
from domain.alerts import Alert, AlertState, Bound
from domain.interests import Direction
from domain.windows import Window
from notifier.mail.own_windows import find_own_zone, format_odd_length
from notifier.mail.summary import ThresholdSummary
from notifier.mail.times import ReaderTimes

WINDOW_NOUN: Final = {Window.ONE_HOUR: "hour", Window.SIX_HOURS: "six hours", Window.ONE_DAY: "day"}
WINDOWS_NOUN: Final = {Window.ONE_HOUR: "hours", Window.SIX_HOURS: "six-hour windows", Window.ONE_DAY: "days"}
IN_A_WINDOW: Final = {Window.ONE_HOUR: "in an hour", Window.SIX_HOURS: "in six hours", Window.ONE_DAY: "in a day"}


class BoundWords(NamedTuple):
    """The words for one bound in sentences about a threshold or a count."""

    beyond: str
    """The word for a count in breach, before the threshold: "above" 20."""
    breach: str
    """The words for flights in breach, before the threshold: "more than" 20."""
    within: str
    """The words for flights that are no breach, before the threshold: "at most" 20."""
    worst: str
    """The word for the worst of some counts, after "at its": at its "highest" 35."""
    unusual: str
    """The words for an airport whose count breaches a threshold in percent: "unusually busy"."""


def get_bound_words(bound: Bound) -> BoundWords:
    """Return the words for a bound."""
    match bound:
        case Bound.HIGH:
            return BoundWords("above", "more than", "at most", "highest", "unusually busy")
        case Bound.LOW:
            return BoundWords("below", "fewer than", "at least", "lowest", "unusually quiet")
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
    return f"{format_number(how_many)} {WINDOWS_NOUN[window]}"


def format_doubled(doubled: int) -> str:
    """Return the half of a doubled number of flights: "27", "26.5", "1,200"."""
    return format_number(doubled // 2) + (".5" if doubled % 2 else "")


def format_usual(alert: Alert) -> str:
    """Return ", usually 27", to follow a count; empty if the threshold is in flights, or the usual is not known."""
    if alert.percent is None or alert.doubled_usual is None:
        return ""
    return f", usually {format_doubled(alert.doubled_usual)}"


def format_level(bound: Bound, threshold: int, *, is_percent: bool = False) -> str:
    """Return a threshold as its bound's word and its number: "above 20" (high), "below 50 % of usual" (low)."""
    return f"{get_bound_words(bound).beyond} {format_number(threshold)}{' % of usual' if is_percent else ''}"


def describe_breach(alert: Alert) -> str:
    """Return what a breach of the alert's threshold is, in few words: "above 20"; in percent "unusually busy"."""
    if alert.percent is not None:
        return get_bound_words(alert.bound).unusual
    return format_level(alert.bound, alert.threshold)


def format_in_a_row(alert: Alert) -> str:
    """Return "3 hours in a row" if the threshold must be breached in several windows, else the empty text.

    In percent "3 times in a row": windows with a small usual may lie between.
    """
    if alert.for_windows <= 1:
        return ""
    if alert.percent is not None:
        return f"{format_number(alert.for_windows)} times in a row"
    return f"{format_windows(alert.window, alert.for_windows)} in a row"


def format_run(alert: Alert) -> str:
    """Return `format_in_a_row` to follow a breach: " for 3 hours in a row", " 3 times in a row", or the empty text."""
    in_a_row = format_in_a_row(alert)
    return in_a_row and f"{' for ' if alert.percent is None else ' '}{in_a_row}"


def describe_threshold(alert: Alert) -> str:
    """Return the threshold that an alert is about: "Departures in an hour: more than 20", or "…: below 50 % of usual".

    If it must be breached in several windows, adds ", 3 hours in a row".
    """
    flights = f"{name_flights(alert.direction).capitalize()} {IN_A_WINDOW[alert.window]}"
    if alert.percent is not None:
        level = format_level(alert.bound, alert.percent, is_percent=True)
    else:
        level = f"{get_bound_words(alert.bound).breach} {format_number(alert.threshold)}"
    run = format_in_a_row(alert)
    return f"{flights}: {level}{run and f', {run}'}"


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
    """Return the state that an alert reports in a few words: "Above your level", "Back to normal", "Correction".

    With a threshold in percent "Unusually busy", "Still unusually busy", "No longer unusually busy": another count than
    the usual one is not said to be normal.
    """
    if alert.percent is not None and alert.state is not AlertState.WITHDRAWN:
        still = {AlertState.STILL: "still ", AlertState.RESOLVED: "no longer "}.get(alert.state, "")
        return f"{still}{describe_breach(alert)}".capitalize()
    match alert.state:
        case AlertState.FIRING:
            return f"{get_bound_words(alert.bound).beyond.capitalize()} your level"
        case AlertState.STILL:
            return f"Still {get_bound_words(alert.bound).beyond} your level"
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

    In percent with what is usual: "usually 27: below your level of 50 % of usual".
    By the alert's state it begins with "still" (STILL), "no longer" (RESOLVED) or "not" (WITHDRAWN; "still" if it
    withdraws the end of a breach). A withdrawn breach of several windows ends with ", 3 hours in a row": the count of
    its last window alone may well be beyond the level. What is said again after a withdrawal ends with ", again after a
    further correction".
    """
    again = ", again after a further correction" if alert.revision else ""
    usual = ""
    if alert.percent is None:
        comparison = f"{get_bound_words(alert.bound).breach} your level of {format_number(alert.threshold)}"
    else:
        comparison = f"{get_bound_words(alert.bound).beyond} your level of {format_number(alert.percent)} % of usual"
        usual = f"{format_usual(alert).removeprefix(', ')}: " if format_usual(alert) else ""
    match alert.state:
        case AlertState.FIRING:
            return f"{usual}{comparison}{again}"
        case AlertState.STILL:
            return f"{usual}still {comparison}{again}"
        case AlertState.RESOLVED:
            return f"{usual}no longer {comparison}{again}"
        case AlertState.WITHDRAWN:
            if alert.reports_breach:
                return f"{usual}still {comparison}"
            run = format_in_a_row(alert)
            return f"{usual}not {comparison}{run and f', {run}'}"


def compare_count(count: str, alert: Alert) -> str:
    """Return a count, in words, with its comparison: "24 departures: more than your level of 20".

    In percent "4 departures, usually 27: below your level of 50 % of usual".
    """
    return f"{count}{', ' if format_usual(alert) else ': '}{format_comparison(alert)}"


def format_statement(alert: Alert) -> str:
    """Return the whole alert in one to three sentences: airport, count and comparison with the threshold.

    RESOLVED begins with "KJFK is back to normal." ("… is no longer unusually quiet." in percent), WITHDRAWN with the
    sentences that take the earlier alert back.
    """
    place, count = format_airport(alert.airport), format_count(alert.direction, alert.count)
    compared = compare_count(count, alert)
    match alert.state:
        case AlertState.FIRING | AlertState.STILL:
            return f"{place} had {compared}."
        case AlertState.RESOLVED:
            normal = "back to normal" if alert.percent is None else f"no longer {describe_breach(alert)}"
            return f"{place} is {normal}. It had {compared}."
        case AlertState.WITHDRAWN:
            return f"{format_withdrawal(alert)} {place} had {compared}."


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


def format_times(alert: Alert, reader_times: ReaderTimes) -> list[tuple[str, str, str]]:
    """Return an alert's window as rows for a table: in UTC and, where it differs, in the reader's time zone.

    A window by the airport's clock has a first row by that clock, with its length where clocks change. Each row: a
    label ("At KJFK", "UTC", "Your time"), the window's time range, and the zone's name (empty for UTC).
    """
    start, end = alert.window_start, alert.window_end
    rows = [("UTC", reader_times.format_range(start, end, UTC), "")]
    own_zone = find_own_zone(alert)
    if own_zone is not None:
        own = f"{reader_times.format_range(start, end, own_zone)}{format_odd_length(alert.window, start, end)}"
        rows.insert(0, (f"At {alert.airport}", own, own_zone.key))
    zone = reader_times.local_zone(start, end)
    if zone is not None:
        rows.append(("Your time", reader_times.format_range(start, end, zone), zone.key))
    return rows


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
