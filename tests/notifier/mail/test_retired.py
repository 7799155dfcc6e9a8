"""The mail about a retired code of an airport: subject, headers, plain text and HTML page."""

import re
from dataclasses import replace
from html import unescape
from uuid import uuid4

import pytest
from hypothesis import given

from domain.notices import RetiredNotice
from notifier.errors import PermanentlyRefused
from notifier.mail import Contact, compose_retired_mail
from notifier.mail.alert_header import NOTICE_HEADER
from tests.notifier.alerts import CONTACT, NOW, RETIRED, SENDER, build_retired_notice, delivered, names


def plain_text_of(notice: RetiredNotice = RETIRED, to: Contact = CONTACT) -> str:
    """Return the plain text of a notice's mail, in one line."""
    mail = delivered(compose_retired_mail(notice, to, SENDER, NOW))
    return " ".join(mail.get_body(("plain",)).get_content().split())


def page_text_of(notice: RetiredNotice = RETIRED, to: Contact = CONTACT) -> str:
    """Return the text that the HTML page of a notice's mail shows, in one line."""
    html = delivered(compose_retired_mail(notice, to, SENDER, NOW)).get_body(("html",)).get_content()
    return " ".join(unescape(re.sub(r"<style>.*?</style>|<[^>]*>", " ", html, flags=re.DOTALL)).split())


@pytest.mark.parametrize("content_of", [plain_text_of, page_text_of])
@pytest.mark.parametrize(
    ("notice", "phrases"),
    [
        (
            RETIRED,
            (
                "No airport has the code UAFM any more: Manas International Airport, Bishkek, has the code UCFM now.",
                "Towerwatch does not collect the flights of UAFM any more, so no alert about it will come.",
                "Set an interest at UCFM with the levels that you want, and remove yours at UAFM.",
                "because you asked Towerwatch to watch UAFM",
                "Ada Lovelace",
            ),
        ),
        (
            build_retired_notice(CONTACT.user_id, "EDDI"),
            (
                "No airport has the code EDDI any more; it was that of Berlin Tempelhof Airport.",
                "Set an interest at another airport, and remove yours at EDDI.",
            ),
        ),
        (
            build_retired_notice(CONTACT.user_id, "ZQZQ"),
            ("No airport has the code ZQZQ any more.", "Set an interest at another airport, and remove yours at ZQZQ."),
        ),
        (
            build_retired_notice(CONTACT.user_id, "ZQZQ", "ZQZZ"),
            ("No airport has the code ZQZQ any more: the airport has the code ZQZZ now.", "Set an interest at ZQZZ"),
        ),
    ],
)
def test_text_and_page_name_the_airport_both_codes_and_what_to_do(content_of, notice, phrases) -> None:
    """As far as they are known: a newer collector may name a code that the notifier's table does not have yet."""
    shown = content_of(notice)
    for phrase in phrases:
        assert phrase in shown


def test_subject_and_headers() -> None:
    """A mail program files it with the airport's alerts, and can unsubscribe in one click."""
    url = "https://example.org/unsubscribe?token=aB-_9."
    mail = delivered(compose_retired_mail(RETIRED, replace(CONTACT, unsubscribe_url=url), SENDER, NOW))
    assert mail["Subject"] == "UAFM: the airport's code is UCFM now"
    assert mail["Message-ID"] == f"<{RETIRED.notice_id}@example.org>"
    assert mail[NOTICE_HEADER] == "airport=UAFM; retired; successor=UCFM"
    assert mail["List-Id"] == "Towerwatch alerts for UAFM <uafm.alerts.example.org>"
    assert mail["List-Unsubscribe"] == f"<{url}>"
    assert mail["Auto-Submitted"] == "auto-generated"
    closed = delivered(compose_retired_mail(build_retired_notice(uuid4(), "EDDI"), CONTACT, SENDER, NOW))
    assert closed["Subject"] == "EDDI: no airport has this code any more"
    assert closed[NOTICE_HEADER] == "airport=EDDI; retired"


@given(names)
def test_no_name_breaks_out_of_the_page_or_the_text(name: str) -> None:
    """The reader's name is the only text of the mail that a user wrote."""
    mail, usual = (
        delivered(compose_retired_mail(RETIRED, replace(CONTACT, name=each), SENDER, NOW)) for each in (name, "Ada")
    )
    pages = [each.get_body(("html",)).get_content() for each in (mail, usual)]
    assert pages[0].count("<") == pages[1].count("<")
    assert [part.get_content_type() for part in mail.walk()] == ["multipart/alternative", "text/plain", "text/html"]


def test_an_invalid_address_is_refused() -> None:
    """As for alerts: the event becomes a dead letter."""
    with pytest.raises(PermanentlyRefused):
        compose_retired_mail(RETIRED, replace(CONTACT, email="no address"), SENDER, NOW)
