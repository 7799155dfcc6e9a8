"""The demo as a person runs it: everything real, from the flights to the mails."""

import contextlib
import json
import os
import re
import signal
import socket
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from local.demo.plan import SCENARIO_S
from local.ports import HOST, Ports
from tests import plain_http
from tests.e2e.demo_process import PORTS, read_output, run_demo
from tests.fakes.proxy import recording_proxy
from tests.local.demo.blizzard import BOS, JFK, parse_alerts
from tests.ports import free_ports
from tests.proxies import set_proxies
from tests.waiting import eventually


@pytest.fixture
def port_base() -> int:
    """The first of a row of free ports, with one more behind the row for a second worker of the stream."""
    return free_ports(PORTS + 1)


def find_processes(data: Path) -> list[int]:
    """Return the ids of all processes with this demo's folder in their environment."""
    found = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if entry.name.isdecimal() and int(entry.name) != os.getpid():
                told = (entry / "cmdline").read_bytes() + (entry / "environ").read_bytes()
                if str(data).encode() in told:
                    found.append(int(entry.name))
    return found


def test_a_killed_demo_leaves_no_process_and_the_next_run_mails_each_alert_once(tmp_path, port_base):
    """After kill -9 no process remains; the next run, in the same folder, mails each alert once and no other."""
    data = tmp_path / "demo"
    with run_demo(data, port_base, "--settled", "--once") as process:
        eventually(lambda: "The clock runs" in read_output(data) or process.poll() is not None, "the story begins", 400)
        assert process.poll() is None, read_output(data)
        mails = f"http://{HOST}:{Ports.from_base(port_base).mailbox_web}/"
        assert f"  mails  {mails}" in read_output(data)
        assert "Confirm your address" in plain_http.get(mails).raise_for_status().text
        process.kill()
        process.wait()
    eventually(lambda: not find_processes(data), "no process is left")

    out = tmp_path / "mailed.json"
    interests = ("--interest", "KJFK:departures:1h:high=20:low=1", "--interest", "KBOS:arrivals:1d:low=10")
    with run_demo(data, port_base, "--settled", "--once", "--json", str(out), *interests) as process:
        assert process.wait(300) == 0, read_output(data)
    assert not find_processes(data)
    assert_blizzard(json.loads(out.read_text()))


def assert_blizzard(mailed: list[dict[str, Any]]) -> None:
    """Fail unless exactly the alerts of the blizzard at KJFK and KBOS are mailed, each once."""
    for airport, facts in (("KJFK", parse_alerts(JFK)), ("KBOS", parse_alerts(BOS))):
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


def test_the_demo_leaves_the_pages_open_for_whoever_follows_its_link(tmp_path, port_base):
    """The link comes by mail, as everybody's; it signs in as the person of the story, who has her interest."""
    data = tmp_path / "demo"
    with run_demo(data, port_base, "--settled", "--interest", "KBOS:arrivals:1d:low=10") as process:
        link = eventually(
            lambda: re.search(r"^  (http://\S+/sign-in/\S+)$", read_output(data), re.M) or process.poll() is not None,
            "the demo is over", 500,
        )  # fmt: skip
        assert isinstance(link, re.Match), read_output(data)
        assert f"Towerwatch for people   http://{HOST}:{Ports.from_base(port_base).gateway_http}/" in re.sub(
            " {3,}", "   ", read_output(data)
        )
        own = {"Sec-Fetch-Site": "same-origin"}
        signed_in = plain_http.post(link[1], headers=own)
        assert signed_in.status_code == 303
        own["Cookie"] = signed_in.headers.get_list("Set-Cookie")[0].partition(";")[0]
        people = link[1].partition("/sign-in/")[0]
        assert plain_http.get(f"{people}/session", headers=own).json()["user"]["name"] == "Ada"
        (interest,) = plain_http.get(f"{people}/interests", headers=own).json()["interests"]
        assert interest["airport_icao"] == "KBOS"
    assert not find_processes(data)


def test_a_killed_stream_worker_loses_and_repeats_no_alert(tmp_path, port_base):
    """The worker with KJFK is killed: the other worker takes over, and the killed one is restarted."""
    data, out = tmp_path / "demo", tmp_path / "mailed.json"
    interests = ("--interest", "KJFK:departures:1h:high=20:low=1", "--interest", "KBOS:arrivals:1d:low=10")
    workers = {"streams": port_base + 4, "streams_2": port_base + PORTS}
    with run_demo(
        data, port_base, "--settled", "--once", "--streams-workers", "2", "--json", str(out), *interests
    ) as process:
        owner = eventually(
            lambda: find_worker_with_progress(workers) or (process.poll() is not None and "nobody"), "the story", 400
        )
        assert owner in workers, read_output(data)
        os.kill(json.loads((data / "processes.json").read_text())[owner], signal.SIGKILL)
        assert process.wait(300) == 0, read_output(data)
    assert f"{owner} had ended and is begun again" in read_output(data)
    assert not find_processes(data)
    assert_blizzard(json.loads(out.read_text()))


def find_worker_with_progress(workers: dict[str, int]) -> str | None:
    """Return the worker that has KJFK, once its first morning is folded; None before."""
    for name, port in workers.items():
        with contextlib.suppress(httpx.HTTPError):
            airports = {
                each["icao"]: each for each in plain_http.get(f"http://{HOST}:{port}/api/airports?scope=worker").json()
            }
            if (airports.get("KJFK", {}).get("departures", {}).get("watermark") or "") > "2013-02-08T12":
                return name
    return None


def test_the_story_is_whole_however_long_the_start_takes(tmp_path, port_base):
    """The collector is frozen while it starts, for longer than half the story takes; the clock of all waits for it."""
    data, out = tmp_path / "demo", tmp_path / "mailed.json"
    interests = ("--interest", "KJFK:departures:1h:high=20:low=1", "--interest", "KBOS:arrivals:1d:low=10")
    with run_demo(data, port_base, "--settled", "--once", "--json", str(out), *interests) as process:
        pid = eventually(lambda: find_started(data, "collector") or (process.poll() is not None and -1), "a start", 400)
        assert pid > 0, read_output(data)
        os.kill(pid, signal.SIGSTOP)
        frozen_until = time.monotonic() + SCENARIO_S / 2
        eventually(lambda: time.monotonic() > frozen_until, "it is frozen for long", 120)
        assert not (data / "clock-anchor").exists(), "the clock runs although the collector is not ready"
        continued_at = datetime.now(UTC)
        os.kill(pid, signal.SIGCONT)
        assert process.wait(400) == 0, read_output(data)
        assert datetime.fromisoformat((data / "clock-anchor").read_text()) > continued_at
    assert not find_processes(data)
    assert_blizzard(json.loads(out.read_text()))


def find_started(data: Path, name: str) -> int | None:
    """Return the id of a process of the demo, None before it is started."""
    with contextlib.suppress(FileNotFoundError):
        pid: int | None = json.loads((data / "processes.json").read_text()).get(name)
        return pid
    return None


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_during_start_ends_the_demo_and_its_processes(tmp_path, port_base, number):
    """Ctrl-C and SIGTERM during the start leave no process."""
    data = tmp_path / "demo"
    with run_demo(data, port_base) as process:
        eventually(lambda: (data / "logs" / "collector.log").exists() or process.poll() is not None, "it starts", 400)
        assert process.poll() is None, read_output(data)
        process.send_signal(number)
        assert process.wait(60) in (130, 128 + signal.SIGTERM)
    assert not find_processes(data)
    assert "Traceback" not in read_output(data)


def test_a_port_in_use_is_reported_and_nothing_starts(tmp_path, port_base):
    """One sentence names the port and the option that moves the stack."""
    data = tmp_path / "demo"
    with socket.socket() as taken:
        taken.bind((HOST, port_base + 4))
        taken.listen()
        with run_demo(data, port_base) as process:
            assert process.wait(60) == 2
    assert f"demo: port {port_base + 4} (for streams_web) is in use" in read_output(data)
    assert not find_processes(data)


@pytest.mark.parametrize(
    "variables",
    [
        {"https_proxy": "{}", "http_proxy": "{}", "grpc_proxy": "{}", "ALL_PROXY": "{}"},
        {
            "HTTPS_PROXY": "http://u:p@ss@{}",
            "http_proxy": "http://",
            "ALL_PROXY": "socks5h://u:p@{}",
            "OPENSKY_PROXY": "x:0",
        },
    ],
    ids=["a proxy", "unreadable ones"],
)
def test_the_demo_takes_no_proxy(tmp_path, port_base, monkeypatch, variables):
    """The demo is on one machine, so neither a proxy nor an unreadable setting can keep it from itself."""
    with recording_proxy() as proxy:
        set_proxies(monkeypatch, {name: value.format(f"127.0.0.1:{proxy.port}") for name, value in variables.items()})
        data, out = tmp_path / "demo", tmp_path / "mailed.json"
        with run_demo(
            data, port_base, "--settled", "--once", "--json", str(out), "--interest", "KBOS:arrivals:1d:low=10"
        ) as process:
            assert process.wait(400) == 0, read_output(data)
        assert json.loads(out.read_text())
        assert proxy.requests == []


@pytest.mark.faults
def test_the_live_demo_is_right_whatever_happens_to_its_positions(tmp_path, port_base):
    """Positions fail, stand still and are empty for a while: what is not seen live comes with the night's record.

    How much is seen live depends on the machine; that the alerts in force are the timetable's, and that each is mailed,
    does not.
    """
    data = tmp_path / "demo"
    faults = "outage@2013-02-09T02:10Z+15,frozen@2013-02-09T11:00Z+30,empty@2013-02-09T16:30Z+60"
    interests = ("--interest", "KJFK:departures:1h:high=20:low=1")
    with run_demo(data, port_base, "--once", "--state-faults", faults, *interests) as process:
        assert process.wait(900) == 0, read_output(data)
    assert "every alert in force is the timetable's" in read_output(data)
    assert not find_processes(data)
