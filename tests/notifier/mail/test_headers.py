"""Each header of a mail obeys its RFC, checked in the bytes that go out."""

import re
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from email import message_from_bytes, message_from_string
from email.errors import NonASCIILocalPartDefect
from email.header import decode_header, make_header
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import compat32, default
from email.utils import parsedate_to_datetime
from uuid import UUID

import pytest
from hypothesis import example, given, settings, strategies as st

from chassis.text import clean_line
from domain.alerts import Alert, AlertState
from notifier.errors import PermanentlyRefused, UnprintableLink
from notifier.mail import (
    Contact,
    compose_alert_mail,
    compose_alerts_mail,
    compose_confirmation_mail,
    compose_sign_in_mail,
    compose_token_mail,
)
from notifier.mail.contact import is_printable_link
from tests.chassis.test_text import BLANK, VISIBLE
from tests.notifier.alerts import (
    ALERT,
    CAUSE,
    CONTACT,
    NOW,
    SENDER,
    a_day_at_five_airports,
    alerts,
    delivered,
    names,
)

ATEXT = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+"
DOT_ATOM = rf"{ATEXT}(?:\.{ATEXT})*"
MSG_ID = rf"<{DOT_ATOM}@{DOT_ATOM}>"  # RFC 5322, 3.6.4
RULES = {
    "Date": r"(Mon|Tue|Wed|Thu|Fri|Sat|Sun), \d\d (\w{3}) \d{4} \d\d:\d\d:\d\d [+-]\d{4}",  # RFC 5322, 3.3
    "From": rf"Towerwatch <{DOT_ATOM}@{DOT_ATOM}>",
    "Message-ID": MSG_ID,
    "References": rf"{MSG_ID}( {MSG_ID})*",
    "In-Reply-To": rf"{MSG_ID}( {MSG_ID})*",
    "Auto-Submitted": r"auto-generated",  # RFC 3834, 5
    "List-Id": rf"[A-Za-z0-9 ]+ <{DOT_ATOM}\.example\.org>",  # RFC 2919, 3: a phrase, and a name under our domain
    "List-Unsubscribe": r"<https?://[!-;=?-~]+>",  # RFC 2369, 2
    "List-Unsubscribe-Post": r"List-Unsubscribe=One-Click",  # RFC 8058, 8.1
    "MIME-Version": r"1\.0",
}
SEVERAL = {"X-Towerwatch-Alert"}
LINK = "https://towerwatch.example.org/unsubscribe?token=" + "aB9.-_" * 30
READER = replace(CONTACT, unsubscribe_url=LINK, confirm_url=LINK)
ROOT = UUID("99999999-58a5-5f0b-9d4f-2a1f6f5d8c11")


def delivered_mail(*given: Alert, to: Contact = READER) -> EmailMessage:
    """Return the mail about these alerts as the recipient's program parses it."""
    return delivered(compose_alerts_mail(given, to, SENDER, NOW, CAUSE))


def message_id_of(alert_id: UUID) -> str:
    return f"<{alert_id}@example.org>"


def read_raw_headers(mail: EmailMessage) -> list[tuple[str, str]]:
    """Return the headers in a mail's bytes: unfolded (RFC 5322, 2.2.3) but not decoded."""
    head = mail.as_bytes(policy=mail.policy.clone(linesep="\r\n")).partition(b"\r\n\r\n")[0]
    lines = re.sub(rb"\r\n(?=[ \t])", b"", head).decode("ascii").split("\r\n")
    return [(name, value.strip()) for name, _, value in (line.partition(":") for line in lines)]


@pytest.mark.parametrize(
    "mail",
    [
        compose_alert_mail(ALERT, READER, SENDER, NOW, CAUSE),
        compose_alert_mail(replace(ALERT, state=AlertState.RESOLVED, episode_id=ROOT), READER, SENDER, NOW, CAUSE),
        compose_alerts_mail(a_day_at_five_airports(NOW), READER, SENDER, NOW, CAUSE),
        compose_alerts_mail(a_day_at_five_airports(NOW), replace(READER, name="Zoë, Ålesund" * 4), SENDER, NOW, CAUSE),
        compose_confirmation_mail(READER, "1", SENDER, NOW),
        compose_sign_in_mail(replace(READER, sign_in_url=LINK), "1", SENDER, NOW),
    ],
    ids=["alert", "resolved", "night", "unicode", "confirmation", "sign-in"],
)
def test_each_header_obeys_its_rfc(mail: EmailMessage) -> None:
    """Headers obey their grammar, occur at most once (RFC 5322, 3.6), and are ASCII; required headers are present."""
    headers = read_raw_headers(mail)
    seen = [name for name, _ in headers]
    assert {"Date", "From", "To", "Message-ID", "Subject", "Auto-Submitted", "MIME-Version", "Content-Type"} <= {*seen}
    assert not {"Precedence", "Bcc", "Sender", "Return-Path"} & {*seen}
    for name in {*seen} - SEVERAL:
        assert seen.count(name) == 1
    for name, value in headers:
        if name in RULES:
            assert re.fullmatch(RULES[name], value), name
    assert parsedate_to_datetime(dict(headers)["Date"]) == NOW
    assert max(map(len, mail.as_bytes().splitlines())) <= 998
    for part in delivered(mail).walk():
        assert not part.defects
        assert not [header for header in part.values() if header.defects]


def test_one_click_unsubscription_is_offered_over_https_only() -> None:
    """RFC 8058, 3.1 requires HTTPS; a link that a header cannot hold gives no unsubscribe header at all."""
    plain = delivered_mail(ALERT, to=replace(READER, unsubscribe_url="http://127.0.0.1:8000/u"))
    assert plain["List-Unsubscribe"] == "<http://127.0.0.1:8000/u>"
    assert "List-Unsubscribe-Post" not in plain
    for url in (
        "",
        "javascript:alert(1)",
        "https://x/\r\nBcc: a@b",
        "https://x/ y",
        "https://x/>",
        "https://" + "x" * 999,
    ):
        mail = delivered_mail(ALERT, to=replace(READER, unsubscribe_url=url))
        assert not {"List-Unsubscribe", "List-Unsubscribe-Post", "Bcc"} & {*mail.keys()}
        assert mail["Subject"]


def test_a_mail_about_an_account_can_be_stopped_with_one_click() -> None:
    """RFC 8058: the link that stops such mails is in the headers and in both texts; no other list header is there."""
    stop = "https://example.org/not-me/x"
    contact = replace(READER, token_url=LINK, sign_in_url=LINK, stop_url=stop)
    for compose in (compose_confirmation_mail, compose_token_mail, compose_sign_in_mail):
        mail = delivered(compose(contact, "1", SENDER, NOW))
        assert mail["List-Unsubscribe"] == f"<{stop}>"
        assert mail["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
        assert not [name for name in mail if name.startswith(("List-Id", "References"))]
        assert all(stop in mail.get_body((kind,)).get_content() for kind in ("plain", "html"))
        without = delivered(compose(replace(contact, stop_url=""), "1", SENDER, NOW))
        assert not [name for name in without if name.startswith("List-")]


def test_each_airport_is_a_list() -> None:
    """A mail program can sort by airport; a mail about several airports has one common list."""
    assert delivered_mail(ALERT)["List-Id"] == "Towerwatch alerts for KJFK <kjfk.alerts.example.org>"
    assert delivered_mail(*a_day_at_five_airports(NOW))["List-Id"] == "Towerwatch alerts <alerts.example.org>"


def test_a_message_id_depends_on_the_set_of_alerts() -> None:
    """A mail about one alert has the alert's id; about several an id of their set, in any order."""
    assert delivered_mail(ALERT)["Message-ID"] == message_id_of(ALERT.alert_id)
    night = a_day_at_five_airports(NOW)
    ids = {delivered_mail(*some)["Message-ID"] for some in (night, night[::-1], night[1:], night[:-1])}
    assert len(ids) == 3
    assert delivered_mail(*night)["Message-ID"] == delivered_mail(*night[::-1])["Message-ID"]


def test_later_mails_join_the_thread_of_the_first() -> None:
    """STILL, RESOLVED and WITHDRAWN refer to the mail of the breach's first alert, which itself refers to no mail."""
    first = delivered_mail(replace(ALERT, episode_id=ALERT.alert_id))
    assert not {"References", "In-Reply-To"} & {*first.keys()}
    for state in (AlertState.STILL, AlertState.RESOLVED, AlertState.WITHDRAWN):
        later = delivered_mail(replace(ALERT, alert_id=UUID(int=7), state=state, episode_id=ALERT.alert_id))
        assert later["References"] == later["In-Reply-To"] == first["Message-ID"]
    without_episode = replace(ALERT, state=AlertState.RESOLVED)  # as from an older version of the stream
    assert "References" not in delivered_mail(without_episode)


def test_a_mail_of_several_alerts_is_threaded_with_later_mails() -> None:
    """A later mail of one episode refers to an id to which the mail of several alerts refers, too."""
    first = replace(ALERT, episode_id=ALERT.alert_id)
    other = replace(ALERT, alert_id=UUID(int=8), airport="KBOS", state=AlertState.RESOLVED, episode_id=ROOT)
    group = delivered_mail(first, other)
    later = delivered_mail(replace(ALERT, alert_id=UUID(int=9), state=AlertState.RESOLVED, episode_id=ALERT.alert_id))
    assert later["In-Reply-To"] in group["References"].split()
    assert group["In-Reply-To"] == message_id_of(ROOT)  # only that episode began in an earlier mail
    assert len(delivered_mail(*(
        replace(ALERT, alert_id=UUID(int=n), interest_id=UUID(int=n), episode_id=UUID(int=n)) for n in range(1, 200)
    ))["References"].split()) == 20  # fmt: skip


def decode_recipient_name(mail: EmailMessage) -> str:
    """Return the name in the To header, decoded by RFC 2047.

    Python 3.11's own parser wrongly keeps the space between encoded words.
    """
    phrase = str(message_from_bytes(mail.as_bytes(), policy=compat32)["To"]).rpartition("<")[0]
    decoded = str(make_header(decode_header("".join(phrase.splitlines())))).strip()
    return re.sub(r"\\(.)", r"\1", decoded[1:-1]) if decoded.startswith('"') and phrase.startswith('"') else decoded


hostile = st.text(max_size=80) | st.from_regex(r"(https://x)?[\r\n\t <>\"é@a:]{0,30}(Bcc: m@x.org)?", fullmatch=True)


@settings(max_examples=200, deadline=None)
@given(alert=alerts, name=names, zone=hostile, url=hostile, confirm_url=hostile)
def test_no_field_adds_a_header(alert: Alert, name: str, zone: str, url: str, confirm_url: str) -> None:
    """No text of a user or of the settings adds a header or a line to one; in an alert's mail the name is readable."""
    contact = replace(CONTACT, name=name, time_zone=zone, unsubscribe_url=url, stop_url=url, confirm_url=confirm_url)
    known = {
        *RULES, *SEVERAL, "To", "Subject", "X-Towerwatch-Cause", "Content-Type", "Content-Transfer-Encoding"
    }  # fmt: skip
    mails = [compose_alert_mail(alert, contact, SENDER, NOW, CAUSE)]
    if is_printable_link(confirm_url):
        mails.append(compose_confirmation_mail(contact, "1", SENDER, NOW))
    else:
        with pytest.raises(UnprintableLink):
            compose_confirmation_mail(contact, "1", SENDER, NOW)
    for mail in mails:
        read = delivered(mail)
        assert {*read.keys()} <= known
        assert {name for name, _ in read_raw_headers(mail)} == {*read.keys()}
        for header in read.values():
            assert not header.defects
            assert not {"\r", "\n"} & set(header)
        [recipient] = read["To"].addresses
        assert recipient.addr_spec == "ada@example.net"
        shown = clean_line(name[:100]).replace("=?", "= ?") if mail is mails[0] else ""
        assert decode_recipient_name(read) == shown


LONG_NAMES = [
    "x" * 100,
    "蝶" * 100,
    "Ångström " * 11 + "x",
    "می\u200c" * 33 + "خ",
    "क्\u200d" * 33 + "ष",
    "👩\u200d" * 49 + "👩",
    "=?" * 50,
    "Zoe\u0308" * 25,
    "a" * 60 + "b" * 40,
    'O\'Neil, "x" <y> ' * 6 + "zz",
    "🏴\U000e0067\U000e007f" * 33 + "x",
    "א\u200f" * 50,
]
"""Names of the 100 characters that an account may have."""


@pytest.mark.parametrize("name", [*VISIBLE, *LONG_NAMES], ids=ascii)
def test_a_name_is_shown_whole(name: str) -> None:
    """Whatever name an account may have stands in the header and in the greeting as it is, without a cut."""
    assert len(name) <= 100
    shown = name.replace("=?", "= ?")
    read = delivered(compose_alert_mail(ALERT, replace(READER, name=name), SENDER, NOW, CAUSE))
    assert decode_recipient_name(read) == shown
    text = read.get_body(("plain",))
    assert text is not None
    assert " ".join(text.get_content().split()).startswith(f"Hello {shown},")  # lines are broken at spaces


@pytest.mark.parametrize("compose", [compose_confirmation_mail, compose_token_mail, compose_sign_in_mail])
@given(name=names, zone=hostile)
def test_a_mail_about_an_account_holds_nothing_that_was_typed(
    compose: Callable[[Contact, str, Address, datetime], EmailMessage], name: str, zone: str
) -> None:
    """A stranger may have registered with name and time zone: the mail is, byte for byte, the same without them."""
    contact = replace(READER, token_url=LINK, sign_in_url=LINK, stop_url=LINK)
    typed = replace(contact, name=name, time_zone=zone)
    assert (
        compose(typed, "1", SENDER, NOW).as_bytes()
        == compose(replace(contact, name="", time_zone="UTC"), "1", SENDER, NOW).as_bytes()
    )


@pytest.mark.parametrize("name", BLANK, ids=ascii)
def test_a_blank_name_is_no_name(name: str) -> None:
    """An account from before may have a name that nobody sees: the greeting has none then, and no space for it."""
    text = delivered(compose_alert_mail(ALERT, replace(READER, name=name), SENDER, NOW, CAUSE)).get_body(("plain",))
    assert text is not None
    assert text.get_content().startswith("Hello,")


INJECTION = "=?utf-8?q?a=0D=0ABcc=3A_m=40x.org=0D=0A=0D=0Aread_this?="


@settings(max_examples=100, deadline=None)
@given(
    st.text(max_size=10), st.sampled_from((INJECTION, "=?utf-8?b?YQ0KQmNjOiBtQHgub3Jn?=", "=?utf-8?q?=22=3Ca=40b=3E?="))
)
@example("", INJECTION)
@example("=", INJECTION)
def test_no_name_is_taken_for_an_encoded_word(before: str, word: str) -> None:
    """A name that looks like an encoded word (RFC 2047) is not decoded.

    An encoded word can contain a line's end, and `email` writes down what it has decoded: a name of printable
    characters could add headers, or a text of its own, to another user's confirmation mail.
    """
    for name in (before + word, f"{before} {word} x"):
        contact = replace(READER, name=name, confirm_url="https://example.org/c")
        for mail in (
            compose_alert_mail(ALERT, contact, SENDER, NOW, CAUSE),
            compose_confirmation_mail(contact, "1", SENDER, NOW),
        ):
            read = delivered(mail)
            assert "Bcc" not in read
            assert not read["To"].defects
            assert [each.addr_spec for each in read["To"].addresses] == ["ada@example.net"]
            assert not {"\r", "\n"} & set(decode_recipient_name(read))
            assert read.get_content_type() == "multipart/alternative"


@pytest.mark.parametrize("address", ["=?utf-8?q?a=0D=0ABcc=3A_x?=@exämple.org", "ada@=?utf-8?q?a=0D=0ABcc=3A_x?=.örg"])
def test_no_address_is_taken_for_an_encoded_word(address: str) -> None:
    """An address that holds an encoded word is refused.

    Such addresses in ASCII are refused, too, since `email` corrects them.
    """
    with pytest.raises(PermanentlyRefused):
        compose_alert_mail(ALERT, replace(READER, email=address), SENDER, NOW, CAUSE)


@settings(max_examples=300, deadline=None)
@example("a@[")
@example("a@")
@example("a@b\x00")
@given(
    address=st.text(max_size=30)
    | st.from_regex(r"[a-zé \r\n<>\",;:@\\\[\]().]{0,12}@[a-zü \r\n<>,.@]{1,9}", fullmatch=True)
)
def test_no_address_adds_a_header_or_a_recipient(address: str) -> None:
    """An invalid address is refused; a valid one is the only recipient."""
    try:
        mail = compose_alert_mail(ALERT, replace(READER, email=address), SENDER, NOW, CAUSE)
        wire = mail.as_bytes(policy=mail.policy.clone(utf8=True)).decode()
    except PermanentlyRefused:
        return
    read = message_from_string(wire, policy=default)
    assert {*read.keys()} == {*delivered(compose_alert_mail(ALERT, READER, SENDER, NOW, CAUSE)).keys()}
    [recipient] = read["To"].addresses
    assert recipient.addr_spec == address
    assert {type(defect) for defect in read["To"].defects} <= {NonASCIILocalPartDefect}  # it is none with SMTPUTF8


@pytest.mark.parametrize("address", ["zoë@example.net", "ada@пример.рф", "蝶@例え.jp"])
def test_addresses_in_any_alphabet_are_written(address: str) -> None:
    """An address beyond ASCII is written in UTF-8 (RFC 6532), for a server with SMTPUTF8."""
    mail = compose_alert_mail(ALERT, replace(READER, email=address, name="Zoë"), SENDER, NOW, CAUSE)
    wire = mail.as_bytes(policy=mail.policy.clone(utf8=True))
    assert f"<{address}>".encode() in wire
    assert message_from_string(wire.decode(), policy=default)["To"].addresses[0].addr_spec == address


def test_the_cause_header_has_microseconds() -> None:
    """The latency from an event to its mail is measured with it."""
    mail = delivered(compose_alert_mail(ALERT, READER, SENDER, NOW, CAUSE + timedelta(microseconds=1)))
    assert mail["X-Towerwatch-Cause"] == "2026-11-23T04:59:58.123457Z"
