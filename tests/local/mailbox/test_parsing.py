"""Parsing of well-formed, malformed and hostile mails."""

from dataclasses import replace
from email.message import EmailMessage

import pytest
from hypothesis import given, strategies as st

from local.mailbox.parsing import (
    MAX_HEADER_LENGTH,
    MAX_HEADERS,
    MAX_TEXT_LENGTH,
    decode_bytes,
    decode_header_value,
    parse_mail,
    summarize_mail,
)
from notifier.mail import compose_alert_mail
from tests.notifier.alerts import ALERT, CAUSE, CONTACT, EARLIER, NOW, SENDER

HEAD = b"Subject: x\nMIME-Version: 1.0\n"


@pytest.mark.parametrize(
    ("raw", "decoded"),
    [
        ("=?utf-8?q?caf=C3=A9_au_lait?=", "café au lait"),
        ("=?UTF-8?B?w4Z0aGVsZmzDpmQ=?= <a@example.org>", "Æthelflæd <a@example.org>"),
        ("=?utf-8?b?w4Z0aGVsZmzDpmQ?=", "Æthelflæd"),
        ("=?utf-8?q?a?= =?utf-8?q?b?= c =?utf-8?q?d?=", "ab c d"),
        ("=?utf-8?q?=C3?=\n =?utf-8?q?=A9?=", "é"),
        ("=?iso-8859-1?q?=E9?= =?utf-8?q?=C3=A9?=", "éé"),
        ("=?iso-8859-1*fr?q?=E9?=", "é"),
        ("=?no-such-charset?q?caf=C3=A9?=", "café"),
        ("=?utf-8?b?!!!?= x", "=?utf-8?b?!!!?= x"),
        ("=?utf-8?b?!!!?= =?utf-8?q?x?=", "=?utf-8?b?!!!?= x"),
        ("=?utf-8?q?one=0D=0ABcc:_two=00?=", "one Bcc: two\N{REPLACEMENT CHARACTER}"),
        ("folded\n\tonto\r\n lines", "folded onto lines"),
        ("8-bit caf\udcc3\udca9 \udcff", "8-bit café \N{REPLACEMENT CHARACTER}"),
        ("", ""),
    ],
)
def test_headers_are_decoded_and_made_one_line(raw: str, decoded: str) -> None:
    """Encoded words (RFC 2047) are decoded as far as possible, and no header has a line break or control character."""
    assert decode_header_value(raw) == decoded


@given(
    st.lists(st.sampled_from(["=?utf-8?q?", "=?x?b?", "?=", "=C3", "=", "?", " ", "\n", "w4Y=", "\x00", "\udcff", "é"]))
)
def test_any_header_is_decoded(parts: list[str]) -> None:
    """No header raises an error, and the result is one printable line."""
    decoded = decode_header_value("".join(parts))
    decoded.encode()
    assert decoded.splitlines() in ([decoded], [])


@pytest.mark.parametrize(
    "charset", [None, "no-such-charset", "zlib", "hex", "punycode", "idna", "undefined", "a\0b", ""]
)
def test_an_unknown_charset_is_taken_for_utf_8(charset: str | None) -> None:
    """Python's codecs that are no charsets, and those that take very long, count as unknown."""
    assert decode_bytes("café".encode(), charset) == "café"


def test_a_decoded_text_can_be_encoded() -> None:
    """UTF-7 can encode half a character."""
    decode_bytes(b"+2AA-", "utf-7").encode()


def test_our_own_mail_is_parsed_whole() -> None:
    """The mail of an alert has a text, a page, the charts of the page, and headers as they were set."""
    mail = compose_alert_mail(replace(ALERT, earlier=EARLIER), CONTACT, SENDER, NOW, CAUSE)
    parsed = parse_mail(mail.as_bytes())
    assert parsed.text is not None
    assert "John F Kennedy International Airport (KJFK), New York, had 24 departures" in parsed.text
    assert parsed.html is not None
    assert [f"cid:{name}" in parsed.html for name in parsed.images] == [True]
    assert parsed.defects == ()
    fields = {field.name: field for field in parsed.headers}
    assert fields["Subject"].text.startswith("KJFK: 24 departures, above 20")
    assert "=?utf-8?" in fields["Subject"].raw
    assert summarize_mail(mail.as_bytes()[:3000]).subject == fields["Subject"].text


def test_recipients_of_the_envelope_stand_in_for_a_missing_to() -> None:
    """A list without the recipients would be of little use."""
    summary = summarize_mail(b"Delivered-To: b@example.net\nDelivered-To: c@example.net\nFrom: a\n\nTo: no header\n")
    assert (summary.sender, summary.recipients, summary.subject) == ("a", "b@example.net, c@example.net", "")


@pytest.mark.parametrize(
    ("content", "defect"),
    [
        (HEAD + b"Content-Type: multipart/mixed; boundary=x\n\nno boundary\n", "start boundary not found"),
        (HEAD + b"Content-Type: multipart/mixed\n\n--x\n\nhello\n", "no boundary in multipart"),
        (HEAD + b"Content-Type: multipart/mixed; boundary=x\n\n--x\n\nhello\n", "close boundary not found"),
        (HEAD + b"Content-Type: text/plain\nContent-Transfer-Encoding: base64\n\n====\n", None),
        (b"no header at all\n", "missing header body separator"),
        (b"", None),
        (b"\x00\xff" * 100, "missing header body separator"),
    ],
)
def test_a_malformed_mail_is_parsed_as_far_as_possible(content: bytes, defect: str | None) -> None:
    """What is wrong is said in words."""
    defects = parse_mail(content).defects
    assert defect is None or defect in defects


def test_a_mail_that_breaks_the_parser_is_still_described() -> None:
    """Parts that are nested a thousand times exceed Python's stack."""
    nested = b"".join(b"Content-Type: multipart/mixed; boundary=%d\n\n--%d\n" % (n, n) for n in range(3_000))
    assert parse_mail(b"Subject: deep\n" + nested).defects
    assert summarize_mail(b"Subject: deep\n" + nested).subject == "deep"


@pytest.mark.parametrize("charset", ["no-such-charset", '"', "us-ascii", "utf-16"])
def test_a_text_of_a_wrong_charset_is_shown(charset: str) -> None:
    """What is not of the charset is replaced, and no mail is unreadable for its charset's name."""
    parsed = parse_mail(HEAD + b"Content-Type: text/plain; charset=%s\n\ncaf\xc3\xa9\n" % charset.encode())
    assert parsed.text


def test_long_mails_are_cut() -> None:
    """A page must stay one that a browser can show."""
    headers = b"".join(b"X-%d: y\n" % number for number in range(MAX_HEADERS + 10))
    mail = b"Subject: " + b"s" * 3 * MAX_HEADER_LENGTH + b"\n" + headers + b"\n" + b"t" * 3 * MAX_TEXT_LENGTH
    parsed = parse_mail(mail)
    assert parsed.text == "t" * MAX_TEXT_LENGTH
    assert len(parsed.headers) == MAX_HEADERS
    assert len(parsed.headers[0].text) == len(summarize_mail(mail).subject) == MAX_HEADER_LENGTH


def test_attachments_are_described_and_not_shown() -> None:
    """An attached text is no text of the mail."""
    mail = EmailMessage()
    mail["Subject"] = "x"
    mail.add_attachment("secret", filename="café.txt")
    mail.add_attachment(b"12345", maintype="application", subtype="pdf", filename="a.pdf")
    parsed = parse_mail(mail.as_bytes())
    assert (parsed.text, parsed.html) == (None, None)
    assert [(part.content_type, part.filename, part.size) for part in parsed.parts] == [
        ("text/plain", "café.txt", 7),
        ("application/pdf", "a.pdf", 5),
    ]


LINES = (
    b"Content-Type: multipart/alternative; boundary=x\n",
    b"Content-Type: text/html; charset*=utf-8'en'%ff\n",
    b"Content-Type: message/rfc822\n",
    b"Content-Type: message/delivery-status\n",
    b"Content-Type: ;;;=\n",
    b"Content-Type: image/png\n",
    b"Content-Disposition: attachment; filename*0*=a''%41; filename*2=b\n",
    b"Content-ID: <\xff>\n",
    b"Content-Transfer-Encoding: quoted-printable\n",
    b"Content-Transfer-Encoding: x-uuencode\n",
    b"Subject: =?utf-8?b?w4Y?=\n",
    b'From: "@[\n',
    b"begin 666 a\n",
    *(b"=XX=\n", b"--x\n", b"--x--\n", b"\n", b"\r", b"\x00", b"\xff", b"<b>", b" folded\n"),
)


@given(st.lists(st.sampled_from(LINES), max_size=30))
def test_no_mail_raises_an_error(parts: list[bytes]) -> None:
    """Every mail has a summary and a parsed form, of texts that can be encoded."""
    content = b"".join(parts)
    parsed, summary = parse_mail(content), summarize_mail(content)
    for text in (summary.sender, summary.recipients, summary.subject, parsed.text or "", parsed.html or ""):
        text.encode()
    for field in parsed.headers:
        f"{field.name}{field.text}{field.raw}".encode()
