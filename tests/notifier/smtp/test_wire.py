"""What goes over the wire and what comes back, byte by byte."""

import asyncio
import re
from collections import deque
from datetime import UTC, datetime, timedelta
from email.message import EmailMessage
from email.policy import SMTP, default

import pytest
from hypothesis import given, strategies as st

from notifier.errors import FailureReason, PermanentlyRefused
from notifier.smtp.envelope import Envelope, stuffed
from notifier.smtp.rate_limit import MINUTE, Pace
from notifier.smtp.replies import LONGEST_REPLY, Replies, Reply, Silence

NOW = datetime(2026, 11, 23, tzinfo=UTC)


def mail_to(*recipients: str, sender: str = "alerts@example.org") -> EmailMessage:
    mail = EmailMessage(policy=SMTP)
    mail["From"], mail["To"], mail["Subject"] = sender, ", ".join(recipients), "24 departures"
    mail.set_content("text\n")
    return mail


async def read(*pieces: bytes, ends: bool = True) -> list[Reply | None]:
    """The replies in what came in pieces; None at the end, where there are no more."""
    replies = Replies()
    for piece in pieces:
        replies.data_received(piece)
    if ends:
        replies.eof_received()
    found: list[Reply | None] = []
    while not found or found[-1] is not None:
        try:
            found.append(await replies.next(0.001))
        except Silence:
            found.append(None)
    return found


@given(st.data())
def test_replies_are_the_same_however_they_are_cut(data: st.DataObject) -> None:
    """TCP knows no lines; pipelined replies come together."""
    wire = (
        b"250-fake\r\n250-SIZE 1\r\n250 OK\r\n550-5.1.1 no\r\n550 5.7.1 at all\r\n250\r\n354 2.0.0 go\r\n421 4.3.2\r\n"
    )
    cuts = sorted(data.draw(st.lists(st.integers(0, len(wire)), max_size=8)))
    pieces = [wire[a:b] for a, b in zip([0, *cuts], [*cuts, len(wire)], strict=True)]
    assert asyncio.run(read(*pieces)) == [
        Reply(250, None),
        Reply(550, (5, 1, 1)),
        Reply(250, None),
        Reply(354, (2, 0, 0)),
        Reply(421, (4, 3, 2)),
        None,
    ]


@given(st.binary(max_size=200))
def test_no_bytes_break_the_reader(noise: bytes) -> None:
    """It may find replies or not; what it finds is one."""
    for reply in asyncio.run(read(noise))[:-1]:
        assert reply is not None
        assert 200 <= reply.code <= 599


@pytest.mark.parametrize("noise", [b"nonsense\r\n", b"HTTP/1.1 400\r\n", b"2500 x\r\n", b"199 x\r\n", b"\r\n"])
def test_what_is_no_reply_ends_it(noise: bytes) -> None:
    """A reply behind it could be anybody's."""
    assert asyncio.run(read(b"250 OK\r\n", noise, b"250 OK\r\n", ends=False)) == [Reply(250, None), None]


def test_a_reply_without_end_is_given_up() -> None:
    """A server must not fill the memory."""
    assert asyncio.run(read(b"250 " + b"x" * LONGEST_REPLY, b"y\r\n", ends=False)) == [None]


def test_a_server_that_says_something_unasked_is_not_quiet() -> None:
    """It is about to hang up."""
    replies = Replies()
    assert replies.quiet
    replies.data_received(b"421 4.4.2 idle\r\n")
    assert not replies.quiet


@pytest.mark.parametrize("text", [".", ".\r\n.", "a\r\n.\r\nb", "..", "a\n.\nb", "a\r.\rb", "é\r\n.é", ""])
def test_a_mail_ends_where_it_ends(text: str) -> None:
    """A line with a single dot is the end of the mail: no line in it may be one, however its lines end."""
    mail = mail_to("ada@example.net")
    mail.set_payload(text.encode("utf-8", "surrogateescape").decode("ascii", "surrogateescape"))
    content = Envelope.of(mail).content
    wire = stuffed(content)
    assert wire.index(b"\r\n.\r\n") == len(wire) - 5
    assert not re.search(rb"\r(?!\n)|(?<!\r)\n", wire)
    assert re.sub(rb"(?m)^\.", b"", wire[:-3]) == content


@given(st.binary(max_size=60).map(lambda raw: raw.replace(b"\0", b".")))
def test_stuffing_is_undone_by_the_server(raw: bytes) -> None:
    """Of each line that begins with a dot it takes one away (RFC 5321, 4.5.2)."""
    content = re.sub(rb"\r\n|\r|\n", b"\r\n", raw) + b"\r\n"
    taken: deque[bytes] = deque()
    for line in stuffed(content).split(b"\r\n"):
        if line == b".":
            break
        taken.append(line.removeprefix(b"."))
    assert b"\r\n".join(taken) + b"\r\n" == content


def test_a_mail_is_written_as_its_policy_says() -> None:
    """What was signed goes out as it was signed."""
    mail = mail_to("ada@example.net")
    envelope = Envelope.of(mail)
    assert (envelope.sender, envelope.recipient) == ("alerts@example.org", "ada@example.net")
    assert envelope.content == mail.as_bytes()
    bare = EmailMessage(policy=default)
    bare["From"], bare["To"] = "alerts@example.org", "ada@example.net"
    assert Envelope.of(bare).content.count(b"\n") == Envelope.of(bare).content.count(b"\r\n")


def test_what_is_signed_is_what_goes_out() -> None:
    """The signature is over the final bytes, also where they had to be written anew in seven bits."""
    mail = mail_to("ada@example.net")
    mail.set_content("zoë\n", cte="8bit")
    heard: list[bytes] = []

    def sign(message: bytes) -> bytes:
        heard.append(message)
        return b"DKIM-Signature: v=1\r\n" + message

    envelope = Envelope.of(mail, None, sign)
    seven = envelope.in_seven_bits()
    assert [envelope.content, seven] == [b"DKIM-Signature: v=1\r\n" + message for message in heard]
    assert (heard[0].isascii(), heard[1].isascii()) == (False, True)
    assert all(message.endswith(b"\r\n") and message.count(b"\n") == message.count(b"\r\n") for message in heard)


@pytest.mark.parametrize(
    ("mail", "sender"),
    [
        (mail_to("ada@example.net", "bob@example.net"), None),
        (mail_to(""), None),
        (EmailMessage(), None),
        (mail_to("ada@example.net"), "alerts@example.org>\r\nRCPT TO:<eve@example.net"),
        (mail_to("ada@example.net"), "a b\x00@example.org"),
        (mail_to('"<x>"@example.net'), None),
    ],
)
def test_what_smtp_cannot_carry_is_refused(mail: EmailMessage, sender: str | None) -> None:
    """Before anything of it is said."""
    with pytest.raises(PermanentlyRefused) as refused:
        Envelope.of(mail, sender)
    assert refused.value.reason is FailureReason.ADDRESS


@given(st.integers(1, 20), st.lists(st.integers(0, 30_000), min_size=1, max_size=80))
def test_no_minute_sees_more(rate: int, gaps: list[int]) -> None:
    """However the mails come; and none waits that need not."""
    pace, now, given_times = Pace(rate), NOW, []
    for gap in gaps:
        now += timedelta(milliseconds=gap)
        at = pace.next(now)
        assert at >= now
        window = [time for time in given_times if time > at - MINUTE]
        assert len(window) < rate
        earlier = max(now, given_times[-1]) if given_times else now
        if at > earlier:
            assert at - MINUTE == given_times[-rate]
        given_times.append(at)
