"""`python -m benchmarks.accounts`: user_manager under load.

Three scenarios of `--seconds` each, with `--clients` that never rest: the cheapest answer there is, reading an account,
registering one. Prints requests a second, their share of the cheapest answer's, and latencies. Exits with 1 when
anything was answered with an error. Load and server share the machine, so only the ratios travel.
"""

import argparse
import json
import os
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx

from tests.ports import free_port

ROOT: Final = Path(__file__).parents[1]
LOAD: Final = Path(__file__).with_name("accounts_load.py")
ACCOUNTS: Final = 500


@dataclass(frozen=True, slots=True)
class Measured:
    """What one scenario showed."""

    requests_per_s: float
    failures: int
    median_ms: float
    p99_ms: float


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.accounts", description=__doc__)
    parser.add_argument("--seconds", type=int, default=30, help="of each scenario (default 30)")
    parser.add_argument("--clients", type=int, default=16, help="that ask at once (default 16)")
    parser.add_argument("--database-url", help="an empty database of your own (default: a new SQLite file)")
    options = parser.parse_args()
    failures = 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        database_url = options.database_url or f"sqlite:///{folder}/accounts.db"
        with _user_manager(database_url, folder) as (base_url, operator_token):
            known = [_registered(base_url, number) for number in range(ACCOUNTS)]
            environment = {"OPERATOR_TOKEN": operator_token, "KNOWN_EMAILS": " ".join(known)}
            baseline = None
            for scenario in ("Baseline", "Reading", "Registering"):
                measured = _load(scenario, base_url, environment, options)
                baseline = baseline or measured.requests_per_s
                failures += measured.failures
                share = measured.requests_per_s / baseline
                print(
                    f"{scenario:<12} {measured.requests_per_s:6.0f}/s  {share:.2f} of baseline"
                    f"  median {measured.median_ms:.0f} ms  p99 {measured.p99_ms:.0f} ms  {measured.failures} errors"
                )
    return 1 if failures else 0


@contextmanager
def _user_manager(database_url: str, folder: Path) -> Iterator[tuple[str, str]]:
    port, operator_token = free_port(), secrets.token_urlsafe(32)
    environment = os.environ | {
        "DATABASE_URL": database_url,
        "HTTP_PORT": str(port),
        "GRPC_PORT": str(free_port()),
        "COLLECTOR_GRPC_TARGET": f"127.0.0.1:{free_port()}",
        "KAFKA_BOOTSTRAP_SERVERS": f"127.0.0.1:{free_port()}",
        "PUBLIC_URL": "https://towerwatch.example",
        "SIGNING_KEY": secrets.token_urlsafe(32),
        "OPERATOR_TOKEN": operator_token,
        "ALLOW_TEST_ADDRESSES": "true",
        "REGISTRATION_LIMIT": "1000000/second",
        "LOG_LEVEL": "warning",
    }
    base_url = f"http://127.0.0.1:{port}"
    with (folder / "user_manager.log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "user_manager"], cwd=ROOT, env=environment, stdout=log, stderr=log
        )
    try:
        deadline = time.monotonic() + 60
        while not _ready(base_url):
            if process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"user_manager did not start: {(folder / 'user_manager.log').read_text()}")
            time.sleep(0.05)
        yield base_url, operator_token
    finally:
        process.terminate()
        process.wait(timeout=30)


def _ready(base_url: str) -> bool:
    try:
        return httpx.get(f"{base_url}/health/ready").status_code == httpx.codes.OK
    except httpx.TransportError:
        return False


def _registered(base_url: str, number: int) -> str:
    email = f"known{number}@bench.test"
    httpx.post(f"{base_url}/users", json={"email": email, "name": "Known"}).raise_for_status()
    return email


def _load(scenario: str, base_url: str, environment: dict[str, str], options: argparse.Namespace) -> Measured:
    ended = subprocess.run(
        [
            sys.executable, "-m", "locust", "--locustfile", LOAD, "--headless", "--json", "--only-summary",
            "--host", base_url, "--users", str(options.clients), "--spawn-rate", str(options.clients),
            "--run-time", f"{options.seconds}s", "--loglevel", "ERROR", scenario,
        ],
        env=os.environ | environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    try:
        (entry,) = json.loads(ended.stdout)
    except ValueError:
        raise SystemExit(f"locust ended with {ended.returncode}: {ended.stderr}") from None
    return _measured(entry)


def _measured(entry: dict[str, Any]) -> Measured:
    times = {float(milliseconds): int(count) for milliseconds, count in entry["response_times"].items()}
    elapsed = entry["last_request_timestamp"] - entry["start_time"]
    return Measured(
        entry["num_requests"] / elapsed, int(entry["num_failures"]), _percentile(times, 0.5), _percentile(times, 0.99)
    )


def _percentile(times: dict[float, int], share: float) -> float:
    """The nearest rank of response times, which are given with their counts."""
    left = share * sum(times.values())
    for milliseconds in sorted(times):
        left -= times[milliseconds]
        if left <= 0:
            return milliseconds
    return 0.0


if __name__ == "__main__":
    sys.exit(main())
