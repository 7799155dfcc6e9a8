"""A collector on a database of its own, with a clock that the test moves."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from chassis.clock import Clock
from chassis.db.database import Database
from chassis.db.outbox import OutboxMessage
from chassis.metrics import Metrics, ServiceIdentity
from chassis.web import openapi
from chassis.web.http import create_app
from collector.collection_requests import CollectionRequests
from collector.flights import Flights
from collector.interests import Interests, Wish
from collector.intervals import Lags
from collector.model import OUTBOX, SCHEMA, CoverageRow, FlightRow
from collector.rest.routes import DESCRIPTION, PROBLEMS, blueprint
from collector.rest.users import Users
from collector.settled.quota import Ledger
from collector.settled.schedule import Timing
from collector.settled.status import SchedulerStatus
from domain.interests import Direction, Interest
from domain.windows import Window
from tests.fakes.authority import FakeAuthority
from tests.fakes.clock import FakeClock

NOON = datetime(2013, 2, 13, 12, tzinfo=UTC)
OPERATOR_TOKEN = "the-operators-own-token"
ON_SQLITE = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
ANN, BOB, CARL = (UUID(int=number) for number in (1, 2, 3))
ANNS, BOBS, UNCONFIRMED, OPERATOR = (
    {"Authorization": f"Bearer {token}"} for token in ("anns", "bobs", "unconfirmed", OPERATOR_TOKEN)
)
"""The headers of requests: Ann and Bob have confirmed their addresses."""
BUDGET = 400
"""Credits of a day."""
NOWHERE = "sqlite:////nowhere/at/all.db"
"""A database that is away."""


def wish(airport: str = "KJFK", direction: Direction = Direction.DEPARTURES, **changes: object) -> Wish:
    """More than 5 flights in an hour, unless changed."""
    fields: dict[str, object] = {
        "window": Window.ONE_HOUR,
        "high": 5,
        "low": None,
        "for_windows": 1,
        "repeat": False,
        "effective_from": None,
    }
    return Wish(airport, direction, **(fields | changes))  # type: ignore[arg-type]


def outbox(database: Database, topic: str) -> list[OutboxMessage]:
    """What waits in the outbox for a topic, oldest first."""
    with database.transaction() as session:
        rows = session.execute(OUTBOX.rows.select().order_by(OUTBOX.rows.c.id)).all()
    return [OutboxMessage(row.topic, row.partition, row.key, row.value) for row in rows if row.topic == topic]


@dataclass(frozen=True, slots=True)
class Service:
    """The use cases and what they stand on."""

    interests: Interests
    requests: CollectionRequests
    database: Database
    clock: FakeClock

    @property
    def flights(self) -> Flights:
        return Flights(self.database, self.clock)

    def cover(self, direction: Direction, begin: datetime, end: datetime, airport: str = "KJFK") -> None:
        """Say that all flights in [begin, end) are stored."""
        with self.database.transaction() as session:
            session.merge(
                CoverageRow(airport=airport, direction=direction.value, covered_from=begin, covered_until=end)
            )

    def store(self, direction: Direction, *event_times: datetime, airport: str = "KJFK", **values: str) -> None:
        """Store flights of an airport and direction that has coverage, each of another aircraft."""
        with self.database.transaction() as session:
            for number, at in enumerate(event_times):
                first_seen = at if direction is Direction.DEPARTURES else at - timedelta(hours=2)
                row = {"icao24": f"{number:06x}", "callsign": "DLH4AB", "other_airport": "EDDF", **values}
                session.add(
                    FlightRow(
                        airport=airport,
                        direction=direction.value,
                        first_seen=first_seen,
                        last_seen=first_seen + timedelta(hours=2),
                        event_time=at,
                        **row,
                    )
                )

    def set(self, wanted: Wish | None = None, user_id: UUID | None = None) -> Interest:
        return self.interests.set(user_id or uuid4(), wanted or wish())[0]


@pytest.fixture
def service(database_url: str) -> Iterator[Service]:
    database = Database(database_url)
    SCHEMA.create_all(database.engine)
    clock = FakeClock(NOON)
    yield Service(Interests(database, clock), CollectionRequests(database), database, clock)
    database.close()


@pytest.fixture
def authority() -> Iterator[FakeAuthority]:
    with FakeAuthority().running() as running:
        running.users = {"anns": (ANN, True), "bobs": (BOB, True), "unconfirmed": (CARL, False)}
        yield running


@pytest.fixture
def users(authority: FakeAuthority) -> Iterator[Users]:
    made = Users(authority.target, cache_s=0)
    yield made
    made.close()


def app_of(database: Database, clock: Clock, users: Users) -> Flask:
    """Everything that the collector serves over HTTP, as `__main__` wires it."""
    app = create_app("collector", Metrics(ServiceIdentity("collector", "local")), PROBLEMS, ready=lambda: True)
    timing = Timing(Lags(timedelta(minutes=30), timedelta(hours=2)), timedelta(hours=1), timedelta(days=2))
    app.register_blueprint(
        blueprint(
            Interests(database, clock),
            CollectionRequests(database),
            users,
            OPERATOR_TOKEN,
            Flights(database, clock),
            SchedulerStatus(database, clock, timing, Ledger(BUDGET)).show,
        )
    )
    app.register_blueprint(openapi.create_blueprint("Towerwatch interests and flights", "1", DESCRIPTION))
    return app


@pytest.fixture
def app(service: Service, users: Users) -> Flask:
    return app_of(service.database, service.clock, users)


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    return app.test_client()


def status_of(response: TestResponse) -> int:
    """The status of a problem (RFC 9457), which its body repeats."""
    assert response.content_type == "application/problem+json"
    assert response.json is not None
    assert response.json["status"] == response.status_code
    return response.status_code


def json_of(response: TestResponse) -> dict[str, object]:
    assert response.status_code < 300, response.text
    assert response.json is not None
    return dict(response.json)
