"""The configuration of a stack for daily use, from its `.env`."""

import os
import re
import stat
from pathlib import Path

import pytest

from local.errors import LocalError
from local.processes import ROOT
from local.up.settings import StackConfig

SETTINGS = re.findall(r"^#?([A-Z_]+)=", (ROOT / ".env.example").read_text(), re.MULTILINE)
"""The names of all settings that .env.example offers."""
TEXTS = {"PORT_BASE": "9000", "GATEWAY_HOST": "0.0.0.0"}
"""Values of settings that the stack checks itself."""


@pytest.fixture(autouse=True)
def _no_settings_of_the_shell(monkeypatch):
    """Remove the shell's own settings, which go before those of `.env`."""
    for name in SETTINGS:
        monkeypatch.delenv(name, raising=False)


def own(tmp_path: Path, text: str = "") -> StackConfig:
    """Load the configuration from a `.env` with this text."""
    env_file = tmp_path / ".env"
    env_file.write_text(text)
    return StackConfig(env_file, tmp_path / "data")


def test_every_setting_is_optional(tmp_path):
    """The defaults are the real OpenSky, an own broker, an own mailbox, and the system's clock."""
    stack = StackConfig(tmp_path / "no.env", tmp_path / "data")
    assert stack.names == ("kafka", "mailbox", "user_manager", "collector", "streams", "notifier", "gateway")
    assert stack.environment["SMTP_HOST"] == "127.0.0.1"
    assert "OPENSKY_URL" not in stack.environment
    assert "CLOCK_START" not in stack.environment


def test_the_example_changes_no_default(tmp_path):
    """A copy of .env.example gives the same environment as no file."""
    example = own(tmp_path, (ROOT / ".env.example").read_text())
    assert example.environment == StackConfig(tmp_path / "no.env", tmp_path / "data").environment


def test_an_external_mail_server_replaces_the_mailbox(tmp_path):
    """SMTP_HOST needs MAIL_FROM; without, the error is one sentence."""
    stack = own(tmp_path, "SMTP_HOST=smtp.example.org\nMAIL_FROM=Tower <a@example.org>\n")
    assert "mailbox" not in stack.names
    assert stack.environment["SMTP_HOST"] == "smtp.example.org"
    assert "SMTP_SECURITY" not in stack.environment, "STARTTLS is the notifier's own default"
    with pytest.raises(LocalError, match="MAIL_FROM"):
        own(tmp_path, "SMTP_HOST=smtp.example.org\n")


@pytest.mark.parametrize(
    ("text", "port"),
    [
        ("", "587"),
        ("SMTP_SECURITY=starttls", "587"),
        ("SMTP_SECURITY=tls", "465"),
        ("SMTP_SECURITY=plaintext", "25"),
        ("SMTP_SECURITY=tls\nSMTP_PORT=2465", "2465"),
    ],
)
def test_a_mail_server_without_a_port_has_the_usual_one(tmp_path, text: str, port: str):
    """Before, the notifier refused what `make up` had taken, once MAIL_FROM was set: one fault after another."""
    stack = own(tmp_path, f"SMTP_HOST=smtp.example.org\nMAIL_FROM=Tower <a@example.org>\n{text}\n")
    assert stack.environment["SMTP_PORT"] == port


def test_an_external_broker_replaces_kafka(tmp_path):
    """The broker's address comes from .env or from the shell."""
    stack = own(tmp_path, "KAFKA_BOOTSTRAP_SERVERS=kafka.example.org:9092\n")
    assert "kafka" not in stack.names
    assert stack.environment["KAFKA_BOOTSTRAP_SERVERS"] == "kafka.example.org:9092"


def test_secrets_are_made_once_and_are_the_owners_alone(tmp_path):
    """Links and tokens survive a restart, and other users of the machine cannot read the secrets."""
    first, second = own(tmp_path), own(tmp_path)
    assert first.environment["SIGNING_KEY"] == second.environment["SIGNING_KEY"]
    assert len(first.environment["OPERATOR_TOKEN"]) >= 32
    assert stat.S_IMODE((tmp_path / "data" / "secrets.json").stat().st_mode) == 0o600


def test_the_shells_variables_take_precedence(tmp_path, monkeypatch):
    """A variable of the shell overrides the same one in .env."""
    monkeypatch.setenv("POLL_INTERVAL", "PT2H")
    assert own(tmp_path, "POLL_INTERVAL=PT1H\n").environment["POLL_INTERVAL"] == "PT2H"


@pytest.mark.parametrize("text", ["", "{name}=of the file\n"])
@pytest.mark.parametrize("name", SETTINGS)
def test_every_setting_can_be_given_by_the_shell(tmp_path, monkeypatch, name, text):
    """As .env.example says: a variable that the shell has set goes first, also if `.env` does not name it."""
    value = TEXTS.get(name, "of-the-shell")
    monkeypatch.setenv(name, value)
    if name == "SMTP_HOST":
        monkeypatch.setenv("MAIL_FROM", "a@example.org")
    stack = own(tmp_path, text.format(name=name))
    if name == "PORT_BASE":
        assert stack.ports.user_manager_http == int(value)
    else:
        assert {**os.environ, **stack.environment}[name] == value, "what a process of the stack sees"
    assert stack.given == ((name,) if text else ()), "only names in `.env` are checked for slips"
    if name == "SMTP_HOST":
        assert "mailbox" not in stack.names


def test_an_empty_variable_of_the_shell_counts_as_not_set(tmp_path, monkeypatch):
    """As in `.env`: an empty value counts as not set."""
    monkeypatch.setenv("PORT_BASE", "")
    assert own(tmp_path, "PORT_BASE=9000\n").ports.user_manager_http == 9000


def test_an_invalid_port_is_rejected(tmp_path):
    """The error comes before anything starts."""
    with pytest.raises(LocalError, match="PORT_BASE"):
        own(tmp_path, "PORT_BASE=high\n")


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "0.0.0.0", "::", "[::]", "::ffff:127.0.0.1"])
def test_services_may_listen_where_they_reach_one_another(tmp_path, host):
    """All addresses of the machine are possible, too."""
    assert own(tmp_path, f"LISTEN_HOST={host}\n").environment["LISTEN_HOST"] == host


@pytest.mark.parametrize("host", ["::1", "[::1]", "192.0.2.7", "*", "fe80::1%eth0", "127.0.0.1:80", "a..b"])
def test_an_address_at_which_they_do_not_reach_one_another_is_rejected(tmp_path, host):
    """The services of one machine reach one another at 127.0.0.1."""
    with pytest.raises(LocalError, match=r"^LISTEN_HOST \(\.env, or the shell\) must be 127\.0\.0\.1"):
        own(tmp_path, f"LISTEN_HOST={host}\n")


def test_people_come_in_by_the_gateway_which_alone_may_be_opened(tmp_path):
    """PUBLIC_URL is the gateway's address unless .env sets it; without GATEWAY_HOST it listens at LISTEN_HOST."""
    plain = own(tmp_path, "PORT_BASE=9000\n")
    assert plain.names[-1] == "gateway"
    assert plain.environment["PUBLIC_URL"] == f"http://127.0.0.1:{plain.ports.gateway_http}" == "http://127.0.0.1:9010"
    assert plain.environment["GATEWAY_HOST"] == "127.0.0.1"
    opened = own(tmp_path, "GATEWAY_HOST=0.0.0.0\nPUBLIC_URL=http://192.0.2.7:8530\n").environment
    assert (opened["GATEWAY_HOST"], opened["PUBLIC_URL"]) == ("0.0.0.0", "http://192.0.2.7:8530")
    assert "LISTEN_HOST" not in opened
    assert own(tmp_path, "LISTEN_HOST=::\n").environment["GATEWAY_HOST"] == "::"
    with pytest.raises(LocalError, match=r"^GATEWAY_HOST \(\.env, or the shell\) must be 127\.0\.0\.1"):
        own(tmp_path, "GATEWAY_HOST=192.0.2.7\n")


def test_a_secret_with_a_dollar_sign_reaches_the_services(tmp_path, monkeypatch):
    """The row of the issue: nothing is replaced, whether the shell has such a variable or not."""
    monkeypatch.setenv("cd", "replaced")
    assert own(tmp_path, "SMTP_PASSWORD=ab${cd}ef\n").environment["SMTP_PASSWORD"] == "ab${cd}ef"
