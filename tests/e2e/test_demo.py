"""The demo as a person runs it: everything real, from the flights to the mails."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from local.ports import HOST
from local.processes import ROOT
from tests.local.demo.blizzard import BOS, JFK, statements
from tests.ports import free_ports
from tests.waiting import eventually

PORTS = 9


@pytest.fixture
def port_base() -> int:
    """A row of ports that are free now, and one behind it for a second worker of the stream."""
    return free_ports(PORTS + 1)


@contextlib.contextmanager
def demo(data: Path, port_base: int, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "local.demo", "--data", str(data), "--port-base", str(port_base), *arguments]
    environment = {name: value for name, value in os.environ.items() if name != "KAFKA_BOOTSTRAP_SERVERS"}
    output = data.with_suffix(".out").open("w+")
    process = subprocess.Popen(
        command, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output, text=True,
        start_new_session=True, preexec_fn=_as_a_background_job,
    )  # fmt: skip
    try:
        yield process
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait(60)
        output.close()


def _as_a_background_job() -> None:
    """Shells without job control begin those with Ctrl-C ignored, and the demo must not take that over."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def output_of(data: Path) -> str:
    return data.with_suffix(".out").read_text()


def processes_of(data: Path) -> list[int]:
    """Every process, of whatever kind, that was told of this demo's folder."""
    found = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if entry.name.isdecimal() and int(entry.name) != os.getpid():
                told = (entry / "cmdline").read_bytes() + (entry / "environ").read_bytes()
                if str(data).encode() in told:
                    found.append(int(entry.name))
    return found


@pytest.mark.timeout(600)
def test_killed_at_any_moment_it_leaves_nothing_and_tells_the_blizzard_exactly_when_run_again(tmp_path, port_base):
    """kill -9 in mid-story leaves no process; the next run, in the same folder, mails each fact once and no other."""
    data = tmp_path / "demo"
    with demo(data, port_base, "--once") as process:
        eventually(lambda: "The clock runs" in output_of(data) or process.poll() is not None, "the story begins", 400)
        assert process.poll() is None, output_of(data)
        process.kill()
        process.wait()
    eventually(lambda: not processes_of(data), "no process is left")

    out = tmp_path / "mailed.json"
    interests = ("--interest", "KJFK:departures:1h:high=20:low=1", "--interest", "KBOS:arrivals:1d:low=10")
    with demo(data, port_base, "--once", "--json", str(out), *interests) as process:
        assert process.wait(300) == 0, output_of(data)
    assert not processes_of(data)
    assert_blizzard(json.loads(out.read_text()))


def assert_blizzard(mailed: list[dict[str, Any]]) -> None:
    """The facts of Nemo at KJFK and KBOS, each mailed once, and nothing else."""
    for airport, facts in (("KJFK", statements(JFK)), ("KBOS", statements(BOS))):
        told = [
            (each["bound"], each["state"], each["window_start"], each["count"])
            for each in mailed
            if each["airport"] == airport
        ]
        assert len(told) == len(facts)
        for said, fact in zip(sorted(told), sorted(facts), strict=True):
            early = said[:2] == ("high", "FIRING") and said[3] == 21
            assert said[:3] == fact[:3]
            assert said[3] == fact[3] or early
    assert {(each["direction"], each["window"], each["threshold"]) for each in mailed} == {
        ("departures", "1h", 20),
        ("departures", "1h", 1),
        ("arrivals", "1d", 10),
    }


@pytest.mark.timeout(600)
def test_a_worker_of_the_stream_is_killed_in_mid_story_and_the_blizzard_is_told_exactly(tmp_path, port_base):
    """Of two workers, the one that has KJFK: the other takes over, and it is begun again itself."""
    data, out = tmp_path / "demo", tmp_path / "mailed.json"
    interests = ("--interest", "KJFK:departures:1h:high=20:low=1", "--interest", "KBOS:arrivals:1d:low=10")
    workers = {"streams": port_base + 4, "streams_2": port_base + PORTS}
    with demo(data, port_base, "--once", "--streams-workers", "2", "--json", str(out), *interests) as process:
        owner = eventually(lambda: in_mid_story(workers) or (process.poll() is not None and "nobody"), "the story", 400)
        assert owner in workers, output_of(data)
        os.kill(json.loads((data / "processes.json").read_text())[owner], signal.SIGKILL)
        assert process.wait(300) == 0, output_of(data)
    assert f"{owner} had ended and is begun again" in output_of(data)
    assert not processes_of(data)
    assert_blizzard(json.loads(out.read_text()))


def in_mid_story(workers: dict[str, int]) -> str | None:
    """The worker that has KJFK, once its first morning is over."""
    for name, port in workers.items():
        with contextlib.suppress(httpx.HTTPError):
            airports = {
                each["icao"]: each for each in httpx.get(f"http://{HOST}:{port}/api/airports?scope=worker").json()
            }
            if (airports.get("KJFK", {}).get("departures", {}).get("watermark") or "") > "2013-02-08T12":
                return name
    return None


@pytest.mark.timeout(600)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_and_leaves_no_process(tmp_path, port_base, number):
    """Ctrl-C and SIGTERM, while it is starting."""
    data = tmp_path / "demo"
    with demo(data, port_base) as process:
        eventually(lambda: (data / "logs" / "collector.log").exists() or process.poll() is not None, "it starts", 400)
        assert process.poll() is None, output_of(data)
        process.send_signal(number)
        assert process.wait(60) in (130, 128 + signal.SIGTERM)
    assert not processes_of(data)
    assert "Traceback" not in output_of(data)


def test_a_port_in_use_is_one_sentence_and_nothing_starts(tmp_path, port_base):
    """Who runs something there already is told which port it is and how to move."""
    data = tmp_path / "demo"
    with socket.socket() as taken:
        taken.bind((HOST, port_base + 4))
        taken.listen()
        with demo(data, port_base) as process:
            assert process.wait(60) == 2
    assert f"demo: port {port_base + 4} (for streams_web) is in use" in output_of(data)
    assert not processes_of(data)
