"""The bytes of SMTP: parsing of replies, dot-stuffing, envelopes; and the rate limit."""

import asyncio
import re
from collections import deque
from datetime import UTC, datetime, timedelta
from email.message import EmailMessage
from email.policy import SMTP, default

import pytest
from hypothesis import given, strategies as st

from notifier.errors import FailureReason, PermanentlyRefused
from notifier.smtp.envelope import Envelope, dot_stuff
from notifier.smtp.rate_limit import MINUTE, RateLimit
from notifier.smtp.replies import LONGEST_REPLY, MOST_REPLIES, NoReplyError, ReplyReader, SmtpReply

NOW = datetime(2026, 11, 23, tzinfo=UTC)


def build_mail(*recipients: str, sender: str = "alerts@example.org") -> EmailMessage:
    mail = EmailMessage(policy=SMTP)
    mail["From"], mail["To"], mail["Subject"] = sender, ", ".join(recipients), "24 departures"
    mail.set_content("text\n")
    return mail


async def read_replies(*pieces: bytes, ends: bool = True) -> list[SmtpReply | None]:
    """Return the replies in bytes that came in pieces, and None at the end."""
    replies = ReplyReader()
    for piece in pieces:
        replies.data_received(piece)
    if ends:
        replies.eof_received()
    found: list[SmtpReply | None] = []
    while not found or found[-1] is not None:
        try:
            found.append(await replies.read_reply(0.001))
        except NoReplyError:
            found.append(None)
    return found


@given(st.data())
def test_replies_do_not_depend_on_how_bytes_are_split(data: st.DataObject) -> None:
    """TCP may split replies anywhere, and deliver several pipelined replies together."""
    wire = (
        b"250-fake\r\n250-SIZE 1\r\n250 OK\r\n550-5.1.1 no\r\n550 5.7.1 at all\r\n250\r\n354 2.0.0 go\r\n421 4.3.2\r\n"
    )
    cuts = sorted(data.draw(st.lists(st.integers(0, len(wire)), max_size=8)))
    pieces = [wire[a:b] for a, b in zip([0, *cuts], [*cuts, len(wire)], strict=True)]
    assert asyncio.run(read_replies(*pieces)) == [
        SmtpReply(250, None),
        SmtpReply(550, (5, 1, 1)),
        SmtpReply(250, None),
        SmtpReply(354, (2, 0, 0)),
        SmtpReply(421, (4, 3, 2)),
        None,
    ]


@given(st.binary(max_size=200))
def test_no_bytes_crash_the_reader(noise: bytes) -> None:
    """Any bytes give valid replies or none."""
    for reply in asyncio.run(read_replies(noise))[:-1]:
        assert reply is not None
        assert 200 <= reply.code <= 599


@pytest.mark.parametrize("noise", [b"nonsense\r\n", b"HTTP/1.1 400\r\n", b"2500 x\r\n", b"199 x\r\n", b"\r\n"])
def test_an_invalid_line_ends_the_reading(noise: bytes) -> None:
    """A reply after an invalid line cannot be assigned to a command."""
    assert asyncio.run(read_replies(b"250 OK\r\n", noise, b"250 OK\r\n", ends=False)) == [SmtpReply(250, None), None]


def test_an_endless_reply_ends_the_reading() -> None:
    """A server cannot fill the memory."""
    assert asyncio.run(read_replies(b"250 " + b"x" * LONGEST_REPLY, b"y\r\n", ends=False)) == [None]


@pytest.mark.parametrize("line", [b"250-\r\n", b"250-x\r\n", b"250-" + b"x" * 500 + b"\r\n"])
def test_a_reply_of_endless_lines_ends_the_reading(line: bytes) -> None:
    """A server that lies holds neither the memory nor the event loop; what comes after the end is not even kept.

    Before, each line added up all lines before it: 240 KB of empty ones took 90 s, in which no mail went out.
    """
    assert asyncio.run(read_replies(line * 999 + b"250 OK\r\n", ends=False)) != [None]
    assert asyncio.run(read_replies(line * 1000 + b"250 OK\r\n", b"250 OK\r\n", ends=False)) == [None]
    replies = ReplyReader()
    for _ in range(50):
        replies.data_received(line * 1000)
    assert len(replies._unread) <= len(line) * 1000


@pytest.mark.parametrize("at_once", [1, 1000])
def test_endless_replies_end_the_reading(at_once: int) -> None:
    """A server that answers what nobody has asked cannot fill the memory: it was up to 270 MB of each connection."""
    replies, line = ReplyReader(), b"250 " + b"x" * 4090 + b"\r\n"
    for _ in range(2000 // at_once):
        replies.data_received(line * at_once)
    assert len(replies._replies) <= MOST_REPLIES + 1
    assert not replies._unread


def test_an_unasked_reply_makes_the_connection_not_quiet() -> None:
    """The server is about to close the connection."""
    replies = ReplyReader()
    assert replies.is_quiet
    replies.data_received(b"421 4.4.2 idle\r\n")
    assert not replies.is_quiet


@pytest.mark.parametrize("text", [".", ".\r\n.", "a\r\n.\r\nb", "..", "a\n.\nb", "a\r.\rb", "é\r\n.é", ""])
def test_only_the_last_line_ends_a_mail(text: str) -> None:
    """A line with a single dot ends the mail: no line of the content is one, with any line ends."""
    mail = build_mail("ada@example.net")
    mail.set_payload(text.encode("utf-8", "surrogateescape").decode("ascii", "surrogateescape"))
    content = Envelope.of(mail).content
    wire = dot_stuff(content)
    assert wire.index(b"\r\n.\r\n") == len(wire) - 5
    assert not re.search(rb"\r(?!\n)|(?<!\r)\n", wire)
    assert re.sub(rb"(?m)^\.", b"", wire[:-3]) == content


@given(st.binary(max_size=60).map(lambda raw: raw.replace(b"\0", b".")))
def test_the_server_can_undo_the_dot_stuffing(raw: bytes) -> None:
    """The server removes one dot from each line that begins with one (RFC 5321, 4.5.2)."""
    content = re.sub(rb"\r\n|\r|\n", b"\r\n", raw) + b"\r\n"
    taken: deque[bytes] = deque()
    for line in dot_stuff(content).split(b"\r\n"):
        if line == b".":
            break
        taken.append(line.removeprefix(b"."))
    assert b"\r\n".join(taken) + b"\r\n" == content


def test_a_mail_is_serialized_by_its_own_policy() -> None:
    """The content is equal to the mail's own bytes, with CRLF line ends."""
    mail = build_mail("ada@example.net")
    envelope = Envelope.of(mail)
    assert (envelope.sender, envelope.recipient) == ("alerts@example.org", "ada@example.net")
    assert envelope.content == mail.as_bytes()
    bare = EmailMessage(policy=default)
    bare["From"], bare["To"] = "alerts@example.org", "ada@example.net"
    assert Envelope.of(bare).content.count(b"\n") == Envelope.of(bare).content.count(b"\r\n")


def test_the_signature_covers_the_sent_bytes() -> None:
    """The mail is signed in its final bytes, and signed again when it is encoded in seven bits."""
    mail = build_mail("ada@example.net")
    mail.set_content("zoë\n", cte="8bit")
    signed_bytes: list[bytes] = []

    def sign(message: bytes) -> bytes:
        signed_bytes.append(message)
        return b"DKIM-Signature: v=1\r\n" + message

    envelope = Envelope.of(mail, None, sign)
    seven = envelope.encode_in_seven_bits()
    assert [envelope.content, seven] == [b"DKIM-Signature: v=1\r\n" + message for message in signed_bytes]
    assert (signed_bytes[0].isascii(), signed_bytes[1].isascii()) == (False, True)
    assert all(message.endswith(b"\r\n") and message.count(b"\n") == message.count(b"\r\n") for message in signed_bytes)


@pytest.mark.parametrize(
    ("mail", "sender"),
    [
        (build_mail("ada@example.net", "bob@example.net"), None),
        (build_mail(""), None),
        (EmailMessage(), None),
        (build_mail("ada@example.net"), "alerts@example.org>\r\nRCPT TO:<eve@example.net"),
        (build_mail("ada@example.net"), "a b\x00@example.org"),
        (build_mail('"<x>"@example.net'), None),
    ],
)
def test_invalid_addresses_are_refused(mail: EmailMessage, sender: str | None) -> None:
    """An envelope needs exactly one valid recipient and a valid sender; else PermanentlyRefused, before any command."""
    with pytest.raises(PermanentlyRefused) as refused:
        Envelope.of(mail, sender)
    assert refused.value.reason is FailureReason.ADDRESS


@given(st.integers(1, 20), st.lists(st.integers(0, 30_000), min_size=1, max_size=80))
def test_no_minute_has_more_mails_than_the_limit(rate: int, gaps: list[int]) -> None:
    """At any arrival times, no minute has more mails than the limit, and no mail waits longer than necessary."""
    limit, now, given_times = RateLimit(rate), NOW, []
    for gap in gaps:
        now += timedelta(milliseconds=gap)
        at = limit.reserve(now)
        assert at >= now
        window = [time for time in given_times if time > at - MINUTE]
        assert len(window) < rate
        earlier = max(now, given_times[-1]) if given_times else now
        if at > earlier:
            assert at - MINUTE == given_times[-rate]
        given_times.append(at)
