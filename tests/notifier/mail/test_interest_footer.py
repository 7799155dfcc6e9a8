"""The links to change and to stop what a mail is about, in the text, on the page and in List-Unsubscribe."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from email.message import EmailMessage
from uuid import UUID

import pytest

from domain.alerts import Alert, AlertState, Bound
from notifier.mail import (
    Contact,
    InterestLinks,
    compose_alerts_mail,
    compose_catch_up_mail,
    compose_corrections_mail,
    compose_unheard_mail,
)
from tests.notifier.alerts import ALERT, CAUSE, CONTACT, NOTICE, NOW, SENDER, delivered

STOP_ALL = "https://towerwatch.example/unsubscribe/all"
LOW = replace(ALERT, alert_id=UUID(int=2), bound=Bound.LOW, threshold=5, count=3)
ENDED = replace(ALERT, alert_id=UUID(int=3), state=AlertState.RESOLVED, count=9)
BOSTON = replace(ALERT, alert_id=UUID(int=4), interest_id=UUID(int=44), airport="KBOS")


def build_links(interest_id: UUID) -> InterestLinks:
    """Return the links to an interest as user_manager builds them, in length too."""
    change_url = f"https://towerwatch.example/watch?interest={interest_id}"
    return InterestLinks(change_url, f"https://towerwatch.example/stop/{ALERT.user_id}~{interest_id}.{'s' * 43}")


READER = replace(
    CONTACT,
    unsubscribe_url=STOP_ALL,
    interest_links={each.interest_id: build_links(each.interest_id) for each in (ALERT, BOSTON)},
)

COMPOSERS: dict[str, Callable[[Sequence[Alert], Contact], EmailMessage]] = {
    "alerts": lambda alerts, to: compose_alerts_mail(alerts, to, SENDER, NOW, CAUSE),
    "catch-up": lambda alerts, to: compose_catch_up_mail(alerts, alerts, to, SENDER, NOW, CAUSE),
    "corrections": lambda alerts, to: compose_corrections_mail(alerts, alerts, to, SENDER, NOW, CAUSE),
}
of_each_kind = pytest.mark.parametrize("kind", COMPOSERS)


def compose(kind: str, *alerts: Alert, to: Contact = READER) -> EmailMessage:
    """Return the mail of this kind with the alerts, as its recipient's program parses it."""
    return delivered(COMPOSERS[kind](alerts, to))


def read(mail: EmailMessage, form: str) -> str:
    """Return the text of a mail ("plain"), or the source of its page ("html")."""
    body = mail.get_body((form,))
    assert isinstance(body, EmailMessage)
    return str(body.get_content())


@of_each_kind
@pytest.mark.parametrize("alerts", [(ALERT,), (ALERT, LOW), (ALERT, ENDED)], ids=["one", "two levels", "two alerts"])
def test_a_mail_about_one_interest_leads_to_it(kind: str, alerts: tuple[Alert, ...]) -> None:
    """It has one link to change it and one to stop it, each unbroken; List-Unsubscribe stops it with one click."""
    mail, links = compose(kind, *alerts), build_links(ALERT.interest_id)
    assert mail["List-Unsubscribe"] == f"<{links.stop_url}>"
    assert mail["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
    lines = [line.strip() for line in read(mail, "plain").splitlines()]
    page = read(mail, "html")
    for label, url in (("Change this alert", links.change_url), ("Stop this alert", links.stop_url)):
        assert lines.count(url) == 1
        assert lines[lines.index(url) - 1] == f"{label}:"
        assert page.count(f'href="{url}"') == 1
        assert f">{label}</a>" in page
    assert lines[lines.index(STOP_ALL) - 1] == "Stop all alerts:"
    assert f'href="{STOP_ALL}"' in page
    assert "remove the interest" not in page


@of_each_kind
def test_a_mail_about_several_interests_leads_to_each(kind: str) -> None:
    """Each has its two links once, below its description; List-Unsubscribe stops all alerts."""
    mail = compose(kind, BOSTON, LOW, ALERT)
    assert mail["List-Unsubscribe"] == f"<{STOP_ALL}>"
    lines = [line.strip() for line in read(mail, "plain").splitlines()]
    page = read(mail, "html")
    for alert in (ALERT, BOSTON):
        links = build_links(alert.interest_id)
        for url in (links.change_url, links.stop_url):
            assert lines.count(url) == 1
            assert page.count(f'href="{url}"') == 1
    at = lines.index("- KJFK, departures in an hour: more than 20 and fewer than 5")
    assert lines[at + 2] == build_links(ALERT.interest_id).change_url
    at = lines.index("- KBOS, departures in an hour: more than 20")
    assert lines[at + 2] == build_links(BOSTON.interest_id).change_url


@of_each_kind
@pytest.mark.parametrize(
    "links",
    [
        {},
        {ALERT.interest_id: InterestLinks()},
        {ALERT.interest_id: InterestLinks("javascript:x", "https://x/\r\nBcc: a")},
    ],
    ids=["older user_manager", "empty", "unprintable"],
)
def test_without_links_a_mail_names_the_interest(kind: str, links: dict[UUID, InterestLinks]) -> None:
    """The reader can still find what to change; List-Unsubscribe stops all alerts, as before."""
    mail = compose(kind, ALERT, to=replace(READER, interest_links=links))
    assert mail["List-Unsubscribe"] == f"<{STOP_ALL}>"
    for form in ("plain", "html"):
        shown = read(mail, form)
        assert str(ALERT.interest_id) in shown
        for label in ("Change this alert", "Stop this alert", "javascript", "Bcc"):
            assert label not in shown
        assert "Stop all alerts" in shown


def test_the_stop_link_of_plain_http_has_no_one_click() -> None:
    """RFC 8058, 3.1 requires HTTPS, for this link as for the other."""
    link = InterestLinks("http://127.0.0.1:8500/watch?interest=1", "http://127.0.0.1:8500/stop/x")
    mail = compose("alerts", ALERT, to=replace(READER, interest_links={ALERT.interest_id: link}))
    assert mail["List-Unsubscribe"] == "<http://127.0.0.1:8500/stop/x>"
    assert "List-Unsubscribe-Post" not in mail


def test_a_notice_about_an_airport_stops_all_alerts() -> None:
    """It is about no interest: several may be at its airport."""
    mail = delivered(compose_unheard_mail(NOTICE, READER, SENDER, NOW))
    assert mail["List-Unsubscribe"] == f"<{STOP_ALL}>"
