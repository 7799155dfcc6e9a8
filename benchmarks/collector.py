"""`python -m benchmarks.collector`: the collector's REST interface under load.

Five scenarios of `--seconds` each, with `--clients` that never rest: the cheapest answer there is, listing interests,
setting them, reading a page of 100 flights, and a preview over 30 days. user_manager is a stand-in that answers at
once, and is asked about each token every few seconds, as it is in production. Prints requests a second, their share of
the cheapest answer's, and latencies. Exits with 1 when anything was answered with an error. Load and server share the
machine, so only the ratios travel.
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

from benchmarks.load import parsed_options, serving, shown
from chassis.db.database import Database
from collector.intervals import day_of
from collector.model import CoverageRow, FlightRow
from domain.interests import Direction
from tests.fakes.authority import FakeAuthority
from tests.ports import free_port

USERS: Final = 200
DAYS: Final = 30
FLIGHTS_A_DAY: Final = 400
"""Of each direction."""


def main() -> int:
    options = parsed_options("collector", __doc__)
    fake = FakeAuthority()  # type: ignore[abstract]  # the collector asks nothing but whose a token is
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
            "LOG_LEVEL": "warning",
        }
        tokens = [secrets.token_urlsafe(32) for _ in range(USERS)]
        authority.users = {token: (uuid4(), True) for token in tokens}
        with serving("collector", settings, folder) as base_url:
            _store_flights(database_url)
            for token in tokens:
                _set_interest(base_url, token)
            locustfile = Path(__file__).with_name("collector_load.py")
            scenarios = ("Baseline", "Listing", "Setting", "Flights", "Previewing")
            failures = shown(locustfile, scenarios, base_url, {"TOKENS": " ".join(tokens)}, options)
    return 1 if failures else 0


def _store_flights(database_url: str) -> None:
    """What a month of collecting one airport leaves behind."""
    today = day_of(datetime.now(UTC))
    database = Database(database_url)
    apart = timedelta(days=1) / FLIGHTS_A_DAY
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
            times = [today - number * apart for number in range(1, DAYS * FLIGHTS_A_DAY + 1)]
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
    wish = {"airport_icao": "KJFK", "direction": "departures", "window": "1h", "high_value": 30}
    httpx.post(f"{base_url}/interests", json=wish, headers={"Authorization": f"Bearer {token}"}).raise_for_status()


if __name__ == "__main__":
    sys.exit(main())
