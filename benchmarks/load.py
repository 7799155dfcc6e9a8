"""Load tests of a service: one replica on this machine, driven by locust in one scenario after the other.

Load and server share the machine, so only the ratios travel: each scenario is shown beside the first, which is the
cheapest request that the server handles.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx

from benchmarks.streams.figures import report

ROOT: Final = Path(__file__).parents[1]


@dataclass(frozen=True, slots=True)
class ScenarioResult:
    """The measurements of one scenario: its rate of requests, its errors, and its latencies."""

    requests_per_s: float
    failures: int
    """Number of requests that got an error."""
    median_ms: float
    p99_ms: float


def parse_options(name: str, description: str | None) -> argparse.Namespace:
    """Parse the command line of benchmark `name` into `seconds` (of each scenario), `clients` and `database_url`."""
    parser = argparse.ArgumentParser(prog=f"python -m benchmarks.{name}", description=description)
    parser.add_argument("--seconds", type=int, default=30, help="of each scenario (default 30)")
    parser.add_argument("--clients", type=int, default=16, help="that ask at once (default 16)")
    parser.add_argument("--database-url", help="an empty database of your own (default: a new SQLite file)")
    return parser.parse_args()


@contextmanager
def run_service(service: str, settings: Mapping[str, str], folder: Path) -> Iterator[str]:
    """Run `python -m service` during the block, and yield its base URL once it is ready. `settings` holds HTTP_PORT.

    The log goes to a file in `folder`. Exits the benchmark, with that log, if the service ends or is not ready within
    60 s. At the end the service is stopped with SIGTERM.
    """
    base_url = f"http://127.0.0.1:{settings['HTTP_PORT']}"
    log_path = folder / f"{service}.log"
    with log_path.open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", service], cwd=ROOT, env={**os.environ, **settings}, stdout=log, stderr=log
        )
    try:
        deadline = time.monotonic() + 60
        while not _is_ready(base_url):
            if process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"{service} did not start: {log_path.read_text()}")
            time.sleep(0.05)
        yield base_url
    finally:
        process.terminate()
        process.wait(timeout=30)


def _is_ready(base_url: str) -> bool:
    """Return True if the service at this URL reports readiness, False if it does not or is not reachable."""
    try:
        return httpx.get(f"{base_url}/health/ready", trust_env=False).status_code == httpx.codes.OK
    except httpx.TransportError:
        return False


def run_scenarios(
    service: str,
    locustfile: Path,
    scenarios: Sequence[str],
    base_url: str,
    environment: Mapping[str, str],
    options: argparse.Namespace,
) -> int:
    """Run the scenarios (classes of the locustfile) one after the other, and return the number of errors of all.

    A line of JSON is printed for each, under the benchmark's name `service`: requests per second, their ratio to the
    first scenario, latencies and errors. `environment` holds further variables for locust.
    """
    failures, baseline = 0, None
    for scenario in scenarios:
        result = _run_scenario(locustfile, scenario, base_url, environment, options)
        baseline = baseline or result.requests_per_s
        failures += result.failures
        report(
            service,
            scenario,
            result.requests_per_s,
            "requests/s",
            (scenarios[0], baseline),
            median_ms=result.median_ms,
            p99_ms=result.p99_ms,
            errors=result.failures,
        )
    return failures


def _run_scenario(
    locustfile: Path, scenario: str, base_url: str, environment: Mapping[str, str], options: argparse.Namespace
) -> ScenarioResult:
    """Run locust with one scenario and return its measurements. Exits the benchmark if locust prints none as JSON."""
    ended = subprocess.run(
        [
            sys.executable, "-m", "locust", "--locustfile", locustfile, "--headless", "--json", "--only-summary",
            "--host", base_url, "--users", str(options.clients), "--spawn-rate", str(options.clients),
            "--run-time", f"{options.seconds}s", "--loglevel", "ERROR", scenario,
        ],
        env={**os.environ, **environment}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    try:
        (entry,) = json.loads(ended.stdout)
    except ValueError:
        raise SystemExit(f"locust ended with {ended.returncode}: {ended.stderr}") from None
    return _parse_result(entry)


def _parse_result(entry: dict[str, Any]) -> ScenarioResult:
    """Convert the statistics of one request name, as locust prints them in JSON, into measurements.

    The rate is that from the start to the last request.
    """
    times = {float(milliseconds): int(count) for milliseconds, count in entry["response_times"].items()}
    elapsed = entry["last_request_timestamp"] - entry["start_time"]
    return ScenarioResult(
        entry["num_requests"] / elapsed, int(entry["num_failures"]), _percentile(times, 0.5), _percentile(times, 0.99)
    )


def _percentile(times: dict[float, int], share: float) -> float:
    """Return the percentile (nearest rank) of response times in ms, given as counts by time; 0 if there are none.

    `share` is from 0 to 1.
    """
    remaining = share * sum(times.values())
    for milliseconds in sorted(times):
        remaining -= times[milliseconds]
        if remaining <= 0:
            return milliseconds
    return 0.0
