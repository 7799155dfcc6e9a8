"""Composition of the mails that users get: alerts, one or many, notices, and mails about accounts."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from email.headerregistry import Address
from email.message import EmailMessage
from typing import Final
from uuid import uuid5

from domain.alerts import Alert, AlertState
from domain.notices import RetiredNotice, UnheardNotice
from notifier.mail import headers, notice_wording, wording
from notifier.mail.alert_header import (
    ALERT_HEADER,
    CAUSE_HEADER,
    NOTICE_HEADER,
    format_alert_header,
    format_cause_header,
    format_notice_header,
    select_header_fields,
)
from notifier.mail.background import describe_background
from notifier.mail.chart import HEIGHT, WIDTH
from notifier.mail.contact import Contact, require_link, sanitize_link, sanitize_name
from notifier.mail.freshness import describe_freshness, describe_sources
from notifier.mail.interest_footer import build_footers, find_unsubscription_url
from notifier.mail.parts import InlineImage, set_body
from notifier.mail.sections import AirportSection, build_threshold_section, group_by_airport
from notifier.mail.serialization import WireMessage
from notifier.mail.subject import (
    format_catch_up_subject,
    format_retired_subject,
    format_subject,
    format_summary_subject,
    format_unheard_subject,
)
from notifier.mail.summary import ThresholdSummary, find_time_range, group_by_threshold, select_latest
from notifier.mail.texts import find_mail_texts
from notifier.mail.threshold_charts import has_ended, render_charts
from notifier.mail.times import ReaderTimes

_RECEIVERS_URL: Final = "https://opensky-network.org/about/faq"
"""OpenSky's FAQ; "I want coverage in my area! What can I do?" says who can host a receiver."""

_MAX_CATCH_UP_THRESHOLDS: Final = 30
"""Thresholds that a catch-up mail shows: a mail of a long absence must still be read."""


def compose_alert_mail(
    alert: Alert, contact: Contact, sender: Address, now: datetime, cause_published_at: datetime
) -> EmailMessage:
    """Return the mail that reports one alert. Its Message-ID depends on the alert's id and the sender's domain alone.

    `cause_published_at`: when the event that caused the alert was published. Raises PermanentlyRefused for an invalid
    address.
    """
    return compose_alerts_mail((alert,), contact, sender, now, cause_published_at)


def compose_alerts_mail(
    alerts: Sequence[Alert], contact: Contact, sender: Address, now: datetime, cause_published_at: datetime
) -> EmailMessage:
    """Return one mail, with subject, headers, text, HTML page and charts, that reports one or several alerts of a user.

    Several alerts are grouped by airport and threshold, with a chart for up to six thresholds; if only one remains
    without duplicates, the mail has the subject and templates for a single alert. Each alert has a header
    X-Towerwatch-Alert.

    `alerts`: at least one, all of this user, in any order; duplicates are reported once. `cause_published_at`: when the
    event was published that caused the alert that has waited longest. The Message-ID depends on the set of alerts and
    the sender's domain alone. Raises PermanentlyRefused for an invalid address, and ValueError without alerts.
    """
    summaries = group_by_threshold({each.alert_id: each for each in alerts}.values())
    if not summaries:
        raise ValueError("a mail tells one alert at least")
    ordered = [alert for summary in summaries for alert in summary.alerts]
    texts = find_mail_texts(contact.language)
    times = ReaderTimes.of(contact.time_zone, now, texts)
    mail_id = headers.compute_mail_id(ordered)
    mail = headers.create_mail(contact, sender, now, headers.format_message_id(mail_id, sender))
    is_single = len(ordered) == 1
    mail["Subject"] = format_subject(ordered[0], times) if is_single else format_summary_subject(summaries, times)
    headers.add_thread_headers(mail, ordered, sender)
    headers.add_list_headers(
        mail, texts, {each.airport for each in ordered}, find_unsubscription_url(ordered, contact), sender
    )
    for alert in ordered:
        mail[ALERT_HEADER] = format_alert_header(select_header_fields(alert))
    mail[CAUSE_HEADER] = format_cause_header(cause_published_at)
    charts = render_charts(summaries, times, f"{mail_id}@{sender.domain}")
    values = build_common_values(contact) | {"pixels": (WIDTH, HEIGHT), "zone": find_zone_name(times, ordered)}
    values["interests"] = build_footers(texts, summaries, contact)
    if is_single:
        values |= _build_alert_values(ordered[0], times, charts.get(summaries[0]), cause_published_at)
    else:
        values |= _build_alerts_values(summaries, times, charts)
    set_body(mail, "alert" if is_single else "alerts", texts, values, tuple(charts.values()))
    return mail


def compose_catch_up_mail(
    listed: Sequence[Alert],
    alerts: Sequence[Alert],
    contact: Contact,
    sender: Address,
    now: datetime,
    cause_published_at: datetime,
) -> EmailMessage:
    """Return the one mail that lists alerts which became too old to be mailed singly, with a subject that says so.

    It is like that of `compose_alerts_mail`, but has at most 30 thresholds, those that are in breach and the latest
    first; alerts of further thresholds are only counted. `listed`: what the mail tells, at least one alert. `alerts`:
    all alerts that it stands for, on which its Message-ID depends: also those that cancel each other.
    """
    summaries = group_by_threshold({each.alert_id: each for each in listed}.values())
    ordered = [alert for summary in summaries for alert in summary.alerts]
    texts = find_mail_texts(contact.language)
    times = ReaderTimes.of(contact.time_zone, now, texts)
    mail_id = headers.compute_mail_id(list({each.alert_id: each for each in alerts}.values()))
    mail = headers.create_mail(contact, sender, now, headers.format_message_id(mail_id, sender))
    mail["Subject"] = format_catch_up_subject(ordered, times)
    headers.add_list_headers(
        mail, texts, {each.airport for each in ordered}, find_unsubscription_url(ordered, contact), sender
    )
    for alert in ordered:
        mail[ALERT_HEADER] = format_alert_header(select_header_fields(alert))
    mail[CAUSE_HEADER] = format_cause_header(cause_published_at)
    shown = select_latest(summaries, _MAX_CATCH_UP_THRESHOLDS)
    charts = render_charts(shown, times, f"{mail_id}@{sender.domain}")
    values = build_common_values(contact) | {"pixels": (WIDTH, HEIGHT), "zone": find_zone_name(times, ordered)}
    values |= _build_alerts_values(shown, times, charts)
    begin, end = find_time_range(ordered)
    values |= {
        "headline": texts.get("catch_up.headline", count=len(ordered)),
        "summary": texts.get("catch_up.summary", range=times.format_range(begin, end)),
        "explanation": texts.get("catch_up.explanation", count=len(ordered)),
        "omission": wording.format_omission(texts, [each for each in summaries if each not in shown]),
        "interests": build_footers(texts, shown, contact),
    }
    set_body(mail, "alerts", texts, values, tuple(charts.values()))
    return mail


def compose_confirmation_mail(contact: Contact, confirmation_id: str, sender: Address, now: datetime) -> EmailMessage:
    """Return the mail with the link that confirms an address.

    Like `compose_token_mail` it holds nothing that somebody typed but the address, and the link that stops such mails.
    Its Message-ID depends on the user and the confirmation's id alone. Raises PermanentlyRefused for an invalid
    address, and UnprintableLink for a link that cannot stand in a mail: without it the mail is of no use.
    """
    mail = _create_account_mail(contact, confirmation_id, sender, now)
    texts = find_mail_texts(contact.language)
    mail["Subject"] = texts.get("subject.confirmation")
    values = {"confirm_url": require_link(contact.confirm_url), "stop_url": sanitize_link(contact.stop_url)}
    set_body(mail, "confirmation", texts, values)
    return mail


def compose_token_mail(contact: Contact, confirmation_id: str, sender: Address, now: datetime) -> EmailMessage:
    """Return the mail that tells the owner of a confirmed account that somebody registered or asked for a new token.

    It has the link to a new token. See `compose_confirmation_mail` for its Message-ID and the errors.
    """
    mail = _create_account_mail(contact, confirmation_id, sender, now)
    texts = find_mail_texts(contact.language)
    mail["Subject"] = texts.get("subject.token")
    values = {"token_url": require_link(contact.token_url), "stop_url": sanitize_link(contact.stop_url)}
    set_body(mail, "token", texts, values)
    return mail


def compose_sign_in_mail(contact: Contact, confirmation_id: str, sender: Address, now: datetime) -> EmailMessage:
    """Return the mail with the link that signs the owner of a confirmed account in, once.

    See `compose_confirmation_mail` for its Message-ID and the errors.
    """
    mail = _create_account_mail(contact, confirmation_id, sender, now)
    texts = find_mail_texts(contact.language)
    mail["Subject"] = texts.get("subject.sign_in")
    values = {"sign_in_url": require_link(contact.sign_in_url), "stop_url": sanitize_link(contact.stop_url)}
    set_body(mail, "sign_in", texts, values)
    return mail


def _create_account_mail(contact: Contact, confirmation_id: str, sender: Address, now: datetime) -> WireMessage:
    """Return a mail about an account without subject and body, to the bare address: a stranger may have typed the name.

    The link that stops such mails is also in List-Unsubscribe.
    """
    mail_id = uuid5(contact.user_id, confirmation_id)
    mail = headers.create_mail(replace(contact, name=""), sender, now, headers.format_message_id(mail_id, sender))
    headers.add_unsubscribe_headers(mail, contact.stop_url)
    return mail


def compose_unheard_mail(notice: UnheardNotice, contact: Contact, sender: Address, now: datetime) -> EmailMessage:
    """Return the mail that tells a user that the source has given no flight of an airport.

    Its Message-ID depends on the notice's id and the sender's domain alone. Raises PermanentlyRefused for an invalid
    address.
    """
    texts = find_mail_texts(contact.language)
    times = ReaderTimes.of(contact.time_zone, now, texts)
    name, city = wording.find_airport_names(notice.airport)
    mail = headers.create_mail(contact, sender, now, headers.format_message_id(notice.notice_id, sender))
    mail["Subject"] = format_unheard_subject(texts, notice)
    headers.add_list_headers(mail, texts, {notice.airport}, contact.unsubscribe_url, sender)
    mail[NOTICE_HEADER] = format_notice_header(notice)
    values = build_common_values(contact) | {
        "airport": AirportSection(notice.airport, name, city, ()),
        "statement": notice_wording.format_unheard_statement(texts, notice),
        "explanation": notice_wording.explain_unheard(notice, times),
        "receivers_url": _RECEIVERS_URL,
    }
    set_body(mail, "unheard", texts, values)
    return mail


def compose_retired_mail(notice: RetiredNotice, contact: Contact, sender: Address, now: datetime) -> EmailMessage:
    """Return the mail that tells a user that no airport has a code any more, and which code leads on, if one is known.

    Its Message-ID depends on the notice's id and the sender's domain alone. Raises PermanentlyRefused for an invalid
    address.
    """
    texts = find_mail_texts(contact.language)
    mail = headers.create_mail(contact, sender, now, headers.format_message_id(notice.notice_id, sender))
    mail["Subject"] = format_retired_subject(texts, notice)
    headers.add_list_headers(mail, texts, {notice.airport}, contact.unsubscribe_url, sender)
    mail[NOTICE_HEADER] = format_notice_header(notice)
    values = build_common_values(contact) | {
        "former": notice.airport,
        "successor": notice.successor,
        "heading": notice_wording.name_retired_airport(notice),
        "statement": notice_wording.format_retired_statement(texts, notice),
        "consequence": texts.get("retired.consequence", former=notice.airport),
    }
    set_body(mail, "retired", texts, values)
    return mail


def build_common_values(contact: Contact) -> dict[str, object]:
    """Return the variables that all templates have: the user's name, and the link that stops all alerts (or "")."""
    return {"name": sanitize_name(contact.name), "unsubscribe_url": sanitize_link(contact.unsubscribe_url)}


def find_zone_name(times: ReaderTimes, alerts: Sequence[Alert]) -> str:
    """Return the IANA name of the reader's time zone if it differs from UTC in the windows' time range, else ""."""
    zone = times.local_zone(*find_time_range(alerts))
    return zone.key if zone is not None else ""


def _build_alert_values(
    alert: Alert, times: ReaderTimes, chart: InlineImage | None, cause_published_at: datetime
) -> dict[str, object]:
    """Return the variables of the templates `alert.txt` and `alert.html`, for a mail about one alert."""
    texts = times.texts
    fresh = describe_freshness(texts, alert, cause_published_at)
    name, city = wording.find_airport_names(alert.airport)
    return {
        "alert": alert,
        "airport": AirportSection(alert.airport, name, city, ()),
        "status": wording.format_status(texts, alert),
        "tone": wording.choose_tone(alert),
        "count": texts.format_number(alert.count),
        "flights": texts.get(f"flights.noun.{alert.direction}", count=alert.count),
        "comparison": wording.format_comparison(texts, alert),
        "withdrawal": wording.format_withdrawal(texts, alert) if alert.state is AlertState.WITHDRAWN else "",
        "statement": wording.format_statement(texts, alert),
        "times": wording.format_times(alert, times),
        "background": [*describe_background(texts, alert, times.now), *([fresh] if fresh else [])],
        "chart": chart,
    }


def _build_alerts_values(
    summaries: Sequence[ThresholdSummary], times: ReaderTimes, charts: dict[ThresholdSummary, InlineImage]
) -> dict[str, object]:
    """Return the variables of the templates `alerts.txt` and `alerts.html`, for a mail about several alerts.

    They are the headline, a summary (the time range and number of all alerts), and the sections: by airport, then by
    threshold, in the order of `summaries`. The explanation says where the alerts come from, if all from one source;
    else their lines say it. The omission is empty.
    """
    alerts, texts = [alert for summary in summaries for alert in summary.alerts], times.texts
    sources = describe_sources(texts, alerts)
    sections = [build_threshold_section(each, times, charts.get(each), has_sources=not sources) for each in summaries]
    airports = group_by_airport(summaries, sections)
    ended = sum(has_ended(each) for each in summaries)
    begin, end = find_time_range(alerts)
    return {
        "airports": airports,
        "headline": wording.format_headline(texts, len(summaries) - ended, ended),
        "summary": texts.get(
            "summary",
            alerts=texts.get("alerts", count=len(alerts)),
            airports=texts.get("airports", count=len(airports)),
            range=times.format_range(begin, end),
        ),
        "explanation": sources,
        "omission": "",
    }
