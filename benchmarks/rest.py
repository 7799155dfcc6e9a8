"""`python -m benchmarks.rest`: measure the processor time and memory of `make up` while nothing happens.

Starts the stack of `make up` in a folder and on ports of its own, with a source that knows no flight in place of
OpenSky. One person registers, confirms the address by the mail that comes, and sets ten interests. After `--settle`
seconds, in which the work of the start comes to an end, it measures each process of the stack for `--seconds` seconds:
its processor time, which is comparable on a busy machine too; how often it was woken; and its proportional set size
(PSS), in which a page that n processes share counts as 1/n for each. Then it stops the stack. It prints a table with
the sums. The last line says how long the start took: in seconds, and in processor time of all processes that the start
needed, also of those that have ended. Linux only.
"""

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final

import httpx

from benchmarks.week.processes import read_cpu_s
from local.mailbox.reading import find_confirmation_link, read_mails
from local.ports import HOST, Ports
from local.processes import ROOT
from tests.ports import free_ports

SETTLE_S: Final = 300
"""Seconds between the start and the measurement."""
SECONDS: Final = 300
"""Seconds of the measurement."""
AIRPORTS: Final = ("LICC", "LIRF", "EDDF", "KJFK", "EGLL")
_TIMEOUT_S: Final = 120.0
_PORTS: Final = len(fields(Ports))
_NAMES: Final = (
    "local.kafka",
    "java",
    "local.mailbox",
    "local.gateway",
    "user_manager",
    "collector",
    "streams",
    "notifier",
)
_TICKS_PER_S: Final = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Usage:
    """The resources that one process of the stack has used until an instant, and its memory at that instant."""

    name: str
    cpu_s: float
    wakeups: int
    """How often its threads that still run have slept and were woken."""
    pss_mb: float
    rss_mb: float


def main() -> int:
    """Start the stack, measure the start, then the stack at rest, print the table, stop the stack, and return 0."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.rest", description=__doc__)
    parser.add_argument("--settle", type=float, default=SETTLE_S, help="seconds before (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="seconds measured (default: %(default)s)")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the stack is stopped, too
    with tempfile.TemporaryDirectory() as name, _running_source() as source:
        base = free_ports(_PORTS)
        with _running_stack(Path(name), base, source) as (pid, start_s, start_cpu_s):
            _set_interests(Ports.from_base(base), Path(name) / "data" / "mail")
            time.sleep(options.settle)
            before, began = read_usage(pid), time.monotonic()
            time.sleep(options.seconds)
            elapsed_s = time.monotonic() - began
            after = read_usage(pid)
    print(render_table(before, after, elapsed_s))
    print(f"ready after {start_s:.1f} s, with {start_cpu_s:.1f} s of processor time")
    return 0


class _EmptySource(BaseHTTPRequestHandler):
    """A source in place of OpenSky that knows no flight: it answers each request as OpenSky does then."""

    def do_GET(self) -> None:
        """Answer with 404 and an empty list."""
        self.send_response(404)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"[]")

    def log_message(self, *_: object) -> None:
        """Print nothing."""


@contextmanager
def _running_source() -> Iterator[str]:
    """Run the empty source in a thread for the block, and yield its address; its own use is not measured."""
    server = ThreadingHTTPServer((HOST, 0), _EmptySource)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://{HOST}:{server.server_port}/api"
    finally:
        server.shutdown()
        server.server_close()


@contextmanager
def _running_stack(folder: Path, base: int, source: str) -> Iterator[tuple[int, float, float]]:
    """Run the stack of `make up` for the block; yield its supervisor's id, and seconds and CPU seconds of the start.

    Raises RuntimeError, with what the command said, if the stack does not start.
    """
    env_file, data = folder / "env", folder / "data"
    env_file.write_text(f"PORT_BASE={base}\nOPENSKY_URL={source}\nLIVE=off\nALLOW_TEST_ADDRESSES=true\n")
    arguments = ("--env-file", str(env_file), "--data", str(data))
    environment = {name: value for name, value in os.environ.items() if name != "KAFKA_BOOTSTRAP_SERVERS"}
    environment["PYTHONPATH"] = f"{ROOT}{os.pathsep}{ROOT / 'proto'}"

    def run(command: str) -> None:
        """Run a command of `local.up`. Raises RuntimeError if it fails."""
        done = subprocess.run(
            [sys.executable, "-m", "local.up", command, *arguments],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise RuntimeError(f"local.up {command}: {done.stderr.strip()}")

    try:
        began, ended_before_s = time.monotonic(), sum(os.times()[2:4])
        run("start")
        start_s = time.monotonic() - began
        pid = int((data / "stack.pid").read_text())
        running_s = sum(_read_cpu_with_children_s(each) for each in list_processes(pid))
        yield pid, start_s, running_s + sum(os.times()[2:4]) - ended_before_s
    finally:
        run("stop")


def _set_interests(ports: Ports, maildir: Path) -> None:
    """Register a person, confirm the address by the mail that comes, and set two interests at each of the AIRPORTS.

    Raises RuntimeError if the mail does not come or a request is rejected.
    """
    with httpx.Client(trust_env=False, timeout=30) as http:

        def post(url: str, body: Mapping[str, object] | None = None, token: str | None = None) -> dict[str, Any]:
            """Send a request, and return the answer's JSON, if it has some. Raises RuntimeError if it is rejected."""
            answer = http.post(url, json=body, headers={"Authorization": f"Bearer {token}"} if token else {})
            if answer.is_error:
                raise RuntimeError(f"POST {url} was answered {answer.status_code}: {answer.text}")
            return dict(answer.json()) if "json" in answer.headers.get("content-type", "") else {}

        account = {"email": "ada@towerwatch.test", "name": "Ada"}
        token = post(f"http://{HOST}:{ports.user_manager_http}/users", account)["token"]
        _wait_until(lambda: bool(read_mails(maildir)), "the confirmation mail comes")
        link = find_confirmation_link(read_mails(maildir)[0])
        post(str(link), token=token)
        for airport in AIRPORTS:
            for direction in ("arrivals", "departures"):
                interest = {"airport_icao": airport, "direction": direction, "window": "1h", "high_value": 60}
                post(f"http://{HOST}:{ports.collector_http}/interests", interest, token)


def _wait_until(is_so: Callable[[], bool], what: str) -> None:
    """Wait until the condition holds. Raises RuntimeError, which names it, after a timeout."""
    deadline = time.monotonic() + _TIMEOUT_S
    while not is_so():
        if time.monotonic() > deadline:
            raise RuntimeError(f"not within {_TIMEOUT_S:.0f} s: {what}")
        time.sleep(0.05)


def list_processes(pid: int) -> list[int]:
    """Return the ids of a process and of all that descend from it; those that end meanwhile may be missing."""
    found = [pid]
    for each in found:
        for path in Path(f"/proc/{each}/task").glob("*/children"):
            found += map(int, path.read_text().split())
    return found


def _read_cpu_with_children_s(pid: int) -> float:
    """Return the processor time of a process and of its children that have ended, in seconds."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / _TICKS_PER_S


def read_usage(pid: int) -> dict[int, Usage]:
    """Return what the stack's supervisor and each of its processes have used until now, by process id."""
    return {each: _read_process_usage(each) for each in list_processes(pid)}


def _read_process_usage(pid: int) -> Usage:
    """Return what one process has used until now."""
    command = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").replace("\0", " ")
    sizes = {}
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]:
        name, _, value = line.partition(":")
        sizes[name] = int(value.split()[0]) * 1024 / 1e6
    wakeups = 0
    for path in Path(f"/proc/{pid}/task").glob("*/status"):
        for line in path.read_text().splitlines():
            if line.startswith("voluntary_ctxt_switches"):
                wakeups += int(line.split()[1])
    return Usage(_name_process(command), read_cpu_s(pid), wakeups, sizes["Pss"], sizes["Rss"])


def _name_process(command: str) -> str:
    """Return a short name of a process of the stack, by its command line."""
    if command.split(" ", 1)[0].endswith("java"):
        return "kafka (JVM)"
    return next((name for name in _NAMES if f"-m {name} " in command), "local.up")


def render_table(before: dict[int, Usage], after: dict[int, Usage], elapsed_s: float) -> str:
    """Return the table of a row for each process, with the sum in the last one, as Markdown.

    `before` and `after`: what was used at the begin and at the end of `elapsed_s` seconds. Processes that were not
    there at both instants are left out.
    """
    rows: list[tuple[str, list[float]]] = []
    for pid, end in after.items():
        if (begin := before.get(pid)) is not None:
            cpu_percent = (end.cpu_s - begin.cpu_s) / elapsed_s * 100
            rows.append((end.name, [cpu_percent, (end.wakeups - begin.wakeups) / elapsed_s, end.pss_mb, end.rss_mb]))
    rows.sort(key=lambda row: -row[1][0])
    rows.append(("all", [sum(values) for values in zip(*(row[1] for row in rows), strict=True)]))
    lines = ["| process | CPU, % of one core | woken, a second | PSS, MB | RSS, MB |", "|---|---|---|---|---|"]
    lines += [f"| {name} | {cpu:.2f} | {woken:.1f} | {pss:.1f} | {rss:.1f} |" for name, (cpu, woken, pss, rss) in rows]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
