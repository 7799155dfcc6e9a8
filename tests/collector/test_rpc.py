"""InterestService through a real server and a real channel."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from uuid import UUID, uuid4

import grpc
import pytest

from chassis.db.database import Database
from chassis.metrics import Metrics, ServiceIdentity
from chassis.rpc import GrpcServer, create_channel
from collector.interests import Interests
from collector.rpc import SERVICE_NAME, STATUSES, InterestService
from tests.collector.conftest import NOWHERE, Service, outbox, wish
from tests.waiting import eventually
from towerwatch.interests.v1.interest_service_pb2 import DESCRIPTOR, DeleteInterestsRequest
from towerwatch.interests.v1.interest_service_pb2_grpc import (
    InterestServiceStub,
    add_InterestServiceServicer_to_server,
)
from towerwatch.topics import INTERESTS_CHANGED


@contextmanager
def serving(interests: Interests) -> Iterator[InterestServiceStub]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    server = GrpcServer(
        "127.0.0.1",
        port,
        {SERVICE_NAME: partial(add_InterestServiceServicer_to_server, InterestService(interests))},
        STATUSES,
        Metrics(ServiceIdentity("collector", "local")),
    )
    server.start()
    with create_channel(f"127.0.0.1:{port}") as connection:
        yield InterestServiceStub(connection)
    server.stop()


def test_the_service_has_the_name_of_the_contract() -> None:
    """Health checks and reflection know it by that."""
    assert [service.full_name for service in DESCRIPTOR.services_by_name.values()] == [SERVICE_NAME]


def test_all_interests_of_a_user_go(service: Service) -> None:
    """Repeating it is an answer, not an error; a user whom nobody knows has none."""
    user_id = uuid4()
    for airport in ("KJFK", "LICC"):
        service.set(wish(airport), user_id)
    with serving(service.interests) as stub:
        deleted = [stub.DeleteInterests(DeleteInterestsRequest(user_id=str(user_id)), timeout=5) for _ in range(2)]
        assert [answer.deleted for answer in deleted] == [2, 0]
    assert service.interests.of_user(user_id) == []


@pytest.mark.parametrize("user_id", ["", "nonsense", "x" * 10_000])
def test_what_is_no_user_id_is_an_invalid_argument(service: Service, user_id: str) -> None:
    """Asking again would not help."""
    with serving(service.interests) as stub, pytest.raises(grpc.RpcError) as caught:
        stub.DeleteInterests(DeleteInterestsRequest(user_id=user_id), timeout=5)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_a_database_that_is_away_is_unavailable(service: Service) -> None:
    """Asking again may help; the text shows no SQL."""
    with serving(Interests(Database(NOWHERE), service.clock)) as stub, pytest.raises(grpc.RpcError) as caught:
        stub.DeleteInterests(DeleteInterestsRequest(user_id=str(uuid4())), timeout=10)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    assert "SELECT" not in caught.value.details()


def test_a_call_past_its_deadline_changes_nothing(service: Service) -> None:
    """Whoever asked was told that it failed: interests and outbox are as they were, and the same call does it later."""
    user_id = uuid4()
    interest = service.set(wish("KJFK"), user_id)
    before = outbox(service.database, INTERESTS_CHANGED.name)
    gave_up, ended = threading.Event(), threading.Event()

    class Slow(Interests):
        """Works until the caller has given up."""

        def remove_all(self, user_id: UUID, still_asked: Callable[[], bool] = lambda: True) -> int:
            def asked() -> bool:
                gave_up.wait(timeout=30)
                eventually(lambda: not still_asked(), "learning that the caller is gone")
                return still_asked()

            try:
                return super().remove_all(user_id, asked)
            finally:
                ended.set()

    with serving(Slow(service.database, service.clock)) as stub:
        with pytest.raises(grpc.RpcError) as caught:
            stub.DeleteInterests(DeleteInterestsRequest(user_id=str(user_id)), timeout=0.2)
        gave_up.set()
        assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        assert ended.wait(timeout=30)
    assert service.interests.of_user(user_id) == [interest]
    assert outbox(service.database, INTERESTS_CHANGED.name) == before
    with serving(service.interests) as stub:
        assert stub.DeleteInterests(DeleteInterestsRequest(user_id=str(user_id)), timeout=5).deleted == 1
