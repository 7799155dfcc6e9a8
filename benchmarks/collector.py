"""`python -m benchmarks.collector`: the collector's REST interface under load.

Five scenarios of `--seconds` each, with `--clients` that never pause: the cheapest request there is, listing interests,
setting them, reading a page of 100 flights, and a preview over 30 days. user_manager is a fake that responds at once,
and authenticates each token every few seconds, as in production. Prints requests per second, their ratio to the
cheapest request's, and latencies. Exits with 1 if any request got an error. Load and server share the machine, so only
the ratios travel.
"""

import secrets
import sys
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final
from uuid import uuid4

import httpx
from sqlalchemy import insert

from benchmarks.load import parse_options, run_scenarios, run_service
from chassis.db.database import Database
from collector.intervals import day_of
from collector.model import CoverageRow, FlightRow
from domain.interests import Direction
from tests.fakes.authority import FakeAuthority
from tests.ports import free_port

NAME: Final = "collector"
USERS: Final = 200
DAYS: Final = 30
FLIGHTS_A_DAY: Final = 400
"""Flights per day in each direction."""


def main() -> int:
    """Run the service with a fake user_manager, store flights and interests, and run all scenarios.

    Return the exit code: 1 if any request got an error, else 0.
    """
    options = parse_options(NAME, __doc__)
    fake = FakeAuthority()  # type: ignore[abstract]  # the collector only authenticates tokens
    with tempfile.TemporaryDirectory() as name, fake.running() as authority:
        folder = Path(name)
        database_url = options.database_url or f"sqlite:///{folder}/collector.db"
        settings = {
            "DATABASE_URL": database_url,
            "HTTP_PORT": str(free_port()),
            "GRPC_PORT": str(free_port()),
            "USER_MANAGER_GRPC_TARGET": authority.target,
            "KAFKA_BOOTSTRAP_SERVERS": f"127.0.0.1:{free_port()}",
            "OPENSKY_URL": f"http://127.0.0.1:{free_port()}/api",
            "OPERATOR_TOKEN": secrets.token_urlsafe(32),
            # Each user sets all interests that the scenario makes, as fast as the service answers.
            "INTERESTS_PER_PERSON": "1000",
            "WRITES_PER_MINUTE": "1000000",
            "LOG_LEVEL": "warning",
        }
        tokens = [secrets.token_urlsafe(32) for _ in range(USERS)]
        authority.users = {token: (uuid4(), True) for token in tokens}
        with run_service("collector", settings, folder) as base_url:
            _store_flights(database_url)
            for token in tokens:
                _set_interest(base_url, token)
            locustfile = Path(__file__).with_name("collector_load.py")
            scenarios = ("Baseline", "Listing", "Setting", "Flights", "Previewing")
            failures = run_scenarios(NAME, locustfile, scenarios, base_url, {"TOKENS": " ".join(tokens)}, options)
    return 1 if failures else 0


def _store_flights(database_url: str) -> None:
    """Store flights and coverage of one airport in both directions, as after DAYS days of collecting.

    The flights are evenly spread over the days until today, FLIGHTS_A_DAY in each direction.
    """
    today = day_of(datetime.now(UTC))
    database = Database(database_url)
    interval = timedelta(days=1) / FLIGHTS_A_DAY
    with database.transaction() as session:
        for direction in Direction.BOTH.parts:
            session.add(
                CoverageRow(
                    airport="KJFK",
                    direction=direction.value,
                    covered_from=today - timedelta(days=DAYS),
                    covered_until=today,
                )
            )
            session.flush()
            times = [today - number * interval for number in range(1, DAYS * FLIGHTS_A_DAY + 1)]
            rows = [
                {
                    "airport": "KJFK",
                    "direction": direction.value,
                    "icao24": f"{number:06x}",
                    "callsign": f"DLH{number % 1000}",
                    "first_seen": at,
                    "last_seen": at,
                    "event_time": at,
                    "other_airport": "EDDF",
                }
                for number, at in enumerate(times)
            ]
            session.execute(insert(FlightRow), rows)
    database.close()


def _set_interest(base_url: str, token: str) -> None:
    """Set one interest of the user whom the token belongs to. Raises HTTPStatusError if the request is rejected."""
    interest = {"airport_icao": "KJFK", "direction": "departures", "window": "1h", "high_value": 30}
    httpx.post(
        f"{base_url}/interests", json=interest, headers={"Authorization": f"Bearer {token}"}, trust_env=False
    ).raise_for_status()


if __name__ == "__main__":
    sys.exit(main())
