"""What the agents do with each event; what becomes of alerts and requests after that is in the tests of the core."""

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from chassis.metrics import Metrics, ServiceIdentity
from notifier.agents import Agents, KafkaTopics
from notifier.delivery.batching import AlertBatch
from notifier.delivery.interfaces import PendingEvent
from notifier.delivery.user_state import UserState, compute_batch_id
from notifier.errors import TooLargeToWaitError
from notifier.messages import REQUEUED_FROM, ConfirmationRequest, Retry, decode_raised_alert, decode_retry, encode_retry
from notifier.metrics import NotifierMetrics
from streams.messages import encode_alert
from tests.fakes.stream import Deed, FakeStream, FakeTopic, an_event
from tests.notifier.alerts import ALERT, CAUSE, NOW
from towerwatch.topics import ALERTS_RAISED, ALERTS_RETRY, USERS_CHANGED
from towerwatch.users.v1.events_pb2 import UserChanged, UserRegistered

ALERT_VALUE = encode_alert(ALERT, CAUSE)
USER = str(ALERT.user_id)
USER_STATE = UserState().with_mail_sent(NOW, (), 12)


class AgentsFixture:
    """Agents whose alerts and requests are only written down."""

    def __init__(self, refusals: int = 0) -> None:
        self.deeds: list[Deed] = []
        self.taken: list[tuple[AlertBatch, UserState]] = []
        self.requests: list[tuple[PendingEvent, ConfirmationRequest]] = []
        self.capacity_waits: list[bool] = []
        self.owns_partitions = True
        self.bug: Exception | None = None
        self.user_state = USER_STATE
        self.topics = KafkaTopics(
            FakeTopic("retry", self.deeds, refuse_at_once=refusals, refuse_later=refusals),  # type: ignore[arg-type]
            FakeTopic("dead letter", self.deeds, refuse_later=refusals),  # type: ignore[arg-type]
            lambda event: self.owns_partitions,
        )
        metrics = NotifierMetrics(Metrics(ServiceIdentity("notifier", "test")))
        self.agents = Agents(self, _FakeConfirmations(self), self, self.topics, metrics)  # type: ignore[arg-type]

    async def wait_for_capacity(self, is_retry: bool = False) -> None:
        self.capacity_waits.append(is_retry)
        if self.bug is not None:
            raise self.bug

    def enqueue(self, batch: AlertBatch, user_state: UserState) -> None:
        self.taken.append((batch, user_state))

    def load_user_state(self, event: Any, user_id: UUID) -> UserState:
        assert user_id == ALERT.user_id
        return self.user_state

    def stream(self, topic: str, *values: bytes | None, headers: dict[str, bytes] | None = None) -> Any:
        return FakeStream([an_event(topic, 0, USER.encode(), each, headers or {}) for each in values], self.deeds)


class _FakeConfirmations:
    def __init__(self, fixture: AgentsFixture) -> None:
        self._fixture = fixture

    async def start(self, arrival: PendingEvent, request: ConfirmationRequest) -> None:
        self._fixture.requests.append((arrival, request))


def run(check: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(asyncio.wait_for(check(), 20))


def test_an_alert_is_taken_in_hand_and_acknowledged_by_whoever_is_done_with_it() -> None:
    """Its lifetime began when it came to the broker."""

    async def check() -> None:
        it = AgentsFixture()
        await it.agents.consume_alerts(it.stream(ALERTS_RAISED.name, ALERT_VALUE))
        [(batch, user_state)] = it.taken
        assert ([each.alert for each in batch.alerts], user_state) == ([ALERT], USER_STATE)
        assert batch.lifetime_start.timestamp() == 1_360_281_600.0
        assert (it.deeds, it.capacity_waits) == ([], [False])
        assert isinstance(batch.pending_event, PendingEvent)
        assert not batch.pending_event.requeued
        await batch.pending_event.acknowledge()
        assert it.deeds == [("acknowledged", 7)]

    run(check)


def test_a_retry_is_taken_in_hand_as_it_was_put_off() -> None:
    """With its time, its tries, its seal, and the beginning of its lifetime."""

    async def check() -> None:
        it = AgentsFixture()
        raised = decode_raised_alert(ALERT_VALUE)
        retry = Retry((raised,), 3, NOW + timedelta(seconds=30), NOW - timedelta(hours=1), sealed=True)
        await it.agents.consume_retries(it.stream(ALERTS_RETRY.name, encode_retry(retry)))
        [(batch, _)] = it.taken
        assert (batch.alerts, batch.attempt, batch.not_before) == (retry.alerts, 3, retry.not_before)
        assert (batch.lifetime_start, batch.sealed, it.capacity_waits) == (retry.first_attempt_at, True, [True])

    run(check)


def test_a_retry_that_was_put_off_again_is_acknowledged() -> None:
    """It was before, but nobody had committed that. The other record comes after it."""

    async def check() -> None:
        it = AgentsFixture()
        raised = decode_raised_alert(ALERT_VALUE)
        until = NOW + timedelta(seconds=30)
        it.user_state = USER_STATE.with_deferred_batches((compute_batch_id([ALERT.alert_id]),), until, NOW)
        values = [encode_retry(Retry((raised,), 1, each, NOW)) for each in (NOW, until)]
        await it.agents.consume_retries(it.stream(ALERTS_RETRY.name, *values))
        [(batch, _)] = it.taken
        assert batch.not_before == until
        assert it.deeds == [("acknowledged", 7)]

    run(check)


def test_what_was_requeued_says_so() -> None:
    """By its header."""

    async def check() -> None:
        it = AgentsFixture()
        await it.agents.consume_alerts(it.stream(ALERTS_RAISED.name, ALERT_VALUE, headers={REQUEUED_FROM: b"3:7"}))
        [(batch, _)] = it.taken
        assert isinstance(batch.pending_event, PendingEvent)
        assert batch.pending_event.requeued

    run(check)


def test_a_wish_is_taken_in_hand_and_other_changes_are_passed_over() -> None:
    """They are acknowledged at once."""

    async def check() -> None:
        it = AgentsFixture()
        request = UserChanged(user_id=USER, registered=UserRegistered(confirmation_id="c1")).SerializeToString()
        await it.agents.consume_user_changes(it.stream(USERS_CHANGED.name, None, request))
        assert [each.confirmation_id for _, each in it.requests] == ["c1"]
        assert it.deeds == [("acknowledged", 7)]

    run(check)


@pytest.mark.parametrize("value", [b"\xff", None])
def test_what_is_no_event_is_a_dead_letter(value: bytes | None) -> None:
    """And acknowledged after that; the agent goes on."""

    async def check() -> None:
        it = AgentsFixture()
        await it.agents.consume_alerts(it.stream(ALERTS_RAISED.name, value, ALERT_VALUE))
        assert it.deeds == [("dead letter", value), ("acknowledged", 7)]
        assert len(it.taken) == 1

    run(check)


def test_a_bug_costs_one_event_kept_as_evidence() -> None:
    """An exception that left the agent would be acknowledged by Faust, and the alert lost."""

    async def check() -> None:
        it = AgentsFixture()
        it.bug = ZeroDivisionError()
        await it.agents.consume_alerts(it.stream(ALERTS_RAISED.name, ALERT_VALUE))
        assert it.deeds == [("dead letter", ALERT_VALUE), ("acknowledged", 7)]

    run(check)


def test_what_is_not_ours_any_more_is_neither_taken_nor_acknowledged() -> None:
    """A rebalance began while there was no room: it is read again, here or elsewhere."""

    async def check() -> None:
        it = AgentsFixture()
        it.owns_partitions = False
        await it.agents.consume_alerts(it.stream(ALERTS_RAISED.name, ALERT_VALUE))
        await it.agents.consume_user_changes(it.stream(USERS_CHANGED.name, None))
        assert (it.taken, it.deeds) == ([], [])

    run(check)


def test_a_broker_that_refuses_is_asked_until_it_takes() -> None:
    """A retry that nobody keeps would be a lost alert."""

    async def check() -> None:
        it = AgentsFixture(refusals=1)
        retry = Retry((decode_raised_alert(ALERT_VALUE),), 1, NOW, NOW)
        await it.topics.publish_retry(ALERT.user_id, retry)
        assert [name for name, _ in it.deeds] == ["retry refused", "retry refused", "retry"]
        assert decode_retry(it.deeds[-1][1]) == retry
        await it.topics.publish_dead_letter(an_event(ALERTS_RAISED.name, 0, b"", ALERT_VALUE, {}), "because")
        assert it.deeds[-2:] == [("dead letter refused", None), ("dead letter", ALERT_VALUE)]

    run(check)


def test_what_no_record_can_hold_is_not_tried_for_ever() -> None:
    """The broker would never take it, and with it its mail would be on its way until the worker ends."""

    async def check() -> None:
        it = AgentsFixture()
        raised = decode_raised_alert(ALERT_VALUE)
        large = Retry(
            (replace(raised, original=ALERT_VALUE + b"\xfa\x07\x80\xad\xe2\x04" + bytes(10_000_000)),), 1, NOW, NOW
        )
        with pytest.raises(TooLargeToWaitError):
            await it.topics.publish_retry(ALERT.user_id, large)
        assert it.deeds == []

    run(check)
