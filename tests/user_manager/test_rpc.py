"""UserService through a real server and a real channel."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from uuid import uuid4

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from chassis.metrics import Metrics, ServiceIdentity
from chassis.rpc import GrpcServer, create_channel
from tests.ports import free_port
from tests.user_manager.conftest import ON_SQLITE, OPERATOR_TOKEN, Service
from towerwatch.users.v1.user_service_pb2 import (
    CONFIRMATION_STATE_UNSPECIFIED,
    CONFIRMATION_STATE_WAITING,
    AuthenticateRequest,
    GetContactsRequest,
    MailedInterests,
    ReportBounceRequest,
    ReportConfirmationRequest,
    VerifyUserRequest,
)
from towerwatch.users.v1.user_service_pb2_grpc import UserServiceStub, add_UserServiceServicer_to_server
from user_manager.accounts import AccountUpdate
from user_manager.rpc import SERVICE_NAME, STATUSES, UserService

pytestmark = ON_SQLITE


@pytest.fixture
def stub(service: Service) -> Iterator[UserServiceStub]:
    """Yield a client of a running UserService."""
    port = free_port()
    servicer = UserService(service.accounts, service.bounces, service.sessions)
    server = GrpcServer(
        "127.0.0.1",
        port,
        {SERVICE_NAME: partial(add_UserServiceServicer_to_server, servicer)},
        STATUSES,
        Metrics(ServiceIdentity("user_manager", "local")),
    )
    server.start()
    with create_channel(f"127.0.0.1:{port}") as connection:
        yield UserServiceStub(connection)
    server.stop()


def test_authenticate_returns_the_user(stub: UserServiceStub, service: Service) -> None:
    """The response holds the user's id, and at once if the address is confirmed."""
    registration = service.register()
    user_id = str(registration.account.user_id)
    for confirmed in (False, True):
        answer = stub.Authenticate(AuthenticateRequest(token=registration.token), timeout=60)
        assert (answer.user_id, answer.confirmed) == (user_id, confirmed)
        service.confirm(registration)


def test_authenticate_returns_the_user_of_a_session(stub: UserServiceStub, service: Service) -> None:
    """By the secret in its own field only, which counts where there is no token; its use is recorded. A session that
    has ended is UNAUTHENTICATED like a token."""
    ann, bob = service.register_confirmed(), service.register_confirmed("bob@example.org")
    secret = service.sign_in()
    service.clock.advance(timedelta(minutes=5))
    answer = stub.Authenticate(AuthenticateRequest(session=secret.text), timeout=60)
    assert (answer.user_id, answer.confirmed) == (str(ann.account.user_id), True)
    assert service.sessions.load_current(secret)[1].last_used_at == service.clock.now()
    both = stub.Authenticate(AuthenticateRequest(token=bob.token, session=secret.text), timeout=60)
    assert both.user_id == str(bob.account.user_id)
    service.sessions.sign_out(secret)
    for refused in (
        AuthenticateRequest(session=secret.text), AuthenticateRequest(token=secret.text), AuthenticateRequest(),
        AuthenticateRequest(session=ann.token), AuthenticateRequest(session=OPERATOR_TOKEN),
        AuthenticateRequest(token="guessed", session=service.sign_in().text),
    ):  # fmt: skip
        with pytest.raises(grpc.RpcError) as caught:
            stub.Authenticate(refused, timeout=60)
        assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED


def test_an_unknown_token_is_unauthenticated(stub: UserServiceStub, service: Service) -> None:
    """Guessed, operator's and rotated tokens and those of deleted accounts get UNAUTHENTICATED."""
    gone = service.register()
    service.deletions.delete(gone.token, "ann@example.org")
    rotated = service.register("bob@example.org")
    service.accounts.rotate_token(rotated.token, "bob@example.org")
    for token in ("", "guessed", OPERATOR_TOKEN, gone.token, rotated.token):
        with pytest.raises(grpc.RpcError) as caught:
            stub.Authenticate(AuthenticateRequest(token=token), timeout=60)
        assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED


def test_report_confirmation_needs_a_state(stub: UserServiceStub, service: Service) -> None:
    """A report about a user that does not exist is no error."""
    service.register()
    fields = {"user_id": str(uuid4()), "confirmation_id": str(uuid4())}
    stub.ReportConfirmation(ReportConfirmationRequest(state=CONFIRMATION_STATE_WAITING, **fields), timeout=60)
    for state in (CONFIRMATION_STATE_UNSPECIFIED, 99):
        with pytest.raises(grpc.RpcError) as caught:
            stub.ReportConfirmation(ReportConfirmationRequest(state=state, **fields), timeout=60)
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_verify_user_reports_if_an_address_is_registered(stub: UserServiceStub, service: Service) -> None:
    """The case does not matter; an invalid address is not registered, and no error."""
    service.register("ann@example.org")
    for email, exists in (("ANN@example.org", True), ("bob@example.org", False), ("nonsense", False), ("", False)):
        assert stub.VerifyUser(VerifyUserRequest(email=email), timeout=60).exists is exists


def test_contacts_hold_the_data_for_a_mail(stub: UserServiceStub, service: Service) -> None:
    """Unknown users are left out; the confirmation link is there until the address is confirmed."""
    registration = service.register()
    ids = [str(registration.account.user_id), str(uuid4()), "nonsense"]
    (contact,) = stub.GetContacts(GetContactsRequest(user_ids=ids), timeout=60).contacts
    assert contact.user_id == ids[0]
    assert (contact.email, contact.name, contact.time_zone) == ("ann@example.org", "Ann", "Europe/Rome")
    assert (contact.confirmed, contact.paused, contact.without_corrections) == (False, False, False)
    service.registrations.confirm(contact.confirm_url.rpartition("/")[2], registration.token)
    service.accounts.unsubscribe(contact.unsubscribe_url.rpartition("/")[2])
    (contact,) = stub.GetContacts(GetContactsRequest(user_ids=ids), timeout=60).contacts
    assert (contact.confirmed, contact.confirm_url, contact.paused) == (True, "", True)


def test_a_call_requests_500_contacts_at_most(stub: UserServiceStub) -> None:
    """More than 500 ids get INVALID_ARGUMENT, by the contract."""
    ids = [str(uuid4()) for _ in range(501)]
    assert not stub.GetContacts(GetContactsRequest(user_ids=ids[:500]), timeout=60).contacts
    with pytest.raises(grpc.RpcError) as caught:
        stub.GetContacts(GetContactsRequest(user_ids=ids), timeout=60)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_contacts_hold_links_to_the_interests_that_are_asked_for(stub: UserServiceStub, service: Service) -> None:
    """Each once, signed for this user; ids that are none are left out, and so is what is asked for nobody."""
    ann, bob = (service.register_confirmed(email).account for email in ("ann@example.org", "bob@example.org"))
    interest = uuid4()
    request = GetContactsRequest(
        user_ids=[str(ann.user_id), str(bob.user_id)],
        interests=[
            MailedInterests(user_id=str(ann.user_id), interest_ids=[str(interest), str(interest), "nonsense"]),
            MailedInterests(user_id=str(uuid4()), interest_ids=[str(interest)]),
            MailedInterests(user_id="nonsense", interest_ids=[str(interest)]),
        ],
    )
    contacts = {each.user_id: each for each in stub.GetContacts(request, timeout=60).contacts}
    assert not contacts[str(bob.user_id)].interest_links
    (links,) = contacts[str(ann.user_id)].interest_links
    assert links.interest_id == str(interest)
    assert links.change_url == f"https://towerwatch.example/watch?interest={interest}"
    assert links.stop_url.startswith("https://towerwatch.example/stop/")
    link = service.links.parse_alert_stop_link(links.stop_url.rpartition("/")[2])
    assert (link.user_id, link.interest_id) == (ann.user_id, interest)


@pytest.mark.parametrize("numbers", [[201], [200] * 5 + [1]])
def test_a_call_requests_links_to_few_interests(stub: UserServiceStub, service: Service, numbers: list[int]) -> None:
    """At most 200 of a user and 1,000 in all, by the contract; more get INVALID_ARGUMENT."""
    users = [str(uuid4()) for _ in range(5)]
    users.append(str(service.register_confirmed().account.user_id))
    ids = [str(uuid4()) for _ in range(201)]
    allowed = [MailedInterests(user_id=user, interest_ids=ids[:200]) for user in users[1:]]
    (contact,) = stub.GetContacts(GetContactsRequest(user_ids=users, interests=allowed), timeout=60).contacts
    assert len(contact.interest_links) == 200
    too_many = [
        MailedInterests(user_id=user, interest_ids=ids[:number]) for user, number in zip(users, numbers, strict=False)
    ]
    with pytest.raises(grpc.RpcError) as caught:
        stub.GetContacts(GetContactsRequest(user_ids=users, interests=too_many), timeout=60)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def report_bounce(stub: UserServiceStub, user_id: str, bounced_at: datetime) -> None:
    """Report a bounce over gRPC."""
    instant = Timestamp()
    instant.FromDatetime(bounced_at)
    stub.ReportBounce(ReportBounceRequest(user_id=user_id, bounced_at=instant), timeout=60)


@pytest.mark.parametrize("language", ["it", "en", None])
def test_a_contact_has_the_language_of_the_account(
    stub: UserServiceStub, service: Service, language: str | None
) -> None:
    """Its mails are in it, and every link opens its page in it; without one the browser's language decides."""
    registration = service.register()
    interest_id, user_id = str(uuid4()), str(registration.account.user_id)
    if language:
        email = registration.account.email
        service.accounts.update(registration.token, email, None, AccountUpdate(language=language))
    request = GetContactsRequest(
        user_ids=[user_id], interests=[MailedInterests(user_id=user_id, interest_ids=[interest_id])]
    )
    (contact,) = stub.GetContacts(request, timeout=60).contacts
    assert contact.language == (language or "")
    (links,) = contact.interest_links
    urls = [contact.confirm_url, contact.unsubscribe_url, contact.stop_url, links.stop_url]
    assert all(urls)
    for url in urls:
        assert url.partition("?")[2] == (f"language={language}" if language else "")
    assert links.change_url.endswith(f"/watch?interest={interest_id}" + (f"&language={language}" if language else ""))
    assert (contact.token_url, contact.sign_in_url) == ("", "")


def test_a_bounce_is_seen_in_the_contact(stub: UserServiceStub, service: Service) -> None:
    """A suppressed contact has no link until the owner requests one; following it ends the suppression."""
    registration = service.register()
    user_id = str(registration.account.user_id)
    service.confirm(registration)
    service.clock.advance(timedelta(days=1))
    for _ in range(2):
        report_bounce(stub, user_id, service.clock.now())
        (contact,) = stub.GetContacts(GetContactsRequest(user_ids=[user_id]), timeout=60).contacts
        assert (contact.suppressed, contact.confirmed, contact.confirm_url) == (True, True, "")
    service.clock.advance(timedelta(days=1))
    service.registrations.request_confirmation_mail(registration.token, "ann@example.org")
    (contact,) = stub.GetContacts(GetContactsRequest(user_ids=[user_id]), timeout=60).contacts
    assert (contact.suppressed, contact.confirmed) == (True, True)
    service.registrations.confirm(contact.confirm_url.rpartition("/")[2], registration.token)
    (contact,) = stub.GetContacts(GetContactsRequest(user_ids=[user_id]), timeout=60).contacts
    assert (contact.suppressed, contact.confirmed, contact.confirm_url) == (False, True, "")


@pytest.mark.parametrize("user_id", ["8b66274a-5cfe-471e-8da2-45ca7134672d", "nonsense", "", "\x00"])
def test_a_bounce_of_an_unknown_user_is_no_error(stub: UserServiceStub, service: Service, user_id: str) -> None:
    """The account may have been deleted after the mail was sent, and the notifier could do nothing about it."""
    report_bounce(stub, user_id, service.clock.now())


@pytest.mark.parametrize(
    "bounced_at",
    [None, Timestamp(seconds=1 << 62), Timestamp(seconds=-(1 << 62)), Timestamp(nanos=-1), Timestamp(nanos=1 << 30)],
    ids=["missing", "far ahead", "far back", "negative", "too many nanoseconds"],
)
def test_a_bounce_at_an_invalid_time_is_refused(
    stub: UserServiceStub, service: Service, bounced_at: Timestamp | None
) -> None:
    """A missing or impossible time gets INVALID_ARGUMENT, by the contract, and nothing changes."""
    account = service.register().account
    with pytest.raises(grpc.RpcError) as caught:
        stub.ReportBounce(ReportBounceRequest(user_id=str(account.user_id), bounced_at=bounced_at), timeout=60)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert service.accounts.get(OPERATOR_TOKEN, "ann@example.org") == account


@pytest.mark.parametrize(
    "bounced_at", [datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC)], ids=str
)
def test_a_bounce_at_any_calendar_time_is_accepted(
    stub: UserServiceStub, service: Service, bounced_at: datetime
) -> None:
    """A wrong clock suppresses the address no longer than until the next confirmation."""
    registration = service.register()
    user_id = str(registration.account.user_id)
    report_bounce(stub, user_id, bounced_at)
    assert service.accounts.get(OPERATOR_TOKEN, "ann@example.org").suppressed
    service.clock.advance(timedelta(days=1))
    service.registrations.request_confirmation_mail(registration.token, "ann@example.org")
    (contact,) = stub.GetContacts(GetContactsRequest(user_ids=[user_id]), timeout=60).contacts
    service.registrations.confirm(contact.confirm_url.rpartition("/")[2], registration.token)
    assert not service.accounts.get(OPERATOR_TOKEN, "ann@example.org").suppressed
