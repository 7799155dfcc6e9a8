"""Composition of the mail of corrections: what the night's record changes of that which was seen live."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from email.headerregistry import Address
from email.message import EmailMessage
from typing import Final

from chassis.texts import Texts
from domain.alerts import Alert, AlertState
from notifier.mail import headers, wording
from notifier.mail.alert_header import (
    ALERT_HEADER,
    CAUSE_HEADER,
    format_alert_header,
    format_cause_header,
    select_header_fields,
)
from notifier.mail.compose import build_common_values, find_zone_name
from notifier.mail.contact import Contact
from notifier.mail.interest_footer import build_footers, find_unsubscription_url
from notifier.mail.own_windows import format_own_range
from notifier.mail.parts import set_body
from notifier.mail.sections import AirportSection, RunLine, describe_section, group_by_airport, render_section
from notifier.mail.subject import format_airports
from notifier.mail.summary import ThresholdSummary, find_time_range, group_by_threshold, select_latest
from notifier.mail.texts import find_mail_texts
from notifier.mail.times import ReaderTimes

_MAX_THRESHOLDS: Final = 30
"""Thresholds that a mail of corrections shows."""

_MAX_LINES: Final = 24
"""Corrections of one threshold that are shown, the latest: a day of hours."""


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
    texts = find_mail_texts(contact.language)
    times = ReaderTimes.of(contact.time_zone, now, texts)
    mail_id = headers.compute_mail_id(list({each.alert_id: each for each in alerts}.values()))
    mail = headers.create_mail(contact, sender, now, headers.format_message_id(mail_id, sender))
    airports = {each.airport for each in ordered}
    headline, how_many = _format_headline(ordered, times), texts.get("corrections.count", count=len(ordered))
    mail["Subject"] = texts.get(
        "corrections.subject", headline=headline, corrections=how_many, airports=format_airports(texts, airports)
    )
    headers.add_list_headers(mail, texts, airports, find_unsubscription_url(ordered, contact), sender)
    for alert in ordered:
        mail[ALERT_HEADER] = format_alert_header(select_header_fields(alert))
    mail[CAUSE_HEADER] = format_cause_header(cause_published_at)
    shown = select_latest(summaries, _MAX_THRESHOLDS)
    values = build_common_values(contact) | {
        "pixels": (0, 0),  # no charts
        "zone": find_zone_name(times, ordered),
        "airports": _build_sections(shown, times),
        "headline": headline,
        "summary": texts.get(
            "corrections.summary", corrections=how_many, range=times.format_range(*find_time_range(ordered))
        ),
        "explanation": texts.get("corrections.explanation"),
        "omission": wording.format_omission(texts, [each for each in summaries if each not in shown]),
        "interests": build_footers(texts, shown, contact),
    }
    set_body(mail, "alerts", texts, values)
    return mail


def _format_headline(alerts: Sequence[Alert], times: ReaderTimes) -> str:
    """Return "Yesterday, as the record has it", with dates in place of "Yesterday" unless all windows began then.

    Yesterday is that of the mail in UTC, as the record has days.
    """
    yesterday = times.now.astimezone(UTC).date() - timedelta(days=1)
    if all(each.window_start.astimezone(UTC).date() == yesterday for each in alerts):
        return times.texts.get("corrections.yesterday")
    return times.texts.get("corrections.days", range=times.format_range(*_find_days(alerts)))


def _find_days(alerts: Sequence[Alert]) -> tuple[datetime, datetime]:
    """Return the begin of the first day (UTC) and the end of the last one in which windows of the alerts lie."""
    begin, end = find_time_range(alerts)
    first = begin.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    last = (end - timedelta.resolution).astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    return first, last + timedelta(days=1)


def _build_sections(summaries: Sequence[ThresholdSummary], times: ReaderTimes) -> list[AirportSection]:
    """Return the sections by airport, and in them by threshold, in the order of `summaries`, a line a correction."""
    sections = []
    for summary in summaries:
        shown = summary.alerts[-_MAX_LINES:]
        lines = tuple(_build_line(each, times) for each in shown)
        words = describe_section(summary.latest, times.texts, lines, len(summary.alerts) - len(shown))
        sections.append(render_section(times.texts, words))
    return group_by_airport(summaries, sections)


def _build_line(alert: Alert, times: ReaderTimes) -> RunLine:
    """Return the line about one correction: its window in UTC and in the reader's time zone, and its sentence."""
    begin, end = alert.window_start, alert.window_end
    zone = times.local_zone(begin, end)
    return RunLine(
        utc_range=format_own_range(alert, begin, end, times),
        local_range=times.format_local_range(begin, end, zone) if zone is not None else "",
        description=describe_correction(times.texts, alert),
    )


def describe_correction(texts: Texts, alert: Alert) -> str:
    """Return one correction with both counts: "24 departures, not 19: more than your level of 20."

    In percent "4 departures, not 19, usually 27: below your level of 50 % of usual."

    Without the second count if it was the same: another window of the run was corrected. A withdrawal ends with what is
    taken back.
    """
    count = wording.format_count(texts, alert.direction, alert.count)
    before = alert.count_before if alert.count_before is not None else alert.withdrawn_count
    if before is not None and before != alert.count:
        count = texts.get("corrections.instead", count=count, before=before)
    sentence = f"{wording.compare_count(texts, count, alert)}."
    if alert.state is not AlertState.WITHDRAWN:
        return sentence
    key = "corrections.takes_back.end" if alert.reports_breach else "corrections.takes_back.breach"
    return texts.get(key, sentence=sentence)
