"""The mail about an unheard airport: subject, headers, plain text and HTML page."""

import re
from dataclasses import replace
from datetime import UTC, datetime
from html import unescape
from uuid import uuid4

import pytest
from hypothesis import given

from domain.notices import UnheardNotice
from notifier.errors import PermanentlyRefused
from notifier.mail import Contact, compose_unheard_mail
from notifier.mail.alert_header import ALERT_HEADER, NOTICE_HEADER
from tests.notifier.alerts import CONTACT, NOTICE, NOW, SENDER, build_unheard_notice, delivered, names


def plain_text_of(notice: UnheardNotice = NOTICE, to: Contact = CONTACT) -> str:
    """Return the plain text of a notice's mail, in one line."""
    mail = delivered(compose_unheard_mail(notice, to, SENDER, NOW))
    return " ".join(mail.get_body(("plain",)).get_content().split())


def page_text_of(notice: UnheardNotice = NOTICE, to: Contact = CONTACT) -> str:
    """Return the text that the HTML page of a notice's mail shows, in one line."""
    html = delivered(compose_unheard_mail(notice, to, SENDER, NOW)).get_body(("html",)).get_content()
    return " ".join(unescape(re.sub(r"<style>.*?</style>|<[^>]*>", " ", html, flags=re.DOTALL)).split())


@pytest.mark.parametrize("content_of", [plain_text_of, page_text_of])
def test_text_and_page_say_what_is_known_what_follows_and_what_one_can_do(content_of) -> None:
    """A reader must not take the silence for calm, and learns that nothing needs to be done to be told again."""
    shown = content_of()
    for phrase in (
        "OpenSky has not reported a flight at Portland International Jetport Airport (KPWM), Portland, since "
        "21 November 2026: nobody may be listening there.",
        "No alert about KPWM will come until flights are reported there. That goes for too few flights, too",
        "Once flights are reported, Towerwatch begins to watch KPWM by itself.",
        "Choose another airport: set an interest there, and remove yours at KPWM.",
        "by receivers that volunteers run, and what it takes to have one near KPWM",
        "Ada Lovelace",
        "because you asked Towerwatch to watch KPWM",
        "pause your account's alerts",
    ):
        assert phrase in shown


@pytest.mark.parametrize("content_of", [plain_text_of, page_text_of])
@pytest.mark.parametrize(
    ("zone", "began"),
    [
        ("America/New_York", "Sat 21 Nov 00:00 UTC (Fri 20 Nov 19:00 in your time zone, America/New York)."),
        ("Asia/Kathmandu", "Sat 21 Nov 00:00 UTC (Sat 21 Nov 05:45 in your time zone, Asia/Kathmandu)."),
        ("UTC", "Sat 21 Nov 00:00 UTC."),
        ("Europe/London", "Sat 21 Nov 00:00 UTC."),
        ("Mars/Olympus", "Sat 21 Nov 00:00 UTC."),
    ],
)
def test_the_first_day_is_given_in_utc_and_in_the_readers_time_zone(content_of, zone: str, began: str) -> None:
    """As in alerts: a zone that does not differ from UTC, or is not known, is left out."""
    assert f"arrivals and departures since {began}" in content_of(to=replace(CONTACT, time_zone=zone))


def test_the_subject_holds_airport_and_day() -> None:
    """A reader learns them without opening the mail."""
    assert compose_unheard_mail(NOTICE, CONTACT, SENDER, NOW)["Subject"] == (
        "KPWM: no flight reported since 21 November 2026"
    )


def test_an_airport_without_a_name_is_its_code() -> None:
    """A code that the table of airports does not have is shown alone, and once."""
    notice = build_unheard_notice(CONTACT.user_id, "KXYZ", datetime(2013, 2, 8, tzinfo=UTC))
    assert "not reported a flight at KXYZ since 8 February 2013: nobody" in plain_text_of(notice)
    assert "since Fri 8 Feb 2013 00:00 UTC" in plain_text_of(notice)
    assert page_text_of(notice).count("KXYZ KXYZ") == 0


def test_the_headers_are_those_of_an_alert_and_its_own() -> None:
    """A mail program files it with the airport's alerts, answers it with nothing, and can unsubscribe in one click."""
    url = "https://example.org/unsubscribe?token=aB-_9."
    mail = delivered(compose_unheard_mail(NOTICE, replace(CONTACT, unsubscribe_url=url), SENDER, NOW))
    assert mail["Message-ID"] == f"<{NOTICE.notice_id}@example.org>"
    assert mail["Auto-Submitted"] == "auto-generated"
    assert mail["List-Id"] == "Towerwatch alerts for KPWM <kpwm.alerts.example.org>"
    assert (mail["List-Unsubscribe"], mail["List-Unsubscribe-Post"]) == (f"<{url}>", "List-Unsubscribe=One-Click")
    assert mail[NOTICE_HEADER] == "airport=KPWM; since=2026-11-21T00:00:00Z"
    assert ALERT_HEADER not in mail
    assert "In-Reply-To" not in mail
    assert url in mail.get_body(("plain",)).get_content().splitlines()
    assert f'href="{url}"' in mail.get_body(("html",)).get_content()
    without = delivered(compose_unheard_mail(NOTICE, CONTACT, SENDER, NOW))
    assert "List-Unsubscribe" not in without
    assert "Stop all alerts" not in plain_text_of() + page_text_of()


def test_the_same_notice_has_the_same_message_id_at_any_time() -> None:
    """A repeat after a crash is recognised by the recipient's mail server."""
    later = compose_unheard_mail(NOTICE, replace(CONTACT, name="Bob"), SENDER, NOW.replace(hour=9))
    assert later["Message-ID"] == compose_unheard_mail(NOTICE, CONTACT, SENDER, NOW)["Message-ID"]
    other = replace(NOTICE, notice_id=uuid4())
    assert compose_unheard_mail(other, CONTACT, SENDER, NOW)["Message-ID"] != later["Message-ID"]


@given(names)
def test_no_name_breaks_out_of_the_page_or_the_text(name: str) -> None:
    """The reader's name is the only text of a notice's mail that a user wrote."""
    mail, usual = (
        delivered(compose_unheard_mail(NOTICE, replace(CONTACT, name=each), SENDER, NOW)) for each in (name, "Ada")
    )
    pages = [each.get_body(("html",)).get_content() for each in (mail, usual)]
    assert pages[0].count("<") == pages[1].count("<")
    assert [part.get_content_type() for part in mail.walk()] == ["multipart/alternative", "text/plain", "text/html"]


def test_an_invalid_address_is_refused() -> None:
    """As for alerts: the event becomes a dead letter."""
    with pytest.raises(PermanentlyRefused):
        compose_unheard_mail(NOTICE, replace(CONTACT, email="no address"), SENDER, NOW)
