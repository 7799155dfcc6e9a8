"""Headers that the gateway passes on, and those that it does not."""

import pytest
from hypothesis import given, strategies as st
from multidict import CIMultiDict

from local.gateway.headers import UnreadableHeadersError, select_answer_headers, select_request_headers


def select(*headers: tuple[str, str]) -> list[tuple[str, str]]:
    """Return what a service gets of a request's headers, from a client at 192.0.2.7."""
    chosen = select_request_headers(CIMultiDict(headers), host="localhost:1", client="192.0.2.7", scheme="http")
    return list(chosen.items())


OURS = [
    ("Host", "localhost:1"),
    ("X-Forwarded-For", "192.0.2.7"),
    ("X-Forwarded-Proto", "http"),
    ("X-Forwarded-Host", "localhost:1"),
]


@pytest.mark.parametrize(
    "name",
    [
        "X-Forwarded-For", "x-forwarded-proto", "X-Forwarded-Host", "X-Forwarded-Port", "X-Forwarded-Anything",
        "Forwarded", "X-Real-IP", "X_Forwarded_For", "x_forwarded-for", "Host", "Connection", "Keep-Alive", "TE",
        "Trailer", "Transfer-Encoding", "Upgrade", "HTTP2-Settings", "Proxy-Authorization", "Proxy-Connection",
        "Expect",
    ],
)  # fmt: skip
def test_what_is_not_the_clients_to_say_is_dropped(name: str) -> None:
    """Each once, twice and beside others: the service gets our own word alone."""
    assert select((name, "198.51.100.1"), ("Accept", "*/*"), (name, "1")) == [*OURS, ("Accept", "*/*")]


def test_headers_that_connection_names_are_dropped_but_never_what_frames_the_message() -> None:
    """RFC 9110, 7.6.1; without its length or type the service would read another body."""
    assert select(
        ("Connection", "close, X-Mine,Content-Length"),
        ("X-Mine", "1"),
        ("Content-Length", "5"),
        ("connection", "content-type, x-forwarded-for"),
        ("Content-Type", "text/plain"),
        ("Authorization", "Bearer x"),
    ) == [*OURS, ("Content-Length", "5"), ("Content-Type", "text/plain"), ("Authorization", "Bearer x")]


def test_bytes_that_cannot_be_passed_on_are_refused() -> None:
    """They are neither dropped nor changed."""
    with pytest.raises(UnreadableHeadersError):
        select(("X-Name", "\udcfc"))


def test_a_services_headers_are_passed_on_in_their_order_with_ours_in_place_of_its_own() -> None:
    """Several cookies stay several."""
    answered = CIMultiDict(
        [("Set-Cookie", "a=1"), ("X-Frame-Options", "x"), ("Set-Cookie", "b=2"), ("Connection", "X-A"), ("X-A", "1")]
    )
    chosen = select_answer_headers(answered, {"X-Frame-Options": "DENY"})
    assert list(chosen.items()) == [("Set-Cookie", "a=1"), ("X-Frame-Options", "DENY"), ("Set-Cookie", "b=2")]


@given(st.lists(st.tuples(st.sampled_from(["Connection", "X-A", "x_forwarded_for", "X-Forwarded-For", "Host"]),
                          st.sampled_from(["x-a", "host", "X-Forwarded-For, close", "1.2.3.4", ""]))))  # fmt: skip
def test_no_combination_adds_to_what_we_say_of_the_client(headers: list[tuple[str, str]]) -> None:
    """Ours come first, once, whatever the client sends."""
    chosen = select(*headers)
    assert chosen[:4] == OURS
    assert {name.lower() for name, _ in chosen[4:]} <= {"x-a"}
