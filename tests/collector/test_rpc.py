"""InterestService through a real server and a real channel."""

import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from uuid import UUID, uuid4

import grpc
import pytest

from chassis.db.database import Database
from chassis.metrics import Metrics, ServiceIdentity
from chassis.rpc import GrpcServer, create_channel
from collector.interests import InterestStore
from collector.messages import build_interest_set, encode_interest_removal
from collector.model import PersonRow
from collector.person_export import PersonExports
from collector.rpc import SERVICE_NAME, STATUSES, InterestService
from domain.interests import Interest
from tests.collector.conftest import NOWHERE, Service, outbox, wish
from tests.waiting import eventually
from towerwatch.interests.v1.interest_service_pb2 import (
    DESCRIPTOR,
    DeleteInterestRequest,
    DeleteInterestsRequest,
    ExportPersonRequest,
    GetInterestRequest,
)
from towerwatch.interests.v1.interest_service_pb2_grpc import (
    InterestServiceStub,
    add_InterestServiceServicer_to_server,
)
from towerwatch.topics import INTERESTS_CHANGED


@contextmanager
def serving(interests: InterestStore, database: Database) -> Iterator[InterestServiceStub]:
    """Serve the interests and exports of a database over gRPC for the block, and yield a stub."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    servicer = InterestService(interests, PersonExports(database, page_size=2))
    server = GrpcServer(
        "127.0.0.1",
        port,
        {SERVICE_NAME: partial(add_InterestServiceServicer_to_server, servicer)},
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
    with serving(service.interests, service.database) as stub:
        deleted = [stub.DeleteInterests(DeleteInterestsRequest(user_id=str(user_id)), timeout=60) for _ in range(2)]
        assert [answer.deleted for answer in deleted] == [2, 0]
    assert service.interests.list_of_user(user_id) == []


@pytest.mark.parametrize("user_id", ["", "nonsense", "x" * 10_000])
def test_an_invalid_user_id_is_an_invalid_argument(service: Service, user_id: str) -> None:
    """The status tells the caller that a retry would not help."""
    with serving(service.interests, service.database) as stub, pytest.raises(grpc.RpcError) as caught:
        stub.DeleteInterests(DeleteInterestsRequest(user_id=user_id), timeout=60)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_an_unavailable_database_is_unavailable(service: Service) -> None:
    """The status tells the caller that a retry may help, and the text shows no SQL."""
    nowhere = Database(NOWHERE)
    with serving(InterestStore(nowhere, service.clock), nowhere) as stub, pytest.raises(grpc.RpcError) as caught:
        stub.DeleteInterests(DeleteInterestsRequest(user_id=str(uuid4())), timeout=10)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    assert "SELECT" not in caught.value.details()
    with serving(service.interests, nowhere) as stub, pytest.raises(grpc.RpcError) as caught:
        stub.ExportPerson(ExportPersonRequest(user_id=str(uuid4())), timeout=10)
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

    with serving(Slow(service.database, service.clock), service.database) as stub:
        with pytest.raises(grpc.RpcError) as caught:
            stub.DeleteInterests(DeleteInterestsRequest(user_id=str(user_id)), timeout=0.2)
        gave_up.set()
        assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        assert ended.wait(timeout=30)
    assert service.interests.list_of_user(user_id) == [interest]
    assert outbox(service.database, INTERESTS_CHANGED.name) == before
    with serving(service.interests, service.database) as stub:
        assert stub.DeleteInterests(DeleteInterestsRequest(user_id=str(user_id)), timeout=60).deleted == 1


def ids_of(interest: Interest) -> dict[str, str]:
    """Return the fields of a request about an interest."""
    return {"user_id": str(interest.user_id), "interest_id": str(interest.interest_id)}


def test_one_interest_is_read_and_deleted(service: Service) -> None:
    """Reading changes nothing; deleting adds its tombstone, leaves the others, and a repeat deletes nothing."""
    user_id = uuid4()
    interest, other = service.set(wish("KJFK"), user_id), service.set(wish("LICC"), user_id)
    before = outbox(service.database, INTERESTS_CHANGED.name)
    with serving(service.interests, service.database) as stub:
        assert stub.GetInterest(GetInterestRequest(**ids_of(interest)), timeout=60).interest == build_interest_set(
            interest
        )
        assert outbox(service.database, INTERESTS_CHANGED.name) == before
        answers = [stub.DeleteInterest(DeleteInterestRequest(**ids_of(interest)), timeout=60) for _ in range(2)]
        assert answers[0].interest == build_interest_set(interest)
        assert not answers[1].HasField("interest")
        assert not stub.GetInterest(GetInterestRequest(**ids_of(interest)), timeout=60).HasField("interest")
    assert service.interests.list_of_user(user_id) == [other]
    assert outbox(service.database, INTERESTS_CHANGED.name) == [*before, encode_interest_removal(interest)]


def test_another_users_interest_is_as_one_that_is_gone(service: Service) -> None:
    """Neither its content nor its existence is told, and it stays."""
    interest = service.set(wish("KJFK"), uuid4())
    with serving(service.interests, service.database) as stub:
        for foreign in (
            {"user_id": str(uuid4()), "interest_id": str(interest.interest_id)},
            {"user_id": str(interest.user_id), "interest_id": str(uuid4())},
        ):
            assert not stub.GetInterest(GetInterestRequest(**foreign), timeout=60).HasField("interest")
            assert not stub.DeleteInterest(DeleteInterestRequest(**foreign), timeout=60).HasField("interest")
    assert service.interests.list_of_user(interest.user_id) == [interest]


def test_of_two_deletions_at_once_one_deletes(service: Service) -> None:
    """Both succeed, one of them has the interest, and its tombstone is there once."""
    interest = service.set(wish("KJFK"), uuid4())
    with serving(service.interests, service.database) as stub, ThreadPoolExecutor(4) as pool:
        calls = [
            pool.submit(stub.DeleteInterest, DeleteInterestRequest(**ids_of(interest)), timeout=60) for _ in range(4)
        ]
        assert sum(each.result().HasField("interest") for each in calls) == 1
    tombstones = [each for each in outbox(service.database, INTERESTS_CHANGED.name) if each.value is None]
    assert tombstones == [encode_interest_removal(interest)]


@pytest.mark.parametrize("fields", [{"user_id": "x"}, {"interest_id": "x"}, {"interest_id": ""}])
def test_an_invalid_id_of_an_interest_is_an_invalid_argument(service: Service, fields: dict[str, str]) -> None:
    """The status tells the caller that a retry would not help."""
    request = {"user_id": str(uuid4()), "interest_id": str(uuid4())} | fields
    with serving(service.interests, service.database) as stub:
        for call, kind in ((stub.GetInterest, GetInterestRequest), (stub.DeleteInterest, DeleteInterestRequest)):
            with pytest.raises(grpc.RpcError) as caught:
                call(kind(**request), timeout=60)
            assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_one_interest_stays_if_the_call_is_past_its_deadline(service: Service) -> None:
    """The caller was told that the call failed: interest and outbox stay, and a repeated call deletes it."""
    interest = service.set(wish("KJFK"), uuid4())
    before = outbox(service.database, INTERESTS_CHANGED.name)
    gave_up, ended = threading.Event(), threading.Event()

    class Slow(InterestStore):
        """Works until the caller has given up."""

        def remove(
            self, user_id: UUID, interest_id: UUID, is_caller_waiting: Callable[[], bool] = lambda: True
        ) -> Interest:
            def asked() -> bool:
                gave_up.wait(timeout=30)
                eventually(lambda: not is_caller_waiting(), "learning that the caller is gone")
                return is_caller_waiting()

            try:
                return super().remove(user_id, interest_id, asked)
            finally:
                ended.set()

    with serving(Slow(service.database, service.clock), service.database) as stub:
        with pytest.raises(grpc.RpcError) as caught:
            stub.DeleteInterest(DeleteInterestRequest(**ids_of(interest)), timeout=0.2)
        gave_up.set()
        assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        assert ended.wait(timeout=30)
    assert service.interests.list_of_user(interest.user_id) == [interest]
    assert outbox(service.database, INTERESTS_CHANGED.name) == before
    with serving(service.interests, service.database) as stub:
        assert stub.DeleteInterest(DeleteInterestRequest(**ids_of(interest)), timeout=60).HasField("interest")


def test_what_is_kept_about_a_user_comes_in_pages(service: Service) -> None:
    """All interests of the user and of nobody else, each once; what is counted of a person in the first page only."""
    ann, bob = uuid4(), uuid4()
    wished = {service.set(wish(airport), ann).interest_id for airport in ("KJFK", "LICC", "EDDF", "EGLL", "LIRF")}
    service.set(wish("KJFK"), bob)
    with serving(service.interests, service.database) as stub:
        pages = [stub.ExportPerson(ExportPersonRequest(user_id=str(ann)), timeout=60)]
        while pages[-1].next_page_token:
            token = pages[-1].next_page_token
            pages.append(stub.ExportPerson(ExportPersonRequest(user_id=str(ann), page_token=token), timeout=60))
        unknown = stub.ExportPerson(ExportPersonRequest(user_id=str(uuid4())), timeout=60)
    found = [each.interest for page in pages for each in page.interests]
    assert [len(page.interests) for page in pages] == [2, 2, 1]
    assert sorted(each.interest_id for each in found) == sorted(map(str, wished))
    assert {each.user_id for each in found} == {str(ann)}
    assert [page.HasField("person") for page in pages] == [True, False, False]
    assert unknown.ByteSize() == 0, "nothing is kept about them"


def test_each_count_of_a_person_is_in_its_own_member_of_the_answer(service: Service) -> None:
    """No two counts are alike here, so that one in another's place is seen."""
    ann = uuid4()
    stored = {"paid": 7, "minute": 11, "writes": 2, "past_windows_until": 13_000, "read_minute": 17, "reads": 3}
    with service.database.transaction() as session:
        session.add(PersonRow(user_id=ann, **stored))
    with serving(service.interests, service.database) as stub:
        person = stub.ExportPerson(ExportPersonRequest(user_id=str(ann)), timeout=60).person
    assert {field.name for field in person.DESCRIPTOR.fields} == set(stored)
    assert (person.paid, person.writes, person.reads) == (7, 2, 3)
    instants = (person.minute, person.past_windows_until, person.read_minute)
    assert [instant.ToSeconds() for instant in instants] == [11 * 60, 13, 17 * 60]


@pytest.mark.parametrize("asked", [{"user_id": ""}, {"user_id": "x" * 10_000}, {"page_token": "nonsense"}])
def test_an_invalid_request_for_an_export_is_an_invalid_argument(service: Service, asked: dict[str, str]) -> None:
    """Of user id and token alike."""
    request = ExportPersonRequest(**({"user_id": str(uuid4())} | asked))
    with serving(service.interests, service.database) as stub, pytest.raises(grpc.RpcError) as caught:
        stub.ExportPerson(request, timeout=60)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
