"""Hosts, ports and URLs in settings: one spelling that every client takes, or one sentence."""

import socket
from collections.abc import Callable

import pytest
from hypothesis import given, strategies as st
from pydantic import SecretStr, TypeAdapter, ValidationError

from chassis.addresses import (
    Port,
    normalize_host,
    normalize_http_url,
    normalize_listen_host,
    normalize_server_list,
    normalize_server_name,
    normalize_target,
)
from chassis.db.database import DatabaseSettings

LONG = ".".join(["a" * 60] * 5)


@pytest.mark.parametrize(
    ("text", "normalized"),
    [
        ("smtp.example.org", "smtp.example.org"),
        ("smtp.example.org.", "smtp.example.org."),
        ("localhost", "localhost"),
        ("user_manager", "user_manager"),  # a name in compose
        ("_smtp._tcp.example.org", "_smtp._tcp.example.org"),
        ("a" * 63 + ".org", "a" * 63 + ".org"),
        ("3com.example", "3com.example"),
        ("192.0.2.7", "192.0.2.7"),
        ("::1", "::1"),
        ("[::1]", "::1"),
        ("2001:DB8:0:0::1", "2001:db8::1"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("flüge.example.org", "xn--flge-1ra.example.org"),
        ("BÜCHER.example", "xn--bcher-kva.example"),
        ("例え.jp", "xn--r8jz45g.jp"),
        ("xn--flge-1ra.example.org", "xn--flge-1ra.example.org"),
    ],
)
def test_a_host_has_one_spelling(text: str, normalized: str) -> None:
    """Names become ASCII, and addresses canonical and without brackets; what is normalized stays so."""
    assert normalize_host(text) == normalized
    assert normalize_host(normalized) == normalized


WRONG_HOSTS = (
    "smtp..example.org", ".example.org", "..", ".", "", " ", " smtp.example.org", "smtp.example.org ", "a example.org",
    "smtp.example.org\n", "a" * 64 + ".org", LONG, "-smtp.example.org", "smtp-.example.org", "smtp.-.org", "smtp://a.org",
    "http://a.org", "a.org/", "user@a.org", "a.org:25", "a.org:", "1.2.3", "999.1.1.1", "127.0.0.01", "1.2.3.4.5",
    "0x7f.1", "2130706433", "[a.org]", "[192.0.2.7]", "[::1", "::1]", ":::1", "fe80::1%eth0", "[fe80::1%25eth0]", "*",
    "a,b", "a;b", "$HOST", "${HOST}", "flüge..org", "ü" * 64 + ".org", "a\u200b.org", "\u2800", '"a.org"', "'a.org'",
    "a\\b", "a\0b",
)  # fmt: skip


@pytest.mark.parametrize("text", WRONG_HOSTS)
def test_a_wrong_host_is_one_sentence_without_the_value(text: str) -> None:
    """What no resolver can look up is refused, and the sentence does not repeat it."""
    with pytest.raises(ValueError, match=r"^must .{10,120}$") as caught:
        normalize_host(text)
    assert len(text) < 4 or text not in str(caught.value)


@given(st.text(st.characters(codec="utf-8"), max_size=80) | st.from_regex(r"[a-z0-9ü.:%\[\]_-]{1,70}", fullmatch=True))
def test_no_accepted_host_is_an_error_of_the_codec(text: str) -> None:
    """The standard library encodes a name before it asks the resolver: an accepted one passes that step."""
    try:
        host = normalize_host(text)
    except ValueError:
        return
    host.encode("idna")
    assert normalize_host(host) == host
    assert not set(host) & set("[]/@ ")


@pytest.mark.parametrize(
    "port",
    ["0", "65536", "+25", " 25", "25 ", "-1", "2_5", "25.0", "025", "٢٥", "0x19", "25/tcp", "smtp", "1e3"],
)
def test_a_wrong_port_is_refused(port: str) -> None:
    """A port is 1 to 65535, in ASCII digits alone."""
    with pytest.raises(ValidationError, match="must be a port number from 1 to 65535"):
        TypeAdapter(Port).validate_python(port)


@pytest.mark.parametrize(("port", "number"), [("1", 1), ("25", 25), ("65535", 65535), (587, 587)])
def test_a_port_is_a_number(port: object, number: int) -> None:
    """A port of the environment is text, one of a caller a number."""
    assert TypeAdapter(Port).validate_python(port) == number


@pytest.mark.parametrize(
    ("normalize", "text", "normalized"),
    [
        (normalize_target, "user_manager-grpc:9090", "user_manager-grpc:9090"),
        (normalize_target, "[::1]:9090", "[::1]:9090"),
        (normalize_target, " unix:/data/a b.sock ", "unix:/data/a b.sock"),
        (normalize_target, "[::ffff:127.0.0.1]:9090", "127.0.0.1:9090"),
        (normalize_target, "flüge.example:1", "xn--flge-1ra.example:1"),
        (normalize_server_list, "kafka", "kafka"),
        (normalize_server_list, "a:1, b:2", "a:1,b:2"),
        (normalize_server_list, "[2001:db8::1]:9092,b", "[2001:db8::1]:9092,b"),
        (normalize_server_list, "[::1]", "[::1]"),
        (normalize_server_name, "smtp.example.org.", "smtp.example.org"),
        (normalize_listen_host, "[::]", "::"),
        (normalize_listen_host, "0.0.0.0", "0.0.0.0"),
        (normalize_http_url, "https://flüge.example.org", "https://xn--flge-1ra.example.org"),
        (normalize_http_url, "https://example.org:8443/ü", "https://example.org:8443/%C3%BC"),
        (normalize_http_url, "HTTP://[::1]:80/x", "http://[::1]:80/x"),
        (normalize_http_url, "http://opensky_replay:8090/api", "http://opensky_replay:8090/api"),
    ],
)
def test_a_host_has_one_spelling_within_other_settings(
    normalize: Callable[[str], str], text: str, normalized: str
) -> None:
    """An IPv6 address stands in brackets where a port or path may follow."""
    assert normalize(text) == normalized
    assert normalize(normalized) == normalized


@pytest.mark.parametrize(
    ("normalize", "text"),
    [
        *((normalize_target, f"{host}:9090") for host in WRONG_HOSTS if ":" not in host),
        *((normalize_target, f"a:{port}") for port in ("", "0", "65536", "+25", " 25", "b", "1:2")),
        *((normalize_target, text) for text in ("a", "::1", "::1:9090", "dns:///a:1", "http://a:1", "[::1]9090")),
        *((normalize_target, f"unix:{path}") for path in ("", "s.sock", "/a\nb", "/" + "ä" * 50)),
        *(
            (normalize_server_list, text)
            for text in ("", ",", "a:1,", "::1:9092", "a:1;b:2", "kafka://a:1", "a..b:1", "a:1 b:2")
        ),
        *((normalize_listen_host, text) for text in ("*", "", "fe80::1%eth0", "127.0.0.1:80", "http://::1", "[::")),
        *((normalize_http_url, f"http://{host}/api") for host in WRONG_HOSTS if not set(host) & set("/@:[]\n")),
        *((normalize_http_url, f"https://a.org{rest}") for rest in (":", ":0", ":65536", ":+80", ": 80", ":80:80")),
        *(
            (normalize_http_url, text)
            for text in ("", "a.org", "a:80", "ftp://a", "http://", "http:///x", "http://::1:80")
        ),
        *(
            (normalize_http_url, text)
            for text in ("http://u:p@a", "http://[::1", "http://::1:80", "http://[fe80::1%25e]/")
        ),
    ],
)
def test_a_wrong_host_or_port_is_refused_within_other_settings(normalize: Callable[[str], str], text: str) -> None:
    """A list, a target and a URL hold hosts and ports by the same rules; the error is one sentence."""
    with pytest.raises(ValueError, match=r"^must .{5,200}$"):
        normalize(text)


@pytest.mark.parametrize("server", ["db..example", "db:0", "db:65536", "-db", "ss@db", "a b"])
def test_a_database_server_is_checked_too(server: str) -> None:
    """The sentence says nothing of the password, and how to write one that has special characters."""
    url = f"mysql+pymysql://u:hunter2@{server}/name"
    with pytest.raises(ValidationError) as caught:
        DatabaseSettings(kafka_bootstrap_servers="a:1", database_url=SecretStr(url))
    (fault,) = caught.value.errors()
    assert fault["msg"].startswith("Value error, its ")
    assert "hunter2" not in fault["msg"]


def test_the_standard_library_raises_what_is_refused_here() -> None:
    """The row of the issue: the resolver is never asked, and the error is no OSError."""
    with pytest.raises(UnicodeError):
        socket.getaddrinfo("smtp..example.org", 25)
