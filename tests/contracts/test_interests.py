"""The contract between user_manager and the collector: the real client and pages against the real server."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC
from functools import partial
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from hypothesis import given, strategies as st

from chassis.db.database import Database
from chassis.metrics import Metrics, ServiceIdentity
from chassis.rpc import GrpcServer
from collector.interest_requests import InterestRequest
from collector.interests import InterestStore
from collector.messages import build_interest_set
from collector.model import SCHEMA as COLLECTOR_SCHEMA
from collector.person_export import PersonExports
from collector.rpc import SERVICE_NAME, STATUSES, InterestService
from domain.interests import Direction, Interest
from domain.windows import AlignedTo, Window
from tests.collector.conftest import MANY
from tests.copied_tables import create_tables
from tests.fakes.clock import FakeClock
from tests.ports import free_port
from tests.user_manager.apps import build_app
from tests.user_manager.conftest import Service
from towerwatch.interests.v1.interest_service_pb2_grpc import add_InterestServiceServicer_to_server
from user_manager.alert_stops import AlertStops
from user_manager.collector_client import CollectorClient
from user_manager.collector_record import decode_interest
from user_manager.errors import CollectorRefusedError, CollectorUnavailableError
from user_manager.model import SCHEMA

SECRET = "the-secret-of-the-services"


@pytest.fixture
def collector_database(tmp_path: Path) -> Iterator[Database]:
    """Yield an empty SQLite database with the collector's schema."""
    database = Database(f"sqlite:///{tmp_path}/collector.db")
    create_tables(database, COLLECTOR_SCHEMA)
    yield database
    database.close()


@pytest.fixture
def interests(collector_database: Database) -> InterestStore:
    """Return the collector's use cases on that database."""
    return InterestStore(collector_database, FakeClock(), MANY)


@pytest.fixture
def target(interests: InterestStore, collector_database: Database) -> Iterator[str]:
    """Yield `host:port` of the collector's gRPC server, which wants a secret."""
    port = free_port()
    add = partial(add_InterestServiceServicer_to_server, InterestService(interests, PersonExports(collector_database)))
    metrics = Metrics(ServiceIdentity("collector", "local"))
    server = GrpcServer("127.0.0.1", port, {SERVICE_NAME: add}, STATUSES, metrics, [SECRET])
    server.start()
    yield f"127.0.0.1:{port}"
    server.stop()


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    """Yield user_manager's use cases on an empty SQLite database."""
    database = Database(f"sqlite:///{tmp_path}/user_manager.db")
    create_tables(database, SCHEMA)
    yield Service(database)
    database.close()


def set_interest(
    interests: InterestStore, airport: str = "KJFK", user_id: UUID | None = None, **changes: object
) -> Interest:
    """Set an interest in departures, of a new user if none is named, and return it."""
    fields: dict[str, object] = {
        "window": Window.ONE_HOUR, "high": None, "low": 5, "for_windows": 1, "repeat": False, "effective_from": None,
    }  # fmt: skip
    request = InterestRequest(airport, Direction.DEPARTURES, **(fields | changes))  # type: ignore[arg-type]
    return interests.set(user_id or uuid4(), request)[0]


INTERESTS = st.builds(
    Interest,
    interest_id=st.uuids(),
    user_id=st.uuids(),
    airport=st.sampled_from(["KJFK", "LICC"]),
    direction=st.sampled_from(Direction),
    window=st.sampled_from(Window),
    high=st.none() | st.integers(0, 100_000),
    low=st.none() | st.integers(0, 100_000),
    for_windows=st.integers(1, 30),
    repeat=st.booleans(),
    effective_from=st.datetimes(timezones=st.timezones()).filter(lambda each: 2 < each.year < 9_998),
    version=st.integers(1, 2**40),
    high_percent=st.none() | st.integers(101, 10_000),
    low_percent=st.none() | st.integers(1, 99),
    aligned_to=st.sampled_from(AlignedTo),
)


@given(INTERESTS)
def test_an_interest_arrives_as_it_was_sent(interest: Interest) -> None:
    """Each field, also a threshold of 0, which is not the same as none; the instant is in UTC."""
    # A local time that clocks show twice is equal to no time of another zone (PEP 495), so both sides are in UTC.
    sent = replace(interest, effective_from=interest.effective_from.astimezone(UTC))
    assert decode_interest(build_interest_set(interest)) == sent


def test_the_link_in_a_mail_stops_that_interest(interests: InterestStore, target: str, service: Service) -> None:
    """The page names it and removes it at the collector, once; with two presses at once both succeed."""
    interest, other = set_interest(interests), set_interest(interests, "LICC")
    client = CollectorClient(target, deadline_s=60, secrets=[SECRET])
    service.alert_stops = AlertStops(service.links, client)
    app = build_app(service)
    path = service.links.build_alert_stop_url(interest.user_id, interest.interest_id).partition(".example")[2]
    foreign = service.links.build_alert_stop_url(interest.user_id, other.interest_id).partition(".example")[2]
    try:
        assert "fewer than 5 flights in an hour" in app.test_client().get(path).text
        assert interests.get(interest.user_id, interest.interest_id) == interest
        assert "KJFK" not in app.test_client().post(foreign).text
        with ThreadPoolExecutor(2) as pool:
            pages = [each.result() for each in [pool.submit(app.test_client().post, path) for _ in range(2)]]
        assert [each.status_code for each in pages] == [200, 200]
        assert sum("To have it again" in each.text and "KJFK" in each.text for each in pages) == 1
    finally:
        client.close()
    assert interests.list_of_user(interest.user_id) == []
    assert interests.list_of_user(other.user_id) == [other]


@pytest.mark.parametrize("secrets", [[], ["another-secret-of-a-service"]])
def test_without_the_secret_nothing_is_stopped(interests: InterestStore, target: str, secrets: list[str]) -> None:
    """Whoever reaches the port reads and removes nobody's interests."""
    interest = set_interest(interests)
    client = CollectorClient(target, deadline_s=60, secrets=secrets)
    try:
        for call in (client.load_interest, client.delete_interest):
            with pytest.raises((CollectorRefusedError, CollectorUnavailableError)):
                call(interest.user_id, interest.interest_id)
    finally:
        client.close()
    assert interests.list_of_user(interest.user_id) == [interest]
