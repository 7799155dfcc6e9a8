"""The program `python -m local.opensky`."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest

Run = Callable[..., "subprocess.Popen[str]"]
ROOT = Path(__file__).parents[3]
CLOCK = {"CLOCK_START": "2013-02-13T00:00:00Z", "CLOCK_RATE": "60"}


@pytest.fixture
def port() -> int:
    """A free TCP port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def run(port: int, cache_home: Path) -> Iterator[Run]:
    """A function that starts the program with these variables and options; the test's end kills all processes."""
    started: list[subprocess.Popen[str]] = []

    def start(environment: dict[str, str], *options: str) -> "subprocess.Popen[str]":
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("CLOCK_", "OPENSKY_"))}
        process = subprocess.Popen(
            [sys.executable, "-m", "local.opensky", "--port", str(port), *options],
            cwd=ROOT,
            env={**inherited, "XDG_CACHE_HOME": str(cache_home), **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def answering(port: int, process: "subprocess.Popen[str]") -> httpx.Client:
    """Return a client of the server once it accepts connections."""
    deadline = time.monotonic() + 20
    while process.poll() is None and time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.01)
        else:
            return httpx.Client(verify=False, base_url=f"http://127.0.0.1:{port}")
    raise AssertionError(f"no server on port {port}; it said: {process.stderr and process.stderr.read()}")


def test_it_serves_until_sigterm(run: Run, port: int) -> None:
    """The program answers, and SIGTERM ends it with exit code 0 although a client is still connected."""
    process = run(CLOCK)
    with answering(port, process) as client:
        assert client.get("/api/states/all").json()["time"] >= 1_360_713_600
        process.send_signal(signal.SIGTERM)
        output, errors = process.communicate(timeout=240)
    assert (process.returncode, errors) == (0, "")
    assert f"http://127.0.0.1:{port}/api" in output


def test_credentials_and_credits_come_from_outside(run: Run, port: int) -> None:
    """The client's credentials come from the environment, the credits from the command line."""
    process = run({**CLOCK, "OPENSKY_CLIENT_ID": "me", "OPENSKY_CLIENT_SECRET": "mine"}, "--credits-per-day", "30")
    with answering(port, process) as client:
        form = {"grant_type": "client_credentials", "client_id": "me", "client_secret": "mine"}
        given = client.post("/auth/realms/opensky-network/protocol/openid-connect/token", data=form).json()
        headers = {"Authorization": f"Bearer {given['access_token']}"}
        assert client.get("/api/states/all", headers=headers).headers["X-Rate-Limit-Remaining"] == "26"


def test_faults_come_from_the_command_line(run: Run, port: int) -> None:
    """The faults of a script on the command line are injected."""
    process = run(CLOCK, "--faults", '["503", null]')
    params = {"airport": "KJFK", "begin": 1_360_540_800, "end": 1_360_544_400}
    with answering(port, process) as client:
        assert [client.get("/api/flights/departure", params=params).status_code for _ in range(2)] == [503, 200]


def test_the_sky_comes_from_the_command_line(run: Run, port: int) -> None:
    """The receiver of the options hears aircraft while states meet the fault of the options."""
    faults = "503@2013-02-13T00:00Z+600"
    process = run(CLOCK, "--receiver=40.68,-73.94", "--heard-from=KJFK=0", "--state-faults", faults)
    with answering(port, process) as client:
        assert client.get("/api/states/all").status_code == 503
        assert client.get("/data/aircraft.json").json()["aircraft"]


def test_unknown_faults_are_rejected(run: Run) -> None:
    """The error lists the known faults."""
    process = run(CLOCK, "--faults", '["earthquake"]')
    _, errors = process.communicate(timeout=240)
    assert process.returncode == 2
    assert '"503"' in errors
    assert "Traceback" not in errors


def test_the_nightly_record_comes_from_the_command_line(run: Run, port: int) -> None:
    """Each day's record appears at the given time, and an airport without receivers has no flights."""
    at_five = {"CLOCK_START": "2013-02-13T05:00:00Z"}
    process = run(at_five, "--record-at", "05:30", "--record-missing", "2013-02-10", "--without", "KBOS")
    with answering(port, process) as client:
        statuses = {}
        for day in (10, 11, 12):
            begin = int(datetime(2013, 2, day, 15, tzinfo=UTC).timestamp())
            for what, airport in (("departure", "KJFK"), ("arrival", "KBOS")):
                params: dict[str, str | int] = {"airport": airport, "begin": begin, "end": begin + 3_600}
                statuses[day, airport] = client.get(f"/api/flights/{what}", params=params).status_code
    assert {day for (day, airport), status in statuses.items() if status == 200} == {11}
    assert {airport for (day, airport), status in statuses.items() if status == 200} == {"KJFK"}


def test_an_impossible_nightly_record_is_reported_in_one_sentence(run: Run) -> None:
    """The sentence names the option; the status is 2."""
    process = run(CLOCK, "--record-late", "2013-02-30")
    _, errors = process.communicate(timeout=240)
    assert process.returncode == 2
    assert errors == "local.opensky: --record-late 2013-02-30: there is no such day.\n"


@pytest.mark.parametrize(
    ("environment", "word"),
    [
        ({}, "CLOCK_START"),
        ({"CLOCK_START": "2014-01-01T00:00:00Z"}, "CLOCK_START"),
        ({"CLOCK_START": "2013-12-31T23:00:00-05:00"}, "CLOCK_START"),
        ({"CLOCK_START": "carnival"}, "CLOCK_START"),
        ({"CLOCK_START": "2013-02-13T00:00:00"}, "CLOCK_START"),
        ({**CLOCK, "CLOCK_RATE": "fast"}, "CLOCK_RATE"),
        ({**CLOCK, "CLOCK_RATE": "0"}, "rate"),
        ({**CLOCK, "CLOCK_ANCHOR": "now"}, "CLOCK_ANCHOR"),
        ({**CLOCK, "CLOCK_ANCHOR_PATH": "/nowhere/anchor"}, "CLOCK_ANCHOR_PATH"),
        ({**CLOCK, "CLOCK_STOP": "2013-02-12T00:00:00Z"}, "stop"),
        ({**CLOCK, "OPENSKY_CLIENT_ID": "me"}, "OPENSKY_CLIENT_SECRET"),
    ],
)
def test_an_invalid_setting_is_reported_in_one_sentence(run: Run, environment: dict[str, str], word: str) -> None:
    """The sentence names the invalid setting; no traceback, and the status is 2."""
    process = run(environment)
    _, errors = process.communicate(timeout=240)
    assert process.returncode == 2
    assert word in errors
    assert errors.count("\n") == 1


def test_a_port_in_use_is_reported_in_one_sentence(run: Run, port: int) -> None:
    """The status is 1."""
    with socket.create_server(("127.0.0.1", port)):
        process = run(CLOCK)
        _, errors = process.communicate(timeout=240)
    assert process.returncode == 1
    assert errors == f"local.opensky: port {port} of 127.0.0.1 is in use.\n"
