"""Subjects of the mails of alerts and notices; they say the most important facts of a mail."""

from collections.abc import Collection, Sequence
from datetime import UTC, datetime
from typing import Final

from domain.alerts import Alert, AlertState
from domain.local_times import format_hours, format_time
from domain.notices import RetiredNotice, UnheardNotice, format_day
from domain.windows import AlignedTo, Window
from notifier.mail.own_windows import format_own_range, format_shared_range
from notifier.mail.runs import describe_run
from notifier.mail.summary import ThresholdSummary, find_time_range
from notifier.mail.times import ReaderTimes
from notifier.mail.wording import (
    describe_breach,
    format_count,
    format_number,
    format_run,
    format_usual,
    has_other_count,
)

_MAX_LIST_LENGTH: Final = 70
"""Characters of the list of airports and their states in a subject; further entries are only counted."""


def format_subject(alert: Alert, times: ReaderTimes) -> str:
    """Return the subject of a mail about one alert: "KJFK: 24 departures, above 20, 00:00–01:00 UTC (19:00 local)".

    The words between airport and time depend on the alert's state: "still above 20", "back to normal", "correction".
    What is said again after a withdrawal has "again after a further correction", its withdrawal "another correction".
    Of a threshold in percent: "KJFK: unusually quiet, 4 departures, usually 27, 00:00–01:00 UTC (19:00 local)".
    """
    again = " again after a further correction" if alert.revision else ""
    count = format_count(alert.direction, alert.count)
    level, run, usual = describe_breach(alert), format_run(alert), format_usual(alert)
    is_percent = alert.percent is not None
    if alert.aligned_to is AlignedTo.AIRPORT:
        time_range = format_own_range(alert, alert.window_start, alert.window_end, times)
    else:
        time_range = _format_time_range(alert.window_start, alert.window_end, times)
    match alert.state:
        case AlertState.FIRING if is_percent:
            text = f"{level}{run}{again}, {count}{usual}"
        case AlertState.FIRING:
            text = f"{count}, {level}{run}{again}"
        case AlertState.STILL if is_percent:
            text = f"still {level}{again}, {count}{usual}"
        case AlertState.STILL:
            text = f"{count}, still {level}{again}"
        case AlertState.RESOLVED if is_percent:
            text = f"no longer {level}{again}, {count}{usual}"
        case AlertState.RESOLVED:
            text = f"back to normal{again}, {count}, not {level}"
        case AlertState.WITHDRAWN:
            before = f" (not {format_number(alert.withdrawn_count or 0)})" if has_other_count(alert) else ""
            verdict = f"still {level}" if alert.reports_breach else f"not {level}{run}"
            correction = "another correction" if alert.revision else "correction"
            text = f"{correction}, {count}{before}{usual}, {verdict}"
    return f"{alert.airport}: {text}, {time_range}"


def format_summary_subject(summaries: Sequence[ThresholdSummary], times: ReaderTimes) -> str:
    """Return the subject of a mail about several alerts: "KJFK above 20, KBOS back to normal (7 alerts, …)".

    It lists the latest state of each threshold, breached ones first, equal ones once; after 70 characters further
    states are only counted ("and 3 more"). If all alerts make one run (one breach, or its corrections), the subject
    describes that run instead, from its beginning to its end. The time is by the airport's clock if all windows are of
    one airport and begin by its clock, else in UTC.
    """
    alerts = [alert for summary in summaries for alert in summary.alerts]
    time_range = format_shared_range(alerts, times) or _format_time_range(*find_time_range(alerts), times)
    if len(summaries) == 1 and len(runs := summaries[0].split_into_runs()) == 1:
        return f"{alerts[0].airport}: {describe_run(runs[0])}, {time_range}"
    breached_first = sorted(summaries, key=lambda summary: not summary.latest.reports_breach)
    states = list(dict.fromkeys(_format_latest_state(summary.latest) for summary in breached_first))
    listed = states[:1]
    while len(listed) < len(states) and len(", ".join((*listed, states[len(listed)]))) <= _MAX_LIST_LENGTH:
        listed.append(states[len(listed)])
    more = f" and {len(states) - len(listed)} more" if len(listed) < len(states) else ""
    return f"{', '.join(listed)}{more} ({format_number(len(alerts))} alerts, {time_range})"


def format_catch_up_subject(alerts: Sequence[Alert], times: ReaderTimes) -> str:
    """Return the subject of a catch-up mail: "Mailed late: 14 alerts, Tue 3 Nov – Wed 11 Nov (KJFK, KBOS)".

    After 70 characters further airports are only counted ("and 3 more"). If all windows are by one airport's clock:
    "Mailed late: 2 alerts, Sun 10 Mar – Mon 11 Mar at KBOS".
    """
    airports = format_airports({each.airport for each in alerts})
    how_many = f"{format_number(len(alerts))} alert{'s' if len(alerts) > 1 else ''}"
    own_range = format_shared_range(alerts, times)
    time_range = own_range or f"{times.format_range(*find_time_range(alerts))} UTC ({airports})"
    return f"Mailed late: {how_many}, {time_range}"


def format_airports(icaos: Collection[str]) -> str:
    """Return the codes of some airports in order: "KBOS, KJFK"; after 70 characters further ones are only counted."""
    airports = sorted(icaos)
    listed = airports[:1]
    while len(listed) < len(airports) and len(", ".join((*listed, airports[len(listed)]))) <= _MAX_LIST_LENGTH:
        listed.append(airports[len(listed)])
    more = f" and {len(airports) - len(listed)} more" if len(listed) < len(airports) else ""
    return f"{', '.join(listed)}{more}"


def format_unheard_subject(notice: UnheardNotice) -> str:
    """Return the subject of a mail about an unheard airport: "KXYZ: no flight reported since 27 November 2026"."""
    return f"{notice.airport}: no flight reported since {format_day(notice.since)}"


def format_retired_subject(notice: RetiredNotice) -> str:
    """Return the subject of a mail about a retired code: "UAFM: the airport's code is UCFM now"."""
    if notice.successor:
        return f"{notice.airport}: the airport's code is {notice.successor} now"
    return f"{notice.airport}: no airport has this code any more"


def _format_latest_state(alert: Alert) -> str:
    """Return an airport and its state since an alert: "KJFK above 20", "KJFK back to normal", "KJFK not above 20".

    With a threshold in percent "KJFK unusually busy", "KJFK no longer unusually busy".
    What is said again after a withdrawal, or withdrawn again, has "again" added.
    """
    again = " again" if alert.revision else ""
    match alert.state:
        case AlertState.FIRING | AlertState.STILL:
            state = describe_breach(alert)
        case AlertState.RESOLVED:
            state = "back to normal" if alert.percent is None else f"no longer {describe_breach(alert)}"
        case AlertState.WITHDRAWN:
            still = "still" if alert.reports_breach else "not"
            state = f"{still} {describe_breach(alert)}"
    return f"{alert.airport} {state}{again}"


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
    begin = start.astimezone(zone)
    other_day = not obvious and begin.date() != start.astimezone(UTC).date()
    return f"{utc} UTC ({f'{begin:%a} ' if other_day else ''}{format_time(start, zone)} local)"
