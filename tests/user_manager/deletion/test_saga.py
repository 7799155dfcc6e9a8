"""The deletion saga: what each failing step, crash and race leads to. All of them converge."""

from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from enum import Enum, auto
from itertools import repeat
from uuid import UUID, uuid4

import pytest
from hypothesis import HealthCheck, given, note, settings, strategies as st
from sqlalchemy import select

from chassis.db.database import Database
from chassis.errors import DatabaseUnavailableError
from tests.fakes.clock import FakeClock
from tests.fakes.collector import FakeInterestDeleter
from tests.fakes.faulty_database import Fault, Faults, FaultyDatabase, Killed
from tests.user_manager.conftest import OPERATOR_TOKEN, Service
from user_manager.deletion.saga import LEASE_DURATION, DeletionStatus
from user_manager.deletion.steps import MAX_RETRY_DELAY, STEP_DELAYS, DeletionStep
from user_manager.errors import (
    AccountUnknownError,
    CollectorRefusedError,
    CollectorUnavailableError,
    DeletionUnknownError,
    TokenUnknownError,
)
from user_manager.model import OUTBOX, Deletion, IdempotencyRecord, User
from user_manager.registration import Registration

ANN = "ann@example.org"


class FaultyInterests(FakeInterestDeleter):
    """The collector: whose interests are there, and whose calls go wrong as planned."""

    def __init__(self) -> None:
        super().__init__()
        self.plan: Faults = iter(())
        self.of: set[UUID] = set()

    def delete_interests(self, user_id: UUID) -> None:
        fault = next(self.plan, None)
        if fault is Fault.KILLED_BEFORE:
            raise Killed
        if fault is Fault.REFUSED:
            raise CollectorUnavailableError("as planned")
        self.of.discard(user_id)
        if fault is Fault.LOST:
            raise CollectorUnavailableError("as planned")
        if fault is Fault.KILLED_AFTER:
            raise Killed


class World:
    """One database, one collector, any number of replicas that live and die."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.clock = FakeClock()
        self.interests = FaultyInterests()
        self.sound = self.replica()

    def replica(self, *plan: Fault | None) -> Service:
        """A process whose transactions go wrong as planned, one after the other."""
        return Service(FaultyDatabase(self.database, iter(plan)), self.interests, self.clock)

    def register(self) -> Registration:
        registration = self.sound.register(ANN)
        self.interests.of.add(registration.account.user_id)
        return registration

    def let_time_pass(self, how_long: timedelta = timedelta(days=2)) -> None:
        """The background of a sound replica goes on for so long, and the collector is well."""
        self.interests.plan = iter(())
        until = self.clock.now() + how_long
        while (due := min((each.next_attempt_at for each in self.deletions()), default=until)) < until:
            self.clock.advance(max(due - self.clock.now(), timedelta(0)))
            self.sound.deletions.resume_due_deletions()
        self.clock.advance(until - self.clock.now())

    def deletions(self) -> list[Deletion]:
        with self.database.transaction() as session:
            return list(session.scalars(select(Deletion)))

    def exists(self, user_id: UUID) -> bool:
        with self.database.transaction() as session:
            return session.get(User, user_id) is not None

    def assert_converged(self, registration: Registration, *, gone: bool) -> None:
        """No interests of a user that is gone, no user half gone, and each deletion announced once."""
        user_id = registration.account.user_id
        assert self.exists(user_id) is not gone
        assert self.deletions() == []
        if gone:
            assert user_id not in self.interests.of
            assert self.sound.load_event_kinds() == ["registered", "deleted"]
            with pytest.raises(TokenUnknownError):
                self.sound.accounts.authenticate(registration.token)
        else:
            assert self.sound.load_event_kinds() == ["registered"]
            assert self.sound.accounts.authenticate(registration.token).user_id == user_id


@pytest.fixture
def world(service: Service) -> World:
    return World(service.database)


def test_a_deletion_removes_interests_and_account(world: World) -> None:
    """Done at once; then the token is nobody's, the operator finds nobody, and the address is free."""
    registration = world.register()
    assert world.sound.deletions.delete(registration.token, ANN) is None
    assert world.interests.of == set()
    assert not world.exists(registration.account.user_id)
    with pytest.raises(TokenUnknownError):
        world.sound.deletions.delete(registration.token, ANN)
    with pytest.raises(AccountUnknownError):
        world.sound.deletions.delete(OPERATOR_TOKEN, ANN)
    world.let_time_pass()
    world.assert_converged(registration, gone=True)
    assert world.sound.register(ANN).account.user_id != registration.account.user_id


@pytest.mark.parametrize("error", [CollectorUnavailableError, CollectorRefusedError])
def test_a_pivot_that_fails_leaves_everything_as_it_was(world: World, error: type[Exception]) -> None:
    """The account stays usable, nothing goes on in the background, and the same request succeeds later."""
    registration = world.register()
    with pytest.MonkeyPatch.context() as patch:

        def fail(_user_id: UUID) -> None:
            raise error("as planned")

        patch.setattr(world.interests, "delete_interests", fail)
        with pytest.raises(error):
            world.sound.deletions.delete(registration.token, ANN)
    assert world.sound.accounts.get(registration.token, ANN) == registration.account
    world.let_time_pass()
    world.assert_converged(registration, gone=False)
    assert registration.account.user_id in world.interests.of
    assert world.sound.deletions.delete(registration.token, ANN) is None
    world.let_time_pass()
    world.assert_converged(registration, gone=True)


def test_an_answer_after_the_deadline_leaves_the_account(world: World) -> None:
    """It seems to have failed, so the account stands; the same request again completes it."""
    registration = world.register()
    world.interests.plan = iter([Fault.LOST])
    with pytest.raises(CollectorUnavailableError):
        world.sound.deletions.delete(registration.token, ANN)
    world.let_time_pass()
    world.assert_converged(registration, gone=False)
    assert world.sound.deletions.delete(registration.token, ANN) is None
    world.let_time_pass()
    world.assert_converged(registration, gone=True)


#   the request's transactions: 1 records the wish, 2 records the pivot, 3 erases
@pytest.mark.parametrize("step", [2, 3])
@pytest.mark.parametrize("fault", [Fault.REFUSED, Fault.LOST])
def test_past_the_pivot_a_deletion_goes_on_in_the_background(world: World, step: int, fault: Fault) -> None:
    """The answer is where to look; it says in progress, then completed, and after a day nothing any more."""
    registration = world.register()
    replica = world.replica(*repeat(None, step - 1), fault)
    deletion_id = replica.deletions.delete(registration.token, ANN)
    assert deletion_id is not None
    if fault is Fault.REFUSED:
        assert world.exists(registration.account.user_id)
        assert world.sound.deletions.load_status(deletion_id) is DeletionStatus.IN_PROGRESS
    world.let_time_pass(LEASE_DURATION + timedelta(seconds=20))
    assert not world.exists(registration.account.user_id)
    assert world.sound.deletions.load_status(deletion_id) is DeletionStatus.COMPLETED
    world.let_time_pass()
    world.assert_converged(registration, gone=True)
    with pytest.raises(DeletionUnknownError):
        world.sound.deletions.load_status(deletion_id)


def test_past_the_pivot_nobody_is_let_in(world: World) -> None:
    """Neither the owner with token or link, nor a mail to them; the operator sees no account, and may push it on."""
    registration = world.register()
    user_id = registration.account.user_id
    world.replica(None, None, Fault.REFUSED).deletions.delete(registration.token, ANN)
    assert world.exists(user_id)
    service = world.sound
    for use in (service.accounts.authenticate, lambda token: service.accounts.get(token, ANN)):
        with pytest.raises(TokenUnknownError):
            use(registration.token)
    with pytest.raises(AccountUnknownError):
        service.accounts.get(OPERATOR_TOKEN, ANN)
    assert service.accounts.load_contacts([str(user_id)]) == []
    assert service.accounts.count() == 0
    assert not service.accounts.is_registered(ANN)
    assert service.accounts.list_page(OPERATOR_TOKEN, None, 10).accounts == []
    assert service.deletions.delete(OPERATOR_TOKEN, ANN) is None
    world.let_time_pass()
    world.assert_converged(registration, gone=True)


CRASHES = [
    pytest.param([fault], [], False, id=f"recording the wish, {fault.name}") if fault is Fault.KILLED_BEFORE
    else pytest.param([fault], [], True, id=f"recording the wish, {fault.name}")
    for fault in (Fault.KILLED_BEFORE, Fault.KILLED_AFTER)
] + [
    pytest.param([], [fault], True, id=f"the pivot, {fault.name}")
    for fault in (Fault.KILLED_BEFORE, Fault.KILLED_AFTER)
] + [
    pytest.param([*repeat(None, step), fault], [], True, id=f"{name}, {fault.name}")
    for step, name in ((1, "recording the pivot"), (2, "erasing"))
    for fault in (Fault.KILLED_BEFORE, Fault.KILLED_AFTER)
]  # fmt: skip


@pytest.mark.parametrize(("transactions", "calls", "gone"), CRASHES)
def test_a_crash_at_any_point_converges(
    world: World, transactions: list[Fault | None], calls: list[Fault], gone: bool
) -> None:
    """Once the wish is recorded the deletion completes, for the pivot may have succeeded; else nothing happens."""
    registration = world.register()
    world.interests.plan = iter(calls)
    with pytest.raises(Killed):
        world.replica(*transactions).deletions.delete(registration.token, ANN)
    world.let_time_pass()
    world.assert_converged(registration, gone=gone)


@pytest.mark.parametrize("fault", [Fault.KILLED_BEFORE, Fault.KILLED_AFTER, Fault.REFUSED, Fault.LOST])
@pytest.mark.parametrize("after", range(10))
def test_the_background_survives_what_the_request_does(world: World, fault: Fault, after: int) -> None:
    """Killed or refused at each of its own transactions, it is carried on by another."""
    registration = world.register()
    with pytest.raises(Killed):  # the pivot has happened, nobody has recorded it
        world.replica(None, Fault.KILLED_BEFORE).deletions.delete(registration.token, ANN)
    doomed = world.replica(*repeat(None, after), fault)
    world.clock.advance(LEASE_DURATION)
    with suppress(Killed, DatabaseUnavailableError):
        while doomed.deletions.resume_due_deletions():
            world.clock.advance(STEP_DELAYS[DeletionStep.DELETE_RECORD])
    world.let_time_pass()
    world.assert_converged(registration, gone=True)


def test_an_interest_that_slips_in_is_deleted_too(world: World) -> None:
    """While the collector still believes the token: a minute at most, as the contract has it."""
    registration = world.register()
    assert world.sound.deletions.delete(registration.token, ANN) is None
    world.clock.advance(timedelta(seconds=60))
    world.interests.of.add(registration.account.user_id)
    world.let_time_pass()
    world.assert_converged(registration, gone=True)


def test_a_dead_collector_is_asked_once_a_minute(world: World) -> None:
    """The background retries the pivot for ever, and no storm meets the collector when it comes back."""
    registration = world.register()
    with pytest.raises(Killed):
        world.replica(None, Fault.KILLED_BEFORE).deletions.delete(registration.token, ANN)
    world.interests.plan = repeat(Fault.REFUSED)
    asked = 0
    for _ in range(10 * 60):
        asked += world.sound.deletions.resume_due_deletions()
        world.clock.advance(timedelta(seconds=1))
    assert 10 <= asked <= 16
    world.let_time_pass(MAX_RETRY_DELAY + LEASE_DURATION)
    assert not world.exists(registration.account.user_id)


def test_two_replicas_delete_the_same_user_at_once(world: World) -> None:
    """While the first asks the collector, the second completes: both say done, and one announces it."""
    registration = world.register()

    def meanwhile(user_id: UUID) -> None:
        assert world.replica().deletions.delete(OPERATOR_TOKEN, ANN) is None

    first = Service(world.database, _During(meanwhile, world.interests), world.clock)
    assert first.deletions.delete(registration.token, ANN) is None
    world.let_time_pass()
    world.assert_converged(registration, gone=True)


def test_a_failure_does_not_call_off_another_request(world: World) -> None:
    """The first request's pivot fails after the second one's has succeeded: the account is gone, and both know."""
    registration = world.register()

    def meanwhile(user_id: UUID) -> None:
        assert world.replica().deletions.delete(OPERATOR_TOKEN, ANN) is None
        raise CollectorUnavailableError("as planned")

    first = Service(world.database, _During(meanwhile, world.interests), world.clock)
    deletion_id = first.deletions.delete(registration.token, ANN)
    assert deletion_id is not None
    assert world.sound.deletions.load_status(deletion_id) is DeletionStatus.COMPLETED
    world.let_time_pass()
    world.assert_converged(registration, gone=True)


def test_a_pivot_that_succeeds_is_not_undone_by_another_requests_failure(world: World) -> None:
    """The second request fails and calls the deletion off; the first one's pivot succeeds all the same."""
    registration = world.register()

    def meanwhile(user_id: UUID) -> None:
        world.interests.plan = iter([Fault.REFUSED])
        with pytest.raises(CollectorUnavailableError):
            world.replica().deletions.delete(OPERATOR_TOKEN, ANN)

    first = Service(world.database, _During(meanwhile, world.interests), world.clock)
    assert first.deletions.delete(registration.token, ANN) is None
    world.let_time_pass()
    world.assert_converged(registration, gone=True)


class _During(FakeInterestDeleter):
    """Something happens while the collector is asked."""

    def __init__(self, meanwhile: Callable[[UUID], None], collector: FaultyInterests) -> None:
        super().__init__()
        self._meanwhile = meanwhile
        self._collector = collector

    def delete_interests(self, user_id: UUID) -> None:
        self._meanwhile(user_id)
        self._collector.delete_interests(user_id)


def test_no_lock_is_held_while_the_collector_is_asked(world: World) -> None:
    """A slow collector must not stop the others' registrations."""
    registration = world.register()
    slow = _During(lambda _user_id: world.sound.register("bob@example.org") and None, world.interests)
    Service(world.database, slow, world.clock).deletions.delete(registration.token, ANN)
    assert world.sound.accounts.get(OPERATOR_TOKEN, "bob@example.org")


def test_a_deletion_of_nobody_is_unknown(world: World) -> None:
    """Ids cannot be guessed."""
    with pytest.raises(DeletionUnknownError):
        world.sound.deletions.load_status(uuid4())


class Asked(Enum):
    """What a person does; the background goes on in between."""

    OWNER = auto()
    OPERATOR = auto()
    BACKGROUND = auto()
    SET_INTEREST = auto()
    WAIT = auto()


FAULTS = st.lists(st.sampled_from([None, None, *Fault]), max_size=4)


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(story=st.lists(st.tuples(st.sampled_from(Asked), FAULTS, FAULTS, st.integers(0, 90)), max_size=8))
def test_every_story_converges(
    service: Service, story: list[tuple[Asked, list[Fault | None], list[Fault | None], int]]
) -> None:
    """Any requests, by owner and operator, with any faults of database, collector and process, at any pace.

    Whoever was told "done" or "it will be" is gone in the end. Whoever was only told that the collector is away is
    not, unless another request says otherwise. Nobody who is gone has interests left.
    """
    with service.database.transaction() as session:
        for table in (User.__table__, Deletion.__table__, IdempotencyRecord.__table__, OUTBOX.rows):
            session.execute(table.delete())  # type: ignore[attr-defined]
    world = World(service.database)
    registration = world.register()
    user_id = registration.account.user_id
    believed_until = world.clock.now()  # the collector, of the token
    promised = uncertain = False
    note(repr(story))
    for what, transactions, calls, seconds in story:
        world.interests.plan = iter(calls)
        replica = world.replica(*transactions)
        match what:
            case Asked.OWNER | Asked.OPERATOR:
                token = registration.token if what is Asked.OWNER else OPERATOR_TOKEN
                try:
                    replica.deletions.delete(token, ANN)
                    promised = True
                except (CollectorUnavailableError, TokenUnknownError, AccountUnknownError):
                    pass
                except (DatabaseUnavailableError, Killed):
                    uncertain = True
            case Asked.BACKGROUND:
                with suppress(Killed, DatabaseUnavailableError):
                    replica.deletions.resume_due_deletions()
            case Asked.SET_INTEREST:
                with suppress(TokenUnknownError):
                    if world.sound.accounts.authenticate(registration.token):
                        believed_until = world.clock.now() + timedelta(seconds=60)
                if world.clock.now() <= believed_until:
                    world.interests.of.add(user_id)
            case Asked.WAIT:
                world.clock.advance(timedelta(seconds=seconds))
    if world.clock.now() <= believed_until:
        world.interests.of.add(user_id)
    world.let_time_pass()
    gone = not world.exists(user_id)
    assert gone or not promised
    assert not gone or promised or uncertain
    world.assert_converged(registration, gone=gone)
