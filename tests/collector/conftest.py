"""Fixtures: a collector on a database of its own, with a clock that the test moves."""

import time
from collections.abc import Callable, Iterator
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
from chassis.web.dates import send_dates
from chassis.web.http import create_app
from chassis.web.session_cookie import SessionCookie
from collector.collection_requests import CollectionRequests
from collector.flights import FlightQueries
from collector.interest_requests import InterestRequest
from collector.interests import InterestStore
from collector.intervals import DAY, FARTHEST_BACK, day_of
from collector.live.status import LiveStatus
from collector.model import OUTBOX, SCHEMA, CoverageRow, FlightRow, NightlyRecordRow
from collector.read_limits import ReadLimit
from collector.rest.routes import DESCRIPTION, PROBLEMS, blueprint
from collector.rest.scheduler_answers import Scheduler
from collector.rest.users import Authenticator
from collector.rest.window_routes import window_blueprint
from collector.settled.coverage_report import CoverageReports
from collector.settled.evidence import RecordTiming
from collector.settled.learning_reports import LearningReports
from collector.settled.quota import Bucket, QuotaStore
from collector.settled.schedule import CollectionTiming
from collector.settled.status import SchedulerStatus
from collector.windows import WindowQueries
from collector.write_limits import PersonLimits, WriteLimit
from domain.interests import Direction, Interest
from domain.windows import Window
from tests.copied_tables import create_tables
from tests.fakes.authority import FakeAuthority
from tests.fakes.clock import FakeClock

NOON = datetime(2013, 2, 13, 12, tzinfo=UTC)
OPERATOR_TOKEN = "the-operators-own-token"
COOKIE = SessionCookie("https://towerwatch.example")
"""The cookie of the app, as people reach it over TLS."""
ON_SQLITE = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
ANN, BOB, CARL = (UUID(int=number) for number in (1, 2, 3))
ANNS, BOBS, UNCONFIRMED, OPERATOR = (
    {"Authorization": f"Bearer {token}"} for token in ("anns", "bobs", "unconfirmed", OPERATOR_TOKEN)
)
"""Headers of requests. Ann and Bob have confirmed their addresses."""
BUDGET = 400
"""Credits per day."""
FEEDS = ("opensky", "receivers")
"""The feeds of positions."""
MANY = PersonLimits(
    interests=1_000,
    airports=1_000,
    writes_per_minute=100_000,
    past_windows_per_day=1_000_000,
    reads_per_minute=100_000,
)
"""Limits by person that no test of another rule reaches."""
NOWHERE = "sqlite:////nowhere/at/all.db"
"""URL of a database that is unavailable."""


def wish(airport: str = "KJFK", direction: Direction = Direction.DEPARTURES, **changes: object) -> InterestRequest:
    """Return a request for an interest: more than 5 flights in an hour, with the given changes."""
    fields: dict[str, object] = {
        "window": Window.ONE_HOUR,
        "high": 5,
        "low": None,
        "for_windows": 1,
        "repeat": False,
        "effective_from": None,
    }
    return InterestRequest(airport, direction, **(fields | changes))  # type: ignore[arg-type]


RECORD_THERE_AFTER, RECORD_WHOLE_AFTER = timedelta(hours=3), timedelta(hours=6)
"""Times after the end of a day at which hourly evidence calls find its record there, and prove it to be whole."""


def prove_days(database: Database, *days: datetime) -> None:
    """Store that the source's record of each day (UTC midnight) is whole in both directions, as a beacon has proven."""
    with database.transaction() as session:
        for day in days:
            there_since, whole_since = day + DAY + RECORD_THERE_AFTER, day + DAY + RECORD_WHOLE_AFTER
            for part in Direction.BOTH.parts:
                record = {"airport": "EDDF", "flights": 12, "digest": "0" * 64, "attempts": 3}
                session.merge(
                    NightlyRecordRow(
                        day=day,
                        direction=part.value,
                        asked_at=whole_since,
                        there_since=there_since,
                        whole_since=whole_since,
                        **record,
                    )
                )


def prove_past_days(database: Database, now: datetime) -> None:
    """Store that each day is whole whose record hourly evidence calls could have proven by `now`, a month back.

    One collection then collects all that is due, and makes no evidence call before the next night.
    """
    newest = day_of(now - RECORD_WHOLE_AFTER) - DAY
    prove_days(database, *(newest - back * DAY for back in range(FARTHEST_BACK // DAY + 1)))


def outbox(database: Database, topic: str) -> list[OutboxMessage]:
    """Return the outbox's messages for a topic, oldest first."""
    with database.transaction() as session:
        rows = session.execute(OUTBOX.rows.select().order_by(OUTBOX.rows.c.id)).all()
    return [OutboxMessage(row.topic, row.partition, row.key, row.value) for row in rows if row.topic == topic]


@dataclass(frozen=True, slots=True)
class Service:
    """A collector's use cases, with their database and clock."""

    interests: InterestStore
    requests: CollectionRequests
    database: Database
    clock: FakeClock

    @property
    def flights(self) -> FlightQueries:
        return FlightQueries(self.database, self.clock)

    def cover(self, direction: Direction, begin: datetime, end: datetime, airport: str = "KJFK") -> None:
        """Store that all flights in [begin, end) are covered."""
        with self.database.transaction() as session:
            session.merge(
                CoverageRow(airport=airport, direction=direction.value, covered_from=begin, covered_until=end)
            )

    def store(self, direction: Direction, *event_times: datetime, airport: str = "KJFK", **values: str) -> None:
        """Store one flight per event time, each of another aircraft, at an airport that has coverage."""
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

    def set(self, wanted: InterestRequest | None = None, user_id: UUID | None = None) -> Interest:
        """Store an interest, of a new user if none is given."""
        return self.interests.set(user_id or uuid4(), wanted or wish())[0]


@pytest.fixture
def service(database_url: str) -> Iterator[Service]:
    """Yield a collector on an empty database, at noon."""
    database = Database(database_url)
    create_tables(database, SCHEMA)
    clock = FakeClock(NOON)
    yield Service(InterestStore(database, clock), CollectionRequests(database), database, clock)
    database.close()


@pytest.fixture
def authority() -> Iterator[FakeAuthority]:
    with FakeAuthority().running() as running:
        running.users = {"anns": (ANN, True), "bobs": (BOB, True), "unconfirmed": (CARL, False)}
        yield running


@pytest.fixture
def users(authority: FakeAuthority) -> Iterator[Authenticator]:
    users = Authenticator(authority.target, cache_s=0)
    yield users
    users.close()


def app_of(
    database: Database,
    clock: Clock,
    users: Authenticator,
    limits: PersonLimits = MANY,
    unix_time: Callable[[], float] = time.time,
) -> Flask:
    """Return the Flask app with all routes of the collector, as `__main__` wires it; costly reads have an own clock."""
    metrics = Metrics(ServiceIdentity("collector", "local"))
    app = create_app("collector", metrics, PROBLEMS, explain_unready=lambda: None)
    send_dates(app, clock)
    timing = CollectionTiming(
        RecordTiming(timedelta(hours=1), timedelta(hours=3)), timedelta(hours=1), timedelta(days=2)
    )
    status = SchedulerStatus(database, clock, timing, QuotaStore(BUDGET))
    live_status = LiveStatus(database, clock, FEEDS, QuotaStore(BUDGET, Bucket.STATES), metrics)
    read_limit = ReadLimit(database, limits, metrics, unix_time)
    learning = LearningReports(database, clock, timing, QuotaStore(BUDGET))
    app.register_blueprint(
        blueprint(
            InterestStore(database, clock, limits),
            CollectionRequests(database),
            users,
            OPERATOR_TOKEN,
            FlightQueries(database, clock),
            CoverageReports(database, clock, timing, live_status.explain_airport).load_report,
            lambda: Scheduler.build(status.load_state(), live_status.load_state()),
            WriteLimit(database, limits, metrics),
            read_limit,
            learning.find_learning_ends,
            COOKIE.read_credential,
        )
    )
    app.register_blueprint(
        window_blueprint(
            WindowQueries(database, clock, timing.corrections_after),
            InterestStore(database, clock, limits),
            users,
            read_limit,
            learning.find_learning_ends,
            COOKIE.read_credential,
        )
    )
    app.register_blueprint(openapi.create_blueprint("Towerwatch interests and flights", "1", DESCRIPTION, COOKIE.name))
    return app


@pytest.fixture
def app(service: Service, users: Authenticator) -> Flask:
    return app_of(service.database, service.clock, users)


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    return app.test_client()


def status_of(response: TestResponse) -> int:
    """Return the status of a problem response (RFC 9457), after a check that its body has the same one."""
    assert response.content_type == "application/problem+json"
    assert response.json is not None
    assert response.json["status"] == response.status_code
    return response.status_code


def json_of(response: TestResponse) -> dict[str, object]:
    """Return the JSON body of a successful response."""
    assert response.status_code < 300, response.text
    assert response.json is not None
    return dict(response.json)
