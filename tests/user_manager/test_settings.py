"""The settings of user_manager: what links in mails begin with."""

from datetime import timedelta

import pytest

from chassis.errors import SettingsError
from chassis.settings import load_settings
from user_manager.mailbox_limits import MailRates
from user_manager.settings import UserManagerSettings

ENOUGH = {
    "KAFKA_BOOTSTRAP_SERVERS": "localhost:9092",
    "DATABASE_URL": "sqlite://",
    "HTTP_PORT": "8080",
    "GRPC_PORT": "9090",
    "COLLECTOR_GRPC_TARGET": "collector-grpc:9090",
    "SIGNING_KEY": "the-signing-key-of-tests",
    "OPERATOR_TOKEN": "the-operators-own-token",
}


def load(monkeypatch: pytest.MonkeyPatch, public_url: str) -> str:
    """Return PUBLIC_URL as the settings have it. Raises SettingsError."""
    for name, value in (ENOUGH | {"PUBLIC_URL": public_url}).items():
        monkeypatch.setenv(name, value)
    return load_settings(UserManagerSettings).public_url


@pytest.mark.parametrize(
    ("given", "public_url"),
    [
        ("https://towerwatch.example", "https://towerwatch.example"),
        ("https://flüge.example.org", "https://xn--flge-1ra.example.org"),
        ("https://FLÜGE.example.org:8443/tower", "https://xn--flge-1ra.example.org:8443/tower"),
        ("https://example.org/flüge", "https://example.org/fl%C3%BCge"),
        ("https://example.org/a%20b", "https://example.org/a%20b"),
        ("http://127.0.0.1:8520", "http://127.0.0.1:8520"),
        ("http://[::1]:8520", "http://[::1]:8520"),
        ("http://my_host:8520/<x>", "http://my_host:8520/%3Cx%3E"),
    ],
)
def test_links_are_in_ascii(monkeypatch: pytest.MonkeyPatch, given: str, public_url: str) -> None:
    """A mail can only have a link of printable ASCII, so names become Punycode, and paths are percent-encoded."""
    assert load(monkeypatch, given) == public_url
    assert public_url.isascii()


@pytest.mark.parametrize(
    "given",
    [
        "https://smtp..example.org", "https://", "example.org", "ftp://example.org", "https://example.org/",
        "https://example.org?x=1", "https://example.org#x", "https://example.org?", "https://u:hunter2@example.org",
        "https://exam ple.org", "https://example.org/a b", "https://example.org:0", "https://example.org:65536",
        "https://-example.org", "https://ü..example.org", "https://[::1", "https://example.org\n", 'https://e.org/"x"',
    ],
)  # fmt: skip
def test_a_url_that_no_link_can_begin_with_is_refused(monkeypatch: pytest.MonkeyPatch, given: str) -> None:
    """The sentence names the setting and does not repeat the value."""
    with pytest.raises(SettingsError, match=r"^PUBLIC_URL: must .+$") as caught:
        load(monkeypatch, given)
    assert "hunter2" not in str(caught.value)


def test_the_limits_on_mails_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pauses are ISO 8601 durations with commas between them; without settings they are a minute up to a day."""
    for name, value in (ENOUGH | {"PUBLIC_URL": "https://towerwatch.example"}).items():
        monkeypatch.setenv(name, value)
    assert load_settings(UserManagerSettings).build_mail_rates() == MailRates()
    for name, value in (("MAIL_PAUSES", "PT5S, PT1H"), ("MAILS_PER_CLIENT", "7"), ("MAILS_PER_HOUR", "9")):
        monkeypatch.setenv(name, value)
    rates = load_settings(UserManagerSettings).build_mail_rates()
    assert rates == MailRates((timedelta(seconds=5), timedelta(hours=1)), 7, 9)


@pytest.mark.parametrize("pauses", ["PT0S", "PT1H,PT1M", "P8D", "PT1M,", "soon"])
def test_pauses_that_do_not_grow_are_refused(monkeypatch: pytest.MonkeyPatch, pauses: str) -> None:
    """Each pause is as long as the one before or longer, and none is longer than a link is valid."""
    for name, value in (ENOUGH | {"PUBLIC_URL": "https://towerwatch.example", "MAIL_PAUSES": pauses}).items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError, match="MAIL_PAUSES"):
        load_settings(UserManagerSettings)
