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
from collector.interests import InterestStore
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
def serving(interests: InterestStore) -> Iterator[InterestServiceStub]:
    """Serve the interests over gRPC for the block, and yield a stub."""
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
    """Health checks and reflection use this name."""
    assert [service.full_name for service in DESCRIPTOR.services_by_name.values()] == [SERVICE_NAME]


def test_all_interests_of_a_user_are_deleted(service: Service) -> None:
    """A repeated call succeeds and deletes nothing; so does a call for an unknown user."""
    user_id = uuid4()
    for airport in ("KJFK", "LICC"):
        service.set(wish(airport), user_id)
    with serving(service.interests) as stub:
        deleted = [stub.DeleteInterests(DeleteInterestsRequest(user_id=str(user_id)), timeout=60) for _ in range(2)]
        assert [answer.deleted for answer in deleted] == [2, 0]
    assert service.interests.list_of_user(user_id) == []


@pytest.mark.parametrize("user_id", ["", "nonsense", "x" * 10_000])
def test_an_invalid_user_id_is_an_invalid_argument(service: Service, user_id: str) -> None:
    """The status tells the caller that a retry would not help."""
    with serving(service.interests) as stub, pytest.raises(grpc.RpcError) as caught:
        stub.DeleteInterests(DeleteInterestsRequest(user_id=user_id), timeout=60)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_an_unavailable_database_is_unavailable(service: Service) -> None:
    """The status tells the caller that a retry may help, and the text shows no SQL."""
    with serving(InterestStore(Database(NOWHERE), service.clock)) as stub, pytest.raises(grpc.RpcError) as caught:
        stub.DeleteInterests(DeleteInterestsRequest(user_id=str(uuid4())), timeout=10)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    assert "SELECT" not in caught.value.details()


def test_a_call_past_its_deadline_changes_nothing(service: Service) -> None:
    """The caller was told that the call failed: interests and outbox stay, and a repeated call deletes them."""
    user_id = uuid4()
    interest = service.set(wish("KJFK"), user_id)
    before = outbox(service.database, INTERESTS_CHANGED.name)
    gave_up, ended = threading.Event(), threading.Event()

    class Slow(InterestStore):
        """Works until the caller has given up."""

        def remove_all(self, user_id: UUID, is_caller_waiting: Callable[[], bool] = lambda: True) -> int:
            def asked() -> bool:
                gave_up.wait(timeout=30)
                eventually(lambda: not is_caller_waiting(), "learning that the caller is gone")
                return is_caller_waiting()

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
    assert service.interests.list_of_user(user_id) == [interest]
    assert outbox(service.database, INTERESTS_CHANGED.name) == before
    with serving(service.interests) as stub:
        assert stub.DeleteInterests(DeleteInterestsRequest(user_id=str(user_id)), timeout=60).deleted == 1
