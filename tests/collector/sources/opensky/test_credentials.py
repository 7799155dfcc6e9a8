"""Tests of the credentials file, and of the OpenSky part of the settings."""

import json
from pathlib import Path

import pytest

from chassis import settings as chassis_settings
from chassis.errors import SettingsError
from collector.settings import CollectorSettings
from collector.sources.opensky.credentials import read_credentials

SECRET = "hunter2-the-secret"
REQUIRED = {
    "KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:9092",
    "DATABASE_URL": "sqlite:////nowhere/collector.db",
    "HTTP_PORT": "8080",
    "GRPC_PORT": "8081",
    "USER_MANAGER_GRPC_TARGET": "127.0.0.1:8082",
    "OPERATOR_TOKEN": "the-operators-own-token",
}
DOWNLOAD = {"clientId": "me-api-client", "clientSecret": SECRET}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Return the path of a valid credentials file."""
    path = tmp_path / "credentials.json"
    path.write_text(json.dumps(DOWNLOAD))
    return path


def load_collector_settings(monkeypatch: pytest.MonkeyPatch, **settings: object) -> CollectorSettings:
    """Return the settings from these environment variables and the required ones."""
    for name, value in (REQUIRED | settings).items():
        monkeypatch.setenv(name, str(value))
    return chassis_settings.load_settings(CollectorSettings)


@pytest.mark.parametrize(
    "content",
    [
        json.dumps(DOWNLOAD).encode(),
        json.dumps({**DOWNLOAD, "name": "laptop"}, indent=2).encode() + b"\r\n",
        b"\xef\xbb\xbf" + json.dumps(DOWNLOAD).encode(),
    ],
    ids=["as downloaded", "with more in it", "with a byte order mark"],
)
def test_the_download_is_read(tmp_path: Path, content: bytes) -> None:
    """Files as some editors save them are accepted too, and the secret is not in the repr."""
    path = tmp_path / "credentials.json"
    path.write_bytes(content)
    credentials = read_credentials(str(path))
    assert credentials.client_id == "me-api-client"
    assert credentials.client_secret.get_secret_value() == SECRET
    assert SECRET not in repr(credentials)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        SECRET.encode(),
        f'{{"clientId": "me", "clientSecret": "{SECRET}"'.encode(),
        json.dumps([SECRET]).encode(),
        json.dumps({"clientSecret": SECRET}).encode(),
        json.dumps({"clientId": SECRET}).encode(),
        json.dumps({"client_id": "me", "client_secret": SECRET}).encode(),
        json.dumps({"clientId": "", "clientSecret": SECRET}).encode(),
        json.dumps({"clientId": "me", "clientSecret": ""}).encode(),
        json.dumps({"clientId": SECRET, "clientSecret": 7}).encode(),
        json.dumps({"clientId": 7, "clientSecret": SECRET}).encode(),
        b"\xff\xfe" + SECRET.encode(),
        b"[" * 100_000,
    ],
)
def test_any_other_content_is_a_clear_error_without_the_content(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes
) -> None:
    """An empty file is an error too: its owner wanted credentials, and must not become anonymous without notice."""
    path = tmp_path / f"{SECRET}.json"
    path.write_bytes(content)
    with pytest.raises(SettingsError, match=r"^OPENSKY_CREDENTIALS_FILE: .*clientId and clientSecret$") as caught:
        load_collector_settings(monkeypatch, OPENSKY_CREDENTIALS_FILE=path)
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("path", ["missing.json", "."])
def test_an_unreadable_file_is_a_clear_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    """The error names the variable, and is reported together with all other errors."""
    with pytest.raises(SettingsError) as caught:
        load_collector_settings(monkeypatch, OPENSKY_CREDENTIALS_FILE=tmp_path / path, POLL_INTERVAL="PT1S")
    first, second = str(caught.value).splitlines()
    assert first.startswith("OPENSKY_CREDENTIALS_FILE: ")
    assert "cannot be read" in first
    assert second.startswith("POLL_INTERVAL: ")


def test_credentials_are_set_once(monkeypatch: pytest.MonkeyPatch, file: Path) -> None:
    """They come from the file, or from both variables, or from neither for anonymous access; empty means not set."""
    client = {"OPENSKY_CLIENT_ID": "me", "OPENSKY_CLIENT_SECRET": SECRET}
    assert load_collector_settings(monkeypatch).opensky_credentials() is None
    assert load_collector_settings(monkeypatch, OPENSKY_CREDENTIALS_FILE="").opensky_credentials() is None
    from_file = load_collector_settings(monkeypatch, OPENSKY_CREDENTIALS_FILE=file)
    assert from_file.opensky_credentials() == ("me-api-client", SECRET)
    assert SECRET not in repr(from_file)
    with pytest.raises(SettingsError, match=r"^OPENSKY_CREDENTIALS_FILE: .*OPENSKY_CLIENT_ID") as caught:
        load_collector_settings(monkeypatch, **client)
    assert SECRET not in str(caught.value)
    assert load_collector_settings(monkeypatch, OPENSKY_CREDENTIALS_FILE="", **client).opensky_credentials() == (
        "me",
        SECRET,
    )


@pytest.mark.parametrize("half", ["OPENSKY_CLIENT_ID", "OPENSKY_CLIENT_SECRET"])
def test_half_of_the_credentials_beside_the_file_is_an_error(
    monkeypatch: pytest.MonkeyPatch, file: Path, half: str
) -> None:
    """The settings would not define which of the two clients is meant."""
    with pytest.raises(SettingsError, match="OPENSKY_CLIENT_SECRET"):
        load_collector_settings(monkeypatch, OPENSKY_CREDENTIALS_FILE=file, **{half: SECRET})


def test_timeouts_have_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    """The defaults are five seconds to connect, thirty in all."""
    settings = load_collector_settings(monkeypatch)
    assert (settings.opensky_connect_timeout, settings.opensky_timeout) == (5, 30)


@pytest.mark.parametrize("name", ["OPENSKY_CONNECT_TIMEOUT", "OPENSKY_TIMEOUT"])
@pytest.mark.parametrize("value", ["0", "-1", "nan", "inf", "1000", "soon"])
def test_timeouts_have_bounds(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    """Neither zero nor infinite timeouts are accepted."""
    with pytest.raises(SettingsError, match=f"^{name}: "):
        load_collector_settings(monkeypatch, **{name: value})
