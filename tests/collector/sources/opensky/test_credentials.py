"""Credentials from OpenSky's download, and the OpenSky part of the settings."""

import json
from pathlib import Path

import pytest

from chassis.errors import SettingsError
from chassis.settings import load_settings
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
    path = tmp_path / "credentials.json"
    path.write_text(json.dumps(DOWNLOAD))
    return path


def loaded(monkeypatch: pytest.MonkeyPatch, **settings: object) -> CollectorSettings:
    for name, value in (REQUIRED | settings).items():
        monkeypatch.setenv(name, str(value))
    return load_settings(CollectorSettings)


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
    """Also as some editors save it; its secret does not show."""
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
def test_any_other_content_is_a_clear_fault_that_does_not_show_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes
) -> None:
    """An empty file too: somebody wanted credentials, and must not end up anonymous unawares."""
    path = tmp_path / f"{SECRET}.json"
    path.write_bytes(content)
    with pytest.raises(SettingsError, match=r"^OPENSKY_CREDENTIALS_FILE: .*clientId and clientSecret$") as caught:
        loaded(monkeypatch, OPENSKY_CREDENTIALS_FILE=path)
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("path", ["missing.json", "."])
def test_a_file_that_cannot_be_read_is_a_clear_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    """Said with the name of the variable, beside whatever else is wrong."""
    with pytest.raises(SettingsError) as caught:
        loaded(monkeypatch, OPENSKY_CREDENTIALS_FILE=tmp_path / path, POLL_INTERVAL="PT1S")
    first, second = str(caught.value).splitlines()
    assert first.startswith("OPENSKY_CREDENTIALS_FILE: ")
    assert "cannot be read" in first
    assert second.startswith("POLL_INTERVAL: ")


def test_a_client_is_named_once(monkeypatch: pytest.MonkeyPatch, file: Path) -> None:
    """The file, or both variables, or nothing for anonymous access; empty means not set."""
    client = {"OPENSKY_CLIENT_ID": "me", "OPENSKY_CLIENT_SECRET": SECRET}
    assert loaded(monkeypatch).opensky_credentials() is None
    assert loaded(monkeypatch, OPENSKY_CREDENTIALS_FILE="").opensky_credentials() is None
    from_file = loaded(monkeypatch, OPENSKY_CREDENTIALS_FILE=file)
    assert from_file.opensky_credentials() == ("me-api-client", SECRET)
    assert SECRET not in repr(from_file)
    with pytest.raises(SettingsError, match=r"^OPENSKY_CREDENTIALS_FILE: .*OPENSKY_CLIENT_ID") as caught:
        loaded(monkeypatch, **client)
    assert SECRET not in str(caught.value)
    assert loaded(monkeypatch, OPENSKY_CREDENTIALS_FILE="", **client).opensky_credentials() == ("me", SECRET)


@pytest.mark.parametrize("half", ["OPENSKY_CLIENT_ID", "OPENSKY_CLIENT_SECRET"])
def test_half_a_client_beside_the_file_is_a_fault(monkeypatch: pytest.MonkeyPatch, file: Path, half: str) -> None:
    """Nobody knows which of the two was meant."""
    with pytest.raises(SettingsError, match="OPENSKY_CLIENT_SECRET"):
        loaded(monkeypatch, OPENSKY_CREDENTIALS_FILE=file, **{half: SECRET})


def test_timeouts_have_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    """Five seconds to connect, thirty for all."""
    settings = loaded(monkeypatch)
    assert (settings.opensky_connect_timeout, settings.opensky_timeout) == (5, 30)


@pytest.mark.parametrize("name", ["OPENSKY_CONNECT_TIMEOUT", "OPENSKY_TIMEOUT"])
@pytest.mark.parametrize("value", ["0", "-1", "nan", "inf", "1000", "soon"])
def test_timeouts_have_bounds(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    """Neither none at all nor for ever."""
    with pytest.raises(SettingsError, match=f"^{name}: "):
        loaded(monkeypatch, **{name: value})
