"""The mail queue: each rule by an example, and all rules under any order of operations."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from hypothesis import given, strategies as st

from domain.alerts import Alert, AlertState
from notifier.delivery.alert_batch import AlertBatch, PlannedMail
from notifier.delivery.batching import (
    IN_FLIGHT_RECOVERY_TIMEOUT,
    MAX_ALERTS_PER_MAIL,
    MISSING_RETRY_TIMEOUT,
    MailQueue,
)
from notifier.delivery.retries import MAX_PAUSE
from notifier.delivery.user_state import UserState, compute_batch_id
from notifier.messages import RaisedAlert
from tests.notifier.alerts import ALERT, CAUSE

T0 = datetime(2026, 11, 23, tzinfo=UTC)
WAIT = timedelta(seconds=5)
ADA, BOB = UUID(int=1), UUID(int=2)


def to_raised_alert(alert: Alert) -> RaisedAlert:
    return RaisedAlert(alert, CAUSE, b"")


def build_alert(number: int, user: UUID = ADA) -> RaisedAlert:
    window_start = ALERT.window_start + timedelta(hours=number)
    return to_raised_alert(replace(ALERT, alert_id=UUID(int=number), user_id=user, window_start=window_start))


def ids(*numbers: int) -> frozenset[UUID]:
    return frozenset(UUID(int=each) for each in numbers)


def at(seconds: float) -> datetime:
    return T0 + timedelta(seconds=seconds)


def new_batch(*numbers: int, user: UUID = ADA, since: float = 0) -> AlertBatch:
    """Return a batch of new alerts with these numbers."""
    return AlertBatch(tuple(build_alert(each, user) for each in numbers), None, at(since))


def deferred_batch(*numbers: int, until: float, since: float = 0, sealed: bool = False) -> AlertBatch:
    """Return a deferred batch of alerts with these numbers."""
    return replace(new_batch(*numbers, since=since), attempt=1, not_before=at(until), sealed=sealed)


def get_alert_numbers(mail: PlannedMail | None) -> list[int]:
    """Return the numbers of the alerts in a mail, which must not be None."""
    assert mail is not None
    return [each.alert.alert_id.int for each in mail.alerts]


def test_alerts_of_one_user_within_the_group_wait_are_one_mail() -> None:
    """The wait starts with the first alert; another user's alerts are another mail."""
    queue = MailQueue(WAIT)
    queue.add(new_batch(1), at(0), UserState())
    queue.add(new_batch(9, user=BOB), at(1), UserState())
    queue.add(new_batch(2), at(4.9), UserState())
    assert queue.pop_due_mail(at(4.9)) is None
    assert queue.next_due_at == at(5)
    assert get_alert_numbers(queue.pop_due_mail(at(5))) == [1, 2]
    assert queue.pop_due_mail(at(5)) is None
    assert get_alert_numbers(queue.pop_due_mail(at(6))) == [9]


def test_without_group_wait_each_alert_is_a_mail() -> None:
    """The mails are in order, one after the other."""
    queue = MailQueue(timedelta(0))
    for number in (1, 2):
        queue.add(new_batch(number), at(0), UserState())
    first = queue.pop_due_mail(at(0))
    assert get_alert_numbers(first) == [1]
    assert queue.pop_due_mail(at(0)) is None, "one mail of a user is in flight at a time"
    assert first is not None
    queue.finish(first, first.batches, UserState())
    assert get_alert_numbers(queue.pop_due_mail(at(0))) == [2]


def test_alerts_during_a_flight_go_into_the_next_mail() -> None:
    """They wait for others from the time at which they were added."""
    queue = MailQueue(WAIT)
    queue.add(new_batch(1), at(0), UserState())
    first = queue.pop_due_mail(at(5))
    assert first is not None
    queue.add(new_batch(2), at(6), UserState())
    queue.finish(first, first.batches, UserState())
    assert queue.pop_due_mail(at(10.9)) is None
    assert get_alert_numbers(queue.pop_due_mail(at(11))) == [2]


def test_the_number_of_alerts_in_a_mail_is_limited() -> None:
    """The earliest alerts go first; the others go into the next mail."""
    queue = MailQueue(WAIT)
    for number in range(MAX_ALERTS_PER_MAIL + 5):
        queue.add(new_batch(number, since=number), at(0), UserState())
    first = queue.pop_due_mail(at(5))
    assert get_alert_numbers(first) == list(range(MAX_ALERTS_PER_MAIL))
    assert first is not None
    queue.finish(first, first.batches, UserState())
    assert len(get_alert_numbers(queue.pop_due_mail(at(5)))) == 5
    queue.clear()
    queue.add(new_batch(*range(MAX_ALERTS_PER_MAIL + 9)), at(0), UserState())
    assert len(get_alert_numbers(queue.pop_due_mail(at(5)))) == MAX_ALERTS_PER_MAIL + 9, "one event is never divided"


def test_new_alerts_wait_for_deferred_ones() -> None:
    """RESOLVED is not mailed before its FIRING; both go into one mail, in their order."""
    queue = MailQueue(WAIT)
    queue.add(deferred_batch(1, until=100), at(0), UserState())
    queue.add(new_batch(2, since=20), at(20), UserState())
    assert queue.pop_due_mail(at(99.9)) is None
    assert get_alert_numbers(queue.pop_due_mail(at(100))) == [1, 2]


def test_after_a_restart_new_alerts_wait_for_retries_in_the_stored_state() -> None:
    """New alerts may be read before the retry that they must wait for, but wait only for a limited time."""
    user_state = UserState().with_deferred_batches([compute_batch_id(ids(1))], at(100), at(0))
    queue = MailQueue(WAIT)
    queue.add(new_batch(2, since=20), at(20), user_state)
    assert queue.next_due_at == at(100) + MISSING_RETRY_TIMEOUT
    queue.add(deferred_batch(1, until=100), at(21), user_state)
    assert get_alert_numbers(queue.pop_due_mail(at(100))) == [1, 2]
    queue.clear()
    queue.add(new_batch(2), at(20), user_state)
    assert queue.pop_due_mail(at(100) + MISSING_RETRY_TIMEOUT - timedelta(seconds=1)) is None
    assert get_alert_numbers(queue.pop_due_mail(at(100) + MISSING_RETRY_TIMEOUT)) == [2]


def test_new_alerts_wait_for_a_retry_whose_time_passed_during_a_stop() -> None:
    """After a stop many retries are read, from another topic than new alerts. That holds for a stop of weeks, too: a
    retry whose lifetime is over is still mailed."""
    user_state = UserState().with_deferred_batches([compute_batch_id(ids(1))], at(100), at(0))
    queue = MailQueue(WAIT)
    queue.add(new_batch(2, since=150), at(700), user_state)
    assert queue.pop_due_mail(at(719)) is None
    queue.add(deferred_batch(1, until=100), at(720), user_state)
    assert get_alert_numbers(queue.pop_due_mail(at(720))) == [1, 2]
    for came in (700, 100 + 86_400, 40 * 86_400):
        queue.clear()
        queue.add(new_batch(2), at(came), user_state)
        assert queue.next_due_at == at(came) + MISSING_RETRY_TIMEOUT


def test_no_wait_exceeds_the_maximal_pause() -> None:
    """A wrong clock in a retry or in the stored state delays no mail further."""
    queue = MailQueue(WAIT)
    queue.add(deferred_batch(1, until=1e9), at(0), UserState())
    assert queue.next_due_at == at(0) + MAX_PAUSE
    queue.clear()
    queue.add(new_batch(2), at(0), UserState().with_deferred_batches([compute_batch_id(ids(1))], at(1e9), at(0)))
    assert queue.next_due_at == at(0) + MAX_PAUSE + MISSING_RETRY_TIMEOUT


def test_a_sealed_batch_is_sent_unchanged_and_alone() -> None:
    """The sealed batch is sent at its time; the user's other alerts wait for it."""
    queue = MailQueue(WAIT)
    queue.add(new_batch(3), at(0), UserState())
    queue.add(deferred_batch(1, 2, until=60, sealed=True), at(0), UserState())
    assert queue.pop_due_mail(at(59)) is None
    mail = queue.pop_due_mail(at(60))
    assert mail is not None
    assert (get_alert_numbers(mail), mail.may_be_duplicate) == ([1, 2], True)
    queue.finish(mail, mail.batches, UserState())
    assert get_alert_numbers(queue.pop_due_mail(at(60))) == [3]


def test_a_mail_that_was_in_flight_at_a_crash_is_built_again() -> None:
    """The mail is due once all of its alerts are read again, and contains no others, not even those of the same
    event."""
    user_state = UserState(in_flight_ids=ids(1, 2))
    queue = MailQueue(WAIT)
    queue.add(new_batch(1), at(0), user_state)
    queue.add(new_batch(3), at(1), user_state)
    assert queue.pop_due_mail(at(30)) is None
    queue.add(deferred_batch(2, 4, until=10), at(2), user_state)
    mail = queue.pop_due_mail(at(30))
    assert mail is not None
    assert (sorted(get_alert_numbers(mail)), mail.may_be_duplicate) == ([1, 2], True)
    queue.finish(mail, mail.batches[:1], UserState())
    assert sorted(get_alert_numbers(queue.pop_due_mail(at(30)))) == [2, 3, 4], "the second event is not completed"


def test_a_mail_that_was_in_flight_goes_before_a_sealed_batch() -> None:
    """Any other mail would overwrite the in-flight ids in the stored state."""
    user_state = UserState(in_flight_ids=ids(1))
    queue = MailQueue(WAIT)
    queue.add(deferred_batch(7, until=1, sealed=True), at(0), user_state)
    queue.add(new_batch(1), at(0), user_state)
    mail = queue.pop_due_mail(at(5))
    assert get_alert_numbers(mail) == [1]


@pytest.mark.parametrize("wait", [WAIT, IN_FLIGHT_RECOVERY_TIMEOUT, timedelta(0)])
def test_missing_alerts_of_a_mail_in_flight_delay_the_others_only_for_the_timeout(wait: timedelta) -> None:
    """The other alerts become a new mail, also if the group wait is equally long."""
    queue = MailQueue(wait)
    queue.add(new_batch(1), at(0), UserState(in_flight_ids=ids(1, 2)))
    assert queue.pop_due_mail(at(59)) is None
    mail = queue.pop_due_mail(at(0) + IN_FLIGHT_RECOVERY_TIMEOUT)
    assert mail is not None
    assert (get_alert_numbers(mail), mail.may_be_duplicate) == ([1], False)


def test_a_mail_that_is_put_back_is_due_again() -> None:
    """The mail was not tried; alerts that were added meanwhile join it."""
    queue = MailQueue(WAIT)
    queue.add(new_batch(1), at(0), UserState())
    mail = queue.pop_due_mail(at(5))
    assert mail is not None
    queue.add(new_batch(2), at(6), UserState())
    queue.put_back(mail)
    assert get_alert_numbers(queue.pop_due_mail(at(6))) == [1, 2]


def test_a_mail_that_ends_after_clear_changes_nothing() -> None:
    """Alerts that were added after `clear` stay in the queue."""
    queue = MailQueue(timedelta(0))
    queue.add(new_batch(1), at(0), UserState())
    mail = queue.pop_due_mail(at(0))
    assert mail is not None
    queue.clear()
    assert (len(queue), queue.oldest_queued_at, queue.next_due_at) == (0, None, None)
    queue.add(new_batch(1), at(1), UserState())
    queue.finish(mail, mail.batches, UserState())
    queue.put_back(mail)
    assert queue.list_other_batches(mail) == ()
    assert (len(queue), queue.oldest_queued_at) == (1, at(1))
    assert get_alert_numbers(queue.pop_due_mail(at(1))) == [1]


def test_list_other_batches_groups_them_by_possible_mail() -> None:
    """Batches are in order; sealed batches are alone, and without group wait each batch is."""
    for wait, expected in ((WAIT, [{4}, {2, 3}]), (timedelta(0), [{2}, {3}, {4}])):
        queue = MailQueue(wait)
        queue.add(deferred_batch(1, until=0), at(0), UserState())
        mail = queue.pop_due_mail(at(5))
        assert mail is not None
        queue.add(new_batch(3, since=3), at(5), UserState())
        queue.add(deferred_batch(2, until=50, since=2), at(5), UserState())
        queue.add(deferred_batch(4, until=50, since=4, sealed=True), at(5), UserState())
        found = [
            {each.int for batch in batches for each in batch.alert_ids} for batches in queue.list_other_batches(mail)
        ]
        assert found == expected


def test_thousands_of_alerts_of_one_user_take_linear_time() -> None:
    """Quadratic time would delay all other users: 40,000 alerts would need 800 million steps."""
    looks = 0

    class Counted(list[object]):
        def __iter__(self) -> Iterator[object]:
            nonlocal looks
            for each in super().__iter__():
                looks += 1
                yield each

    queue = MailQueue(WAIT)
    for number in range(2_000):
        queue.add(deferred_batch(number + 1, until=1), T0, UserState())
        if number == 0:
            user_queue = queue._user_queues[ADA]
            user_queue.entries = Counted(user_queue.entries)  # type: ignore[assignment]
    assert looks == 0
    mails = 0
    while (mail := queue.pop_due_mail(at(100))) is not None:
        mails += 1
        queue.finish(mail, mail.batches, UserState())
    assert mails == 10


@dataclass
class ReferenceModel:
    """A simple model of `MailQueue` that checks the mails which the queue returns."""

    group_wait: timedelta
    queued: dict[int, tuple[datetime, AlertBatch]] = field(default_factory=dict)
    in_flight: dict[UUID, PlannedMail] = field(default_factory=dict)
    users: dict[UUID, UserState] = field(default_factory=dict)

    def batches_of(self, user: UUID) -> list[tuple[datetime, AlertBatch]]:
        return [each for each in self.queued.values() if each[1].user_id == user]

    def check_mail(self, mail: PlannedMail, now: datetime) -> None:
        """Assert all rules of a mail that the queue returned."""
        assert mail.user_id not in self.in_flight
        own = self.batches_of(mail.user_id)
        batches = [batch for _, batch in own]
        assert {id(each) for each in mail.batches} <= {id(each) for each in batches}, "only queued batches of one user"
        assert len({id(each) for each in mail.batches}) == len(mail.batches), "no duplicates"
        in_flight_ids = self.users.get(mail.user_id, UserState()).in_flight_ids
        present = frozenset[UUID]().union(*(each.alert_ids for each in batches))
        if in_flight_ids and in_flight_ids <= present:
            assert {each.alert.alert_id for each in mail.alerts} == in_flight_ids
            assert mail.may_be_duplicate
            return
        assert not in_flight_ids or now >= min(at for at, _ in own) + IN_FLIGHT_RECOVERY_TIMEOUT
        if any(each.sealed for each in batches):
            assert len(mail.batches) == 1
            assert mail.batches[0].sealed
            assert now >= (mail.batches[0].not_before or now), "early"
            return
        assert not mail.may_be_duplicate
        for each in batches:
            assert each.not_before is None or now >= each.not_before, "early, or before a deferred batch"
        if all(each.not_before is None for each in batches):
            assert now >= min(at for at, _ in own) + self.group_wait
        batch_ids = {each.batch_id for each in batches}
        for batch_id, until in self.users.get(mail.user_id, UserState()).deferred_batches:
            assert (
                batch_id in batch_ids
                or now >= min(until, now) + MISSING_RETRY_TIMEOUT
                or now >= until + MISSING_RETRY_TIMEOUT
            )
        windows = [each.alerts[0].alert.window_start for each in mail.batches]
        assert windows == sorted(windows)
        assert max(windows) <= min(
            (each.alerts[0].alert.window_start for each in batches if each not in mail.batches), default=max(windows)
        )


operations = st.lists(
    st.tuples(
        st.sampled_from(
            (
                "add new",
                "add deferred",
                "add sealed",
                "pop",
                "finish",
                "finish part",
                "put back",
                "clear",
                "in flight",
                "deferred",
            )
        ),
        st.integers(0, 90),
        st.integers(1, 12),
        st.sampled_from((ADA, BOB)),
    ),
    max_size=60,
)


@given(st.sampled_from((timedelta(0), WAIT, IN_FLIGHT_RECOVERY_TIMEOUT)), operations)
def test_no_alert_is_lost_or_early_or_duplicate_under_any_operations(
    group_wait: timedelta, steps: Sequence[tuple[str, int, int, UUID]]
) -> None:
    """After any sequence of operations each mail keeps all rules, and at the end every alert is mailed."""
    queue, model, now = MailQueue(group_wait), ReferenceModel(group_wait), T0
    for operation, seconds, number, user in steps:
        now += timedelta(seconds=seconds / 10)
        if operation in ("add new", "add deferred", "add sealed"):
            since = now - timedelta(seconds=number)
            batch = AlertBatch((build_alert(number, user),), None, since, 0, None, False)
            if operation != "add new":
                batch = replace(batch, not_before=now + timedelta(seconds=seconds), sealed=operation == "add sealed")
            added = queue.add(batch, now, model.users.get(user, UserState()))
            model.queued[id(added)] = (now, added)
        elif operation == "pop":
            mail = queue.pop_due_mail(now)
            if mail is not None:
                model.check_mail(mail, now)
                model.in_flight[mail.user_id] = mail
        elif operation in ("finish", "finish part") and user in model.in_flight:
            mail = model.in_flight.pop(user)
            removed = mail.batches if operation == "finish" else mail.batches[1:]
            model.users[user] = UserState()
            queue.finish(mail, removed, UserState())
            for each in removed:
                del model.queued[id(each)]
        elif operation == "put back" and user in model.in_flight:
            queue.put_back(model.in_flight.pop(user))
        elif operation == "clear":
            queue.clear()
            model.queued.clear()
            model.in_flight.clear()
        elif not model.batches_of(user):  # the stored state is used when a user's first batch is added
            user_state = UserState(in_flight_ids=ids(number, number + 1))
            if operation == "deferred":
                user_state = UserState().with_deferred_batches(
                    [compute_batch_id(ids(number))], now + timedelta(seconds=seconds), now
                )
            model.users[user] = user_state if operation in ("in flight", "deferred") else UserState()
        assert len(queue) == len(model.queued)
    for mail in model.in_flight.values():
        queue.put_back(mail)
    model.in_flight.clear()
    mails = 0
    while model.queued:
        mails += 1
        assert mails < 200
        assert queue.next_due_at is not None, "a batch is queued, and no mail is due"
        now = max(now, queue.next_due_at)
        mail = queue.pop_due_mail(now)
        if mail is not None:
            model.check_mail(mail, now)
            queue.finish(mail, mail.batches, UserState())
            model.users[mail.user_id] = UserState()
            for each in mail.batches:
                del model.queued[id(each)]
    assert queue.pop_due_mail(now + timedelta(days=1)) is None


def test_resolved_never_precedes_its_firing_of_the_same_time() -> None:
    """Both were raised within a millisecond, and are read again in the wrong order from two topics."""
    queue = MailQueue(timedelta(0))
    resolved = replace(build_alert(2).alert, state=AlertState.RESOLVED)
    queue.add(AlertBatch((to_raised_alert(resolved),), None, at(0), 1, at(9)), at(1), UserState())
    queue.add(deferred_batch(1, until=9), at(2), UserState())
    assert get_alert_numbers(queue.pop_due_mail(at(9))) == [1]


def test_batches_deferred_together_keep_their_order() -> None:
    """The batch with the earlier `not_before` goes first if times and windows are equal, in whatever order they are
    read."""
    queue = MailQueue(timedelta(0))
    for number, until in ((2, 10.001), (1, 10)):
        same = replace(build_alert(number).alert, window_start=ALERT.window_start)
        queue.add(AlertBatch((to_raised_alert(same),), None, at(0), 1, at(until)), at(1), UserState())
    assert get_alert_numbers(queue.pop_due_mail(at(11))) == [1]
