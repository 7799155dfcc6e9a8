"""Who is asking, as a real gRPC server says that is up, down, slow or unwilling."""

import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from uuid import UUID

import grpc
import pytest

from collector.errors import NotAuthenticatedError, UserManagerAwayError
from collector.rest.users import Authenticator, Caller
from tests.fakes.authority import FakeAuthority
from tests.waiting import eventually
from towerwatch.users.v1.user_service_pb2 import AuthenticateResponse

ANN = UUID(int=1)


@pytest.fixture
def authority() -> Iterator[FakeAuthority]:
    with FakeAuthority().running() as running:
        running.users["anns"] = (ANN, True)
        yield running


@pytest.fixture
def users(authority: FakeAuthority) -> Iterator[Authenticator]:
    made = Authenticator(authority.target, cache_s=3600)
    yield made
    made.close()


def test_a_token_tells_whose_it_is_and_is_remembered(users: Authenticator, authority: FakeAuthority) -> None:
    """One question for many requests."""
    for _ in range(3):
        assert users.authenticate("anns") == Caller(ANN, confirmed=True)
    assert authority.asked == 1


def test_what_was_remembered_for_its_time_is_asked_again(authority: FakeAuthority) -> None:
    """So that a deletion bites."""
    users = Authenticator(authority.target, cache_s=0)
    users.authenticate("anns")
    del authority.users["anns"]
    with pytest.raises(NotAuthenticatedError):
        users.authenticate("anns")
    users.close()


def test_who_has_just_confirmed_does_not_wait(users: Authenticator, authority: FakeAuthority) -> None:
    """Only confirmed people are remembered."""
    authority.users["bobs"] = (UUID(int=2), False)
    assert not users.authenticate("bobs").confirmed
    authority.users["bobs"] = (UUID(int=2), True)
    assert users.authenticate("bobs").confirmed


def test_reads_go_on_for_a_minute_while_user_manager_is_away(authority: FakeAuthority) -> None:
    """Whoever was known goes on reading, up to the contract's bound; who writes is told to come back."""
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
        with pytest.raises(UserManagerAwayError):
            users.authenticate(token, reads_only=reads_only)
    now = 1060.0
    with pytest.raises(UserManagerAwayError):
        users.authenticate("anns", reads_only=True)
    authority.answer = grpc.StatusCode.OK
    assert users.authenticate("anns") == Caller(ANN, confirmed=True)
    users.close()


def test_the_bound_counts_from_the_question(authority: FakeAuthority, monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer that took long is as old as its question: the account may have gone right after it was read."""
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


def test_a_token_that_was_refused_is_forgotten(authority: FakeAuthority) -> None:
    """Also for reads, whatever becomes of user_manager after."""
    users = Authenticator(authority.target, cache_s=0)
    users.authenticate("anns")
    del authority.users["anns"]
    with pytest.raises(NotAuthenticatedError):
        users.authenticate("anns", reads_only=True)
    authority.answer = grpc.StatusCode.INTERNAL
    with pytest.raises(UserManagerAwayError):
        users.authenticate("anns", reads_only=True)
    users.close()


def test_one_looks_whether_user_manager_is_back(authority: FakeAuthority) -> None:
    """The others are answered at once, so that those who are known are not kept waiting by those who are not."""
    now = 1000.0
    users = Authenticator(authority.target, cache_s=0, monotonic=lambda: now)
    users.authenticate("anns")
    authority.answer = grpc.StatusCode.DEADLINE_EXCEEDED
    for _ in range(20):
        assert users.authenticate("anns", reads_only=True) == Caller(ANN, confirmed=True)
        with pytest.raises(UserManagerAwayError):
            users.authenticate("guessed")
    assert authority.asked == 2
    authority.answer = grpc.StatusCode.OK
    authority.prompt.clear()
    now = 1001.0
    with ThreadPoolExecutor() as others:
        looking = others.submit(users.authenticate, "anns")
        eventually(lambda: authority.asked == 3)
        with pytest.raises(UserManagerAwayError):
            users.authenticate("guessed")
        assert users.authenticate("anns", reads_only=True) == Caller(ANN, confirmed=True)
        authority.prompt.set()
        assert looking.result() == Caller(ANN, confirmed=True)
    with pytest.raises(NotAuthenticatedError):
        users.authenticate("guessed")
    users.close()


def test_nobodys_token_is_asked_for_each_time(users: Authenticator, authority: FakeAuthority) -> None:
    """It may be somebody's in a moment."""
    for _ in range(2):
        with pytest.raises(NotAuthenticatedError):
            users.authenticate("guessed")
    assert authority.asked == 2


def test_what_is_remembered_is_bounded(
    users: Authenticator, authority: FakeAuthority, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Many users do not fill the memory."""
    monkeypatch.setattr("collector.rest.users._CACHE_SIZE", 2)
    for number in range(5):
        authority.users[f"{number}"] = (UUID(int=number), True)
        assert users.authenticate(f"{number}").user_id == UUID(int=number)
    assert len(users._cache) <= 2
    asked = authority.asked
    users.authenticate("4")
    assert authority.asked == asked, "the newest are kept"


def test_tokens_are_not_kept_in_clear(users: Authenticator) -> None:
    """A dump of the memory opens no account."""
    users.authenticate("anns")
    assert "anns" not in repr(vars(users))


@pytest.mark.parametrize("status", [grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.INTERNAL])
def test_a_failure_is_not_nobodys_token(
    users: Authenticator, authority: FakeAuthority, status: grpc.StatusCode
) -> None:
    """Transient: who is right must not be told that they are wrong."""
    authority.answer = status
    with pytest.raises(UserManagerAwayError) as caught:
        users.authenticate("anns")
    assert caught.value.transient


def test_a_user_manager_that_is_down_is_known_at_once() -> None:
    """Connection refused."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        users = Authenticator(f"127.0.0.1:{probe.getsockname()[1]}", cache_s=5)
    began = time.monotonic()
    with pytest.raises(UserManagerAwayError):
        users.authenticate("anns")
    assert time.monotonic() - began < 3.5
    users.close()


def test_a_user_manager_that_is_slow_is_away_at_the_deadline(
    users: Authenticator, authority: FakeAuthority, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A person waits for the answer."""
    monkeypatch.setattr("collector.rest.users._DEADLINE_S", 0.5)
    authority.prompt.clear()
    began = time.monotonic()
    with pytest.raises(UserManagerAwayError):
        users.authenticate("anns")
    assert time.monotonic() - began < 2


def test_a_user_manager_that_says_nothing_is_away_at_the_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes the connection and that is all."""
    monkeypatch.setattr("collector.rest.users._DEADLINE_S", 0.5)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        users = Authenticator(f"127.0.0.1:{silent.getsockname()[1]}", cache_s=5)
        began = time.monotonic()
        with pytest.raises(UserManagerAwayError):
            users.authenticate("anns")
        assert time.monotonic() - began < 2
        users.close()
