"""The `.env` of a person's own stack."""

import stat
from pathlib import Path

import pytest

from local.errors import LocalError
from local.processes import ROOT
from local.up.settings import StackConfig


@pytest.fixture(autouse=True)
def _no_broker_of_the_shell(monkeypatch):
    monkeypatch.delenv("KAFKA_BOOTSTRAP_SERVERS", raising=False)


def own(tmp_path: Path, text: str = "") -> StackConfig:
    env_file = tmp_path / ".env"
    env_file.write_text(text)
    return StackConfig(env_file, tmp_path / "data")


def test_nothing_need_be_set(tmp_path):
    """Real OpenSky, a broker and a mailbox of its own, the system's clock."""
    stack = StackConfig(tmp_path / "no.env", tmp_path / "data")
    assert stack.names == ("kafka", "mailbox", "user_manager", "collector", "streams", "notifier")
    assert stack.environment["SMTP_HOST"] == "127.0.0.1"
    assert "OPENSKY_URL" not in stack.environment
    assert "CLOCK_START" not in stack.environment


def test_the_example_may_stay_as_it_is(tmp_path):
    """A copy of .env.example changes nothing."""
    example = own(tmp_path, (ROOT / ".env.example").read_text())
    assert example.environment == StackConfig(tmp_path / "no.env", tmp_path / "data").environment


def test_a_mail_server_of_ones_own_takes_the_mailboxes_place(tmp_path):
    """With its sender named; without, a clear sentence."""
    stack = own(tmp_path, "SMTP_HOST=smtp.example.org\nMAIL_FROM=Tower <a@example.org>\n")
    assert "mailbox" not in stack.names
    assert stack.environment["SMTP_HOST"] == "smtp.example.org"
    assert "SMTP_SECURITY" not in stack.environment, "STARTTLS is the notifier's own default"
    with pytest.raises(LocalError, match="MAIL_FROM"):
        own(tmp_path, "SMTP_HOST=smtp.example.org\n")


def test_a_broker_of_ones_own_takes_kafkas_place(tmp_path):
    """From .env or from the shell."""
    stack = own(tmp_path, "KAFKA_BOOTSTRAP_SERVERS=kafka.example.org:9092\n")
    assert "kafka" not in stack.names
    assert stack.environment["KAFKA_BOOTSTRAP_SERVERS"] == "kafka.example.org:9092"


def test_secrets_are_made_once_and_are_the_owners_alone(tmp_path):
    """Links and tokens outlive a restart; others on the machine cannot read them."""
    first, second = own(tmp_path), own(tmp_path)
    assert first.environment["SIGNING_KEY"] == second.environment["SIGNING_KEY"]
    assert len(first.environment["OPERATOR_TOKEN"]) >= 32
    assert stat.S_IMODE((tmp_path / "data" / "secrets.json").stat().st_mode) == 0o600


def test_what_the_shell_says_of_a_setting_goes_first(tmp_path, monkeypatch):
    """As everywhere with .env files."""
    monkeypatch.setenv("POLL_INTERVAL", "PT2H")
    assert own(tmp_path, "POLL_INTERVAL=PT1H\n").environment["POLL_INTERVAL"] == "PT2H"


def test_a_port_that_is_none_is_a_clear_sentence(tmp_path):
    """Before anything starts."""
    with pytest.raises(LocalError, match="PORT_BASE"):
        own(tmp_path, "PORT_BASE=high\n")
