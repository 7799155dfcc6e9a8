"""Tests of the settings for positions: what they turn on, and what is refused at the start."""

import pytest

from chassis.errors import SettingsError
from chassis.settings import load_settings
from collector.settings import CollectorSettings

REQUIRED = {
    "KAFKA_BOOTSTRAP_SERVERS": "localhost:9092", "DATABASE_URL": "sqlite://", "HTTP_PORT": "8081", "GRPC_PORT": "8082",
    "USER_MANAGER_GRPC_TARGET": "localhost:8083", "OPERATOR_TOKEN": "the-operators-own-token",
}  # fmt: skip
ACCOUNT = {"OPENSKY_CLIENT_ID": "towerwatch", "OPENSKY_CLIENT_SECRET": "hunter2"}
RECEIVER = "http://ann:hunter2@receiver.lan/data/aircraft.json"


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Set what the collector needs, and none of the machine's own settings or proxies."""
    names = {*map(str.upper, CollectorSettings.model_fields), "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"}
    for name in names | {each.lower() for each in names}:
        monkeypatch.delenv(name, raising=False)
    for name, value in REQUIRED.items():
        monkeypatch.setenv(name, value)


def load(monkeypatch: pytest.MonkeyPatch, **settings: str) -> CollectorSettings:
    """Load the settings with these variables."""
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    return load_settings(CollectorSettings)


@pytest.mark.parametrize(
    ("given", "asks_opensky", "addresses"),
    [
        ({}, False, []),
        (ACCOUNT, True, []),
        (ACCOUNT | {"LIVE": "off", "LIVE_URLS": RECEIVER}, False, []),
        (ACCOUNT | {"LIVE_CREDITS_PER_DAY": "0"}, False, []),
        ({"LIVE_URLS": RECEIVER}, False, ["url-1"]),
        (ACCOUNT | {"LIVE_URLS": f"{RECEIVER},/run/readsb/aircraft.json"}, True, ["url-1", "url-2"]),
    ],
)
def test_positions_are_asked_for_where_an_account_or_a_url_is_given(
    monkeypatch: pytest.MonkeyPatch, given: dict[str, str], asks_opensky: bool, addresses: list[str]
) -> None:
    """Anonymous access is not used for it; `off` turns all of it off."""
    settings = load(monkeypatch, **given)
    assert settings.asks_opensky_for_positions() is asks_opensky
    assert [each.name for each in settings.live_addresses()] == addresses
    assert "hunter2" not in repr(settings)


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("LIVE", "on", "must be 'auto' or 'off'"),
        ("LIVE_URLS", "ftp://hunter2/", "address 1 must be an http or https URL"),
        ("LIVE_URLS", f"{RECEIVER},{RECEIVER}", "address 2 is the same as address 1"),
        ("LIVE_URLS", "https://hunter2/v2/point/{lat}/{lon}/250", "address 1 must have each of {lat}, {lon} and {nm}"),
        ("LIVE_URLS", "https://hunter2/v2/point/48.9/2.5/300", "250 nautical miles at most"),
        ("LIVE_CREDITS_PER_DAY", "959", "must be 960 or more, for one region every 90 seconds, or 0"),
        ("LIVE_CREDITS_PER_DAY", "-1", "must be 0 or more"),
    ],
)
def test_what_cannot_be_meant_is_one_sentence_without_the_value(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, sentence: str
) -> None:
    """It begins with the variable's name."""
    with pytest.raises(SettingsError) as caught:
        load(monkeypatch, **{name: value})
    (line,) = str(caught.value).splitlines()
    assert line.startswith(f"{name}: ")
    assert sentence in line
    assert "hunter2" not in line


def test_a_proxy_of_the_machine_that_cannot_be_used_for_an_address_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only for what is outside of this machine."""
    monkeypatch.setenv("http_proxy", "socks5://hunter2")
    assert load(monkeypatch, LIVE_URLS="http://localhost/aircraft.json,/run/aircraft.json").live_addresses()
    with pytest.raises(SettingsError) as caught:
        load(monkeypatch, LIVE_URLS="/run/aircraft.json,http://receiver.lan/aircraft.json")
    assert "address 2 is outside of this machine: http_proxy counts, which must be an http proxy" in str(caught.value)
    assert "hunter2" not in str(caught.value)
