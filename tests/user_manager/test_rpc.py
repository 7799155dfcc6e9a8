"""UserService through a real server and a real channel."""

from collections.abc import Iterator
from functools import partial
from uuid import uuid4

import grpc
import pytest

from chassis.metrics import Identity, Metrics
from chassis.rpc import GrpcServer, channel
from tests.ports import free_port
from tests.user_manager.conftest import ON_SQLITE, OPERATOR_TOKEN, Service
from towerwatch.users.v1.user_service_pb2 import AuthenticateRequest, GetContactsRequest, VerifyUserRequest
from towerwatch.users.v1.user_service_pb2_grpc import UserServiceStub, add_UserServiceServicer_to_server
from user_manager.rpc import SERVICE_NAME, STATUSES, UserService

pytestmark = ON_SQLITE


@pytest.fixture
def stub(service: Service) -> Iterator[UserServiceStub]:
    port = free_port()
    servicer = UserService(service.accounts)
    server = GrpcServer(
        "127.0.0.1",
        port,
        {SERVICE_NAME: partial(add_UserServiceServicer_to_server, servicer)},
        STATUSES,
        Metrics(Identity("user_manager", "local")),
    )
    server.start()
    with channel(f"127.0.0.1:{port}") as connection:
        yield UserServiceStub(connection)
    server.stop()


def test_a_token_tells_whose_it_is(stub: UserServiceStub, service: Service) -> None:
    """And whether the address is confirmed, at once."""
    registration = service.register()
    user_id = str(registration.account.user_id)
    for confirmed in (False, True):
        answer = stub.Authenticate(AuthenticateRequest(token=registration.token), timeout=5)
        assert (answer.user_id, answer.confirmed) == (user_id, confirmed)
        service.registrations.confirm(service.confirmation_token(registration))


def test_nobodys_token_is_unauthenticated(stub: UserServiceStub, service: Service) -> None:
    """Never given, the operator's, rotated, or of an account that is gone."""
    gone = service.register()
    service.deletions.delete(gone.token, "ann@example.org")
    rotated = service.register("bob@example.org")
    service.accounts.rotate_token(rotated.token, "bob@example.org")
    for token in ("", "guessed", OPERATOR_TOKEN, gone.token, rotated.token):
        with pytest.raises(grpc.RpcError) as caught:
            stub.Authenticate(AuthenticateRequest(token=token), timeout=5)
        assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED


def test_an_address_tells_whether_somebody_has_it(stub: UserServiceStub, service: Service) -> None:
    """In any case; what is no address is nobody's, and no error."""
    service.register("ann@example.org")
    for email, exists in (("ANN@example.org", True), ("bob@example.org", False), ("nonsense", False), ("", False)):
        assert stub.VerifyUser(VerifyUserRequest(email=email), timeout=5).exists is exists


def test_contacts_hold_what_a_mail_needs(stub: UserServiceStub, service: Service) -> None:
    """Who does not exist is left out; the link that confirms is there until it was followed."""
    registration = service.register()
    ids = [str(registration.account.user_id), str(uuid4()), "nonsense"]
    (contact,) = stub.GetContacts(GetContactsRequest(user_ids=ids), timeout=5).contacts
    assert contact.user_id == ids[0]
    assert (contact.email, contact.name, contact.time_zone) == ("ann@example.org", "Ann", "Europe/Rome")
    assert (contact.confirmed, contact.paused) == (False, False)
    service.registrations.confirm(contact.confirm_url.rpartition("/")[2])
    service.accounts.unsubscribe(contact.unsubscribe_url.rpartition("/")[2])
    (contact,) = stub.GetContacts(GetContactsRequest(user_ids=ids), timeout=5).contacts
    assert (contact.confirmed, contact.confirm_url, contact.paused) == (True, "", True)


def test_a_call_asks_for_500_contacts_at_most(stub: UserServiceStub) -> None:
    """INVALID_ARGUMENT, as the contract says."""
    ids = [str(uuid4()) for _ in range(501)]
    assert not stub.GetContacts(GetContactsRequest(user_ids=ids[:500]), timeout=5).contacts
    with pytest.raises(grpc.RpcError) as caught:
        stub.GetContacts(GetContactsRequest(user_ids=ids), timeout=5)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
