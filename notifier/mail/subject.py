"""Subjects of the mails of alerts and notices; they say the most important facts of a mail."""

from collections.abc import Collection, Iterable, Sequence
from datetime import UTC, datetime
from typing import Final

from chassis.texts import Texts
from domain.alerts import Alert, AlertState
from domain.local_times import format_hours, format_time
from domain.notices import RetiredNotice, UnheardNotice
from domain.windows import AlignedTo, Window
from notifier.mail.own_windows import format_own_range, format_shared_range
from notifier.mail.runs import describe_run
from notifier.mail.summary import ThresholdSummary, find_time_range
from notifier.mail.times import ReaderTimes
from notifier.mail.wording import describe_breach, format_count, format_run, format_usual, get_measure, has_other_count

_MAX_LIST_LENGTH: Final = 70
"""Characters of the list of airports and their states in a subject; further entries are only counted."""


def format_subject(alert: Alert, times: ReaderTimes) -> str:
    """Return the subject of a mail about one alert: "KJFK: 24 departures, above 20, 00:00–01:00 UTC (19:00 local)".

    The words between airport and time depend on the alert's state: "still above 20", "back to normal", "correction".
    What is said again after a withdrawal has "again after a further correction", its withdrawal "another correction".
    Of a threshold in percent: "KJFK: unusually quiet, 4 departures, usually 27, 00:00–01:00 UTC (19:00 local)".
    """
    texts, is_again = times.texts, bool(alert.revision)
    count, usual = format_count(texts, alert.direction, alert.count), format_usual(texts, alert)
    level, run = describe_breach(texts, alert), format_run(texts, alert)
    if alert.aligned_to is AlignedTo.AIRPORT:
        time_range = format_own_range(alert, alert.window_start, alert.window_end, times)
    else:
        time_range = _format_time_range(alert.window_start, alert.window_end, times)
    match alert.state:
        case AlertState.FIRING:
            key = f"subject.firing.{get_measure(alert)}"
        case AlertState.STILL:
            key = f"subject.still.{get_measure(alert)}"
        case AlertState.RESOLVED:
            key = f"subject.resolved.{get_measure(alert)}"
        case AlertState.WITHDRAWN:
            key = "subject.withdrawn"
            if has_other_count(alert):
                count = texts.get("subject.withdrawn.before", count=count, before=alert.withdrawn_count or 0)
    text = texts.get(
        key,
        count=count,
        usual=usual,
        level=level,
        run=run,
        again=texts.get("run.again") if is_again else "",
        correction=texts.get("correction.another" if is_again else "correction"),
        verdict=texts.get("still", what=level) if alert.reports_breach else texts.get("not", what=f"{level}{run}"),
    )
    return f"{alert.airport}: {text}, {time_range}"


def format_summary_subject(summaries: Sequence[ThresholdSummary], times: ReaderTimes) -> str:
    """Return the subject of a mail about several alerts: "KJFK above 20, KBOS back to normal (7 alerts, …)".

    It lists the latest state of each threshold, breached ones first, equal ones once; after 70 characters further
    states are only counted ("and 3 more"). If all alerts make one run (one breach, or its corrections), the subject
    describes that run instead, from its beginning to its end. The time is by the airport's clock if all windows are of
    one airport and begin by its clock, else in UTC.
    """
    alerts, texts = [alert for summary in summaries for alert in summary.alerts], times.texts
    time_range = format_shared_range(alerts, times) or _format_time_range(*find_time_range(alerts), times)
    if len(summaries) == 1 and len(runs := summaries[0].split_into_runs()) == 1:
        return f"{alerts[0].airport}: {describe_run(texts, runs[0])}, {time_range}"
    breached_first = sorted(summaries, key=lambda summary: not summary.latest.reports_breach)
    states = _list_first(texts, [_format_latest_state(texts, summary.latest) for summary in breached_first])
    return texts.get("subject.alerts", states=states, alerts=texts.get("alerts", count=len(alerts)), range=time_range)


def format_catch_up_subject(alerts: Sequence[Alert], times: ReaderTimes) -> str:
    """Return the subject of a catch-up mail: "Mailed late: 14 alerts, Tue 3 Nov – Wed 11 Nov (KJFK, KBOS)".

    After 70 characters further airports are only counted ("and 3 more"). If all windows are by one airport's clock:
    "Mailed late: 2 alerts, Sun 10 Mar – Mon 11 Mar at KBOS".
    """
    texts = times.texts
    how_many = texts.get("alerts", count=len(alerts))
    own_range, airports = format_shared_range(alerts, times), format_airports(texts, {each.airport for each in alerts})
    time_range = own_range or f"{times.format_range(*find_time_range(alerts))} UTC ({airports})"
    return texts.get("subject.catch_up", alerts=how_many, range=time_range)


def format_airports(texts: Texts, icaos: Collection[str]) -> str:
    """Return the codes of some airports in order: "KBOS, KJFK"; after 70 characters further ones are only counted."""
    return _list_first(texts, sorted(icaos))


def format_unheard_subject(texts: Texts, notice: UnheardNotice) -> str:
    """Return the subject of a mail about an unheard airport: "KXYZ: no flight reported since 27 November 2026"."""
    day = texts.format_date(notice.since.astimezone(UTC), "date.full")
    return texts.get("subject.unheard", airport=notice.airport, day=day)


def format_retired_subject(texts: Texts, notice: RetiredNotice) -> str:
    """Return the subject of a mail about a retired code: "UAFM: the airport's code is UCFM now"."""
    key = "subject.retired.successor" if notice.successor else "subject.retired"
    return texts.get(key, airport=notice.airport, successor=notice.successor)


def _list_first(texts: Texts, names: Iterable[str]) -> str:
    """Return some names, at least one, each once: "KBOS, KJFK"; after 70 characters further ones are only counted."""
    each_once = list(dict.fromkeys(names))
    listed = each_once[:1]
    while len(listed) < len(each_once) and len(", ".join((*listed, each_once[len(listed)]))) <= _MAX_LIST_LENGTH:
        listed.append(each_once[len(listed)])
    first, others = ", ".join(listed), len(each_once) - len(listed)
    return texts.get("and_more", listed=first, count=others) if others else first


def _format_latest_state(texts: Texts, alert: Alert) -> str:
    """Return an airport and its state since an alert: "KJFK above 20", "KJFK back to normal", "KJFK not above 20".

    With a threshold in percent "KJFK unusually busy", "KJFK no longer unusually busy".
    What is said again after a withdrawal, or withdrawn again, has "again" added.
    """
    level = describe_breach(texts, alert)
    match alert.state:
        case AlertState.FIRING | AlertState.STILL:
            state = level
        case AlertState.RESOLVED if alert.percent is None:
            state = texts.get("subject.state.resolved")
        case AlertState.RESOLVED:
            state = texts.get("no_longer", what=level)
        case AlertState.WITHDRAWN:
            state = texts.get("still" if alert.reports_breach else "not", what=level)
    key = "subject.state.again" if alert.revision else "subject.state"
    return texts.get(key, airport=alert.airport, state=state)


def _format_time_range(start: datetime, end: datetime, times: ReaderTimes) -> str:
    """Return [start, end) in UTC, and its start in the reader's time zone: "00:00–01:00 UTC (19:00 local)".

    The date is shown unless the mail's own date makes it obvious (`ReaderTimes.is_date_obvious`); then the local start
    has its weekday if it is on another day, and its offset where clocks show that time twice ("02:00 CEST local").
    Whole days, and a zone equal to UTC, have no local time.
    """
    obvious = times.is_date_obvious(start, end)
    utc = format_hours(start, end) if obvious else times.format_range(start, end)
    zone = times.local_zone(start)
    if zone is None or (end - start) % Window.ONE_DAY.length == Window.ONE_DAY.length * 0:
        return f"{utc} UTC"
    begin, local, texts = start.astimezone(zone), format_time(start, zone), times.texts
    if not obvious and begin.date() != start.astimezone(UTC).date():
        local = f"{texts.format_date(begin, 'date.weekday')} {local}"
    return f"{utc} UTC ({texts.get('times.local', range=local)})"
