"""Compressed answers: for whom, which ones, and what their headers say."""

import gzip
import json
from collections.abc import Iterator

import pytest
from flask import Flask, Response
from hypothesis import given, strategies as st
from werkzeug.test import TestResponse

from chassis.web.compression import compress_answer

LONG = json.dumps({"windows": [{"flights": n} for n in range(500)]}).encode()
app = Flask("example")


def answer(response: Response, accepted: str | None = "gzip", method: str = "GET") -> Response:
    """Return what a client that accepts these codings gets; None: it does not say."""
    with app.test_request_context(method=method, headers={} if accepted is None else {"Accept-Encoding": accepted}):
        return compress_answer(response)


@pytest.mark.parametrize(
    "accepted", ["gzip", "GZIP", "br, gzip;q=0.5", "gzip, deflate, br, zstd", "*", "gzip; q=0.001"]
)
def test_who_takes_gzip_gets_it(accepted: str) -> None:
    """The same bytes after decompression, with the length of what is sent."""
    found = answer(Response(LONG), accepted)
    assert found.headers["Content-Encoding"] == "gzip"
    assert gzip.decompress(found.data) == LONG
    assert found.content_length == len(found.data) < len(LONG) / 5
    assert found.headers["Vary"] == "Accept-Encoding"


@pytest.mark.parametrize(
    "accepted", [None, "", "identity", "br", "gzip;q=0", "gzip;q=0, *;q=1", "*;q=0", "x", "gzip;q=no"]
)
def test_who_takes_no_gzip_gets_the_text(accepted: str | None) -> None:
    """With a `Vary`, so that no cache gives one client the other's answer."""
    found = answer(Response(LONG), accepted)
    assert (found.data, found.headers.get("Content-Encoding")) == (LONG, None)
    assert found.headers["Vary"] == "Accept-Encoding"


def test_a_vary_of_the_route_stays() -> None:
    """Both headers decide, then."""
    found = answer(Response(LONG, headers={"Vary": "Cookie"}))
    assert {each.strip() for each in found.headers["Vary"].split(",")} == {"Cookie", "Accept-Encoding"}


@pytest.mark.parametrize(
    "response",
    [
        Response(LONG, headers={"ETag": '"7"'}),
        Response(LONG, status=404),
        Response(LONG, status=206),
        Response(gzip.compress(LONG), headers={"Content-Encoding": "gzip"}),
        Response(b"short"),
        Response(status=304, headers={"ETag": 'W/"7"'}),
    ],
    ids=["strong tag", "error", "a part", "compressed before", "short", "unchanged"],
)
def test_what_is_left_as_it_is(response: Response) -> None:
    """A strong tag names these bytes; an error may repeat what was sent; the rest has no use for it."""
    body, headers = response.get_data(), dict(response.headers)
    found = answer(response)
    assert found.data == body
    assert dict(found.headers) == headers | {"Vary": "Accept-Encoding"}


def test_a_weak_tag_stays() -> None:
    """It stands for what is said, in whatever coding (RFC 9110, 8.8.1)."""
    found = answer(Response(LONG, headers={"ETag": 'W/"7"'}))
    assert (found.headers["ETag"], found.headers["Content-Encoding"]) == ('W/"7"', "gzip")


def test_a_stream_is_not_read() -> None:
    """Its parts go on as they come."""
    read: list[int] = []

    def parts() -> Iterator[bytes]:
        read.append(1)
        yield LONG

    found = answer(Response(parts()))
    assert (read, found.headers.get("Content-Encoding")) == ([], None)


def test_head_says_what_get_would_say() -> None:
    """The length and the coding of the compressed answer, and no body (RFC 9110, 9.3.2)."""
    example = Flask("example")

    @example.get("/")
    def start() -> Response:
        return compress_answer(Response(LONG))

    def ask(method: str) -> TestResponse:
        return example.test_client().open("/", method=method, headers={"Accept-Encoding": "gzip"})

    got, head = ask("GET"), ask("HEAD")
    assert head.data == b""
    assert dict(head.headers) == dict(got.headers)


@given(body=st.binary(max_size=5_000), accepted=st.sampled_from(["gzip", "identity"]))
def test_whatever_the_body_is_it_arrives(body: bytes, accepted: str) -> None:
    """Decoded by its own header, the answer is the body."""
    found = answer(Response(body), accepted)
    sent = found.data
    assert (gzip.decompress(sent) if "Content-Encoding" in found.headers else sent) == body
    assert found.content_length == len(sent)
