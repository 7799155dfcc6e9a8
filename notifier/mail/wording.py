"""The sentences and phrases of the mails of alerts, in the reader's language: the same in the text and in the HTML."""

from collections.abc import Sequence
from datetime import UTC
from typing import Final

from chassis.texts import Texts
from domain.airports import find_airport
from domain.alerts import Alert, AlertState, Bound
from domain.interests import Direction
from domain.windows import Window
from notifier.mail.own_windows import find_own_zone, format_odd_length
from notifier.mail.summary import ThresholdSummary
from notifier.mail.times import ReaderTimes

_MAX_OMITTED_AIRPORTS: Final = 20
"""Airports that the sentence about omitted thresholds names."""


def get_measure(alert: Alert) -> str:
    """Return the last part of the keys of texts about an alert's threshold: "flights" or "percent"."""
    return "flights" if alert.percent is None else "percent"


def format_count(texts: Texts, direction: Direction, count: int) -> str:
    """Return a count of flights with its noun: "24 departures", "1 arrival"."""
    return texts.get(f"flights.{direction}", count=count)


def format_windows(texts: Texts, window: Window, how_many: int) -> str:
    """Return a number of windows of one length in words: "3 hours", "1 six-hour window", "2 days"."""
    return texts.get(f"windows.{window}", count=how_many)


def format_doubled(texts: Texts, doubled: int) -> str:
    """Return the half of a doubled number of flights: "27", "26.5", "1,200"."""
    return texts.format_number(doubled / 2 if doubled % 2 else doubled // 2)


def format_usual(texts: Texts, alert: Alert) -> str:
    """Return ", usually 27", to follow a count; empty if the threshold is in flights, or the usual is not known."""
    if alert.percent is None or alert.doubled_usual is None:
        return ""
    return texts.get("usual.after", usual=format_doubled(texts, alert.doubled_usual))


def format_level(texts: Texts, bound: Bound, threshold: int, *, is_percent: bool = False) -> str:
    """Return a threshold as its bound's word and its number: "above 20" (high), "below 50 % of usual" (low)."""
    return texts.get(f"level.{bound}.{'percent' if is_percent else 'flights'}", count=threshold)


def describe_breach(texts: Texts, alert: Alert) -> str:
    """Return what a breach of the alert's threshold is, in few words: "above 20"; in percent "unusually busy"."""
    if alert.percent is not None:
        return texts.get(f"breach.{alert.bound}.percent")
    return format_level(texts, alert.bound, alert.threshold)


def format_in_a_row(texts: Texts, alert: Alert) -> str:
    """Return "3 hours in a row" if the threshold must be breached in several windows, else the empty text.

    In percent "3 times in a row": windows with a small usual may lie between.
    """
    if alert.for_windows <= 1:
        return ""
    if alert.percent is not None:
        return texts.get("in_a_row.times", count=alert.for_windows)
    return texts.get("in_a_row.windows", windows=format_windows(texts, alert.window, alert.for_windows))


def format_run(texts: Texts, alert: Alert) -> str:
    """Return `format_in_a_row` to follow a breach: " for 3 hours in a row", " 3 times in a row", or the empty text."""
    in_a_row = format_in_a_row(texts, alert)
    key = "run.windows" if alert.percent is None else "run.times"
    return texts.get(key, in_a_row=in_a_row) if in_a_row else ""


def name_traffic(texts: Texts, alert: Alert) -> str:
    """Return the flights that an alert's threshold counts, and in what time: "Departures in an hour"."""
    return texts.get(f"traffic.{alert.direction}.{alert.window}")


def describe_level(texts: Texts, alert: Alert) -> str:
    """Return when an alert's threshold is breached: "more than 20", "below 50 % of usual, 3 times in a row"."""
    level, in_a_row = _format_own_level(texts, alert), format_in_a_row(texts, alert)
    return texts.get("threshold.level.run", level=level, in_a_row=in_a_row) if in_a_row else level


def describe_threshold(texts: Texts, alert: Alert) -> str:
    """Return the threshold that an alert is about: "Departures in an hour: more than 20", or "…: below 50 % of usual".

    If it must be breached in several windows, adds ", 3 hours in a row".
    """
    return texts.get("threshold.line", traffic=name_traffic(texts, alert), level=describe_level(texts, alert))


def _format_own_level(texts: Texts, alert: Alert) -> str:
    """Return the level of an alert's threshold: "more than 20", or "below 50 % of usual"."""
    if alert.percent is not None:
        return format_level(texts, alert.bound, alert.percent, is_percent=True)
    return texts.get(f"threshold.{alert.bound}.flights", count=alert.threshold)


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


def format_status(texts: Texts, alert: Alert) -> str:
    """Return the state that an alert reports in a few words: "Above your level", "Back to normal", "Correction".

    With a threshold in percent "Unusually busy", "Still unusually busy", "No longer unusually busy": another count than
    the usual one is not said to be normal.
    """
    match alert.state:
        case AlertState.WITHDRAWN:
            return texts.get("status.withdrawn")
        case AlertState.FIRING:
            return texts.get(f"status.firing.{alert.bound}.{get_measure(alert)}")
        case AlertState.STILL:
            return texts.get(f"status.still.{alert.bound}.{get_measure(alert)}")
        case AlertState.RESOLVED:
            return texts.get(f"status.resolved.{alert.bound}.{get_measure(alert)}")


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


def format_comparison(texts: Texts, alert: Alert) -> str:
    """Return the comparison with the threshold that follows a count: "more than your level of 20".

    In percent with what is usual: "usually 27: below your level of 50 % of usual".
    By the alert's state it begins with "still" (STILL), "no longer" (RESOLVED) or "not" (WITHDRAWN; "still" if it
    withdraws the end of a breach). A withdrawn breach of several windows ends with ", 3 hours in a row": the count of
    its last window alone may well be beyond the level. What is said again after a withdrawal ends with ", again after a
    further correction".
    """
    number = alert.threshold if alert.percent is None else alert.percent
    comparison = texts.get(f"comparison.{alert.bound}.{get_measure(alert)}", count=number)
    match alert.state:
        case AlertState.FIRING:
            pass
        case AlertState.STILL:
            comparison = texts.get("still", what=comparison)
        case AlertState.RESOLVED:
            comparison = texts.get("no_longer", what=comparison)
        case AlertState.WITHDRAWN if alert.reports_breach:
            comparison = texts.get("still", what=comparison)
        case AlertState.WITHDRAWN:
            comparison = texts.get("not", what=comparison)
            in_a_row = format_in_a_row(texts, alert)
            if in_a_row:
                comparison = texts.get("threshold.level.run", level=comparison, in_a_row=in_a_row)
    if alert.revision and alert.state is not AlertState.WITHDRAWN:
        comparison = texts.get("comparison.again", comparison=comparison)
    if alert.percent is None or alert.doubled_usual is None:
        return comparison
    return texts.get("usual.before", usual=format_doubled(texts, alert.doubled_usual), comparison=comparison)


def compare_count(texts: Texts, count: str, alert: Alert) -> str:
    """Return a count, in words, with its comparison: "24 departures: more than your level of 20".

    In percent "4 departures, usually 27: below your level of 50 % of usual".
    """
    has_usual = alert.percent is not None and alert.doubled_usual is not None
    return f"{count}{', ' if has_usual else ': '}{format_comparison(texts, alert)}"


def format_statement(texts: Texts, alert: Alert) -> str:
    """Return the whole alert in one to three sentences: airport, count and comparison with the threshold.

    RESOLVED begins with "KJFK is back to normal." ("… is no longer unusually quiet." in percent), WITHDRAWN with the
    sentences that take the earlier alert back.
    """
    place, count = format_airport(alert.airport), format_count(texts, alert.direction, alert.count)
    compared = compare_count(texts, count, alert)
    match alert.state:
        case AlertState.FIRING | AlertState.STILL:
            return texts.get("statement.had", place=place, compared=compared)
        case AlertState.RESOLVED:
            key = f"statement.resolved.{get_measure(alert)}"
            return texts.get(key, place=place, compared=compared, level=describe_breach(texts, alert))
        case AlertState.WITHDRAWN:
            had = texts.get("statement.had", place=place, compared=compared)
            return f"{format_withdrawal(texts, alert)} {had}"


def format_withdrawal(texts: Texts, alert: Alert) -> str:
    """Return the sentences that withdraw an earlier alert: what, why, and with the count before if it was another.

    A flight that no longer counts may have been moved to another window: the mail does not say that there was none.
    """
    what = texts.get("withdrawal.what.end" if alert.reports_breach else "withdrawal.what.breach")
    # More flights end a breach of too few, and go on with one of too many.
    came_late = (alert.bound is Bound.LOW) is not alert.reports_breach
    why = texts.get("withdrawal.why.late" if came_late else "withdrawal.why.wrong")
    taken_back = texts.get("withdrawal.once_more" if alert.revision else "withdrawal", what=what, why=why)
    if not has_other_count(alert):
        return taken_back
    return f"{taken_back} {texts.get('withdrawal.counted', count=alert.withdrawn_count or 0)}"


def has_other_count(alert: Alert) -> bool:
    """Return True if the count before a correction is known and is another one; False also for other alerts.

    It is the same if another window of the alert's run was corrected.
    """
    return alert.withdrawn_count is not None and alert.withdrawn_count != alert.count


def format_headline(texts: Texts, breached: int, ended: int) -> str:
    """Return the headline of a mail about several alerts: "3 of your levels are passed, 2 back to normal".

    `breached`, `ended`: how many thresholds are in breach, and how many are not any more. If one is 0, the headline
    names the other alone; without breaches it is "Back to normal".
    """
    if not ended:
        return texts.get("headline.breached", count=breached)
    if not breached:
        return texts.get("headline.ended")
    return texts.get("headline.both", count=breached, ended=ended)


def format_times(alert: Alert, reader_times: ReaderTimes) -> list[tuple[str, str, str]]:
    """Return an alert's window as rows for a table: in UTC and, where it differs, in the reader's time zone.

    A window by the airport's clock, and no other, has a row before that in UTC: by that clock, with its length where
    clocks change. Each row: a
    label ("At KJFK", "UTC", "Your time"), the window's time range, and the zone's name (empty for UTC).
    """
    start, end, texts = alert.window_start, alert.window_end, reader_times.texts
    rows = [("UTC", reader_times.format_range(start, end, UTC), "")]
    own_zone = find_own_zone(alert)
    if own_zone is not None:
        odd_length = format_odd_length(texts, alert.window, start, end)
        own = f"{reader_times.format_range(start, end, own_zone)}{odd_length}"
        rows.insert(0, (texts.get("times.airport", airport=alert.airport), own, own_zone.key))
    zone = reader_times.local_zone(start, end)
    if zone is not None:
        rows.append((texts.get("times.yours"), reader_times.format_range(start, end, zone), zone.key))
    return rows


def format_omission(texts: Texts, omitted: Sequence[ThresholdSummary]) -> str:
    """Return the sentence about the thresholds that a catch-up mail does not show; empty if it shows all."""
    if not omitted:
        return ""
    airports = sorted({each.latest.airport for each in omitted})
    names = ", ".join(airports[:_MAX_OMITTED_AIRPORTS])
    if len(airports) > _MAX_OMITTED_AIRPORTS:
        names = texts.get("and_more", listed=names, count=len(airports) - _MAX_OMITTED_AIRPORTS)
    return texts.get("catch_up.omitted", count=sum(len(each.alerts) for each in omitted), airports=names)
