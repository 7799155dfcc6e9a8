"""The settings of services: read from the environment or from files, with all faults reported together."""

from datetime import UTC, datetime
from pathlib import Path

import pytest
from pydantic import SecretStr

from chassis.clock import HeldClock
from chassis.errors import SettingsError
from chassis.settings import Port, Settings, StrongSecret, load_settings

LONG_SECRET = "correct-horse-battery"


class Example(Settings):
    """Example settings with one field of each kind."""

    http_port: Port
    signing_key: StrongSecret
    database_url: SecretStr = SecretStr("sqlite://")


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Set the required variables, and remove the others."""
    for name in ("SIGNING_KEY_FILE", "DATABASE_URL", "DATABASE_URL_FILE", "LOG_LEVEL", "CLOCK_START", "CLOCK_RATE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", "localhost:9092")
    monkeypatch.setenv("HTTP_PORT", "8080")
    monkeypatch.setenv("SIGNING_KEY", LONG_SECRET)


def test_settings_are_typed_and_frozen() -> None:
    """The values of the environment are converted, and cannot be changed afterwards."""
    settings = load_settings(Example)
    assert settings.http_port == 8080
    assert settings.signing_key.get_secret_value() == LONG_SECRET
    with pytest.raises(ValueError, match="frozen"):
        settings.http_port = 1


def test_a_secret_is_read_from_the_file_that_its_variable_names(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """NAME_FILE is used if NAME is not set; a line break at the end of the file, and an editor's mark at its
    begin, are not part of the secret; everything else is."""
    monkeypatch.delenv("SIGNING_KEY")
    file = tmp_path / "signing-key"
    monkeypatch.setenv("SIGNING_KEY_FILE", str(file))
    for secret in (LONG_SECRET, "ab${cd}ef #gh='i'\\n\"j", " a secret with spaces "):
        for content in (secret, f"{secret}\n", f"{secret}\r\n", f"\ufeff{secret}\r\n"):
            file.write_bytes(content.encode())
            assert load_settings(Example).signing_key.get_secret_value() == secret


def test_empty_means_not_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """With an empty variable or file the default applies; without a default it is a fault."""
    empty = tmp_path / "empty"
    empty.touch()
    monkeypatch.setenv("DATABASE_URL_FILE", str(empty))
    monkeypatch.setenv("LOG_LEVEL", "")
    settings = load_settings(Example)
    assert settings.database_url.get_secret_value() == "sqlite://"
    assert settings.log_level == "info"
    monkeypatch.setenv("HTTP_PORT", "")
    with pytest.raises(SettingsError, match="HTTP_PORT: is not set; set it, or HTTP_PORT_FILE"):
        load_settings(Example)


def test_all_faults_are_reported_together_without_values(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An invalid value may be a secret, so the error never contains values."""
    monkeypatch.delenv("KAFKA_BOOTSTRAP_SERVERS")
    monkeypatch.setenv("HTTP_PORT", "70123")
    monkeypatch.setenv("SIGNING_KEY", "too-short")
    monkeypatch.setenv("LOG_LEVEL", "loudest")
    monkeypatch.setenv("DATABASE_URL_FILE", str(tmp_path / "missing"))
    with pytest.raises(SettingsError) as caught:
        load_settings(Example)
    text = str(caught.value)
    for name in ("KAFKA_BOOTSTRAP_SERVERS", "HTTP_PORT", "SIGNING_KEY", "LOG_LEVEL", "DATABASE_URL_FILE"):
        assert f"{name}: " in text
    assert len(text.splitlines()) == 5
    for value in ("70123", "too-short", "loudest"):
        assert value not in text


def test_a_file_that_cannot_be_read_is_a_fault_even_when_it_is_alone(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A missing file of a secret is reported by its variable, and the default does not apply instead."""
    monkeypatch.setenv("DATABASE_URL_FILE", str(tmp_path / "missing"))
    with pytest.raises(SettingsError) as caught:
        load_settings(Example)
    assert str(caught.value) == "DATABASE_URL_FILE: names a file that cannot be read (No such file or directory)"


def test_the_clock_settings_describe_one_clock(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without CLOCK_START the clock is the machine's; a rate without a start is a fault."""
    assert abs((load_settings(Example).build_clock().now() - datetime.now(UTC)).total_seconds()) < 60
    monkeypatch.setenv("CLOCK_RATE", "60")
    with pytest.raises(SettingsError, match="start"):
        load_settings(Example)
    monkeypatch.setenv("CLOCK_START", "2013-02-13T00:00:00Z")
    assert load_settings(Example).build_clock().now().year == 2013
    monkeypatch.setenv("CLOCK_ANCHOR_PATH", str(tmp_path / "anchor"))
    held = load_settings(Example).build_clock()
    assert isinstance(held, HeldClock)
    assert held.now() == datetime(2013, 2, 13, tzinfo=UTC)
    monkeypatch.setenv("CLOCK_ANCHOR", "2026-07-01T12:00:00Z")
    with pytest.raises(SettingsError, match="unset one of them"):
        load_settings(Example)
