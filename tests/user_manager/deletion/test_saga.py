"""The deletion saga converges after each failing step, crash and race."""

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
from tests.fakes.collector import FakeCollectorClient
from tests.fakes.faulty_database import DatabaseFault, Faults, FaultyDatabase, Killed
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
from user_manager.model import OUTBOX, SCHEMA, ConfirmationState, Deletion, User
from user_manager.registration import Registration

ANN = "ann@example.org"


class FaultyInterestDeleter(FakeCollectorClient):
    """A fake collector that holds the ids of users with interests, and whose next calls fail as planned."""

    def __init__(self) -> None:
        super().__init__()
        self.plan: Faults = iter(())
        self.users_with_interests: set[UUID] = set()

    def delete_interests(self, user_id: UUID) -> None:
        """Delete the user's interests with the next fault of the plan."""
        fault = next(self.plan, None)
        if fault is DatabaseFault.KILLED_BEFORE:
            raise Killed
        if fault is DatabaseFault.REFUSED:
            raise CollectorUnavailableError("as planned")
        self.users_with_interests.discard(user_id)
        if fault is DatabaseFault.LOST:
            raise CollectorUnavailableError("as planned")
        if fault is DatabaseFault.KILLED_AFTER:
            raise Killed


class SagaEnvironment:
    """One database, one fake collector, one clock, and any number of replicas that may be killed."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.clock = FakeClock()
        self.interests = FaultyInterestDeleter()
        self.sound_replica = self.build_replica()

    def build_replica(self, *plan: DatabaseFault | None) -> Service:
        """Build a replica whose next transactions fail as planned, one after the other."""
        return Service(FaultyDatabase(self.database, iter(plan)), self.interests, self.clock)

    def register(self) -> Registration:
        """Register Ann, and give her interests at the collector."""
        registration = self.sound_replica.register(ANN)
        self.interests.users_with_interests.add(registration.account.user_id)
        return registration

    def complete_mail(self, registration: Registration) -> None:
        """Report the registration's confirmation mail as sent."""
        with self.database.transaction() as session:
            mail_id = session.get_one(User, registration.account.user_id).confirmation_id
        report = self.sound_replica.accounts.record_confirmation_state
        report(str(registration.account.user_id), str(mail_id), ConfirmationState.SENT)

    def run_background(self, duration: timedelta = timedelta(days=2)) -> None:
        """Advance the clock by `duration`; a sound replica resumes due deletions, and the collector works."""
        self.interests.plan = iter(())
        until = self.clock.now() + duration
        while (due := min((record.next_attempt_at for record in self.load_records()), default=until)) < until:
            self.clock.advance(max(due - self.clock.now(), timedelta(0)))
            self.sound_replica.deletions.resume_due_deletions()
        self.clock.advance(until - self.clock.now())

    def load_records(self) -> list[Deletion]:
        """Return the records of all deletions."""
        with self.database.transaction() as session:
            return list(session.scalars(select(Deletion)))

    def exists(self, user_id: UUID) -> bool:
        with self.database.transaction() as session:
            return session.get(User, user_id) is not None

    def assert_converged(self, registration: Registration, *, gone: bool) -> None:
        """Assert that account, interests and events agree: all deleted if `gone`, else all kept."""
        user_id = registration.account.user_id
        assert self.exists(user_id) is not gone
        assert self.load_records() == []
        if gone:
            assert user_id not in self.interests.users_with_interests
            assert self.sound_replica.load_event_kinds() == ["registered", "deleted"]
            with pytest.raises(TokenUnknownError):
                self.sound_replica.accounts.authenticate(registration.token)
        else:
            assert self.sound_replica.load_event_kinds() == ["registered"]
            assert self.sound_replica.accounts.authenticate(registration.token).user_id == user_id


@pytest.fixture
def environment(service: Service) -> SagaEnvironment:
    """Return the environment on an empty database, SQLite and MariaDB."""
    return SagaEnvironment(service.database)


def test_a_deletion_removes_interests_and_account(environment: SagaEnvironment) -> None:
    """The deletion is complete at once: token and account are unknown, and the address can register again."""
    registration = environment.register()
    assert environment.sound_replica.deletions.delete(registration.token, ANN) is None
    assert environment.interests.users_with_interests == set()
    assert not environment.exists(registration.account.user_id)
    with pytest.raises(TokenUnknownError):
        environment.sound_replica.deletions.delete(registration.token, ANN)
    with pytest.raises(AccountUnknownError):
        environment.sound_replica.deletions.delete(OPERATOR_TOKEN, ANN)
    environment.run_background()
    environment.assert_converged(registration, gone=True)
    assert environment.sound_replica.register(ANN).account.user_id != registration.account.user_id


@pytest.mark.parametrize("error", [CollectorUnavailableError, CollectorRefusedError])
def test_a_pivot_that_fails_leaves_everything_as_it_was(environment: SagaEnvironment, error: type[Exception]) -> None:
    """The account stays usable, the background task does nothing, and the same request succeeds later."""
    registration = environment.register()
    with pytest.MonkeyPatch.context() as patch:

        def fail(_user_id: UUID) -> None:
            raise error("as planned")

        patch.setattr(environment.interests, "delete_interests", fail)
        with pytest.raises(error):
            environment.sound_replica.deletions.delete(registration.token, ANN)
    assert environment.sound_replica.accounts.get(registration.token, ANN) == registration.account
    environment.run_background()
    environment.assert_converged(registration, gone=False)
    assert registration.account.user_id in environment.interests.users_with_interests
    assert environment.sound_replica.deletions.delete(registration.token, ANN) is None
    environment.run_background()
    environment.assert_converged(registration, gone=True)


def test_an_answer_after_the_deadline_leaves_the_account(environment: SagaEnvironment) -> None:
    """A lost response counts as a failed pivot: the account stays, and a repeated request completes the deletion."""
    registration = environment.register()
    environment.interests.plan = iter([DatabaseFault.LOST])
    with pytest.raises(CollectorUnavailableError):
        environment.sound_replica.deletions.delete(registration.token, ANN)
    environment.run_background()
    environment.assert_converged(registration, gone=False)
    assert environment.sound_replica.deletions.delete(registration.token, ANN) is None
    environment.run_background()
    environment.assert_converged(registration, gone=True)


#   the request's transactions: 1 records the request, 2 records the pivot, 3 erases the account
@pytest.mark.parametrize("step", [2, 3])
@pytest.mark.parametrize("fault", [DatabaseFault.REFUSED, DatabaseFault.LOST])
def test_past_the_pivot_a_deletion_goes_on_in_the_background(
    environment: SagaEnvironment, step: int, fault: DatabaseFault
) -> None:
    """The request returns the deletion's id; its status is in progress, then completed, and unknown after a day."""
    registration = environment.register()
    replica = environment.build_replica(*repeat(None, step - 1), fault)
    deletion_id = replica.deletions.delete(registration.token, ANN)
    assert deletion_id is not None
    if fault is DatabaseFault.REFUSED:
        assert environment.exists(registration.account.user_id)
        assert environment.sound_replica.deletions.load_progress(deletion_id).status is DeletionStatus.IN_PROGRESS
    environment.run_background(LEASE_DURATION + timedelta(seconds=20))
    assert not environment.exists(registration.account.user_id)
    assert environment.sound_replica.deletions.load_progress(deletion_id).status is DeletionStatus.COMPLETED
    environment.run_background()
    environment.assert_converged(registration, gone=True)
    with pytest.raises(DeletionUnknownError):
        environment.sound_replica.deletions.load_progress(deletion_id)


def test_past_the_pivot_the_account_is_inaccessible(environment: SagaEnvironment) -> None:
    """Owner, operator and other services find no account any more; the operator may repeat the deletion.

    Its mail was sent before; one that waits still goes to the address (ADR 27).
    """
    registration = environment.register()
    user_id = registration.account.user_id
    environment.complete_mail(registration)
    environment.build_replica(None, None, DatabaseFault.REFUSED).deletions.delete(registration.token, ANN)
    assert environment.exists(user_id)
    service = environment.sound_replica
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
    environment.run_background()
    environment.assert_converged(registration, gone=True)


CRASHES = [
    pytest.param([fault], [], False, id=f"recording the request, {fault.name}") if fault is DatabaseFault.KILLED_BEFORE
    else pytest.param([fault], [], True, id=f"recording the request, {fault.name}")
    for fault in (DatabaseFault.KILLED_BEFORE, DatabaseFault.KILLED_AFTER)
] + [
    pytest.param([], [fault], True, id=f"the pivot, {fault.name}")
    for fault in (DatabaseFault.KILLED_BEFORE, DatabaseFault.KILLED_AFTER)
] + [
    pytest.param([*repeat(None, step), fault], [], True, id=f"{name}, {fault.name}")
    for step, name in ((1, "recording the pivot"), (2, "erasing"))
    for fault in (DatabaseFault.KILLED_BEFORE, DatabaseFault.KILLED_AFTER)
]  # fmt: skip


@pytest.mark.parametrize(("transactions", "calls", "gone"), CRASHES)
def test_a_crash_at_any_point_converges(
    environment: SagaEnvironment, transactions: list[DatabaseFault | None], calls: list[DatabaseFault], gone: bool
) -> None:
    """Once the request is recorded the deletion completes, for the pivot may have succeeded; else nothing changes."""
    registration = environment.register()
    environment.interests.plan = iter(calls)
    with pytest.raises(Killed):
        environment.build_replica(*transactions).deletions.delete(registration.token, ANN)
    environment.run_background()
    environment.assert_converged(registration, gone=gone)


@pytest.mark.parametrize(
    "fault", [DatabaseFault.KILLED_BEFORE, DatabaseFault.KILLED_AFTER, DatabaseFault.REFUSED, DatabaseFault.LOST]
)
@pytest.mark.parametrize("after", range(10))
def test_the_background_survives_every_fault(environment: SagaEnvironment, fault: DatabaseFault, after: int) -> None:
    """A replica is killed, or its transaction fails, at each point of the background task: another replica resumes."""
    registration = environment.register()
    with pytest.raises(Killed):  # the pivot has succeeded, but its success is not recorded
        environment.build_replica(None, DatabaseFault.KILLED_BEFORE).deletions.delete(registration.token, ANN)
    doomed = environment.build_replica(*repeat(None, after), fault)
    environment.clock.advance(LEASE_DURATION)
    with suppress(Killed, DatabaseUnavailableError):
        while doomed.deletions.resume_due_deletions():
            environment.clock.advance(STEP_DELAYS[DeletionStep.DELETE_RECORD])
    environment.run_background()
    environment.assert_converged(registration, gone=True)


def test_an_interest_set_after_the_pivot_is_deleted_too(environment: SagaEnvironment) -> None:
    """The collector may accept the token for a minute after the pivot, by the contract."""
    registration = environment.register()
    assert environment.sound_replica.deletions.delete(registration.token, ANN) is None
    environment.clock.advance(timedelta(seconds=60))
    environment.interests.users_with_interests.add(registration.account.user_id)
    environment.run_background()
    environment.assert_converged(registration, gone=True)


def test_an_unavailable_collector_is_called_once_a_minute(environment: SagaEnvironment) -> None:
    """The background task retries the pivot for ever, with backoff, so that a restarted collector gets no burst."""
    registration = environment.register()
    with pytest.raises(Killed):
        environment.build_replica(None, DatabaseFault.KILLED_BEFORE).deletions.delete(registration.token, ANN)
    environment.interests.plan = repeat(DatabaseFault.REFUSED)
    calls = 0
    for _ in range(10 * 60):
        calls += environment.sound_replica.deletions.resume_due_deletions()
        environment.clock.advance(timedelta(seconds=1))
    assert 10 <= calls <= 16
    environment.run_background(MAX_RETRY_DELAY + LEASE_DURATION)
    assert not environment.exists(registration.account.user_id)


def test_two_replicas_delete_the_same_user_at_once(environment: SagaEnvironment) -> None:
    """The second request completes during the first one's call: both return done, and one event is published."""
    registration = environment.register()

    def meanwhile(user_id: UUID) -> None:
        assert environment.build_replica().deletions.delete(OPERATOR_TOKEN, ANN) is None

    first = Service(
        environment.database, _InterruptedInterestDeleter(meanwhile, environment.interests), environment.clock
    )
    assert first.deletions.delete(registration.token, ANN) is None
    environment.run_background()
    environment.assert_converged(registration, gone=True)


def test_a_failed_request_does_not_cancel_another_one(environment: SagaEnvironment) -> None:
    """The first request's pivot fails after the second one's has succeeded: both report that the account is deleted."""
    registration = environment.register()

    def meanwhile(user_id: UUID) -> None:
        assert environment.build_replica().deletions.delete(OPERATOR_TOKEN, ANN) is None
        raise CollectorUnavailableError("as planned")

    first = Service(
        environment.database, _InterruptedInterestDeleter(meanwhile, environment.interests), environment.clock
    )
    deletion_id = first.deletions.delete(registration.token, ANN)
    assert deletion_id is not None
    assert environment.sound_replica.deletions.load_progress(deletion_id).status is DeletionStatus.COMPLETED
    environment.run_background()
    environment.assert_converged(registration, gone=True)


def test_a_request_that_finds_a_deletion_never_cancels_it(environment: SagaEnvironment) -> None:
    """The second request's pivot fails while the first one's is under way: both report that the deletion completes."""
    registration = environment.register()
    joined: list[UUID | None] = []

    def meanwhile(user_id: UUID) -> None:
        environment.interests.plan = iter([DatabaseFault.REFUSED])
        joined.append(environment.build_replica().deletions.delete(OPERATOR_TOKEN, ANN))

    first = Service(
        environment.database, _InterruptedInterestDeleter(meanwhile, environment.interests), environment.clock
    )
    assert first.deletions.delete(registration.token, ANN) is None
    assert environment.sound_replica.deletions.load_progress(joined[0] or uuid4()).status is DeletionStatus.COMPLETED
    environment.run_background()
    environment.assert_converged(registration, gone=True)


def test_a_promised_deletion_is_not_cancelled_by_a_later_request(environment: SagaEnvironment) -> None:
    """The first request's pivot succeeds and cannot be recorded: "in progress". Later the collector is unavailable."""
    registration = environment.register()
    deletion_id = environment.build_replica(None, DatabaseFault.REFUSED).deletions.delete(registration.token, ANN)
    assert deletion_id is not None
    environment.interests.plan = iter([DatabaseFault.REFUSED])
    assert environment.sound_replica.deletions.delete(registration.token, ANN) == deletion_id
    environment.run_background()
    environment.assert_converged(registration, gone=True)


def test_a_pivot_of_the_background_is_not_undone_by_its_requests_failure(environment: SagaEnvironment) -> None:
    """A slow request cancels the deletion while the background's pivot succeeds: the deletion completes."""
    registration = environment.register()
    request = environment.build_replica().deletions
    deletion = request._begin(registration.token, ANN)
    environment.clock.advance(LEASE_DURATION)
    background = Service(
        environment.database,
        _InterruptedInterestDeleter(lambda _user_id: request._cancel(deletion), environment.interests),
        environment.clock,
    )
    assert background.deletions.resume_due_deletions() == 1
    environment.run_background()
    environment.assert_converged(registration, gone=True)


class _InterruptedInterestDeleter(FakeCollectorClient):
    """A fake collector that calls a function of the test before each deletion."""

    def __init__(self, meanwhile: Callable[[UUID], object], collector: FaultyInterestDeleter) -> None:
        super().__init__()
        self._meanwhile = meanwhile
        self._collector = collector

    def delete_interests(self, user_id: UUID) -> None:
        self._meanwhile(user_id)
        self._collector.delete_interests(user_id)


def test_no_lock_is_held_during_the_call_of_the_collector(environment: SagaEnvironment) -> None:
    """A slow collector must not block registrations."""
    registration = environment.register()
    slow = _InterruptedInterestDeleter(
        lambda _user_id: environment.sound_replica.register("bob@example.org"), environment.interests
    )
    Service(environment.database, slow, environment.clock).deletions.delete(registration.token, ANN)
    assert environment.sound_replica.accounts.get(OPERATOR_TOKEN, "bob@example.org")


def test_a_deletion_of_nobody_is_unknown(environment: SagaEnvironment) -> None:
    """An id that no deletion has is reported as unknown."""
    with pytest.raises(DeletionUnknownError):
        environment.sound_replica.deletions.load_progress(uuid4())


class DeletionAction(Enum):
    """One action in a random sequence of requests and background runs."""

    OWNER = auto()
    OPERATOR = auto()
    BACKGROUND = auto()
    SET_INTEREST = auto()
    WAIT = auto()


FAULTS = st.lists(st.sampled_from([None, None, *DatabaseFault]), max_size=4)


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(actions=st.lists(st.tuples(st.sampled_from(DeletionAction), FAULTS, FAULTS, st.integers(0, 90)), max_size=8))
def test_every_sequence_of_actions_converges(
    service: Service, actions: list[tuple[DeletionAction, list[DatabaseFault | None], list[DatabaseFault | None], int]]
) -> None:
    """Any requests of owner and operator, with any faults of database, collector and process, at any pace, converge.

    A deletion that was answered with success or "in progress" completes. If all requests were answered with
    "collector unavailable", the account stays. A deleted user has no interests.
    """
    with service.database.transaction() as session:
        for table in SCHEMA.sorted_tables:
            if table is not OUTBOX.relay:
                session.execute(table.delete())
    environment = SagaEnvironment(service.database)
    registration = environment.register()
    user_id = registration.account.user_id
    token_accepted_until = environment.clock.now()  # by the collector
    promised = uncertain = False
    note(repr(actions))
    for action, transactions, calls, seconds in actions:
        environment.interests.plan = iter(calls)
        replica = environment.build_replica(*transactions)
        match action:
            case DeletionAction.OWNER | DeletionAction.OPERATOR:
                token = registration.token if action is DeletionAction.OWNER else OPERATOR_TOKEN
                try:
                    replica.deletions.delete(token, ANN)
                    promised = True
                except (CollectorUnavailableError, TokenUnknownError, AccountUnknownError):
                    pass
                except (DatabaseUnavailableError, Killed):
                    uncertain = True
            case DeletionAction.BACKGROUND:
                with suppress(Killed, DatabaseUnavailableError):
                    replica.deletions.resume_due_deletions()
            case DeletionAction.SET_INTEREST:
                with suppress(TokenUnknownError):
                    if environment.sound_replica.accounts.authenticate(registration.token):
                        token_accepted_until = environment.clock.now() + timedelta(seconds=60)
                if environment.clock.now() <= token_accepted_until:
                    environment.interests.users_with_interests.add(user_id)
            case DeletionAction.WAIT:
                environment.clock.advance(timedelta(seconds=seconds))
    if environment.clock.now() <= token_accepted_until:
        environment.interests.users_with_interests.add(user_id)
    environment.run_background()
    gone = not environment.exists(user_id)
    assert gone or not promised
    assert not gone or promised or uncertain
    environment.assert_converged(registration, gone=gone)


@pytest.mark.parametrize("jump", [timedelta(hours=-8), timedelta(days=-400), timedelta(0)])
def test_a_wall_clock_that_is_set_back_or_stands_delays_no_deletion(
    environment: SagaEnvironment, jump: timedelta
) -> None:
    """A failed step is due again after its own delay, also in a process that starts after the clock was set back.

    `jump` 0: the clock stands. A step waited until the clock had passed the stored time: 8 h, 400 days, or for ever.
    """
    registration = environment.register()
    assert environment.sound_replica.deletions.delete(registration.token, ANN) is None
    assert [record.step for record in environment.load_records()] == [DeletionStep.DELETE_LATE_INTERESTS]
    shown = environment.clock.now() + jump
    environment.clock.set_wall_clock(shown)
    replica = environment.build_replica()
    environment.clock.advance(timedelta(minutes=3))
    environment.clock.set_wall_clock(shown)
    replica.deletions.resume_due_deletions()
    assert [record.step for record in environment.load_records()] == [DeletionStep.DELETE_RECORD]
