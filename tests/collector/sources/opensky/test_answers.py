"""Tests of the parsers of OpenSky's answers."""

import gzip
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import httpx
import pytest
from hypothesis import given, strategies as st

from collector.errors import ForeignAnswer, ForeignAnswerError
from collector.sources.opensky.answers import classify_foreign_answer, is_without_body, parse_date, parse_pause

NOW = datetime(2026, 11, 29, 12, tzinfo=UTC)
NOON = "Sun, 29 Nov 2026 12:00:00 GMT"
OWN = "X-Rate-Limit-Retry-After-Seconds"


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, 60),
        ({OWN: "120"}, 120),
        ({OWN: "120", "Retry-After": "7"}, 120),
        ({OWN: "soon", "Retry-After": "7"}, 7),
        ({"retry-after": "7"}, 7),
        ({"Retry-After": format_datetime(NOW + timedelta(minutes=5), usegmt=True)}, 300),
        ({"Retry-After": format_datetime(NOW - timedelta(minutes=5), usegmt=True)}, 1),
        ({"Retry-After": format_datetime(NOW + timedelta(days=400), usegmt=True)}, 86_400),
        ({"Retry-After": "Sun Nov 29 12:00:30 2026"}, 30),
        ({"Retry-After": "Sun, 29 Nov 2026 12:10:00 GMT", "Date": "Sun, 29 Nov 2026 12:08:00 GMT"}, 120),
        ({"Retry-After": "Wed, 12 Jan 2028 00:02:00 GMT", "Date": "Wed, 12 Jan 2028 00:00:00 GMT"}, 120),
        ({"Retry-After": "Sun, 29 Nov 2026 12:10:00 GMT", "Date": "noon"}, 600),
        ({"Retry-After": "nan"}, 60),
        ({"Retry-After": "Sun, 99 Nov 2026 12:00:00 GMT"}, 60),
    ],
)
def test_a_pause_is_read_from_the_sources_header_or_the_standard_one(headers: dict[str, str], seconds: float) -> None:
    """`Retry-After` has seconds or a date (RFC 9110, 10.2.3); a pause lasts from a second to a day."""
    assert parse_pause(httpx.Headers(headers), NOW) == seconds


@given(st.text(), st.text())
def test_no_header_makes_a_pause_of_another_length(own: str, standard: str) -> None:
    """Any text is a pause from a second to a day."""
    assert 1 <= parse_pause({OWN: own, "Retry-After": standard}, NOW) <= 86_400


@given(pause_s=st.integers(1, 86_400), wrong_by=st.timedeltas(timedelta(days=-400), timedelta(days=400)))
def test_a_pause_until_a_date_does_not_depend_on_our_clock(pause_s: int, wrong_by: timedelta) -> None:
    """Whoever sends a date has also said what time it is by the same clock."""
    headers = {
        "Date": format_datetime(NOW, usegmt=True),
        "Retry-After": format_datetime(NOW + timedelta(seconds=pause_s), usegmt=True),
    }
    assert parse_pause(headers, NOW + wrong_by) == pause_s


@pytest.mark.parametrize(
    ("headers", "date"),
    [
        ({}, None),
        ({"Date": ""}, None),
        ({"Date": "0"}, None),
        ({"Date": "yesterday"}, None),
        ({"Date": "Sun, 99 Nov 2026 12:00:00 GMT"}, None),
        ({"Date": NOON}, NOW),
        ({"date": NOON}, NOW),
        ({"Date": "Sun Nov 29 12:00:00 2026"}, NOW),
        ({"Date": "Sun, 29 Nov 2026 13:00:00 +0100"}, NOW),
        ({"Date": NOON, "Age": "90"}, NOW + timedelta(seconds=90)),
        ({"Date": NOON, "Age": "-90"}, NOW),
        ({"Date": NOON, "Age": "old"}, NOW),
        ({"Date": NOON, "Age": "1e300"}, NOW + timedelta(days=1)),
        ({"Age": "90"}, None),
        ({"Date": "Fri, 31 Dec 9999 23:59:59 GMT", "Age": "5"}, None),
        ({"Date": "Fri, 31 Dec 9999 23:59:59 -2359"}, None),
    ],
)
def test_an_answer_is_dated_by_its_header(headers: dict[str, str], date: datetime | None) -> None:
    """The time in a cache is added; without a readable `Date` the time is unknown."""
    assert parse_date(httpx.Headers(headers)) == date


@given(st.text(), st.text())
def test_any_date_is_read_or_unknown(date: str, age: str) -> None:
    """No text raises, and what is read is aware."""
    found = parse_date({"Date": date, "Age": age})
    assert found is None or found.tzinfo is UTC


@pytest.mark.parametrize(
    ("status", "content_type", "body", "kind"),
    [
        (404, "text/html", b"<html>no such page</html>", ForeignAnswer.HTML),
        (200, "text/html; charset=utf-8", b"sign in", ForeignAnswer.HTML),
        (200, "", b"\xef\xbb\xbf\r\n <!DOCTYPE html><title>Down</title>", ForeignAnswer.HTML),
        (200, "application/xhtml+xml", b"<?xml version='1.0'?><html/>", ForeignAnswer.HTML),
        (404, "application/json", b'{"status":404,"error":"Not Found"}', ForeignAnswer.PROBLEM_JSON),
        (404, "application/problem+json", b'{"type":"about:blank"}', ForeignAnswer.PROBLEM_JSON),
        (200, "application/problem+json", b"{", ForeignAnswer.PROBLEM_JSON),
        (200, "", b'{"message":"no Route matched"}', ForeignAnswer.PROBLEM_JSON),
        (200, "application/json", b"null", ForeignAnswer.JSON),
        (404, "application/json", b"null", ForeignAnswer.JSON),
        (200, "", b'{"flights": []}', ForeignAnswer.JSON),
        (200, "", b'"none"', ForeignAnswer.JSON),
        (301, "text/html", b"<html>moved</html>", ForeignAnswer.REDIRECT),
        (302, "", b"", ForeignAnswer.REDIRECT),
        (304, "", b"", ForeignAnswer.REDIRECT),
        (404, "", b"\n", ForeignAnswer.NOT_FOUND_WITH_BODY),
        (404, "text/plain", b"404 page not found", ForeignAnswer.NOT_FOUND_WITH_BODY),
        (404, "application/json", b"[]", ForeignAnswer.NOT_FOUND_WITH_BODY),
        (200, "application/json", b"", ForeignAnswer.UNREADABLE),
        (200, "application/json", b'[{"icao24": "a0', ForeignAnswer.UNREADABLE),
        (200, "", b"\xff\xfe[", ForeignAnswer.UNREADABLE),
        (200, "", b"[" * 100_000, ForeignAnswer.UNREADABLE),
        (200, "application/xml", b"<Error><Code>AccessDenied</Code></Error>", ForeignAnswer.UNREADABLE),
    ],
)
def test_a_foreign_answer_has_a_kind(status: int, content_type: str, body: bytes, kind: ForeignAnswer) -> None:
    """The kind comes from the status, the content type and the body."""
    headers = {"Content-Type": content_type} if content_type else {}
    assert classify_foreign_answer(httpx.Response(status, headers=headers, content=body)) is kind


@given(st.integers(200, 499), st.text(), st.binary() | st.just(b"[]") | st.just(b"{}"))
def test_every_foreign_answer_has_a_kind(status: int, content_type: str, body: bytes) -> None:
    """Whatever the answer is, there is a kind for it."""
    headers = httpx.Headers([(b"Content-Type", content_type.encode())])
    assert classify_foreign_answer(httpx.Response(status, headers=headers, content=body)) in ForeignAnswer


@pytest.mark.parametrize("kind", ForeignAnswer)
def test_each_kind_says_what_to_do(kind: ForeignAnswer) -> None:
    """The text is for an operator: what came, what to look at, and the status."""
    error = ForeignAnswerError(kind, 418)
    assert error.transient
    assert error.kind is kind
    assert any(word in str(error) for word in ("look for", "check", "correct"))
    assert "418" in str(error)


PAGE = gzip.compress(b"<!DOCTYPE html><html><body>Not Found</body></html>", mtime=0)
LARGE_PAGE = gzip.compress(bytes(range(32, 127)) * 40, mtime=0)


@pytest.mark.parametrize(
    ("body", "encoding", "is_empty"),
    [
        (b"", "", True),
        (b"", "gzip", True),  # said, and not done
        (gzip.compress(b"", mtime=0), "gzip", True),  # as mod_deflate compresses nothing
        (b"\n", "", False),
        (b" ", "", False),
        (b"\x00", "", False),
        (b"[]", "", False),
        (b"<", "", False),
        (PAGE, "gzip", False),
        (PAGE[:1], "gzip", False),
        (PAGE[:10], "gzip", False),
        (PAGE[:11], "gzip", False),
        (LARGE_PAGE[:19], "gzip", False),
        (LARGE_PAGE[:40], "gzip", False),
        (gzip.compress(b"[]", mtime=0)[:11], "gzip", False),
    ],
)
def test_only_a_body_that_was_empty_on_the_wire_is_empty(body: bytes, encoding: str, is_empty: bool) -> None:
    """A compressed page whose end is missing may leave nothing to read; that does not mean "no flights"."""
    headers = {"Content-Encoding": encoding} if encoding else {}
    answer = httpx.Response(404, headers=headers, stream=httpx.ByteStream(body))
    answer.read()
    assert is_without_body(answer) is is_empty
