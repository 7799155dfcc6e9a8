"""Composition of the mail of corrections: what the night's record changes of that which was seen live."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from email.headerregistry import Address
from email.message import EmailMessage
from typing import Final

from domain.alerts import Alert, AlertState
from notifier.mail import headers, wording
from notifier.mail.alert_header import (
    ALERT_HEADER,
    CAUSE_HEADER,
    format_alert_header,
    format_cause_header,
    select_header_fields,
)
from notifier.mail.compose import (
    AirportSection,
    RunLine,
    ThresholdSection,
    build_common_values,
    find_zone_name,
)
from notifier.mail.contact import Contact
from notifier.mail.interest_footer import build_footers, find_unsubscription_url
from notifier.mail.own_windows import format_own_range
from notifier.mail.parts import set_body
from notifier.mail.subject import format_airports
from notifier.mail.summary import ThresholdSummary, find_time_range, group_by_threshold, select_latest
from notifier.mail.times import ReaderTimes

_MAX_THRESHOLDS: Final = 30
"""Thresholds that a mail of corrections shows."""

_MAX_LINES: Final = 24
"""Corrections of one threshold that are shown, the latest: a day of hours."""

_EXPLANATION: Final = (
    "The night's record of all flights corrects what was seen live. These corrections are about your levels; they are "
    "told here once. If you want no such mails, set `corrections` to false in your Towerwatch account."
)


def compose_corrections_mail(
    listed: Sequence[Alert],
    alerts: Sequence[Alert],
    contact: Contact,
    sender: Address,
    now: datetime,
    cause_published_at: datetime,
) -> EmailMessage:
    """Return the one mail that lists what the record corrects, each correction in a sentence with both counts.

    It has at most 30 thresholds, those that are in breach and the latest first, and the latest 24 corrections of each;
    the others are counted. `listed`: what the mail tells, at least one alert. `alerts`: all corrections that it stands
    for, on which its Message-ID depends: also those that cancel each other. `cause_published_at`: when the event was
    published that caused the first of them. Raises PermanentlyRefused for an invalid address.
    """
    summaries = group_by_threshold({each.alert_id: each for each in listed}.values())
    ordered = [alert for summary in summaries for alert in summary.alerts]
    times = ReaderTimes.of(contact.time_zone, now)
    mail_id = headers.compute_mail_id(list({each.alert_id: each for each in alerts}.values()))
    mail = headers.create_mail(contact, sender, now, headers.format_message_id(mail_id, sender))
    airports = {each.airport for each in ordered}
    headline, how_many = _format_headline(ordered, times), _count_corrections(len(ordered))
    mail["Subject"] = f"{headline}: {how_many} ({format_airports(airports)})"
    headers.add_list_headers(mail, airports, find_unsubscription_url(ordered, contact), sender)
    for alert in ordered:
        mail[ALERT_HEADER] = format_alert_header(select_header_fields(alert))
    mail[CAUSE_HEADER] = format_cause_header(cause_published_at)
    shown = select_latest(summaries, _MAX_THRESHOLDS)
    values = build_common_values(contact) | {
        "pixels": (0, 0),  # no charts
        "zone": find_zone_name(times, ordered),
        "airports": _build_sections(shown, times),
        "headline": headline,
        "summary": f"{how_many}, {times.format_range(*find_time_range(ordered))} UTC",
        "explanation": _EXPLANATION,
        "omission": wording.format_omission([each for each in summaries if each not in shown]),
        "interests": build_footers(shown, contact),
    }
    set_body(mail, "alerts", values, ())
    return mail


def _format_headline(alerts: Sequence[Alert], times: ReaderTimes) -> str:
    """Return "Yesterday, as the record has it", with dates in place of "Yesterday" unless all windows began then.

    Yesterday is that of the mail in UTC, as the record has days.
    """
    yesterday = times.now.astimezone(UTC).date() - timedelta(days=1)
    if all(each.window_start.astimezone(UTC).date() == yesterday for each in alerts):
        return "Yesterday, as the record has it"
    return f"{times.format_range(*_find_days(alerts))}, as the record has it"


def _find_days(alerts: Sequence[Alert]) -> tuple[datetime, datetime]:
    """Return the begin of the first day (UTC) and the end of the last one in which windows of the alerts lie."""
    begin, end = find_time_range(alerts)
    first = begin.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    last = (end - timedelta.resolution).astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    return first, last + timedelta(days=1)


def _count_corrections(how_many: int) -> str:
    """Return "1 correction", "3 corrections"."""
    return f"{wording.format_number(how_many)} correction{'' if how_many == 1 else 's'}"


def _build_sections(summaries: Sequence[ThresholdSummary], times: ReaderTimes) -> list[AirportSection]:
    """Return the sections by airport, and in them by threshold, in the order of `summaries`, a line a correction."""
    by_airport: dict[str, list[ThresholdSection]] = {}
    for summary in summaries:
        shown = summary.alerts[-_MAX_LINES:]
        section = ThresholdSection(
            latest=summary.latest,
            threshold=wording.describe_threshold(summary.latest),
            status=wording.format_status(summary.latest),
            tone=wording.choose_tone(summary.latest),
            lines=tuple(_build_line(each, times) for each in shown),
            omitted_runs=len(summary.alerts) - len(shown),
            chart=None,
        )
        by_airport.setdefault(summary.latest.airport, []).append(section)
    return [
        AirportSection(icao, *wording.find_airport_names(icao), tuple(sections))
        for icao, sections in by_airport.items()
    ]


def _build_line(alert: Alert, times: ReaderTimes) -> RunLine:
    """Return the line about one correction: its window in UTC and in the reader's time zone, and its sentence."""
    begin, end = alert.window_start, alert.window_end
    zone = times.local_zone(begin, end)
    return RunLine(
        utc_range=format_own_range(alert, begin, end, times),
        local_range=times.format_local_range(begin, end, zone) if zone is not None else "",
        description=describe_correction(alert),
    )


def describe_correction(alert: Alert) -> str:
    """Return one correction with both counts: "24 departures, not 19: more than your level of 20."

    In percent "4 departures, not 19, usually 27: below your level of 50 % of usual."

    Without the second count if it was the same: another window of the run was corrected. A withdrawal ends with what is
    taken back.
    """
    count = wording.format_count(alert.direction, alert.count)
    before = alert.count_before if alert.count_before is not None else alert.withdrawn_count
    if before is not None and before != alert.count:
        count += f", not {wording.format_number(before)}"
    sentence = f"{wording.compare_count(count, alert)}."
    if alert.state is not AlertState.WITHDRAWN:
        return sentence
    return f"{sentence} We take back {'that this had ended' if alert.reports_breach else 'the alert'}."
