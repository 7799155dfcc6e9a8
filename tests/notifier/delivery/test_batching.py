"""Who is next, and what goes into one mail: each rule by an example, and all of them in any order of events."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from hypothesis import given, strategies as st

from domain.alerts import Alert, AlertState
from notifier.delivery.batching import (
    IN_FLIGHT_RECOVERY_TIMEOUT,
    MAX_ALERTS_PER_MAIL,
    MISSING_RETRY_TIMEOUT,
    AlertBatch,
    MailQueue,
    PlannedMail,
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


def alert(number: int, user: UUID = ADA) -> RaisedAlert:
    window_start = ALERT.window_start + timedelta(hours=number)
    return to_raised_alert(replace(ALERT, alert_id=UUID(int=number), user_id=user, window_start=window_start))


def ids(*numbers: int) -> frozenset[UUID]:
    return frozenset(UUID(int=each) for each in numbers)


def at(seconds: float) -> datetime:
    return T0 + timedelta(seconds=seconds)


def fresh(*numbers: int, user: UUID = ADA, since: float = 0) -> AlertBatch:
    return AlertBatch(tuple(alert(each, user) for each in numbers), None, at(since))


def retry(*numbers: int, until: float, since: float = 0, sealed: bool = False) -> AlertBatch:
    return replace(fresh(*numbers, since=since), attempt=1, not_before=at(until), sealed=sealed)


def told(mail: PlannedMail | None) -> list[int]:
    assert mail is not None
    return [each.alert.alert_id.int for each in mail.alerts]


def test_alerts_of_one_person_within_a_while_are_one_mail() -> None:
    """From the first one on; another user_state's are another mail."""
    queue = MailQueue(WAIT)
    queue.add(fresh(1), at(0), UserState())
    queue.add(fresh(9, user=BOB), at(1), UserState())
    queue.add(fresh(2), at(4.9), UserState())
    assert queue.pop_due_mail(at(4.9)) is None
    assert queue.next_due_at == at(5)
    assert told(queue.pop_due_mail(at(5))) == [1, 2]
    assert queue.pop_due_mail(at(5)) is None
    assert told(queue.pop_due_mail(at(6))) == [9]


def test_without_a_while_each_alert_is_a_mail() -> None:
    """In their order, one after the other."""
    queue = MailQueue(timedelta(0))
    for number in (1, 2):
        queue.add(fresh(number), at(0), UserState())
    first = queue.pop_due_mail(at(0))
    assert told(first) == [1]
    assert queue.pop_due_mail(at(0)) is None, "one mail of a user_state is on its way at a time"
    assert first is not None
    queue.finish(first, first.batches, UserState())
    assert told(queue.pop_due_mail(at(0))) == [2]


def test_what_comes_while_a_mail_is_on_its_way_waits_for_the_next() -> None:
    """And gathers others, from when it came."""
    queue = MailQueue(WAIT)
    queue.add(fresh(1), at(0), UserState())
    first = queue.pop_due_mail(at(5))
    assert first is not None
    queue.add(fresh(2), at(6), UserState())
    queue.finish(first, first.batches, UserState())
    assert queue.pop_due_mail(at(10.9)) is None
    assert told(queue.pop_due_mail(at(11))) == [2]


def test_a_mail_tells_so_many_at_most() -> None:
    """The earliest; the rest comes in the next."""
    queue = MailQueue(WAIT)
    for number in range(MAX_ALERTS_PER_MAIL + 5):
        queue.add(fresh(number, since=number), at(0), UserState())
    first = queue.pop_due_mail(at(5))
    assert told(first) == list(range(MAX_ALERTS_PER_MAIL))
    assert first is not None
    queue.finish(first, first.batches, UserState())
    assert len(told(queue.pop_due_mail(at(5)))) == 5
    queue.clear()
    queue.add(fresh(*range(MAX_ALERTS_PER_MAIL + 9)), at(0), UserState())
    assert len(told(queue.pop_due_mail(at(5)))) == MAX_ALERTS_PER_MAIL + 9, "one event is never divided"


def test_fresh_alerts_wait_behind_what_was_put_off() -> None:
    """So that RESOLVED does not go before its FIRING; then they go together, in their order."""
    queue = MailQueue(WAIT)
    queue.add(retry(1, until=100), at(0), UserState())
    queue.add(fresh(2, since=20), at(20), UserState())
    assert queue.pop_due_mail(at(99.9)) is None
    assert told(queue.pop_due_mail(at(100))) == [1, 2]


def test_after_a_restart_the_people_table_says_what_is_still_to_come() -> None:
    """Fresh alerts may be read before the retry that they must wait for; but not for ever."""
    user_state = UserState().with_deferred_batches([compute_batch_id(ids(1))], at(100), at(0))
    queue = MailQueue(WAIT)
    queue.add(fresh(2, since=20), at(20), user_state)
    assert queue.next_due_at == at(100) + MISSING_RETRY_TIMEOUT
    queue.add(retry(1, until=100), at(21), user_state)
    assert told(queue.pop_due_mail(at(100))) == [1, 2]
    queue.clear()
    queue.add(fresh(2), at(20), user_state)
    assert queue.pop_due_mail(at(100) + MISSING_RETRY_TIMEOUT - timedelta(seconds=1)) is None
    assert told(queue.pop_due_mail(at(100) + MISSING_RETRY_TIMEOUT)) == [2]


def test_what_was_put_off_is_waited_for_also_when_its_time_passed_while_nobody_worked() -> None:
    """After a stop there are many retries to be read at once, and fresh alerts come from another topic. A retry whose
    lifetime is over would be a dead letter; nobody is kept queue for it."""
    user_state = UserState().with_deferred_batches([compute_batch_id(ids(1))], at(100), at(0))
    queue = MailQueue(WAIT)
    queue.add(fresh(2, since=150), at(700), user_state)
    assert queue.pop_due_mail(at(719)) is None
    queue.add(retry(1, until=100), at(720), user_state)
    assert told(queue.pop_due_mail(at(720))) == [1, 2]
    for came, next_at in ((700, at(700) + MISSING_RETRY_TIMEOUT), (100 + 86_400, at(100 + 86_400) + WAIT)):
        queue.clear()
        queue.add(fresh(2), at(came), user_state)
        assert queue.next_due_at == next_at


def test_nothing_is_waited_for_longer_than_the_longest_pause() -> None:
    """Whatever a clock that was wrong has put into a retry, or into the table."""
    queue = MailQueue(WAIT)
    queue.add(retry(1, until=1e9), at(0), UserState())
    assert queue.next_due_at == at(0) + MAX_PAUSE
    queue.clear()
    queue.add(fresh(2), at(0), UserState().with_deferred_batches([compute_batch_id(ids(1))], at(1e9), at(0)))
    assert queue.next_due_at == at(0) + MAX_PAUSE + MISSING_RETRY_TIMEOUT


def test_what_the_server_may_have_is_sent_as_it_was_and_alone() -> None:
    """At its time; what else there is of that user_state waits for it."""
    queue = MailQueue(WAIT)
    queue.add(fresh(3), at(0), UserState())
    queue.add(retry(1, 2, until=60, sealed=True), at(0), UserState())
    assert queue.pop_due_mail(at(59)) is None
    mail = queue.pop_due_mail(at(60))
    assert mail is not None
    assert (told(mail), mail.may_be_duplicate) == ([1, 2], True)
    queue.finish(mail, mail.batches, UserState())
    assert told(queue.pop_due_mail(at(60))) == [3]


def test_a_mail_that_was_on_its_way_at_a_crash_is_made_again() -> None:
    """As soon as all of its alerts are here again. Nothing joins it, not even what came in the same event."""
    user_state = UserState(in_flight_ids=ids(1, 2))
    queue = MailQueue(WAIT)
    queue.add(fresh(1), at(0), user_state)
    queue.add(fresh(3), at(1), user_state)
    assert queue.pop_due_mail(at(30)) is None
    queue.add(retry(2, 4, until=10), at(2), user_state)
    mail = queue.pop_due_mail(at(30))
    assert mail is not None
    assert (sorted(told(mail)), mail.may_be_duplicate) == ([1, 2], True)
    queue.finish(mail, mail.batches[:1], UserState())
    assert sorted(told(queue.pop_due_mail(at(30)))) == [2, 3, 4], "the second event is not done with"


def test_a_mail_on_its_way_goes_before_what_was_put_off_sealed() -> None:
    """Whatever is sent ends what the table knows of the mail on its way."""
    user_state = UserState(in_flight_ids=ids(1))
    queue = MailQueue(WAIT)
    queue.add(retry(7, until=1, sealed=True), at(0), user_state)
    queue.add(fresh(1), at(0), user_state)
    mail = queue.pop_due_mail(at(5))
    assert told(mail) == [1]


@pytest.mark.parametrize("wait", [WAIT, IN_FLIGHT_RECOVERY_TIMEOUT, timedelta(0)])
def test_alerts_of_a_mail_on_its_way_that_never_come_back_are_not_waited_for_long(wait: timedelta) -> None:
    """The rest goes on as a new mail; also where people wait for each other for just as long."""
    queue = MailQueue(wait)
    queue.add(fresh(1), at(0), UserState(in_flight_ids=ids(1, 2)))
    assert queue.pop_due_mail(at(59)) is None
    mail = queue.pop_due_mail(at(0) + IN_FLIGHT_RECOVERY_TIMEOUT)
    assert mail is not None
    assert (told(mail), mail.may_be_duplicate) == ([1], False)


def test_what_goes_back_is_next_again() -> None:
    """It was not tried; what came meanwhile joins it."""
    queue = MailQueue(WAIT)
    queue.add(fresh(1), at(0), UserState())
    mail = queue.pop_due_mail(at(5))
    assert mail is not None
    queue.add(fresh(2), at(6), UserState())
    queue.put_back(mail)
    assert told(queue.pop_due_mail(at(6))) == [1, 2]


def test_what_is_forgotten_is_not_done_later() -> None:
    """A mail that ends after everything was forgotten changes nothing of what came since."""
    queue = MailQueue(timedelta(0))
    queue.add(fresh(1), at(0), UserState())
    mail = queue.pop_due_mail(at(0))
    assert mail is not None
    queue.clear()
    assert (len(queue), queue.oldest_queued_at, queue.next_due_at) == (0, None, None)
    queue.add(fresh(1), at(1), UserState())
    queue.finish(mail, mail.batches, UserState())
    queue.put_back(mail)
    assert queue.list_other_batches(mail) == ()
    assert (len(queue), queue.oldest_queued_at) == (1, at(1))
    assert told(queue.pop_due_mail(at(1))) == [1]


def test_the_rest_is_what_may_be_put_off_along() -> None:
    """In their order; what is sealed alone, and without grouping each alone."""
    for wait, expected in ((WAIT, [{4}, {2, 3}]), (timedelta(0), [{2}, {3}, {4}])):
        queue = MailQueue(wait)
        queue.add(retry(1, until=0), at(0), UserState())
        mail = queue.pop_due_mail(at(5))
        assert mail is not None
        queue.add(fresh(3, since=3), at(5), UserState())
        queue.add(retry(2, until=50, since=2), at(5), UserState())
        queue.add(retry(4, until=50, since=4, sealed=True), at(5), UserState())
        found = [
            {each.int for batch in batches for each in batch.alert_ids} for batches in queue.list_other_batches(mail)
        ]
        assert found == expected


def test_one_person_with_thousands_of_alerts_costs_what_they_are() -> None:
    """Not their square: nobody else would be mailed meanwhile. 40,000 looks at all of them would be 800 million."""
    looks = 0

    class Counted(list[object]):
        def __iter__(self) -> Iterator[object]:
            nonlocal looks
            for each in super().__iter__():
                looks += 1
                yield each

    queue = MailQueue(WAIT)
    for number in range(2_000):
        queue.add(retry(number + 1, until=1), T0, UserState())
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
class Model:
    """What must be true of `MailQueue`, kept the plain way."""

    group_wait: timedelta
    queued: dict[int, tuple[datetime, AlertBatch]] = field(default_factory=dict)
    in_flight: dict[UUID, PlannedMail] = field(default_factory=dict)
    users: dict[UUID, UserState] = field(default_factory=dict)

    def batches_of(self, user: UUID) -> list[tuple[datetime, AlertBatch]]:
        return [each for each in self.queued.values() if each[1].user_id == user]

    def check_mail(self, mail: PlannedMail, now: datetime) -> None:
        """Of a mail that is given out."""
        assert mail.user_id not in self.in_flight
        own = self.batches_of(mail.user_id)
        batches = [batch for _, batch in own]
        assert {id(each) for each in mail.batches} <= {id(each) for each in batches}, (
            "of what is here, and of one user_state"
        )
        assert len({id(each) for each in mail.batches}) == len(mail.batches), "none twice"
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
            assert each.not_before is None or now >= each.not_before, "early, or before what was put off"
        if all(each.not_before is None for each in batches):
            assert now >= min(at for at, _ in own) + self.group_wait
        batch_ids = {each.batch_id for each in batches}
        for batch_id, until in self.users.get(mail.user_id, UserState()).deferred_batches:
            assert (
                batch_id in batch_ids
                or now >= min(until, now) + MISSING_RETRY_TIMEOUT
                or now >= until + MISSING_RETRY_TIMEOUT
            )
        since = [each.lifetime_start for each in mail.batches]
        assert since == sorted(since)
        assert max(since) <= min(
            (each.lifetime_start for each in batches if each not in mail.batches), default=max(since)
        )


operations = st.lists(
    st.tuples(
        st.sampled_from(
            ("fresh", "retry", "sealed", "pop", "finish", "finish part", "put back", "clear", "in flight", "deferred")
        ),
        st.integers(0, 90),
        st.integers(1, 12),
        st.sampled_from((ADA, BOB)),
    ),
    max_size=60,
)


@given(st.sampled_from((timedelta(0), WAIT, IN_FLIGHT_RECOVERY_TIMEOUT)), operations)
def test_nothing_is_lost_or_told_early_or_twice(
    group_wait: timedelta, made: Sequence[tuple[str, int, int, UUID]]
) -> None:
    """Whatever comes, goes back and is done in whatever order: each mail keeps all rules; and in the end all go out."""
    queue, model, now = MailQueue(group_wait), Model(group_wait), T0
    for operation, seconds, number, user in made:
        now += timedelta(seconds=seconds / 10)
        if operation in ("fresh", "retry", "sealed"):
            since = now - timedelta(seconds=number)
            batch = AlertBatch((alert(number, user),), None, since, 0, None, False)
            if operation != "fresh":
                batch = replace(batch, not_before=now + timedelta(seconds=seconds), sealed=operation == "sealed")
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
        elif not model.batches_of(
            user
        ):  # what the table says of a user_state is in_flight_ids when the first alert comes
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
    out = 0
    while model.queued:
        out += 1
        assert out < 200
        assert queue.next_due_at is not None, "something waits, and nobody looks"
        now = max(now, queue.next_due_at)
        mail = queue.pop_due_mail(now)
        if mail is not None:
            model.check_mail(mail, now)
            queue.finish(mail, mail.batches, UserState())
            model.users[mail.user_id] = UserState()
            for each in mail.batches:
                del model.queued[id(each)]
    assert queue.pop_due_mail(now + timedelta(days=1)) is None


def test_resolved_never_overtakes_firing_of_the_same_instant() -> None:
    """Both came within a millisecond, and were read again in the wrong order from two topics."""
    queue = MailQueue(timedelta(0))
    resolved = replace(alert(2).alert, state=AlertState.RESOLVED)
    queue.add(AlertBatch((to_raised_alert(resolved),), None, at(0), 1, at(9)), at(1), UserState())
    queue.add(retry(1, until=9), at(2), UserState())
    assert told(queue.pop_due_mail(at(9))) == [1]


def test_what_was_put_off_together_keeps_its_order() -> None:
    """Of the same time and windows the one that may be tried first goes first, in whatever order they are read."""
    queue = MailQueue(timedelta(0))
    for number, until in ((2, 10.001), (1, 10)):
        same = replace(alert(number).alert, window_start=ALERT.window_start)
        queue.add(AlertBatch((to_raised_alert(same),), None, at(0), 1, at(until)), at(1), UserState())
    assert told(queue.pop_due_mail(at(11))) == [1]
