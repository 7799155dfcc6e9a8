"""PUBLIC_URL: each link that is built from an accepted one can be printed in a mail; any other URL is refused."""

from uuid import uuid4

import pytest

from chassis.errors import SettingsError
from chassis.settings import load_settings
from notifier.mail import is_printable_link
from user_manager.links import LinkSigner
from user_manager.settings import UserManagerSettings

NEEDED = {
    "KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:9092",
    "DATABASE_URL": "sqlite:///users.sqlite",
    "HTTP_PORT": "8080",
    "GRPC_PORT": "9090",
    "COLLECTOR_GRPC_TARGET": "127.0.0.1:9091",
    "SIGNING_KEY": "the-signing-key-of-tests",
    "OPERATOR_TOKEN": "the-operator-token-of-tests",
}


def load_public_url(monkeypatch: pytest.MonkeyPatch, url: str) -> str:
    """Return PUBLIC_URL as the settings of user_manager hold it. Raises SettingsError."""
    for name, value in (NEEDED | {"PUBLIC_URL": url}).items():
        monkeypatch.setenv(name, value)
    return load_settings(UserManagerSettings).public_url


@pytest.mark.parametrize(
    ("url", "printed"),
    [
        ("https://flüge.example.org", "https://xn--flge-1ra.example.org"),
        ("https://FLÜGE.example.org", "https://xn--flge-1ra.example.org"),
        ("https://flu\u0308ge.example.org", "https://xn--flge-1ra.example.org"),
        ("https://例え.テスト", "https://xn--r8jz45g.xn--zckzah"),
        ("https://straße.example.org", "https://xn--strae-oqa.example.org"),
        ("https://example。org", "https://example.org"),
        ("https://xn--flge-1ra.example.org", "https://xn--flge-1ra.example.org"),
        ("HTTPS://towerwatch.example.org", "https://towerwatch.example.org"),
        ("https://towerwatch.example.org:8443", "https://towerwatch.example.org:8443"),
        ("https://flüge.example.org:8443/tower", "https://xn--flge-1ra.example.org:8443/tower"),
        ("http://[2001:db8::1]:8520", "http://[2001:db8::1]:8520"),
        ("http://[2001:db8::1]/tower", "http://[2001:db8::1]/tower"),
        ("http://127.0.0.1:8520", "http://127.0.0.1:8520"),
        ("https://localhost", "https://localhost"),
        ("https://example.org/flüge", "https://example.org/fl%C3%BCge"),
        ("https://example.org/飛行/機", "https://example.org/%E9%A3%9B%E8%A1%8C/%E6%A9%9F"),
        ("https://example.org/a%20b", "https://example.org/a%20b"),
        ("https://example.org/a<b>", "https://example.org/a%3Cb%3E"),
        ("https://example.org/~ada/a;b=c,d", "https://example.org/~ada/a;b=c,d"),
    ],
)
def test_links_below_an_accepted_url_can_be_printed(monkeypatch: pytest.MonkeyPatch, url: str, printed: str) -> None:
    """The host is in Punycode, the path has percents, and the notifier can print both kinds of links."""
    assert load_public_url(monkeypatch, url) == printed
    links = LinkSigner(NEEDED["SIGNING_KEY"], printed)
    for link in (links.build_confirmation_url(uuid4()), links.build_unsubscription_url(uuid4())):
        assert link.startswith(f"{printed}/")
        assert is_printable_link(link)


@pytest.mark.parametrize(
    "url",
    [
        "https://example.org/",
        "https://example.org/tower/",
        "https://example.org?",
        "https://example.org?a=b",
        "https://example.org#",
        "https://example.org/#top",
        "https://ada:secret@example.org",
        "https://ada@example.org",
        "https://example.org/a b",
        " https://example.org",
        "https://exam\nple.org",
        "https://exam\tple.org",
        "https://example.org/100%",
        "https://example.org/%zz",
        "https://ex%41mple.org",
        "https://example.org\\tower",
        'https://example.org/"',
        "https://example..org",
        "https://.example.org",
        "https://-.example.org",
        "https://i❤.example.org",
        "https://\u200b.example.org",
        "https://example.org/\u202egro",
        "https://example.org/\udcfc",
        f"https://{'a' * 64}.example.org",
        f"https://example.org/{'a' * 600}",
        f"https://example.org/{'ü' * 200}",
        "https://example.org:",
        "https://example.org:0",
        "https://example.org:65536",
        "https://example.org:https",
        "https://[2001:db8::1",
        "https://2001:db8::1",
        "https://[fe80::1%25eth0]",
        "https://[example.org]",
        "https://192.0.2.300",
        "https://",
        "https:///tower",
        "example.org",
        "ftp://example.org",
        "mailto:ada@example.org",
        "//example.org",
    ],
)
def test_a_url_whose_links_could_not_be_followed_is_refused(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    """The error is one sentence that names the variable, and neither repeats the value nor has words of pydantic."""
    with pytest.raises(SettingsError) as refused:
        load_public_url(monkeypatch, url)
    text = str(refused.value)
    assert text.startswith("PUBLIC_URL: must ")
    assert len(text.splitlines()) == 1
    assert "example" not in text.replace("like https://example.org", "")
    assert "Value error" not in text


def test_the_longest_url_has_links_that_can_be_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A URL of the maximal length leaves room for the longest link."""
    url = load_public_url(monkeypatch, "https://example.org/" + "a" * 580)
    assert is_printable_link(LinkSigner(NEEDED["SIGNING_KEY"], url).build_confirmation_url(uuid4()))
