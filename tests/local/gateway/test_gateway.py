"""The gateway over real sockets: what it passes on, what it refuses, and what it says when no service answers."""

import gzip
import json
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import httpx
import pytest

from local.gateway.__main__ import main
from tests import plain_http
from tests.local.gateway.processes import OK, PATIENCE_S, Exchange, RunningGateway, read_to_end, running_gateway
from tests.ports import free_port
from tests.waiting import eventually

HOST = b"Host: localhost\r\n"
LAST = HOST + b"Connection: close\r\n"


@pytest.fixture(scope="module")
def process() -> Iterator[RunningGateway]:
    """One gateway for the tests of this module."""
    with running_gateway() as running:
        yield running


@pytest.fixture
def gateway(process: RunningGateway) -> RunningGateway:
    """The gateway, with a service that has seen nothing and answers 200."""
    process.service.reset()
    return process


def ask(gateway: RunningGateway, request: bytes) -> tuple[int, bytes]:
    """Send bytes to the gateway, and return the status of the first answer, and all answers to the end."""
    with gateway.connect() as client:
        client.sendall(request)
        answers = read_to_end(client)
    return int(answers.split(b" ", 2)[1]), answers


def test_a_request_and_its_answer_are_passed_on_as_they_are(gateway: RunningGateway) -> None:
    """The service gets method, path, query, host and headers, and the client's address from the gateway alone."""
    status, answer = ask(
        gateway,
        b"PATCH /users/a%40b?x=%20&y=/../ HTTP/1.1\r\nHost: localhost:80\r\nConnection: close\r\nX-Mine: 1\r\n"
        b"X-Forwarded-For: 192.0.2.1\r\nForwarded: for=192.0.2.1\r\nContent-Length: 5\r\n\r\nhello",
    )
    assert status == 200
    assert answer.endswith(b"\r\n\r\nok")
    assert b"\r\nX-Frame-Options: DENY\r\n" in answer
    assert answer.count(b"\r\nServer: towerwatch\r\n") == 1
    (head,) = gateway.service.seen
    first, *headers = head.decode().split("\r\n")
    assert first == "PATCH /users/a%40b?x=%20&y=/../ HTTP/1.1"
    assert sorted(headers) == [
        "Connection: close",
        "Content-Length: 5",
        "Host: localhost:80",
        "X-Forwarded-For: 127.0.0.1",
        "X-Forwarded-Host: localhost:80",
        "X-Forwarded-Proto: http",
        "X-Mine: 1",
    ]


def test_the_answers_of_one_connection_come_in_the_order_of_its_requests(gateway: RunningGateway) -> None:
    """Each request is routed by itself: one behind another is no part of it."""
    _, answers = ask(
        gateway,
        b"GET /users HTTP/1.1\r\n" + HOST + b"\r\nGET /metrics HTTP/1.1\r\n" + HOST + b"\r\n"
        b"HEAD /users HTTP/1.1\r\n" + LAST + b"\r\n",
    )
    assert [part[:3] for part in answers.split(b"HTTP/1.1 ")[1:]] == [b"200", b"404", b"200"]
    assert answers.endswith(b"\r\n\r\n"), "the answer to HEAD has no body"
    assert len(gateway.service.seen) == 2


@pytest.mark.parametrize(
    ("path", "destination"),
    [
        ("/docs", "/docs/accounts/docs"),
        ("/docs/accounts?a=b", "/docs/accounts/docs?a=b"),
        ("/docs/flights", "/docs/flights/docs"),
    ],
)
def test_redirects_are_the_gateways_own(gateway: RunningGateway, path: str, destination: str) -> None:
    """They keep the query, as Gateway API's do."""
    answer = plain_http.get(gateway.url + path)
    assert (answer.status_code, answer.headers["Location"]) == (302, destination)
    assert answer.headers["Server"] == "towerwatch"


def test_the_documentation_is_below_a_path_of_its_own(gateway: RunningGateway) -> None:
    """The service gets its own path."""
    for path in ("/docs/accounts/docs", "/docs/accounts/docs/a.js?v=1", "/docs/accounts/openapi.json"):
        assert plain_http.get(gateway.url + path).status_code == 200
    assert [head.split(b" ")[1] for head in gateway.service.seen] == [b"/docs", b"/docs/a.js?v=1", b"/openapi.json"]


COMPRESSED = gzip.compress(b"hello", mtime=0)
CHUNKED = b"Transfer-Encoding: chunked\r\n"
SECOND = b"GET /users HTTP/1.1\r\n" + HOST + b"\r\n"


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        pytest.param(b"POST /users HTTP/1.1\r\n" + LAST + headers + b"\r\n" + body, status, id=name)
        for name, headers, body, status in (
            ("length and chunked", b"Content-Length: 5\r\n" + CHUNKED, b"0\r\n\r\n" + SECOND, 400),
            ("chunked and length", CHUNKED + b"Content-Length: 5\r\n", b"0\r\n\r\n" + SECOND, 400),
            ("two lengths", b"Content-Length: 5\r\nContent-Length: 6\r\n", b"hello!", 400),
            ("a list of lengths", b"Content-Length: 5, 5\r\n", b"hello", 400),
            ("a signed length", b"Content-Length: +5\r\n", b"hello", 400),
            ("a negative length", b"Content-Length: -5\r\n", b"hello", 400),
            ("a length in hexadecimal", b"Content-Length: 0x5\r\n", b"hello", 400),
            ("a length with an underscore", b"Content-Length: 0_5\r\n", b"hello", 400),
            ("a space before the colon", b"Content-Length : 5\r\n", b"hello" + SECOND, 400),
            ("a folded line", b"X-A: 1\r\n Content-Length: 5\r\n", SECOND, 400),
            ("a bare carriage return", b"X-A: 1\rContent-Length: 5\r\n", SECOND, 400),
            ("a NUL", b"X-A: 1\0\r\n", b"", 400),
            ("an unknown coding", b"Transfer-Encoding: xchunked\r\n", b"0\r\n\r\n", 400),
            ("a coding before chunked", b"Transfer-Encoding: gzip, chunked\r\n", b"0\r\n\r\n", 501),
            ("chunked twice", CHUNKED + b"Transfer-Encoding: identity\r\n", b"0\r\n\r\n", 400),
            ("a compressed body", b"Content-Encoding: gzip\r\nContent-Length: 25\r\n", COMPRESSED, 415),
            ("a body that is said to be compressed", b"Content-Encoding: br\r\nContent-Length: 2\r\n", b"{}", 415),
            ("two content codings", b"Content-Encoding: identity, gzip\r\nContent-Length: 2\r\n", b"{}", 415),
            ("a broken chunk", CHUNKED, b"zz\r\nhello\r\n0\r\n\r\n", 400),
            ("a chunk that is too long", CHUNKED, b"5\r\nhello!\r\n0\r\n\r\n", 400),
            ("a line break in an extension", CHUNKED, b'5;x="\n"\r\nhello\r\n0\r\n\r\n', 400),
            ("a huge header", b"X-A: " + b"a" * 20_000 + b"\r\n", b"", 400),
            ("many headers", b"".join(b"X-%d: a\r\n" % number for number in range(2_000)), b"", 400),
            ("two hosts", b"Host: evil.example\r\n", b"", 400),
            ("a header that is no UTF-8", b"X-A: \xfc\r\n", b"", 400),
        )
    ],
)
def test_what_could_be_read_in_two_ways_reaches_no_service(
    gateway: RunningGateway, request_bytes: bytes, status: int
) -> None:
    """The connection is closed after the answer, which has problem details and repeats nothing of the request."""
    answered, answers = ask(gateway, request_bytes)
    assert answered == status, answers
    assert answers.count(b"\r\nDate: ") == 1
    assert b"application/problem+json" in answers
    assert b"aiohttp" not in answers.partition(b"\r\n\r\n")[2]
    # A body that turns out to be broken while it is passed on ends the request to the service.
    assert all(b"chunked" in head for head in gateway.service.seen)
    assert len(gateway.service.seen) <= 1


@pytest.mark.parametrize(
    ("line", "host", "status"),
    [
        (b"GET /users/../metrics HTTP/1.1", HOST, 400),
        (b"GET /users/%2e%2e/metrics HTTP/1.1", HOST, 400),
        (b"GET /users/..%2fmetrics HTTP/1.1", HOST, 400),
        (b"GET //users HTTP/1.1", HOST, 404),
        (b"GET /metrics HTTP/1.1", HOST, 404),
        (b"GET /health/live HTTP/1.1", HOST, 404),
        (b"GET /users#a HTTP/1.1", HOST, 400),
        (b"GET http://evil.example/users HTTP/1.1", HOST, 421),
        (b"GET http://localhost@evil.example/users HTTP/1.1", HOST, 400),
        (b"GET /users HTTP/1.1", b"Host: evil.example\r\n", 421),
        (b"GET /users HTTP/1.1", b"Host: a b\r\n", 400),
        (b"GET /users HTTP/1.1", b"", 400),
        (b"GET /users HTTP/1.0", b"", 400),
        (b"GET /" + b"a" * 20_000 + b" HTTP/1.1", HOST, 400),
        (b"CONNECT 127.0.0.1:22 HTTP/1.1", HOST, 405),
        (b"OPTIONS * HTTP/1.1", HOST, 400),
        (b"PRI * HTTP/2.0", b"", 400),
        (b"G\xc3\xbcT /users HTTP/1.1", HOST, 400),
    ],
)
def test_what_is_no_request_for_a_route_reaches_no_service(
    gateway: RunningGateway, line: bytes, host: bytes, status: int
) -> None:
    """Dot segments, foreign hosts, targets of proxies, and what is for operators; each is told in one sentence."""
    with gateway.connect() as client:
        client.sendall(line + b"\r\n" + host + b"Connection: close\r\n\r\n")
        answer = read_to_end(client)
    assert int(answer.split(b" ", 2)[1]) == status, answer
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"application/problem+json" in head
    assert json.loads(body)["detail"].endswith((".", "/docs."))
    assert gateway.service.seen == []


BROWSER = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}


@pytest.mark.parametrize(
    ("headers", "language", "words"),
    [
        ({}, "en", "There is no such page"),
        ({"Accept-Language": "de-DE,it;q=0.8"}, "it", "Questa pagina non esiste"),
        ({"Accept-Language": "it", "Cookie": "language=en"}, "en", "There is no such page"),
        ({"Accept-Language": "<script>"}, "en", "There is no such page"),
    ],
)
def test_a_browser_gets_a_page_that_leads_back(
    gateway: RunningGateway, headers: dict[str, str], language: str, words: str
) -> None:
    """Somebody who mistyped an address reads a sentence in their language, and finds the way; programs get JSON."""
    page = plain_http.get(f"{gateway.url}/nonsense/%3Cscript%3E", headers=BROWSER | headers)
    assert (page.status_code, page.headers["Content-Type"]) == (404, "text/html; charset=utf-8")
    assert f'<html lang="{language}">' in page.text
    assert f"<h1>{words}</h1>" in page.text
    assert '<a href="/">' in page.text
    assert "script" not in page.text
    assert page.headers["Content-Security-Policy"].startswith("default-src 'none'")
    assert page.headers["Cache-Control"] == "no-store"
    program = plain_http.get(f"{gateway.url}/nonsense", headers={"Accept": "*/*"})
    assert program.status_code == 404
    assert program.headers["Content-Type"].startswith("application/problem+json")
    posted = plain_http.post(f"{gateway.url}/nonsense", headers=BROWSER, content=b"x")
    assert posted.status_code == 404
    assert posted.headers["Content-Type"].startswith("application/problem+json")


def test_an_absolute_target_names_the_host(gateway: RunningGateway) -> None:
    """RFC 9112, 3.2.2: the header is ignored, and the service gets the target's host."""
    ask(gateway, b"GET http://localhost:9/users?a HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n")
    (head,) = gateway.service.seen
    assert head.startswith(b"GET /users?a HTTP/1.1\r\n")
    assert b"\r\nHost: localhost:9\r\n" in head
    assert b"evil" not in head


@pytest.mark.parametrize("upgrade", [b"websocket", b"h2c", b"TLS/1.0"])
def test_nothing_is_upgraded(gateway: RunningGateway, upgrade: bytes) -> None:
    """The request is answered as if it had not asked, and the connection is closed: more may come in any protocol."""
    _, answers = ask(
        gateway,
        b"POST /users HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: " + upgrade + b"\r\n"
        b"Content-Length: 5\r\n\r\nhelloGET /metrics HTTP/1.1\r\n" + LAST + b"\r\n",
    )
    assert [part[:3] for part in answers.split(b"HTTP/1.1 ")[1:]] == [b"200"]
    (head,) = gateway.service.seen
    assert b"pgrade" not in head


@pytest.mark.parametrize(
    ("method", "answer"),
    [
        (b"GET", b'HTTP/1.1 304 Not Modified\r\nETag: "1"\r\n\r\n'),
        (b"DELETE", b"HTTP/1.1 204 No Content\r\n\r\n"),
        (b"HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n"),
        (b"GET", b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
    ],
)
def test_an_answer_without_a_body_ends_with_its_headers(gateway: RunningGateway, method: bytes, answer: bytes) -> None:
    """The next answer of the same connection is read as what it is, and no header gets lost."""
    gateway.service.answer = lambda exchange: exchange.send(answer if b"/users/none" in exchange.head else OK + b"ok")
    _, answers = ask(
        gateway,
        method + b" /users/none HTTP/1.1\r\n" + HOST + b"\r\nGET /users HTTP/1.1\r\n" + LAST + b"\r\n",
    )
    first, second = answers.split(b"\r\n\r\n", 1)
    assert first.startswith(answer.split(b"\r\n\r\n")[-2].split(b"\r\n")[0])
    for line in answer.split(b"\r\n\r\n")[-2].split(b"\r\n")[1:]:
        assert line.lower() in first.lower().split(b"\r\n")
    assert second.startswith(b"HTTP/1.1 200 OK\r\n")
    assert second.endswith(b"\r\n\r\nok")


def test_an_expectation_is_met_by_the_gateway(gateway: RunningGateway) -> None:
    """The client sends its body after 100, and the service does not hear of it."""
    with gateway.connect() as client:
        client.sendall(b"POST /users HTTP/1.1\r\n" + LAST + b"Expect: 100-continue\r\nContent-Length: 5\r\n\r\n")
        assert client.recv(1024) == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.sendall(b"hello")
        assert read_to_end(client).endswith(b"\r\n\r\nok")
    assert b"xpect" not in gateway.service.seen[0]


PIECE = b"0123456789abcdef" * 4096
LARGE = 1024
"""Pieces of an answer, 64 MiB in all, that is larger than any buffer."""


@pytest.mark.parametrize("chunked", [False, True])
def test_an_answer_goes_out_before_it_has_come_in(gateway: RunningGateway, chunked: bool) -> None:
    """The service sends the rest of 64 MiB only when the client has the first of them; the gateway holds little."""
    has_first = threading.Event()

    def answer(exchange: Exchange) -> None:
        """Send a piece, wait until the client has it, and send the others."""
        framing = CHUNKED if chunked else b"Content-Length: %d\r\n" % (LARGE * len(PIECE))
        exchange.send(b"HTTP/1.1 200 OK\r\n" + framing + b"\r\n")
        for number in range(LARGE):
            exchange.send(b"%x\r\n%b\r\n" % (len(PIECE), PIECE) if chunked else PIECE)
            assert number > 0 or has_first.wait(PATIENCE_S)
        exchange.send(b"0\r\n\r\n" if chunked else b"")

    gateway.service.answer = answer
    before = read_peak_memory(gateway)
    with httpx.stream("GET", f"{gateway.url}/users", timeout=PATIENCE_S, trust_env=False) as response:
        pieces = response.iter_raw()
        count = len(next(pieces))
        assert 0 < count <= len(PIECE)
        has_first.set()
        assert count + sum(map(len, pieces)) == LARGE * len(PIECE)
    assert read_peak_memory(gateway) - before < 16 << 20


def read_peak_memory(gateway: RunningGateway) -> int:
    """Return the most memory that the gateway has held so far, in bytes."""
    status = Path(f"/proc/{gateway.process.pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) << 10


def test_a_body_goes_on_before_it_has_come_in(gateway: RunningGateway) -> None:
    """The client sends the second half only when the service has the first."""
    has_half = threading.Event()
    got: list[bytes] = []

    def answer(exchange: Exchange) -> None:
        """Read the first chunk, then the rest, and answer."""
        got.append(exchange.receive(3 + 5 + 2))
        has_half.set()
        got.append(exchange.receive(3 + 5 + 2 + 5))
        exchange.send(OK + b"ok")

    gateway.service.answer = answer
    with gateway.connect() as client:
        client.sendall(b"POST /users HTTP/1.1\r\n" + LAST + CHUNKED + b"\r\n5\r\nhello\r\n")
        assert has_half.wait(PATIENCE_S)
        client.sendall(b"5\r\nworld\r\n0\r\n\r\n")
        assert read_to_end(client).endswith(b"\r\n\r\nok")
    assert got == [b"5\r\nhello\r\n", b"5\r\nworld\r\n0\r\n\r\n"]


def test_a_body_that_is_too_large_is_refused_before_it_is_sent(gateway: RunningGateway) -> None:
    """No service reads more than 1 MiB, and none hears of it."""
    with gateway.connect() as client:
        client.sendall(b"POST /users HTTP/1.1\r\n" + HOST + b"Content-Length: 1048577\r\n\r\n")
        assert client.recv(65_536).startswith(b"HTTP/1.1 413 ")
    assert gateway.service.seen == []


def test_a_body_that_turns_out_too_large_is_refused(gateway: RunningGateway) -> None:
    """One without a length is counted while it is passed on; the service never gets its end."""
    ended: list[bytes] = []

    def answer(exchange: Exchange) -> None:
        """Read all that comes."""
        while piece := exchange.receive(65_536):
            ended.append(piece[-5:])

    gateway.service.answer = answer
    with gateway.connect() as client:
        client.sendall(b"POST /users HTTP/1.1\r\n" + LAST + CHUNKED + b"\r\n")
        for _ in range(17):
            client.sendall(b"10000\r\n" + PIECE + b"\r\n")
        answered = client.recv(65_536)
    assert answered.startswith(b"HTTP/1.1 413 ")
    assert b"0\r\n\r\n" not in ended


def test_a_service_that_does_not_run_is_told(gateway: RunningGateway) -> None:
    """503 names the service and its log, and when to repeat; a browser gets a page that tries again."""
    answer = plain_http.get(f"{gateway.url}/interests")
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "5")
    page = plain_http.get(f"{gateway.url}/interests?a=b", headers=BROWSER)
    assert (page.status_code, page.headers["Retry-After"]) == (503, "5")
    assert '<a href="">Try again</a>' in page.text
    assert answer.headers["Content-Type"].startswith("application/problem+json")
    assert answer.json()["detail"] == (
        "The service collector takes no connections. Repeat the request after 5 seconds; if it still fails, whoever "
        "runs Towerwatch finds the reason in collector.log."
    )


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"HTTP/1.1 200",
        b"nonsense\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
    ],
)
def test_a_service_that_ends_before_its_answer_is_told(gateway: RunningGateway, said: bytes) -> None:
    """502, whatever it had begun to say; the next request finds it again."""
    gateway.service.answer = lambda exchange: exchange.send(said)
    answer = plain_http.post(f"{gateway.url}/users", content=b"hello")
    assert (answer.status_code, answer.headers["Retry-After"]) == (502, "5")
    assert "ended before it answered" in answer.json()["detail"]
    assert "nonsense" not in answer.text
    gateway.service.reset()
    assert plain_http.get(f"{gateway.url}/users").status_code == 200


@pytest.mark.parametrize(
    "part",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf",
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nha",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\nnonsense\r\n",
    ],
)
def test_nobody_takes_a_part_of_an_answer_for_the_whole(gateway: RunningGateway, part: bytes) -> None:
    """If a service ends within its answer, the client gets what there is, and the connection's end before the rest."""
    gateway.service.answer = lambda exchange: exchange.send(part)
    try:
        status = plain_http.get(f"{gateway.url}/users").status_code
    except httpx.RemoteProtocolError:
        return
    assert status == 502, "only where nothing of the answer had been passed on"


def test_a_client_that_goes_away_ends_its_request_to_the_service(gateway: RunningGateway) -> None:
    """Before the answer, in the middle of it, and in the middle of the request's body."""
    asked, noticed = threading.Event(), threading.Event()

    def answer(exchange: Exchange) -> None:
        """Send a part of an answer if the request says so, and wait for the connection's end."""
        if b"GET /users/part" in exchange.head:
            exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")
        asked.set()
        while exchange.receive(65_536):
            pass
        noticed.set()

    gateway.service.answer = answer
    for path, more in (("", b"\r\n"), ("/part", b"\r\n"), ("", b"Content-Length: 10\r\n\r\nhalf")):
        asked.clear()
        noticed.clear()
        with gateway.connect() as client:
            method = b"POST" if b"half" in more else b"GET"
            client.sendall(method + b" /users" + path.encode() + b" HTTP/1.1\r\n" + HOST + more)
            assert asked.wait(PATIENCE_S)
            if path:
                assert b"200 OK" in client.recv(1024)
        assert noticed.wait(PATIENCE_S), (path, more)


def test_health_and_metrics_are_on_a_port_of_their_own(gateway: RunningGateway) -> None:
    """They count requests by service and outcome, and hold no address."""

    def count(route: str, outcome: str) -> float:
        """Return how many requests were counted so."""
        text = plain_http.get(f"{gateway.web_url}/metrics").text
        name = f'gateway_requests_total{{node="",outcome="{outcome}",route="{route}",service="gateway"}} '
        return float(text.partition(name)[2].partition("\n")[0] or 0)

    assert plain_http.get(f"{gateway.web_url}/health/ready").status_code == 200
    assert plain_http.get(f"{gateway.web_url}/users").status_code == 404
    before = {
        key: count(*key) for key in (("user_manager", "answered"), ("collector", "unavailable"), ("none", "no_route"))
    }
    for path in ("/users/ada@example.org", "/interests", "/metrics"):
        plain_http.get(gateway.url + path)
    eventually(lambda: {key: count(*key) - was for key, was in before.items()} == dict.fromkeys(before, 1), "all count")
    assert "ada" not in plain_http.get(f"{gateway.web_url}/metrics").text


def test_a_proxy_in_front_names_the_client_and_people_may_use_its_path() -> None:
    """Only if it is trusted by its address; its own host name, and the path that people see, are known."""
    options = ("--trusted-proxy", "127.0.0.1", "--public-url", "https://tower.example.org/tower%21")
    with running_gateway(*options) as gateway:
        headers = {
            "Host": "tower.example.org",
            "X-Forwarded-For": "192.0.2.9, 198.51.100.7",
            "X-Forwarded-Proto": "https",
            "X-Forwarded-Host": "evil.example",
        }
        for path in ("/tower%21/users/x", "/users/x"):
            assert plain_http.get(gateway.url + path, headers=headers).status_code == 200
            head = gateway.service.seen[-1]
            assert head.startswith(b"GET /users/x HTTP/1.1\r\n")
            for line in (b"X-Forwarded-For: 198.51.100.7", b"X-Forwarded-Proto: https", b"Host: tower.example.org"):
                assert b"\r\n" + line + b"\r\n" in head + b"\r\n"
            assert b"evil" not in head
        for path in ("/tower%21/docs", "/docs"):
            answer = plain_http.get(gateway.url + path, headers=headers)
            assert answer.headers["Location"] == "/tower%21/docs/accounts/docs"
        assert plain_http.get(f"{gateway.url}/tower%21x/users", headers=headers).status_code == 404


def test_a_host_name_that_is_not_ascii_is_known_as_browsers_send_it() -> None:
    """PUBLIC_URL may be written as people know it; Host is in Punycode."""
    with running_gateway("--public-url", "https://flüge.example.org", "--allowed-hosts", "b.example") as gateway:
        for host, status in (("xn--flge-1ra.example.org", 200), ("b.example:80", 200), ("c.example", 421)):
            assert plain_http.get(f"{gateway.url}/users", headers={"Host": host}).status_code == status


@pytest.mark.parametrize(
    ("option", "value"),
    [("--host", "a..b"), ("--public-url", "ftp://x"), ("--public-url", "http://x/a/../b"), ("--trusted-proxy", "x")],
)
def test_a_wrong_option_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], option: str, value: str
) -> None:
    """It names the setting of .env that it comes from."""
    monkeypatch.setattr(sys, "argv", [*_COMMAND, "--port", "1", "--web-port", "2", option, value])
    with pytest.raises(SystemExit, match="2"):
        main()
    last = capsys.readouterr().err.splitlines()[-1]
    assert any(f"{name}: must " in last or f"{name}: Leave" in last for name in _SETTINGS), last


_COMMAND: Final = ("gateway", "--user-manager", "unix:/x", "--collector", "unix:/x")
_SETTINGS: Final = ("GATEWAY_HOST", "PUBLIC_URL", "TRUSTED_PROXY")


def test_a_port_in_use_is_one_sentence(
    gateway: RunningGateway, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The exit status says that starting it again would not help; either port may be the one."""
    for port, web_port in ((gateway.port, free_port()), (free_port(), gateway.web_port)):
        monkeypatch.setattr(sys, "argv", [*_COMMAND, "--port", str(port), "--web-port", str(web_port)])
        assert main() == 2
        assert capsys.readouterr().err.startswith("gateway: HTTP cannot listen on 127.0.0.1:")


def test_many_connections_of_one_client_keep_it_not_out_itself(gateway: RunningGateway) -> None:
    """Half requests, and requests with half a body, are closed for new ones: the client's next request is answered."""
    halves = (b"GET /users HT", b"POST /users HTTP/1.1\r\n" + HOST + b"Content-Length: 10\r\n\r\nhalf")

    def answer(exchange: Exchange) -> None:
        """Answer a GET, and wait for the rest of any other request."""
        if exchange.head.startswith(b"GET "):
            exchange.send(OK + b"ok")
        else:
            exchange.receive(99)

    gateway.service.answer = answer
    clients = []
    try:
        for number in range(220):
            clients.append(gateway.connect())
            clients[-1].sendall(halves[number % 2])
        assert plain_http.get(f"{gateway.url}/users").status_code == 200
    finally:
        for client in clients:
            client.close()
