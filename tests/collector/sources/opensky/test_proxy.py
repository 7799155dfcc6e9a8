"""The proxy for OpenSky: the usual variables in every spelling, OPENSKY_PROXY first, and never for this machine."""

import asyncio
import base64
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from urllib.parse import urlsplit

import pytest

from chassis.errors import SettingsError
from chassis.metrics import Metrics, ServiceIdentity
from chassis.settings import load_settings
from collector.errors import SourceUnavailableError
from collector.settings import CollectorSettings
from collector.sources.opensky.client import OpenSkyClient
from collector.sources.opensky.connection import OpenSkyConnection
from collector.sources.opensky.proxy import find_proxy, parse_proxy
from domain.interests import Direction
from tests.fakes.clock import FakeClock
from tests.fakes.opensky import replay
from tests.fakes.proxy import RecordingProxy, recording_proxy
from tests.proxies import set_proxies

API = "https://opensky.test/api"
TOKENS = "https://auth.opensky.test/token"
BEGIN = datetime(2013, 2, 12, tzinfo=UTC)
PASSWORD = "hunter2"


@pytest.fixture
def proxy() -> Iterator[RecordingProxy]:
    with recording_proxy() as running:
        yield running


def fetch(url: str, given: str | None = None, credentials: tuple[str, str] | None = None) -> str | None:
    """Ask a source for flights with a new client; return the text of a SourceUnavailableError, or None if it answered.

    `given` is OPENSKY_PROXY.
    """

    async def ask() -> str | None:
        metrics = Metrics(ServiceIdentity("collector", "local"))
        clock = FakeClock(BEGIN)
        connection = OpenSkyConnection([url], TOKENS, credentials, clock, metrics, proxy=given)
        client = OpenSkyClient(url, connection, clock, metrics)
        try:
            await client.fetch_flights("KJFK", Direction.DEPARTURES, BEGIN, BEGIN + timedelta(days=1))
        except SourceUnavailableError as error:
            return str(error)
        finally:
            await connection.close()
        return None

    return asyncio.run(ask())


@pytest.mark.parametrize(
    ("url", "variables", "request_line"),
    [
        (API, {"https_proxy": "{}"}, "CONNECT opensky.test:443 "),
        (API, {"HTTPS_PROXY": "{}"}, "CONNECT opensky.test:443 "),
        (API, {"Https_Proxy": "{}"}, "CONNECT opensky.test:443 "),
        (API, {"ALL_PROXY": "{}"}, "CONNECT opensky.test:443 "),
        (API, {"all_proxy": "{}", "http_proxy": "http://192.0.2.1:9"}, "CONNECT opensky.test:443 "),
        (API, {"https_proxy": "{}", "HTTPS_PROXY": "http://192.0.2.1:9"}, "CONNECT opensky.test:443 "),
        (API, {"HTTPS_PROXY": "{}", "NO_PROXY": "localhost,.other.test"}, "CONNECT opensky.test:443 "),
        (API, {"HTTPS_PROXY": "{}", "all_proxy": "socks5h://192.0.2.1:9"}, "CONNECT opensky.test:443 "),
        (API, {"HTTPS_PROXY": "{}/"}, "CONNECT opensky.test:443 "),
        (API, {"HTTPS_PROXY": "127.0.0.1:{port}"}, "CONNECT opensky.test:443 "),
        ("http://opensky.test/api", {"http_proxy": "{}"}, "GET http://opensky.test/api/flights/departure?"),
        ("http://opensky.test/api", {"HTTP_PROXY": "{}"}, "GET http://opensky.test/api/flights/departure?"),
        ("http://opensky.test:81/api", {"all_proxy": "{}"}, "GET http://opensky.test:81/api/flights/departure?"),
    ],
)
def test_the_usual_variables_count_in_every_spelling(
    monkeypatch: pytest.MonkeyPatch,
    proxy: RecordingProxy,
    url: str,
    variables: dict[str, str],
    request_line: str,
) -> None:
    """The variable for the URL's scheme comes first, then all_proxy, each in lower case before upper case."""
    set_proxies(monkeypatch, {name: value.format(proxy.url, port=proxy.port) for name, value in variables.items()})
    assert fetch(url) is not None
    assert proxy.requests
    assert all(each.startswith(request_line) for each in proxy.requests)


def test_the_token_is_asked_for_by_the_proxy_too(monkeypatch: pytest.MonkeyPatch, proxy: RecordingProxy) -> None:
    """API and authorization server are two hosts, and both are outside."""
    set_proxies(monkeypatch, {"https_proxy": proxy.url})
    assert fetch(API, credentials=("id", "secret")) is not None
    assert proxy.requests[0].startswith("CONNECT auth.opensky.test:443 ")


def test_opensky_proxy_comes_first(monkeypatch: pytest.MonkeyPatch, proxy: RecordingProxy) -> None:
    """The machine's variables do not matter then, even one that cannot be read, and no_proxy."""
    set_proxies(monkeypatch, {"https_proxy": "socks5h://192.0.2.1:9", "no_proxy": "*"})
    assert fetch(API, proxy.url) is not None
    assert proxy.requests[0].startswith("CONNECT opensky.test:443 ")


@pytest.mark.parametrize(
    "variables",
    [
        {"http_proxy": "{}"},
        {"HTTP_PROXY": "{}", "ALL_PROXY": "{}"},
        {"all_proxy": "{}"},
        {"http_proxy": "socks5h://127.0.0.1:1"},
        {"ALL_PROXY": "socks5://127.0.0.1:1"},
        {"http_proxy": "http://"},
        {"http_proxy": "http://127.0.0.1:notaport"},
        {"http_proxy": "{}", "no_proxy": "[::1],fd00::/8"},
    ],
)
@pytest.mark.parametrize("name", ["127.0.0.1", "localhost"])
def test_a_source_on_this_machine_is_asked_directly(
    monkeypatch: pytest.MonkeyPatch, proxy: RecordingProxy, variables: dict[str, str], name: str
) -> None:
    """The replay needs no proxy, nor can any, or an unreadable one, keep the collector from it."""
    set_proxies(monkeypatch, {key: value.format(proxy.url) for key, value in variables.items()})
    with replay([], FakeClock(BEGIN + timedelta(days=3))) as url:
        assert fetch(f"{url}/api".replace("127.0.0.1", name)) is None
    assert proxy.requests == []


@pytest.mark.parametrize(
    ("no_proxy", "is_direct"),
    [
        ("*", True),
        ("opensky.test", True),
        (".opensky.test", True),
        ("test", True),
        ("localhost, opensky.test", True),
        ("OPENSKY.TEST", True),
        ("sky.test", False),
        ("other.test", False),
        ("", False),
        ("192.0.2.0/24,[::1],::1", False),
    ],
)
def test_no_proxy_excepts_hosts(monkeypatch: pytest.MonkeyPatch, no_proxy: str, is_direct: bool) -> None:
    """Names except their subdomains too, and entries that are no name are no error."""
    set_proxies(monkeypatch, {"https_proxy": "http://192.0.2.1:9", "NO_PROXY": no_proxy})
    assert (find_proxy(API, None) is None) is is_direct


@pytest.mark.parametrize(
    ("text", "url", "user"),
    [
        ("http://proxy.test:3128", "http://proxy.test:3128", None),
        ("proxy.test:3128", "http://proxy.test:3128", None),
        ("proxy.test", "http://proxy.test", None),
        ("HTTP://proxy.test:3128/", "http://proxy.test:3128", None),
        ("https://proxy.test:3129", "https://proxy.test:3129", None),
        ("http://[2001:db8::1]:3128", "http://[2001:db8::1]:3128", None),
        ("http://user:p@ss@proxy.test:3128", "http://proxy.test:3128", ("user", "p@ss")),
        ("user:p:ss@proxy.test:3128", "http://proxy.test:3128", ("user", "p:ss")),
        ("http://user:p%23%2Fss@proxy.test:3128", "http://proxy.test:3128", ("user", "p#/ss")),
        ("http://user@proxy.test:3128", "http://proxy.test:3128", ("user", "")),
        ("http://DOMAIN\\user:p$s s@proxy.test:3128", "http://proxy.test:3128", ("DOMAIN\\user", "p$s s")),
        ("http://@proxy.test:3128", "http://proxy.test:3128", None),
        ("http://my_proxy:3128", "http://my_proxy:3128", None),
    ],
)
def test_the_address_of_a_proxy_is_read_as_people_write_it(text: str, url: str, user: tuple[str, str] | None) -> None:
    """The scheme may be missing, and a password may have @ and : in it."""
    proxy = parse_proxy(text)
    assert str(proxy.url) == url
    assert proxy.auth == user


UNREADABLE = (
    "socks5h://127.0.0.1:1080", "socks5://u:hunter2@127.0.0.1:1080", "socks4://a:1", "ftp://a:1", "http://", "://a:1",
    "http://:3128", "http://a:0", "http://a:65536", "http://a:+80", "http://a:", "http://a:port", "http://a..b:3128",
    "http://u:hunter2/x@a:3128", "http://u:hunter2#x@a:3128", "http://u:hunter2?x@a:3128", "http://a b:3128", "http:/a",
    "http://a:3128/path", "http://[::1:3128", "http://::1:3128", "file:///etc/proxy.pac", "http://-a:3128", "hunter2@",
)  # fmt: skip


@pytest.mark.parametrize("value", UNREADABLE)
@pytest.mark.parametrize("variable", ["OPENSKY_PROXY", "HTTPS_PROXY", "https_proxy", "ALL_PROXY"])
def test_an_unreadable_proxy_is_one_sentence_at_the_start(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    """The sentence names the variable, and holds neither password nor value."""
    set_proxies(monkeypatch, {})
    settings = {"HTTP_PORT": "1", "GRPC_PORT": "2", "USER_MANAGER_GRPC_TARGET": "a:1", "OPERATOR_TOKEN": "x" * 16}
    settings |= {"KAFKA_BOOTSTRAP_SERVERS": "a:1", "DATABASE_URL": "sqlite://", variable: value}
    for name, text in settings.items():
        monkeypatch.setenv(name, text)
    with pytest.raises(SettingsError) as caught:
        load_settings(CollectorSettings)
    text = str(caught.value)
    assert text.startswith("OPENSKY_PROXY: ")
    assert variable in text
    assert "\n" not in text
    assert PASSWORD not in text


def test_the_proxys_password_is_sent_to_the_proxy(monkeypatch: pytest.MonkeyPatch, proxy: RecordingProxy) -> None:
    """The password arrives as it was written, and the error of a refusal does not have it."""
    set_proxies(monkeypatch, {"https_proxy": f"http://user:p@ss@{urlsplit(proxy.url).netloc}"})
    error = fetch(API)
    assert error is not None
    assert "p@ss" not in error
    assert f"Proxy-Authorization: Basic {base64.b64encode(b'user:p@ss').decode()}" in proxy.headers


@pytest.mark.parametrize(
    ("status", "sentence"),
    [
        (
            "407 Proxy Authentication Required",
            "wants a user name and a password (status 407): set them in OPENSKY_PROXY",
        ),
        ("502 Bad Gateway", "the proxy does not connect to the source: check OPENSKY_PROXY"),
        ("403 Forbidden", "the proxy does not connect to the source: check OPENSKY_PROXY"),
    ],
)
def test_a_proxy_that_refuses_is_named(monkeypatch: pytest.MonkeyPatch, status: str, sentence: str) -> None:
    """The sentence says that it is the proxy, and which setting to look at: the source is not unreachable."""
    with recording_proxy(f"HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n".encode()) as proxy:
        set_proxies(monkeypatch, {"https_proxy": proxy.url})
        error = fetch(API)
    assert error is not None
    assert sentence in error


@pytest.mark.parametrize("host", ["opensky..test", ".test", "a" * 64 + ".test", "no-name.invalid"])
def test_a_name_that_cannot_be_looked_up_is_an_unavailable_source(monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    """Settings refuse what can be seen to be wrong; whatever the look-up raises is an outage of the source."""
    set_proxies(monkeypatch, {})
    assert "cannot be reached" in str(fetch(f"http://{host}/api"))
