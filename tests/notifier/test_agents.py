import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass, replace
from datetime import timedelta
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest
from aiokafka.errors import KafkaTimeoutError

from chassis.metrics import Identity, Metrics
from notifier.agents import Agents
from notifier.errors import MailServerAway, NotSent, PermanentlyRefused, TemporarilyRefused
from notifier.messages import ConfirmationWish, RaisedAlert, Retry, decode_raised, decode_retry, encode_retry
from notifier.retries import CONFIRMATION_TRIES, LIFETIME
from streams.messages import encode_alert
from tests.fakes.clock import FakeClock
from tests.notifier.alerts import ALERT, CAUSE, NOW
from towerwatch.topics import ALERTS_RAISED, ALERTS_RETRY, USERS_CHANGED, partition_of
from towerwatch.users.v1.events_pb2 import UserChanged, UserRegistered

ALERT_VALUE = encode_alert(ALERT, CAUSE)
USER = str(ALERT.user_id)


class HurriedClock(FakeClock):
    """Time passes when somebody sleeps, and takes none."""

    def real_seconds(self, duration: timedelta) -> float:
        self.advance(max(duration, timedelta(0)))
        return 0


@dataclass(frozen=True, slots=True)
class Sent:
    """What an agent sent to a topic."""

    key: bytes
    value: bytes
    partition: int | None
    headers: dict[str, bytes] | None


class Topic:
    """Takes records, after it refused as many as `refusals` says."""

    def __init__(self) -> None:
        self.sent: list[Sent] = []
        self.refusals = 0

    async def send(
        self, key: bytes, value: bytes, partition: int | None = None, headers: dict[str, bytes] | None = None
    ) -> "asyncio.Future[None]":
        acknowledged = asyncio.get_running_loop().create_future()
        if self.refusals:
            self.refusals -= 1
            acknowledged.set_exception(KafkaTimeoutError())
        else:
            self.sent.append(Sent(key, value, partition, headers))
            acknowledged.set_result(None)
        return acknowledged


class Stream:
    """Gives events, as Faust's streams do, and notes which were acknowledged."""

    def __init__(self, topic: str, *values: bytes | None) -> None:
        self._events = [
            SimpleNamespace(
                message=SimpleNamespace(
                    topic=topic, partition=0, offset=offset, key=USER.encode(), value=value, timestamp=NOW.timestamp()
                )
            )
            for offset, value in enumerate(values)
        ]
        self.acknowledged: list[int] = []

    def noack(self) -> "Stream":
        return self

    async def events(self) -> AsyncIterator[SimpleNamespace]:
        for event in self._events:
            yield event

    async def ack(self, event: SimpleNamespace) -> None:
        self.acknowledged.append(event.message.offset)


class Scene:
    """Agents with a mailroom that fails as the test says."""

    def __init__(self) -> None:
        self.clock = HurriedClock(NOW)
        self.retries = Topic()
        self.dead_letters = Topic()
        self.failures: dict[object, list[Exception]] = defaultdict(list)
        """By alert id or confirmation id: what happens to its tries, in order, before they succeed."""
        self.mailed: list[object] = []
        metrics = Metrics(Identity("notifier", "test"))
        self.agents = Agents(
            self,  # type: ignore[arg-type]
            self.retries,  # type: ignore[arg-type]
            self.dead_letters,  # type: ignore[arg-type]
            self.clock,
            timedelta(seconds=5),
            metrics,
        )

    async def tell(self, raised: RaisedAlert) -> None:
        self._try(raised.alert.alert_id)

    async def ask_to_confirm(self, wish: ConfirmationWish) -> None:
        self._try(wish.confirmation_id)

    def _try(self, wanted: object) -> None:
        if self.failures[wanted]:
            raise self.failures[wanted].pop(0)
        self.mailed.append(wanted)

    def reasons(self) -> list[str]:
        return [(letter.headers or {})["reason"].decode() for letter in self.dead_letters.sent]


def run(scene: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(asyncio.wait_for(scene(), 20))


def registered(confirmation_id: str) -> bytes:
    return UserChanged(user_id=USER, registered=UserRegistered(confirmation_id=confirmation_id)).SerializeToString()


def test_a_first_failure_becomes_a_retry() -> None:
    """In the partition of its user, with its time; the event behind goes out at once."""
    behind = replace(ALERT, alert_id=uuid4())

    async def scene() -> None:
        it = Scene()
        it.failures[ALERT.alert_id] = [TemporarilyRefused("450")]
        stream = Stream(ALERTS_RAISED.name, ALERT_VALUE, encode_alert(behind, CAUSE))
        await it.agents.raised(stream)  # type: ignore[arg-type]
        [sent] = it.retries.sent
        assert (sent.key, sent.partition) == (USER.encode(), partition_of(USER, ALERTS_RETRY))
        retry = decode_retry(sent.value)
        assert (retry.raised.alert, retry.attempt, retry.first_attempt_at) == (ALERT, 1, NOW)
        assert timedelta(seconds=2.5) <= retry.not_before - NOW <= timedelta(seconds=5)
        assert it.mailed == [behind.alert_id]
        assert stream.acknowledged == [0, 1]

    run(scene)


def test_a_retry_waits_for_its_time_and_is_put_off_again() -> None:
    """With one more try counted, and the time of the first kept."""

    async def scene() -> None:
        it = Scene()
        it.failures[ALERT.alert_id] = [TemporarilyRefused("450")]
        retry = Retry(decode_raised(ALERT_VALUE), 3, NOW + timedelta(seconds=30), NOW - timedelta(hours=1))
        await it.agents.retried(Stream(ALERTS_RETRY.name, encode_retry(retry)))  # type: ignore[arg-type]
        assert it.clock.now() == NOW + timedelta(seconds=30)
        again = decode_retry(it.retries.sent[0].value)
        assert (again.attempt, again.first_attempt_at) == (4, retry.first_attempt_at)
        assert again.not_before > it.clock.now()

    run(scene)


def test_an_alert_is_given_up_after_its_lifetime() -> None:
    """A day later it is no news any more: it becomes a dead letter."""

    async def scene() -> None:
        it = Scene()
        it.failures[ALERT.alert_id] = [MailServerAway("no connection")]
        value = encode_retry(Retry(decode_raised(ALERT_VALUE), 400, NOW, NOW - LIFETIME))
        await it.agents.retried(Stream(ALERTS_RETRY.name, value))  # type: ignore[arg-type]
        assert it.retries.sent == []
        assert [letter.value for letter in it.dead_letters.sent] == [value]
        assert it.reasons() == ["gave up after 401 tries: no connection"]

    run(scene)


@pytest.mark.parametrize(
    ("failure", "reason"),
    [(PermanentlyRefused("refused: 550"), "refused: 550"), (ZeroDivisionError(), "ZeroDivisionError in the notifier")],
)
def test_what_is_hopeless_is_a_dead_letter_at_once(failure: Exception, reason: str) -> None:
    """A permanent refusal, and a bug of ours: neither ends the agent."""

    async def scene() -> None:
        it = Scene()
        it.failures[ALERT.alert_id] = [failure]
        stream = Stream(ALERTS_RAISED.name, ALERT_VALUE, ALERT_VALUE)
        await it.agents.raised(stream)  # type: ignore[arg-type]
        assert it.reasons() == [reason]
        assert it.mailed == [ALERT.alert_id]
        assert stream.acknowledged == [0, 1]

    run(scene)


def test_a_recipient_who_alone_is_refused_holds_up_other_confirmations_for_a_while_only() -> None:
    """After some tries in place their wish becomes a dead letter, and they may ask again."""

    async def scene() -> None:
        it = Scene()
        it.failures["greylisted"] = [TemporarilyRefused("450")] * 99
        stream = Stream(USERS_CHANGED.name, registered("greylisted"), registered("next"), None)
        await it.agents.users_changed(stream)  # type: ignore[arg-type]
        assert it.reasons() == [f"gave up after {CONFIRMATION_TRIES} tries: 450"]
        assert it.mailed == ["next"]
        assert it.clock.now() - NOW <= timedelta(seconds=75)
        assert stream.acknowledged == [0, 1, 2]

    run(scene)


@pytest.mark.parametrize(("failures", "mailed"), [(50, True), (5000, False)])
def test_an_outage_costs_no_confirmation_within_a_day(failures: int, mailed: bool) -> None:
    """While nobody could be mailed, waiting costs the others nothing; yesterday's link is of no use."""

    async def scene() -> None:
        it = Scene()
        failure: NotSent = MailServerAway("no connection")
        it.failures["wish"] = [failure] * failures
        await it.agents.users_changed(Stream(USERS_CHANGED.name, registered("wish")))  # type: ignore[arg-type]
        assert (it.mailed == ["wish"]) == mailed
        assert len(it.dead_letters.sent) == (not mailed)
        assert it.clock.now() - NOW <= LIFETIME + timedelta(minutes=5)

    run(scene)


def test_a_broker_that_refuses_is_asked_until_it_takes() -> None:
    """A retry that nobody keeps would be a lost alert."""

    async def scene() -> None:
        it = Scene()
        it.retries.refusals = 7
        it.failures[ALERT.alert_id] = [TemporarilyRefused("450")]
        stream = Stream(ALERTS_RAISED.name, ALERT_VALUE)
        await it.agents.raised(stream)  # type: ignore[arg-type]
        assert len(it.retries.sent) == 1
        assert stream.acknowledged == [0]

    run(scene)


def test_what_a_stop_interrupts_is_not_acknowledged() -> None:
    """It comes again after the restart."""

    async def scene() -> None:
        it = Scene()
        at_work = asyncio.Event()

        async def never(_raised: RaisedAlert) -> None:
            at_work.set()
            await asyncio.Event().wait()

        it.tell = never  # type: ignore[method-assign, assignment]
        stream = Stream(ALERTS_RAISED.name, ALERT_VALUE)
        agent = asyncio.create_task(it.agents.raised(stream))  # type: ignore[arg-type]
        await at_work.wait()
        agent.cancel()
        with pytest.raises(asyncio.CancelledError):
            await agent
        assert stream.acknowledged == []

    run(scene)
