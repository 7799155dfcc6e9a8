"""What the command lines answer to a wrong call: each sentence says what is so and what is wanted."""

import logging
import runpy
import socket
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import structlog

from tests.error_texts import FOREIGN_WORDS

BROKER = {"KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1"}
REPLAY = ("streams", "replay", "--from-beginning", "--output")
OPENSKY = ("local.opensky", "--port", "1")


@pytest.fixture(autouse=True)
def _same_logs() -> Iterator[None]:
    """Restore the configuration of the logs after the test: a command writes them to the test's own standard error."""
    before, level = structlog.get_config(), logging.getLogger("aiokafka").level
    yield
    structlog.configure(**before)
    logging.getLogger("aiokafka").setLevel(level)


def run_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], command: Sequence[str], **environment: str
) -> tuple[int, str]:
    """Run `python -m …` within this process; return its exit status and standard error."""
    module, *arguments = command
    for name in ("KAFKA_BOOTSTRAP_SERVERS", "CLOCK_START", "CLOCK_RATE", "OPENSKY_CLIENT_ID", "OPENSKY_CLIENT_SECRET"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "argv", [module, *arguments])
    with pytest.raises(SystemExit) as ended:
        runpy.run_module(
            module if module in ("local.former_codes", "local.runways") else f"{module}.__main__",
            run_name="__main__",
            alter_sys=False,
        )
    code = ended.value.code
    text = capsys.readouterr().err
    return (1, f"{text}{code}") if isinstance(code, str) else (int(code or 0), text)


@pytest.mark.parametrize(
    ("command", "environment", "sentence"),
    [
        (("notifier", "dead-letters", "list"), {}, "KAFKA_BOOTSTRAP_SERVERS: is not set; set it, or"),
        (("notifier", "dead-letters", "list"), {"KAFKA_BOOTSTRAP_SERVERS": "a..b:1"}, "must be a list of host:port"),
        (("notifier", "dead-letters", "show", "x"), BROKER, "'x' is no letter's id: that is partition:offset"),
        (("notifier", "dead-letters", "show"), BROKER, "required: ID"),
        (("notifier", "dead-letters", "requeue"), BROKER, "requeue needs letters: either their ids, or --all"),
        (("notifier", "dead-letters", "requeue", "1:2", "--reason", "x"), BROKER, "go with --all, not with ids"),
        (("notifier", "dead-letters", "list", "--since", "noon"), BROKER, "'noon' is no time: take one like 2h"),
        (("notifier", "dead-letters", "list", "--limit", "0"), BROKER, "'0' is no number above 0"),
        (("notifier", "letters"), BROKER, "choose from"),
        (("streams", "nonsense"), BROKER, "choose from"),
        (("streams", "verify"), {}, "KAFKA_BOOTSTRAP_SERVERS: is not set; set it, or"),
        (("streams", "replay"), BROKER, "required: --from-beginning, --output"),
        ((*REPLAY, "a b"), BROKER, "is no topic's name: take up to 249 of letters, digits, dot, dash, underscore"),
        ((*REPLAY, "alerts.raised.v1"), BROKER, "is one of Towerwatch's own topics: choose another name"),
        (("collector", "movements"), {}, "required: FILE|URL"),
        (("collector", "movements", "/no/such/file"), {}, "/no/such/file: cannot be read: No such file or directory"),
        (("collector", "movements", "x", "--step", "often"), {}, "'often' is no number of seconds from 1 to 3600"),
        (("collector", "movements", "x", "--airport", "XXXX"), {}, "no airport has this ICAO code"),
        (("local.kafka", "nonsense"), {}, "choose from"),
        (("local.kafka", "run", "--port", "x"), {}, "'x' is not a port, a number from 1 to 65535"),
        (("local.kafka", "run", "--port", "65536"), {}, "'65536' is not a port"),
        (("local.opensky",), {}, "required: --port"),
        (("local.opensky", "--port", "0"), {}, "'0' is not a port, a number from 1 to 65535"),
        ((*OPENSKY, "--faults", "x"), {}, "'x' is neither SEED, a whole number, nor SEED:RATE nor a JSON list"),
        ((*OPENSKY, "--credits-per-day", "-1"), {}, "a whole number from 0 on"),
        ((*OPENSKY, "--receiver", "here"), {}, "'here' is no position; write it as 40.68,-73.94"),
        ((*OPENSKY, "--state-faults", "frozen@noon+5"), {}, "'noon' is no instant; write it as 2013-02-08T14:00Z"),
        (OPENSKY, {}, "CLOCK_START must be an instant of 2013"),
        (OPENSKY, {"CLOCK_START": "noon"}, "CLOCK_START must be an instant like 2013-02-13T00:00:00Z, not 'noon'"),
        (OPENSKY, {"CLOCK_START": "2013-02-13T00:00:00"}, "must end in Z or an offset from UTC"),
        (OPENSKY, {"CLOCK_START": "2013-02-13T00:00:00Z", "CLOCK_RATE": "fast"}, "CLOCK_RATE must be a number"),
        (OPENSKY, {"CLOCK_START": "2013-02-13T00:00:00Z", "OPENSKY_CLIENT_ID": "a"}, "are needed together, or neither"),
        ((*OPENSKY, "--record-at", "25:00"), {"CLOCK_START": "2013-02-13T00:00:00Z"}, "--record-at 25:00"),
        (("local.demo", "--from", "x"), {}, "--from x: is no day; write it as 2013-02-08"),
        (("local.demo", "--from", "2014-01-01", "--to", "2014-01-02"), {}, "the real flights of the demo are of 2013"),
        (("local.demo", "--from", "2013-02-08", "--to", "2013-02-08"), {}, "must be a day after --from"),
        (("local.demo", "--interest", "KJFK"), {}, "airport, direction and window are needed; the form is AIRPORT:"),
        (("local.demo", "--interest", "KJFK:up:1h:high=1"), {}, "'up' is no direction: arrivals, departures or both"),
        (("local.demo", "--interest", "XXXX:both:1h:high=1"), {}, "XXXX"),
        (("local.demo", "--streams-workers", "0"), {}, "--streams-workers 0: take from 1 to 12"),
        (("local.demo", "--streams-workers", "two"), {}, "'two' is not a whole number"),
        (("local.demo", "--port-base", "1"), {}, "the first port (PORT_BASE, or --port-base) must be from 1024 to"),
        (("local.demo", "--port-base", "8e3"), {}, "'8e3' is not a whole number"),
        (("local.demo", "--json", "/no/such/file.json"), {}, "--json /no/such/file.json: there is no such folder"),
        (("local.mailbox", "--port", "x", "--maildir", "m"), {}, "'x' is not a port, a number from 1 to 65535"),
        (("local.mailbox", "--web-port", "0", "--maildir", "m"), {}, "'0' is not a port"),
        (("local.mailbox",), {}, "required: --maildir"),
        (("local.up", "nonsense"), {}, "choose from"),
        (("local.kind", "nonsense"), {}, "choose from"),
        (("local.former_codes",), {}, "name the tables to compare"),
        (("local.runways",), {}, "name OurAirports' airports.csv, its runways.csv, and the output"),
    ],
)  # fmt: skip
def test_a_wrong_call_is_answered_with_what_is_wanted(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    command: tuple[str, ...],
    environment: dict[str, str],
    sentence: str,
) -> None:
    """Status 1 or 2, one sentence on standard error, no stack trace and no word of a library about its types."""
    status, text = run_command(monkeypatch, capsys, command, **environment)
    assert status in (1, 2)
    assert sentence in text
    assert "Traceback" not in text
    assert "invalid int value" not in text
    assert FOREIGN_WORDS.search(text) is None


@pytest.mark.parametrize("command", [("local.mailbox", "--web-port", "{port}", "--port", "1", "--maildir", "{folder}")])
def test_a_port_in_use_is_answered_with_what_to_do(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, command: tuple[str, ...]
) -> None:
    """The system's reason alone does not say that another port may be chosen."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        filled = [each.format(port=taken.getsockname()[1], folder=tmp_path) for each in command]
        status, text = run_command(monkeypatch, capsys, filled)
    assert status == 1
    assert "Address already in use; stop what uses the port, or choose another" in text
