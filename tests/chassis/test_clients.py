"""The client of a request: its address, in whatever form a trusted proxy writes it, and whom a rate limit counts."""

import logging
import socket
import stat
from contextlib import ExitStack
from ipaddress import ip_address
from pathlib import Path

import httpx
import pytest
from flask import Flask
from hypothesis import given, settings, strategies as st

from chassis.clients import check_trusted_proxy, find_client_address, identify_client
from chassis.connections import MAX_PER_CLIENT
from chassis.errors import CannotListenError
from chassis.metrics import Metrics, ServiceIdentity
from chassis.web.http import create_app
from chassis.web.limits import ClientRateLimit
from chassis.web.wsgi import HttpServer
from tests import plain_http
from tests.chassis.web.test_wsgi import TIMEOUT_S, create_echo_app, serve
from tests.ports import free_port

FOUR, SIX = "192.0.2.7", "2001:db8::1"
PEER = "127.0.0.1"
FORWARDED_FOR = [
    ("::ffff:192.0.2.7", FOUR),
    ("[2001:db8::1]:4711", SIX),
    ("192.0.2.7", FOUR),
    (" 192.0.2.7 ", FOUR),
    ("192.0.2.7:4711", FOUR),
    ("::FFFF:192.0.2.7", FOUR),
    ("::ffff:c000:207", FOUR),
    ("0:0:0:0:0:ffff:192.0.2.7", FOUR),
    ("[::ffff:192.0.2.7]", FOUR),
    ("[::ffff:192.0.2.7]:4711", FOUR),
    ("::ffff:192.0.2.7:4711", FOUR),
    ("64:ff9b::192.0.2.7", FOUR),
    ("[192.0.2.7]:80", FOUR),
    ("2001:db8::1", SIX),
    ("2001:DB8:0:0:0:0:0:1", SIX),
    ("2001:db8:0:0:0:0:0:1:4711", SIX),
    ("[2001:db8::1]", SIX),
    ("[2001:db8::1%eth0]:4711", SIX),
    ("2001:db8::1%25eth0", SIX),
    ('"[2001:db8::1]:4711"', SIX),
    ('"192.0.2.7"', FOUR),
    ("203.0.113.9, 192.0.2.7", FOUR),
    ("203.0.113.9,\t192.0.2.7:1 , ", FOUR),
    ("unknown, garbage,, [2001:db8::1]:1", SIX),
    ('"203.0.113.9, 192.0.2.7', FOUR),
]
"""Values of X-Forwarded-For, and the address that each means."""

NO_ADDRESS = [
    "", " ", ",", "unknown", "_hidden", "-", "localhost", "proxy.example.org:80", "192.0.2", "192.0.2.256",
    "192.0.2.7:x", "192.0.2.7:4711:1", "[2001:db8::1", "2001:db8::1]", "[2001:db8::1]x", "[]", "[]:1", ":80", "::1::2",
    "1", "192.0.02.7", "0x7f000001", "192.0.2.7/32", "192.0.2.7 198.51.100.1", "203.0.113.9, unknown",
    "203.0.113.9, _hidden", "١٩٢.0.2.7", "%eth0", '"', "for=192.0.2.7", "\xff", "192.0.2.7;",
]  # fmt: skip
"""Values of X-Forwarded-For of which the last is no address."""

FORWARDED = [
    ("for=192.0.2.7", FOUR),
    ("For=192.0.2.7;proto=http;by=203.0.113.43", FOUR),
    ("for=192.0.2.7;", FOUR),
    ('for="192.0.2.7:4711"', FOUR),
    ("for=192.0.2.7:4711", FOUR),
    ('for="[2001:db8::1]"', SIX),
    ('for="[2001:db8::1]:4711"', SIX),
    ('for="[2001:db8::1]:_port"', SIX),
    ("for=[2001:db8::1]:4711", SIX),
    ('for="::ffff:192.0.2.7"', FOUR),
    ('for="[::ffff:192.0.2.7]:47"', FOUR),
    ("for=203.0.113.9, for=192.0.2.7", FOUR),
    ("for=unknown,for=192.0.2.7;by=_me , ", FOUR),
    ('by="a,b;for=203.0.113.9";for=192.0.2.7', FOUR),
    ('for=203.0.113.9 , by=_proxy ; FOR="192.0.2.7" ; proto=https', FOUR),
    (r'for="192\.0.2.7";host="\""', FOUR),
]
"""Values of Forwarded (RFC 7239), and the address that each means."""

NO_FORWARDED = [
    "", "for", "for=", 'for=""', "for=unknown", 'for="unknown"', "for=_hidden", 'for="_gazonk"', "192.0.2.7",
    "for=192.0.2.7, proto=https", "for=192.0.2.7, for=unknown", 'for="192.0.2.7', 'for=", for=192.0.2.7',
    'for=", for=192.0.2.7;host=",for=203.0.113.9"', "for=192.0.2.7;for=203.0.113.9", "for==192.0.2.7", "=192.0.2.7",
    'for=192.0.2.7"', "x for=192.0.2.7", "for=192.0.2.7 x=1", 'for="192.0.2.7" "x"', '"for"=192.0.2.7',
]  # fmt: skip
"""Values of Forwarded whose last element names no address, or that are not in the form of RFC 7239 at all."""


def ask_who(**headers: str) -> str:
    """Send a request with these headers through a trusted proxy, and return the client's address that the app sees."""
    with serve(create_echo_app(), trusted_proxy=PEER) as port:
        response = plain_http.get(f"http://127.0.0.1:{port}/whoami", headers=headers, timeout=TIMEOUT_S)
    assert response.status_code == 200
    return str(response.json()["address"])


@pytest.mark.parametrize(("value", "address"), [*FORWARDED_FOR, *((value, None) for value in NO_ADDRESS)])
def test_the_last_address_of_x_forwarded_for_is_the_clients(value: str, address: str | None) -> None:
    """Every usual form means the one address, without port and zone; what is no address means none."""
    assert find_client_address({"HTTP_X_FORWARDED_FOR": value}) == address


@pytest.mark.parametrize(("value", "address"), [*FORWARDED, *((value, None) for value in NO_FORWARDED)])
def test_the_last_address_of_forwarded_is_the_clients(value: str, address: str | None) -> None:
    """RFC 7239, 4: each proxy adds an element; a value out of this form could have been shaped by the client."""
    assert find_client_address({"HTTP_FORWARDED": value}) == address


def test_x_forwarded_for_goes_first() -> None:
    """A proxy that writes X-Forwarded-For alone passes the client's own Forwarded on, which must not count."""
    environ = {"HTTP_FORWARDED": "for=203.0.113.9"}
    assert find_client_address(environ | {"HTTP_X_FORWARDED_FOR": FOUR}) == FOUR
    assert find_client_address(environ | {"HTTP_X_FORWARDED_FOR": "unknown"}) is None
    assert find_client_address({}) is None


@settings(max_examples=300, deadline=None)
@given(st.text('0123456789abf.:[]%, "\\;=for_-', max_size=60))
def test_no_value_raises(value: str) -> None:
    """Whatever a proxy sends, the request is answered, as that of an address or of the peer."""
    for name in ("HTTP_X_FORWARDED_FOR", "HTTP_FORWARDED"):
        found = find_client_address({name: value})
        assert found is None or str(ip_address(found)) == found


@pytest.mark.parametrize("value", [value for value, _ in FORWARDED_FOR if value == value.strip()])
def test_the_server_gives_the_app_the_clients_address(value: str) -> None:
    """The address comes through the real server in the same way."""
    assert ask_who(**{"X-Forwarded-For": value}) == dict(FORWARDED_FOR)[value]


@pytest.mark.parametrize("value", ["unknown", "_hidden", "garbage:1:2", "[", '"', "\\"])
def test_a_client_without_an_address_is_the_peer(value: str, caplog: pytest.LogCaptureFixture) -> None:
    """The request is answered as the peer's, and what the header holds stands in no log."""
    with caplog.at_level(logging.INFO):
        assert ask_who(**{"X-Forwarded-For": value}) == PEER
        assert ask_who(Forwarded=f'for="{value}"') == PEER
    assert value not in "".join(record.getMessage() for record in caplog.records) or value in '\\"['


def test_forwarded_alone_counts() -> None:
    """A proxy that writes Forwarded (RFC 7239) need not write the older headers."""
    with serve(create_echo_app(), trusted_proxy="*") as port:
        headers = {"Forwarded": 'for=203.0.113.9, for="[2001:db8::1]:4711";proto=https'}
        seen = plain_http.get(f"http://127.0.0.1:{port}/whoami", headers=headers, timeout=TIMEOUT_S).json()
    assert seen == {"address": SIX, "scheme": "https", "forwarded": []}


@pytest.mark.parametrize(
    ("proto", "scheme"),
    [("https", "https"), ("HTTPS", "https"), ("http, https", "https"), ("ftp", "http"), ("", "http")],
)
def test_an_odd_scheme_of_the_proxy_costs_no_request(proto: str, scheme: str) -> None:
    """The last scheme counts if it is http or https; the request is answered in any case."""
    with serve(create_echo_app(), trusted_proxy=PEER) as port:
        headers = {"X-Forwarded-Proto": proto}
        seen = plain_http.get(f"http://127.0.0.1:{port}/whoami", headers=headers, timeout=TIMEOUT_S).json()
    assert (seen["address"], seen["scheme"]) == (PEER, scheme)


def test_who_comes_by_the_socket_is_believed_and_who_comes_by_the_port_is_not(tmp_path: Path) -> None:
    """Only the proxy of this machine can enter the socket's folder; both ways lead to the same app."""
    path, port = tmp_path / "http" / "rest.sock", free_port()
    server = HttpServer(create_echo_app(), "127.0.0.1", port, socket_path=str(path))
    server.start()
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    headers = {"X-Forwarded-For": f"203.0.113.9, {FOUR}", "X-Forwarded-Proto": "https", "Host": "localhost"}
    with httpx.Client(transport=httpx.HTTPTransport(uds=str(path)), timeout=TIMEOUT_S) as client:
        assert client.get("http://localhost/whoami", headers=headers).json() == {
            "address": FOUR,
            "scheme": "https",
            "forwarded": [],
        }
        by_port = plain_http.get(f"http://127.0.0.1:{port}/whoami", headers=headers, timeout=TIMEOUT_S).json()
        assert by_port == {"address": "127.0.0.1", "scheme": "http", "forwarded": []}
    server.stop()


def test_one_client_of_the_ports_takes_no_connection_of_the_socket(tmp_path: Path) -> None:
    """The proxy's connections are of many clients: no bound of one client counts them, and none closes them."""
    path, port = tmp_path / "http" / "rest.sock", free_port()
    server = HttpServer(create_echo_app(), "127.0.0.1", port, socket_path=str(path))
    server.start()
    with ExitStack() as opened:
        for number in range(2 * MAX_PER_CLIENT + 20):
            by_socket = number % 2 == 0
            waiting = opened.enter_context(socket.socket(socket.AF_UNIX if by_socket else socket.AF_INET))
            waiting.settimeout(TIMEOUT_S)
            waiting.connect(str(path) if by_socket else ("127.0.0.1", port))
            if by_socket:
                waiting.sendall(b"GET /whoami HTTP/1.1\r\nHost: localhost\r\nX-For")
        with httpx.Client(transport=httpx.HTTPTransport(uds=str(path)), timeout=TIMEOUT_S) as client:
            assert client.get("http://localhost/whoami").status_code == 200
    server.stop()


def test_a_socket_that_others_can_enter_is_refused(tmp_path: Path) -> None:
    """Whoever reaches it could name any address."""
    tmp_path.chmod(0o755)
    with pytest.raises(CannotListenError, match=r"which others may enter: chmod 700"):
        HttpServer(create_echo_app(), "127.0.0.1", free_port(), socket_path=str(tmp_path / "rest.sock"))


def test_several_lines_of_a_header_are_one_list() -> None:
    """RFC 9110, 5.3: the last line's address is the one that the proxy added."""
    with serve(create_echo_app(), trusted_proxy=PEER) as port:
        for name, form in (("X-Forwarded-For", "{}"), ("Forwarded", 'for="{}"')):
            lines = [(name, form.format(each)) for each in ("203.0.113.9", "unknown", "[2001:db8::1]:4711")]
            seen = plain_http.get(f"http://127.0.0.1:{port}/whoami", headers=lines, timeout=TIMEOUT_S).json()
            assert seen["address"] == SIX


def create_limited_app() -> Flask:
    """Create an app with the route /limited, which answers one request of each client in a minute."""
    app = create_app("limited", Metrics(ServiceIdentity("limited", "here")), {}, explain_unready=lambda: None)
    limit = ClientRateLimit("1/minute")

    @app.get("/limited")
    def limited() -> str:
        limit.count_request()
        return "x"

    return app


@pytest.mark.parametrize(
    "values",
    [
        ("::ffff:192.0.2.7", "192.0.2.7", "192.0.2.7:1", "[::ffff:192.0.2.7]:2"),
        ("[2001:db8::1]:4711", "[2001:db8::1]:4712", "2001:db8::1", "2001:db8::ffff:2", "[2001:db8::1%1]:5"),
    ],
)
def test_one_client_has_one_limit(values: tuple[str, ...]) -> None:
    """Another port, another spelling or another address of the same /64 network is the same client."""
    with serve(create_limited_app(), trusted_proxy=PEER) as port:
        url = f"http://127.0.0.1:{port}/limited"
        statuses = [
            plain_http.get(url, headers={"X-Forwarded-For": value}, timeout=TIMEOUT_S).status_code for value in values
        ]
        assert statuses == [200] + [429] * (len(values) - 1)
        for other in ("::ffff:192.0.2.8", "[2001:db8:0:1::1]:4711"):
            assert plain_http.get(url, headers={"X-Forwarded-For": other}, timeout=TIMEOUT_S).status_code == 200


def test_what_is_no_address_shares_the_limit_of_the_peer() -> None:
    """Else each invented text would be a client with a limit of its own."""
    with serve(create_limited_app(), trusted_proxy=PEER) as port:
        url = f"http://127.0.0.1:{port}/limited"
        values = ("unknown", "_hidden", "_other", "garbage")
        statuses = [
            plain_http.get(url, headers={"X-Forwarded-For": value}, timeout=TIMEOUT_S).status_code for value in values
        ]
    assert statuses == [200, 429, 429, 429]


@pytest.mark.parametrize(
    ("address", "client"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("2001:db8::1", "2001:db8::/64"),
        ("2001:db8::ffff:1", "2001:db8::/64"),
        ("2001:db8:0:1::1", "2001:db8:0:1::/64"),
        ("[2001:db8::1]", "2001:db8::/64"),
        ("[2001:db8::1]:4711", "2001:db8::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("64:ff9b::192.0.2.1", "192.0.2.1"),
        ("::192.0.2.1", "192.0.2.1"),
        ("[::192.0.2.1]:4711", "192.0.2.1"),
        ("::c000:201", "192.0.2.1"),
        ("2002:c000:201:7:8::9", "192.0.2.1"),
        ("2002:c000:201:ffff::", "192.0.2.1"),
        ("2001:0:c000:201:8000:63bf:3fff:fdd2", "192.0.2.45"),
        ("2001:1::1", "2001:1::/64"),
        ("2003::1", "2003::/64"),
        ("::1", "::/64"),
        ("::", "::/64"),
        ("::ff:ffff", "::/64"),
        ("unknown", "unknown"),
        ("", ""),
    ],
)
def test_a_client_has_one_ipv4_address_or_a_network_of_ipv6(address: str, client: str) -> None:
    """RFC 6177: a client has at least 2⁶⁴ addresses of IPv6. Those of 6to4 and Teredo are a host's of IPv4.

    Before, one host of IPv4 was 65,536 clients by 6to4.
    """
    assert identify_client(address) == client


@pytest.mark.parametrize(
    ("value", "trusted"), [("*", "*"), ("127.0.0.1", PEER), ("::ffff:127.0.0.1", PEER), ("[::1]", "::1")]
)
def test_a_trusted_proxy_is_an_address(value: str, trusted: str) -> None:
    """The setting is `*` or one address, which is compared as an address, not as a text."""
    assert check_trusted_proxy(value) == trusted


@pytest.mark.parametrize("value", ["", "proxy", "10.0.0.0/8", "10.0.0.1,10.0.0.2", "10.0.0.1 ", "**", "300.1.1.1"])
def test_any_other_trusted_proxy_is_refused(value: str) -> None:
    """A setting that would silently match no proxy is one sentence at the start."""
    with pytest.raises(ValueError, match="address"):
        check_trusted_proxy(value)
