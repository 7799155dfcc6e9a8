"""The agents: how each event is queued, acknowledged or dead-lettered. Later steps are in the tests of `delivery`."""

import asyncio
from collections.abc import Callable, Collection, Coroutine, Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from chassis.clock import SteadyClock
from chassis.metrics import Metrics, ServiceIdentity
from collector.messages import encode_airport_unheard
from notifier.agents import Agents, KafkaTopics
from notifier.delivery.alert_batch import AlertBatch
from notifier.delivery.corrections import AlertLane
from notifier.delivery.interfaces import PendingEvent
from notifier.delivery.overflow import AlertOverflow
from notifier.delivery.user_state import UserState, compute_batch_id
from notifier.delivery.waiting_times import OVERFLOW_PAUSE, WaitingTimes
from notifier.errors import TooLargeToWaitError
from notifier.mail import Contact
from notifier.messages import (
    REQUEUED_FROM,
    RaisedNotice,
    Retry,
    ScheduledConfirmation,
    ScheduledNotice,
    decode_raised_alert,
    decode_retry,
    encode_retry,
)
from notifier.metrics import NotifierMetrics
from streams.messages import encode_alert
from tests.fakes.hurried_loop import LoopClock, run as run_hurried
from tests.fakes.stream import Deed, FakeStream, FakeTopic, an_event
from tests.notifier.alerts import ALERT, CAUSE, CONTACT, NOTICE, NOW
from towerwatch.topics import ALERTS_RAISED, ALERTS_RETRY, ALERTS_WAITING, NOTICES_RAISED, USERS_CHANGED
from towerwatch.users.v1.events_pb2 import UserChanged, UserRegistered

ALERT_VALUE = encode_alert(ALERT, CAUSE)
NOTICE_VALUE = encode_airport_unheard(NOTICE.user_id, NOTICE.airport, NOTICE.since).value or b""
USER = str(ALERT.user_id)
USER_STATE = UserState().with_mail_sent(NOW, (), 12)


class AgentsFixture:
    """Agents with a fake dispatcher, store and confirmations that record their calls."""

    def __init__(self, refusals: int = 0) -> None:
        self.deeds: list[Deed] = []
        self.enqueued: list[tuple[AlertBatch, UserState]] = []
        self.requests: list[tuple[PendingEvent, ScheduledConfirmation]] = []
        self.notices: list[tuple[PendingEvent, ScheduledNotice]] = []
        self.capacity_waits: list[bool] = []
        self.owns_partitions = True
        self.bug: Exception | None = None
        self.user_state = USER_STATE
        self.topics = KafkaTopics(
            FakeTopic("retry", self.deeds, refuse_at_once=refusals, refuse_later=refusals),  # type: ignore[arg-type]
            FakeTopic("waiting", self.deeds, refuse_later=refusals),  # type: ignore[arg-type]
            FakeTopic("dead letter", self.deeds, refuse_later=refusals),  # type: ignore[arg-type]
            lambda event: self.owns_partitions,
        )
        metrics = NotifierMetrics(Metrics(ServiceIdentity("notifier", "test")))
        lane = AlertLane(self, self)  # type: ignore[arg-type]
        self.overflow = AlertOverflow(self.topics, self, SteadyClock(LoopClock()), metrics)  # type: ignore[arg-type]
        self.agents = Agents(
            lane,
            lane,
            _FakeConfirmations(self),  # type: ignore[arg-type]
            _FakeNotices(self),  # type: ignore[arg-type]
            self.overflow,
            self.topics,
            metrics,
        )
        self.has_room_for_users = True
        self.contact: Contact | None = CONTACT
        self.untold: set[UUID] = set()
        self.waiting_times: WaitingTimes | None = None

    def has_room(self, user_id: UUID, user: UserState) -> bool:
        """Return what the test says, for the user of the alert."""
        assert (user_id, user) == (ALERT.user_id, self.user_state)
        return self.has_room_for_users

    def has_alert(self, user_id: UUID, alert_id: UUID) -> bool:
        """Return False: no alert is in memory."""
        return False

    def has_pending_mark(self, event: Any, alert_id: UUID) -> bool:
        """Return False: no alert is known to be mailed yet."""
        return False

    def mark_pending(self, event: Any, alert_id: UUID, at: datetime) -> None:
        """Take no note of what is still to be mailed."""

    async def find_contact(self, user_id: UUID, interest_ids: Collection[UUID] = ()) -> Contact | None:
        """Return the contact of the only user."""
        assert user_id == ALERT.user_id
        return self.contact

    async def wait_for_capacity(self, is_retry: bool = False) -> None:
        self.capacity_waits.append(is_retry)
        if self.bug is not None:
            raise self.bug

    def enqueue(self, batch: AlertBatch, user_state: UserState) -> None:
        self.enqueued.append((batch, user_state))

    def load_user_state(self, event: Any, user_id: UUID) -> UserState:
        assert user_id == ALERT.user_id
        return self.user_state

    def find_waiting(self, event: Any, name: str) -> UUID | None:
        """Return None: nothing waits for a mail of corrections."""
        return None

    def find_status(self, event: Any, alert_id: UUID) -> None:
        """Return None: no alert is mailed, dropped or dead-lettered."""
        return

    def mark_waiting(self, event: Any, name: str, alert_id: UUID, at: datetime) -> None:
        """Take no note of what waits."""

    def load_waiting_times(self, event: Any, user_id: UUID) -> WaitingTimes | None:
        """Return what `save_waiting_times` was called with last."""
        return self.waiting_times

    def save_waiting_times(self, event: Any, user_id: UUID, times: WaitingTimes, at: datetime) -> None:
        """Keep the times."""
        self.waiting_times = times

    def mark_untold(self, event: Any, alert_ids: Iterable[UUID], at: datetime) -> None:
        """Note the alerts that are recorded as dropped."""
        self.untold.update(alert_ids)

    async def wait_until_persisted(self, event: Any) -> None:
        """Return at once."""

    def stream(self, topic: str, *values: bytes | None, headers: dict[str, bytes] | None = None) -> Any:
        return FakeStream([an_event(topic, 0, USER.encode(), each, headers or {}) for each in values], self.deeds)


class _FakeConfirmations:
    """A fake of `ConfirmationDelivery` that records requests."""

    def __init__(self, fixture: AgentsFixture) -> None:
        self._fixture = fixture

    async def start(self, arrival: PendingEvent, scheduled: ScheduledConfirmation) -> None:
        self._fixture.requests.append((arrival, scheduled))


class _FakeNotices:
    """A fake of `NoticeDelivery` that records notices."""

    def __init__(self, fixture: AgentsFixture) -> None:
        self._fixture = fixture

    async def start(self, pending_event: PendingEvent, scheduled: ScheduledNotice) -> None:
        self._fixture.notices.append((pending_event, scheduled))


def run(check: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run a coroutine; fail after 20 seconds."""
    asyncio.run(asyncio.wait_for(check(), 150))


def test_a_new_alert_is_queued_and_acknowledged_only_by_its_pending_event() -> None:
    """Its lifetime starts at the time of its record in the broker."""

    async def check() -> None:
        fixture = AgentsFixture()
        await fixture.agents.consume_alerts(fixture.stream(ALERTS_RAISED.name, ALERT_VALUE))
        [(batch, user_state)] = fixture.enqueued
        assert ([each.alert for each in batch.alerts], user_state) == ([ALERT], USER_STATE)
        assert batch.lifetime_start.timestamp() == 1_360_281_600.0
        assert (fixture.deeds, fixture.capacity_waits) == ([], [False])
        assert isinstance(batch.pending_event, PendingEvent)
        assert not batch.pending_event.requeued
        await batch.pending_event.acknowledge()
        assert fixture.deeds == [("acknowledged", 7)]

    run(check)


def test_a_new_alert_of_a_user_with_very_many_waits_in_a_topic_of_its_own() -> None:
    """It is acknowledged once the broker has it there, and takes no place; a requeued one is queued."""

    async def check() -> None:
        fixture = AgentsFixture(refusals=1)
        fixture.has_room_for_users = False
        began = LoopClock().now()
        await fixture.agents.consume_alerts(fixture.stream(ALERTS_RAISED.name, ALERT_VALUE))
        assert [name for name, _ in fixture.deeds] == ["waiting refused", "waiting", "acknowledged"]
        retry = decode_retry(fixture.deeds[1][1])
        assert isinstance(retry, Retry)
        assert ([each.original for each in retry.alerts], retry.attempt) == ([ALERT_VALUE], 0)
        assert began + OVERFLOW_PAUSE <= retry.not_before < began + OVERFLOW_PAUSE + timedelta(minutes=1)
        assert retry.first_attempt_at.timestamp() == 1_360_281_600.0
        assert (fixture.enqueued, fixture.capacity_waits) == ([], [])
        headers = {REQUEUED_FROM: b"3:7"}
        await fixture.agents.consume_alerts(fixture.stream(ALERTS_RAISED.name, ALERT_VALUE, headers=headers))
        assert len(fixture.enqueued) == 1

    run_hurried(check())


def build_waiting(after: timedelta) -> bytes:
    """Return a record of an alert that waits until so long from now."""
    return encode_retry(Retry((decode_raised_alert(ALERT_VALUE),), 0, LoopClock().now() + after, NOW))


def test_what_waits_is_queued_as_new_when_its_time_has_come() -> None:
    """It is acknowledged only by its pending event; a time that a wrong clock wrote is no more than an hour away."""

    async def check() -> None:
        for after, expected in ((60.0, 60.0), (-5.0, 0.0), (864_000.0, OVERFLOW_PAUSE.total_seconds())):
            fixture = AgentsFixture()
            began = asyncio.get_running_loop().time()
            value = build_waiting(timedelta(seconds=after))
            await fixture.agents.consume_waiting(fixture.stream(ALERTS_WAITING.name, value))
            assert expected <= asyncio.get_running_loop().time() - began < expected + 5
            [(batch, _)] = fixture.enqueued
            assert (batch.not_before, batch.batch_id, batch.attempt, batch.lifetime_start) == (None, None, 0, NOW)
            assert (fixture.deeds, fixture.capacity_waits) == ([], [False])

    run_hurried(check())


def test_what_waits_waits_again_without_room_and_what_follows_behind_it() -> None:
    """Else a later alert would be mailed before an earlier one; new alerts wait behind all that wait."""

    async def check() -> None:
        fixture = AgentsFixture()
        fixture.has_room_for_users = False
        await fixture.agents.consume_waiting(fixture.stream(ALERTS_WAITING.name, build_waiting(timedelta(0))))
        fixture.has_room_for_users = True
        await fixture.agents.consume_waiting(fixture.stream(ALERTS_WAITING.name, build_waiting(timedelta(0))))
        await fixture.agents.consume_alerts(fixture.stream(ALERTS_RAISED.name, ALERT_VALUE))
        assert [name for name, _ in fixture.deeds] == ["waiting", "acknowledged"] * 3
        waiting = [value for name, value in fixture.deeds if name == "waiting"]
        for number in range(3):
            await fixture.agents.consume_waiting(fixture.stream(ALERTS_WAITING.name, waiting[number]))
            assert len(fixture.enqueued) == number + 1
        await asyncio.sleep(600)
        await fixture.agents.consume_alerts(fixture.stream(ALERTS_RAISED.name, ALERT_VALUE))
        assert len(fixture.enqueued) == 4

    run_hurried(check())


def test_what_waits_for_a_user_who_is_gone_is_dropped_at_its_time() -> None:
    """It waits no further time, and takes no place in the queue."""

    async def check() -> None:
        fixture = AgentsFixture()
        fixture.has_room_for_users, fixture.contact = False, None
        await fixture.agents.consume_waiting(fixture.stream(ALERTS_WAITING.name, build_waiting(timedelta(0))))
        assert (fixture.deeds, fixture.enqueued) == ([("acknowledged", 7)], [])
        assert fixture.untold == {ALERT.alert_id}, "nobody is told its end"

    run_hurried(check())


@pytest.mark.parametrize("is_gone", [False, True])
def test_an_alert_of_a_mail_that_was_in_flight_is_neither_dropped_nor_waits(is_gone: bool) -> None:
    """After a crash it is queued, so that it is sent again, or recorded as mailed, with the mail the server may have.

    Before, it was recorded as untold if its user was gone or paused, and its end was never mailed.
    """

    async def check() -> None:
        fixture = AgentsFixture()
        fixture.has_room_for_users, fixture.user_state = False, USER_STATE.with_mail_in_flight([ALERT.alert_id])
        if is_gone:
            fixture.contact = None
        await fixture.agents.consume_waiting(fixture.stream(ALERTS_WAITING.name, build_waiting(timedelta(0))))
        await fixture.agents.consume_alerts(fixture.stream(ALERTS_RAISED.name, ALERT_VALUE))
        assert (len(fixture.enqueued), fixture.deeds, fixture.untold) == (2, [], set())

    run_hurried(check())


def test_new_alerts_wait_while_the_reader_of_the_topic_is_late() -> None:
    """Behind a long backlog of others a user's alert is read long after its time; a newer one does not overtake it."""

    async def check() -> None:
        fixture = AgentsFixture()
        fixture.has_room_for_users = False
        began = LoopClock().now()
        await fixture.agents.consume_alerts(fixture.stream(ALERTS_RAISED.name, ALERT_VALUE))
        fixture.has_room_for_users = True
        await asyncio.sleep(OVERFLOW_PAUSE.total_seconds() + 600)
        backlog = build_waiting(began - LoopClock().now())
        await fixture.agents.consume_waiting(fixture.stream(ALERTS_WAITING.name, backlog))
        await fixture.agents.consume_alerts(fixture.stream(ALERTS_RAISED.name, ALERT_VALUE))
        assert len(fixture.enqueued) == 1, "only that of the backlog"
        waiting = [value for name, value in fixture.deeds if name == "waiting"]
        await fixture.agents.consume_waiting(fixture.stream(ALERTS_WAITING.name, *waiting))
        assert len(fixture.enqueued) == 3
        await asyncio.sleep(600)
        await fixture.agents.consume_alerts(fixture.stream(ALERTS_RAISED.name, ALERT_VALUE))
        assert len(fixture.enqueued) == 4

    run_hurried(check())


def test_events_that_are_older_than_what_waits_do_not_wait_behind_it() -> None:
    """After a crash alerts that were in memory are read again: they go before the later ones that wait."""

    async def check() -> None:
        fixture = AgentsFixture()
        fixture.waiting_times = WaitingTimes(LoopClock().now() + OVERFLOW_PAUSE, LoopClock().now() + OVERFLOW_PAUSE, 8)
        await fixture.agents.consume_alerts(fixture.stream(ALERTS_RAISED.name, ALERT_VALUE))
        assert len(fixture.enqueued) == 1, "its offset is 7"
        fixture.waiting_times = WaitingTimes(LoopClock().now() + OVERFLOW_PAUSE, LoopClock().now() + OVERFLOW_PAUSE, 7)
        await fixture.agents.consume_alerts(fixture.stream(ALERTS_RAISED.name, ALERT_VALUE))
        assert len(fixture.enqueued) == 1
        for again_offset in (8, 7):
            later = LoopClock().now() + OVERFLOW_PAUSE
            fixture.waiting_times = WaitingTimes(later, later, 0, again_offset)
            await fixture.agents.consume_waiting(fixture.stream(ALERTS_WAITING.name, build_waiting(timedelta(0))))
            assert len(fixture.enqueued) == 2, "what was queued before it is queued again, and nothing else"

    run_hurried(check())


def test_what_waits_when_its_partition_is_revoked_is_left_to_the_next_owner() -> None:
    """At once, not at its time: the agent must be free for its new partitions."""

    async def check() -> None:
        fixture = AgentsFixture()
        value = build_waiting(timedelta(minutes=50))
        waiting = asyncio.create_task(fixture.agents.consume_waiting(fixture.stream(ALERTS_WAITING.name, value)))
        await asyncio.sleep(10)
        await fixture.overflow.stop_and_drain(8.0)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert waiting.done()
        assert (fixture.deeds, fixture.enqueued) == ([], [])

    run_hurried(check())


def test_a_retry_is_queued_with_all_of_its_fields() -> None:
    """The batch has the retry's time, number of attempts, seal and start of lifetime."""

    async def check() -> None:
        fixture = AgentsFixture()
        raised = decode_raised_alert(ALERT_VALUE)
        retry = Retry((raised,), 3, NOW + timedelta(seconds=30), NOW - timedelta(hours=1), sealed=True)
        await fixture.agents.consume_retries(fixture.stream(ALERTS_RETRY.name, encode_retry(retry)))
        [(batch, _)] = fixture.enqueued
        assert (batch.alerts, batch.attempt, batch.not_before) == (retry.alerts, 3, retry.not_before)
        assert (batch.lifetime_start, batch.sealed, fixture.capacity_waits) == (retry.first_attempt_at, True, [True])

    run(check)


def test_a_retry_that_a_later_record_replaced_is_acknowledged() -> None:
    """The retry was completed before, but its offset was not committed; the later record is queued."""

    async def check() -> None:
        fixture = AgentsFixture()
        raised = decode_raised_alert(ALERT_VALUE)
        until = NOW + timedelta(seconds=30)
        fixture.user_state = USER_STATE.with_deferred_batches((compute_batch_id([ALERT.alert_id]),), until, NOW)
        values = [encode_retry(Retry((raised,), 1, each, NOW)) for each in (NOW, until)]
        await fixture.agents.consume_retries(fixture.stream(ALERTS_RETRY.name, *values))
        [(batch, _)] = fixture.enqueued
        assert batch.not_before == until
        assert fixture.deeds == [("acknowledged", 7)]

    run(check)


def test_a_requeued_alert_is_marked_as_requeued() -> None:
    """The header of the record marks the alert."""

    async def check() -> None:
        fixture = AgentsFixture()
        await fixture.agents.consume_alerts(
            fixture.stream(ALERTS_RAISED.name, ALERT_VALUE, headers={REQUEUED_FROM: b"3:7"})
        )
        [(batch, _)] = fixture.enqueued
        assert isinstance(batch.pending_event, PendingEvent)
        assert batch.pending_event.requeued

    run(check)


def test_a_registration_starts_a_confirmation_and_other_changes_are_acknowledged() -> None:
    """A tombstone is acknowledged at once; a registration is not."""

    async def check() -> None:
        fixture = AgentsFixture()
        request = UserChanged(user_id=USER, registered=UserRegistered(confirmation_id="c1")).SerializeToString()
        await fixture.agents.consume_user_changes(fixture.stream(USERS_CHANGED.name, None, request))
        assert [each.mail_key for _, each in fixture.requests] == ["c1"]
        assert fixture.deeds == [("acknowledged", 7)]

    run(check)


def test_a_notice_is_started_new_or_deferred_and_acknowledged_only_by_its_task() -> None:
    """A new notice may be sent at once, and its lifetime starts at its record; a retry has its own times."""

    async def check() -> None:
        fixture = AgentsFixture()
        await fixture.agents.consume_notices(
            fixture.stream(NOTICES_RAISED.name, NOTICE_VALUE, headers={REQUEUED_FROM: b"3:7"})
        )
        [(pending_event, scheduled)] = fixture.notices
        published_at = datetime.fromtimestamp(1_360_281_600.0, UTC)
        assert scheduled == ScheduledNotice(RaisedNotice(NOTICE, NOTICE_VALUE), 0, published_at, published_at)
        assert pending_event.requeued
        retry = replace(scheduled, attempt=3, not_before=NOW, sealed=True)
        await fixture.agents.consume_retries(fixture.stream(ALERTS_RETRY.name, encode_retry(retry)))
        assert [each for _, each in fixture.notices] == [scheduled, retry]
        assert (fixture.deeds, fixture.enqueued) == ([], [])

    run(check)


def test_a_deferred_confirmation_is_started_with_its_own_times() -> None:
    """Its event is acknowledged only by its task."""

    async def check() -> None:
        fixture = AgentsFixture()
        request = UserChanged(user_id=USER, registered=UserRegistered(confirmation_id="c1")).SerializeToString()
        await fixture.agents.consume_user_changes(fixture.stream(USERS_CHANGED.name, request))
        [(_, scheduled)] = fixture.requests
        published_at = datetime.fromtimestamp(1_360_281_600.0, UTC)
        assert (scheduled.not_before, scheduled.first_attempt_at, scheduled.attempt) == (published_at, published_at, 0)
        retry = replace(scheduled, attempt=3, not_before=NOW, sealed=True)
        await fixture.agents.consume_retries(fixture.stream(ALERTS_RETRY.name, encode_retry(retry)))
        assert [each for _, each in fixture.requests] == [scheduled, retry]
        assert (fixture.deeds, fixture.enqueued) == ([], [])

    run(check)


@pytest.mark.parametrize("value", [b"\xff", None, b""])
def test_an_undecodable_notice_is_dead_lettered_and_then_acknowledged(value: bytes | None) -> None:
    """The agent continues with the next event."""

    async def check() -> None:
        fixture = AgentsFixture()
        await fixture.agents.consume_notices(fixture.stream(NOTICES_RAISED.name, value, NOTICE_VALUE))
        assert fixture.deeds == [("dead letter", value), ("acknowledged", 7)]
        assert len(fixture.notices) == 1

    run(check)


@pytest.mark.parametrize("value", [b"\xff", None])
def test_an_undecodable_event_is_dead_lettered_and_then_acknowledged(value: bytes | None) -> None:
    """The agent continues with the next event."""

    async def check() -> None:
        fixture = AgentsFixture()
        await fixture.agents.consume_alerts(fixture.stream(ALERTS_RAISED.name, value, ALERT_VALUE))
        assert fixture.deeds == [("dead letter", value), ("acknowledged", 7)]
        assert len(fixture.enqueued) == 1

    run(check)


def test_a_bug_dead_letters_one_event() -> None:
    """If an exception left the agent, Faust would acknowledge the event, and the alert would be lost."""

    async def check() -> None:
        fixture = AgentsFixture()
        fixture.bug = ZeroDivisionError()
        await fixture.agents.consume_alerts(fixture.stream(ALERTS_RAISED.name, ALERT_VALUE))
        assert fixture.deeds == [("dead letter", ALERT_VALUE), ("acknowledged", 7)]

    run(check)


def test_an_event_of_a_revoked_partition_is_neither_queued_nor_acknowledged() -> None:
    """After a rebalance the partition's owner reads the event again."""

    async def check() -> None:
        fixture = AgentsFixture()
        fixture.owns_partitions = False
        await fixture.agents.consume_alerts(fixture.stream(ALERTS_RAISED.name, ALERT_VALUE))
        await fixture.agents.consume_user_changes(fixture.stream(USERS_CHANGED.name, None))
        assert (fixture.enqueued, fixture.deeds) == ([], [])

    run(check)


def test_publishing_is_repeated_until_the_broker_accepts() -> None:
    """An alert whose retry is not published would be lost."""

    async def check() -> None:
        fixture = AgentsFixture(refusals=1)
        retry = Retry((decode_raised_alert(ALERT_VALUE),), 1, NOW, NOW)
        await fixture.topics.publish_retry(ALERT.user_id, retry)
        assert [name for name, _ in fixture.deeds] == ["retry refused", "retry refused", "retry"]
        assert decode_retry(fixture.deeds[-1][1]) == retry
        await fixture.topics.publish_dead_letter(an_event(ALERTS_RAISED.name, 0, b"", ALERT_VALUE, {}), "because")
        assert fixture.deeds[-2:] == [("dead letter refused", None), ("dead letter", ALERT_VALUE)]

    run(check)


def test_a_retry_above_the_maximal_size_is_not_published() -> None:
    """The broker would never accept it, and its mail would be in flight until the worker ends."""

    async def check() -> None:
        fixture = AgentsFixture()
        raised = decode_raised_alert(ALERT_VALUE)
        large = Retry(
            (replace(raised, original=ALERT_VALUE + b"\xfa\x07\x80\xad\xe2\x04" + bytes(10_000_000)),), 1, NOW, NOW
        )
        with pytest.raises(TooLargeToWaitError):
            await fixture.topics.publish_retry(ALERT.user_id, large)
        assert fixture.deeds == []

    run(check)
