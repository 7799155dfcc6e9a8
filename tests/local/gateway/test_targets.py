"""Request targets: one spelling of each path, and none by which routes and services would see different paths."""

import re
from urllib.parse import unquote_to_bytes

import pytest
from hypothesis import given, strategies as st

from local.gateway.targets import RequestTarget, UnreadableTargetError, parse_target


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("/users", RequestTarget("/users", "")),
        ("/users/ada%40example.org?a=%2e%2e&b=/../x", RequestTarget("/users/ada%40example.org", "?a=%2e%2e&b=/../x")),
        ("/users?", RequestTarget("/users", "?")),
        ("/%75s%65rs/%7Ea", RequestTarget("/users/~a", "")),
        ("/users/a%2Fb@example.org", RequestTarget("/users/a%2Fb@example.org", "")),
        ("/users//x", RequestTarget("/users//x", "")),
        ("//users", RequestTarget("//users", "")),
        ("/users/%252e%252e/x", RequestTarget("/users/%252e%252e/x", "")),
        ("/users/...", RequestTarget("/users/...", "")),
        ("/users/jürgen?q=ü", RequestTarget("/users/j%C3%BCrgen", "?q=%C3%BC")),
        ("/users/j\udcfcrgen", RequestTarget("/users/j%FCrgen", "")),
        ("http://localhost:8530/users?a", RequestTarget("/users", "?a", "localhost:8530")),
        ("HTTPS://[::1]/users", RequestTarget("/users", "", "[::1]")),
        ("http://localhost", RequestTarget("/", "", "localhost")),
        ("http://localhost?a", RequestTarget("/", "?a", "localhost")),
        ("http://ada@localhost/", RequestTarget("/", "", "ada@localhost")),
    ],
)
def test_a_target_has_one_spelling(text: str, target: RequestTarget) -> None:
    """Escapes that mean nothing are decoded, what is not ASCII is escaped, and all else is passed on as it is."""
    assert parse_target(text) == target


@pytest.mark.parametrize(
    "text",
    [
        "", "users", "*", "localhost:80", "ftp://localhost/users", "http:/users", "?a", "#a",
        "/users/..", "/users/../metrics", "/..", "/.", "/users/./x", "/users/%2e%2e/metrics", "/users/.%2E/metrics",
        "/users/..%2fmetrics", "/users%2f..%2fmetrics", "/users/..\\metrics", "/users%5c..%5Cmetrics",
        "http://localhost/users/../metrics", "/users/%", "/users/%2", "/users/%zz", "/users/%u002e",
        "/users#x", "/users/%00", "/users/%0d%0aX:1", "/users/%7f", "/users/\tx",
    ],
)  # fmt: skip
def test_a_target_that_could_be_read_in_two_ways_is_refused(text: str) -> None:
    """Dot segments, in any spelling, broken escapes, fragments, control characters, and forms that are no path."""
    with pytest.raises(UnreadableTargetError, match=r"\.$"):
        parse_target(text)


_PIECES = st.sampled_from(
    [
        "/",
        ".",
        "..",
        "%2e",
        "%2E",
        "%2f",
        "%5c",
        "\\",
        "%25",
        "%",
        "users",
        "a",
        "ü",
        "\udcff",
        "%00",
        "%c3",
        ";",
        "?",
        "~",
    ]
)


@given(st.lists(_PIECES, max_size=12).map("".join))
def test_no_accepted_path_has_a_dot_segment_however_often_it_is_decoded_as_services_do(text: str) -> None:
    """What a service sees, after it has decoded the path once, is what was routed, and is the client's own path."""
    try:
        target = parse_target("/" + text)
    except UnreadableTargetError:
        return
    assert target.path.isascii()
    seen = unquote_to_bytes(target.path)
    assert not {b".", b".."} & set(re.split(rb"[/\\]", seen))
    given_path = ("/" + text).partition("?")[0]
    assert seen == unquote_to_bytes(given_path.encode("utf-8", "surrogateescape"))
    assert parse_target(target.path + target.query) == target
