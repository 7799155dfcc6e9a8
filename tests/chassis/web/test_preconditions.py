"""If-Match: which versions a request may change, also by tags that a proxy has changed, and why it may not."""

import re

import pytest
from flask import Flask

from chassis.web.http import Problem
from chassis.web.preconditions import (
    IF_MATCH,
    ExpectedVersions,
    format_entity_tag,
    format_weak_tag,
    is_known_to_client,
    read_if_match,
)

PRESENT = [
    '"1"', 'W/"1"', '"0", "1"', '"0","1"', '"0" \t, \t"1"', 'W/"7" , "1"', '"0", W/"1"', '"1-gzip"', '"1;gzip"',
    '"1--gzip"', 'W/"1-gzip"', '"1-br"', '"1-zstd"', '"1:deflate"', '"1-x-gzip"', '"1",', ',"1"', '"x", , "1" ,, W/"2"',
    '"1,2", "1"',
]  # fmt: skip
"""Values of If-Match that mean version 1, among others perhaps."""

NOT_PRESENT = [
    '"2"', 'W/"2"', '"2-gzip"', '""', 'W/""', '"0"', '"01"', '"11"', '"x"', '"*"', '"1.0"', '"+1"', '"-1"', '"1-"',
    '"1-x"', '"1_gzip"', '"1gzip"', '"gzip"', '"1-gzip-gzip-gzip"', '"' + "9" * 400 + '"', '"1,2"', '"2", W/"3"',
]  # fmt: skip
"""Values that mean no version up to 1: nothing has changed since they were read."""

MALFORMED = [
    "", "1", '"1', '1"', "W/1", 'w/"1"', 'W"1"', 'W/ "1"', '"1" "1"', "*, *", '*, "1"', '"1", *', "**", '"a b"', '"1 "',
    ",", "'1'", '"1";', '"ü"', "W/*",
]  # fmt: skip
"""Values that are no list of entity tags (RFC 9110, 8.8.3)."""

app = Flask("example")


def read(header: str | None) -> ExpectedVersions:
    """Return what a request with this If-Match expects; None: without the header."""
    with app.test_request_context(headers={} if header is None else {"If-Match": header}):
        return read_if_match()


@pytest.mark.parametrize("header", PRESENT)
def test_one_of_the_tags_suffices(header: str) -> None:
    """Weak tags and tags with the name of a coding are ours, after a proxy has compressed the answer."""
    assert read(header).accepts(1)
    assert not read(header).accepts(4)


@pytest.mark.parametrize("header", NOT_PRESENT)
def test_no_tag_matches_by_chance(header: str) -> None:
    """The reason is never that something has changed: no earlier version was named."""
    expected = read(header)
    assert not expected.accepts(1)
    assert "has changed" not in expected.explain_mismatch("thing", 1)
    assert "If-Match" in expected.explain_mismatch("thing", 1)


@pytest.mark.parametrize("header", PRESENT)
def test_an_earlier_version_has_changed_since(header: str) -> None:
    """The client has read an earlier version, in whatever form its tag came."""
    assert read(header).explain_mismatch("thing", 4) == "The thing has changed since; read it again."


def test_a_star_accepts_every_version() -> None:
    """RFC 9110, 13.1.1."""
    assert read("*").accepts(1)
    assert read("*").is_any
    assert not read('"*"').is_any


@pytest.mark.parametrize("header", MALFORMED)
def test_a_malformed_list_of_tags_is_a_bad_request(header: str) -> None:
    """The answer shows the form; a guess could lose somebody's change."""
    with pytest.raises(Problem) as caught:
        read(header)
    assert caught.value.status == 400
    assert 'If-Match: "1"' in caught.value.detail


def test_a_missing_if_match_is_rejected() -> None:
    """The answer is 428 (RFC 6585, 3)."""
    with pytest.raises(Problem) as caught:
        read(None)
    assert caught.value.status == 428


def test_a_formatted_entity_tag_is_a_valid_if_match() -> None:
    """Clients send the ETag of an answer back in If-Match."""
    assert format_entity_tag(1) == '"1"'
    assert re.fullmatch(IF_MATCH.pattern, format_entity_tag(10**9))


@pytest.mark.parametrize(
    ("header", "known"),
    [
        (None, False), ("*", True), ('"5f0b"', True), ('W/"5f0b"', True), ('"5f0b-gzip"', True), ('W/"5f0b;br"', True),
        ('"a", W/"5f0b"', True), ('"5f0"', False), ('"5f0bb"', False), ('"5f0b-x"', False), ('""', False),
    ],
)  # fmt: skip
def test_an_answer_is_known_by_its_tag(header: str | None, known: bool) -> None:
    """Weakly compared, as If-None-Match is; what a proxy appends to it when it compresses is no other answer."""
    assert format_weak_tag("5f0b") == 'W/"5f0b"'
    with app.test_request_context(headers={} if header is None else {"If-None-Match": header}):
        assert is_known_to_client("5f0b") is known


@pytest.mark.parametrize("header", MALFORMED)
def test_a_malformed_list_of_known_tags_is_refused(header: str) -> None:
    """As with If-Match: with a sentence that shows the form."""
    with app.test_request_context(headers={"If-None-Match": header}), pytest.raises(Problem, match="If-None-Match"):
        is_known_to_client("5f0b")
