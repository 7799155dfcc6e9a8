"""Authentication of callers, against a real gRPC server that is up, down, slow or failing."""

import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from uuid import UUID

import grpc
import pytest

from chassis.credentials import SessionSecret
from collector.errors import NotAuthenticatedError, UserManagerUnavailableError
from collector.rest.users import Authenticator, Caller
from tests.fakes.authority import FakeAuthority
from tests.waiting import eventually
from towerwatch.users.v1.user_service_pb2 import AuthenticateResponse

ANN = UUID(int=1)


@pytest.fixture
def authority() -> Iterator[FakeAuthority]:
    """A fake user_manager that knows Ann's token."""
    with FakeAuthority().running() as running:
        running.users["anns"] = (ANN, True)
        yield running


@pytest.fixture
def users(authority: FakeAuthority) -> Iterator[Authenticator]:
    """An authenticator that caches replies for an hour."""
    made = Authenticator(authority.target, cache_s=3600)
    yield made
    made.close()


def test_a_tokens_user_is_cached(users: Authenticator, authority: FakeAuthority) -> None:
    """Several requests with one token make one call of user_manager."""
    for _ in range(3):
        assert users.authenticate("anns") == Caller(ANN, confirmed=True)
    assert authority.asked == 1


def test_a_session_is_cached_apart_from_tokens(authority: FakeAuthority) -> None:
    """For as long as a token; a token with the same text is another credential."""
    authority.sessions = {"same": (ANN, True)}
    authority.users = {"same": (UUID(int=2), True)}
    now = 1000.0
    users = Authenticator(authority.target, cache_s=5, monotonic=lambda: now)
    secret = SessionSecret("same")
    for _ in range(3):
        assert users.authenticate(secret) == Caller(ANN, confirmed=True)
        assert users.authenticate("same") == Caller(UUID(int=2), confirmed=True)
    assert authority.asked == 2
    authority.sessions = {}
    now += 5
    with pytest.raises(NotAuthenticatedError, match="You are signed out"):
        users.authenticate(secret)
    assert users.authenticate("same") == Caller(UUID(int=2), confirmed=True)
    users.close()


def test_an_expired_cache_entry_is_requested_again(authority: FakeAuthority) -> None:
    """A deleted user is rejected as soon as the cached reply expires."""
    users = Authenticator(authority.target, cache_s=0)
    users.authenticate("anns")
    del authority.users["anns"]
    with pytest.raises(NotAuthenticatedError):
        users.authenticate("anns")
    users.close()


def test_an_unconfirmed_user_is_not_cached(users: Authenticator, authority: FakeAuthority) -> None:
    """A user who has just confirmed the address is accepted immediately."""
    authority.users["bobs"] = (UUID(int=2), False)
    assert not users.authenticate("bobs").confirmed
    authority.users["bobs"] = (UUID(int=2), True)
    assert users.authenticate("bobs").confirmed


def test_cached_users_may_read_for_a_minute_while_user_manager_is_unavailable(authority: FakeAuthority) -> None:
    """Cached users may read until the contract's limit; writes and unknown tokens fail."""
    now = 1000.0
    users = Authenticator(authority.target, cache_s=5, monotonic=lambda: now)
    authority.users["bobs"] = (UUID(int=2), False)
    users.authenticate("anns")
    users.authenticate("bobs")
    authority.answer = grpc.StatusCode.INTERNAL
    now = 1005.0
    assert users.authenticate("anns", reads_only=True) == Caller(ANN, confirmed=True)
    now = 1059.9
    assert users.authenticate("anns", reads_only=True) == Caller(ANN, confirmed=True)
    for token, reads_only in (("anns", False), ("bobs", True), ("guessed", True)):
        with pytest.raises(UserManagerUnavailableError):
            users.authenticate(token, reads_only=reads_only)
    now = 1060.0
    with pytest.raises(UserManagerUnavailableError):
        users.authenticate("anns", reads_only=True)
    authority.answer = grpc.StatusCode.OK
    assert users.authenticate("anns") == Caller(ANN, confirmed=True)
    users.close()


def test_a_cache_entrys_age_counts_from_its_request(authority: FakeAuthority, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reply is as old as its request: the account may have been deleted right after it was read."""
    now = 1000.0

    def slow(*_args: object, **_more: object) -> AuthenticateResponse:
        nonlocal now
        now += 2
        return AuthenticateResponse(user_id=str(ANN), confirmed=True)

    users = Authenticator(authority.target, cache_s=5, monotonic=lambda: now)
    monkeypatch.setattr(users._stub, "Authenticate", slow)
    users.authenticate("anns")
    now = 1004.9
    users.authenticate("anns")
    assert now == 1004.9
    now = 1005.0
    users.authenticate("anns")
    assert now == 1007.0
    users.close()


def test_a_rejected_token_is_removed_from_the_cache(authority: FakeAuthority) -> None:
    """A rejected token is not accepted any more, also for reads while user_manager is unavailable."""
    users = Authenticator(authority.target, cache_s=0)
    users.authenticate("anns")
    del authority.users["anns"]
    with pytest.raises(NotAuthenticatedError):
        users.authenticate("anns", reads_only=True)
    authority.answer = grpc.StatusCode.INTERNAL
    with pytest.raises(UserManagerUnavailableError):
        users.authenticate("anns", reads_only=True)
    users.close()


def test_one_thread_probes_an_unavailable_user_manager(authority: FakeAuthority) -> None:
    """While one thread probes, the others fail or use the cache immediately, without waiting for the deadline."""
    now = 1000.0
    users = Authenticator(authority.target, cache_s=0, monotonic=lambda: now)
    users.authenticate("anns")
    authority.answer = grpc.StatusCode.DEADLINE_EXCEEDED
    for _ in range(20):
        assert users.authenticate("anns", reads_only=True) == Caller(ANN, confirmed=True)
        with pytest.raises(UserManagerUnavailableError):
            users.authenticate("guessed")
    assert authority.asked == 2
    authority.answer = grpc.StatusCode.OK
    authority.prompt.clear()
    now = 1001.0
    with ThreadPoolExecutor() as others:
        looking = others.submit(users.authenticate, "anns")
        eventually(lambda: authority.asked == 3)
        with pytest.raises(UserManagerUnavailableError):
            users.authenticate("guessed")
        assert users.authenticate("anns", reads_only=True) == Caller(ANN, confirmed=True)
        authority.prompt.set()
        assert looking.result() == Caller(ANN, confirmed=True)
    with pytest.raises(NotAuthenticatedError):
        users.authenticate("guessed")
    users.close()


def test_an_invalid_token_is_not_cached(users: Authenticator, authority: FakeAuthority) -> None:
    """Each request with an invalid token makes a call, for the token may become valid."""
    for _ in range(2):
        with pytest.raises(NotAuthenticatedError):
            users.authenticate("guessed")
    assert authority.asked == 2


def test_the_cache_is_bounded(users: Authenticator, authority: FakeAuthority, monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest entries are discarded, so that many users do not fill the memory."""
    monkeypatch.setattr("collector.rest.users._CACHE_SIZE", 2)
    for number in range(5):
        authority.users[f"{number}"] = (UUID(int=number), True)
        assert users.authenticate(f"{number}").user_id == UUID(int=number)
    assert len(users._cache) <= 2
    asked = authority.asked
    users.authenticate("4")
    assert authority.asked == asked, "the newest are kept"


def test_tokens_are_not_stored_in_clear(users: Authenticator) -> None:
    """A memory dump of the cache reveals no token."""
    users.authenticate("anns")
    assert "anns" not in repr(vars(users))


@pytest.mark.parametrize("status", [grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.INTERNAL])
def test_a_failed_call_is_not_an_invalid_token(
    users: Authenticator, authority: FakeAuthority, status: grpc.StatusCode
) -> None:
    """A failure of user_manager is a transient error, not a rejection of the token."""
    authority.answer = status
    with pytest.raises(UserManagerUnavailableError) as caught:
        users.authenticate("anns")
    assert caught.value.transient


def test_a_refused_connection_is_an_error() -> None:
    """The call fails, and does not wait for a server to appear."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        users = Authenticator(f"127.0.0.1:{probe.getsockname()[1]}", cache_s=5)
    with pytest.raises(UserManagerUnavailableError):
        users.authenticate("anns")
    users.close()


def test_a_slow_call_fails_at_the_deadline(
    users: Authenticator, authority: FakeAuthority, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A call without a reply fails at the deadline, for a person waits for the answer."""
    monkeypatch.setattr("collector.rest.users._DEADLINE_S", 0.5)
    authority.prompt.clear()
    with pytest.raises(UserManagerUnavailableError):
        users.authenticate("anns")


def test_a_silent_server_fails_at_the_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that accepts the connection and sends nothing fails at the deadline."""
    monkeypatch.setattr("collector.rest.users._DEADLINE_S", 0.5)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        users = Authenticator(f"127.0.0.1:{silent.getsockname()[1]}", cache_s=5)
        with pytest.raises(UserManagerUnavailableError):
            users.authenticate("anns")
        users.close()
