"""The one agent. It reads both inputs, because two agents would have to lock the airport against each other."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

import structlog
from aiokafka.errors import KafkaError
from faust.exceptions import FaustError
from faust.types import EventT, StreamT, TopicT

from chassis.kafka import sequence_in
from chassis.metrics import Metrics
from chassis.stream_app import dead_letter
from domain.alerts import Alert
from streams.desk import Desk, Outcome
from streams.errors import MisroutedError, UnsequencedError, UnusableEventError
from streams.messages import decode_flights, encode_alert
from streams.tables import SequencedTable
from towerwatch.topics import ALERTS_RAISED, FLIGHTS_OBSERVED, INTERESTS_CHANGED, partition_of

log = structlog.get_logger()


class Join:
    """Flight events meet interests.

    Three steps in this order, so that a crash between any two repeats alerts, under the same ids, and loses none:
    the broker has the alerts; the broker has the state that makes the event a duplicate; the event is acknowledged.
    """

    def __init__(
        self,
        desk: Desk,
        airports: SequencedTable,
        interests: SequencedTable,
        alerts: TopicT,
        dead_letters: TopicT,
        metrics: Metrics,
        still_ours: Callable[[EventT[bytes]], bool],
        crash: Callable[[BaseException], None],
    ) -> None:
        """`still_ours`: whether this worker still owns an event's partition, as it did when it received the event.

        `crash` ends the worker, to be started again: when a table holds what its changelog will never have.
        """
        self._desk = desk
        self._tables = {FLIGHTS_OBSERVED.name: airports, INTERESTS_CHANGED.name: interests}
        self._alerts = alerts
        self._dead_letters = dead_letters
        self._still_ours = still_ours
        self._crash = crash
        self._acknowledgements: set[asyncio.Task[None]] = set()
        self._events = metrics.counter("stream_events_total", "Events by what became of them", "topic", "outcome")
        self._flights = metrics.counter("stream_flights_total", "Flights folded").labels()
        self._stray = metrics.counter("stream_stray_flights_total", "Flights out of their batch's reach").labels()
        self._raised = metrics.counter("alerts_raised_total", "Alerts raised", "bound", "state")

    async def run(self, stream: StreamT[bytes]) -> None:
        """Fold each event. Nothing leaves the loop, and each is acknowledged by hand: Faust would acknowledge one
        that failed, and one that a stop interrupts."""
        events = stream.noack()  # type: ignore[attr-defined]  # the interface lacks what every stream has
        async for event in events.events():
            if await self._done(event):
                acknowledgement = asyncio.create_task(self._acknowledge(events, event))
                self._acknowledgements.add(acknowledgement)
                acknowledgement.add_done_callback(self._acknowledgements.discard)

    async def _done(self, event: EventT[bytes]) -> bool:
        """Whether all is done about an event; not when its partition was taken away: who has it now reads it again."""
        try:
            outcome = self._outcome(event)
            if outcome is None:
                return self._counted(event, "duplicate")
            await self._raise(outcome.alerts, datetime.fromtimestamp(event.message.timestamp, UTC))
            # The tables may be another's by now, or be recovering: no await from here to the write.
            if not self._still_ours(event):
                return False
            self._tables[event.message.topic][outcome.key] = outcome.entry
            self._desk.written(outcome)
            self._flights.inc(outcome.flights)
            self._stray.inc(outcome.stray_flights)
            return self._counted(event, "folded")
        except UnusableEventError as error:
            return await self._put_aside(event, str(error))
        except Exception as error:  # a bug in the rule must cost one event, kept as evidence, and not the stream
            log.error("join.failed", error=type(error).__name__, exc_info=error)
            return await self._put_aside(event, f"{type(error).__name__} in the join")

    def _outcome(self, event: EventT[bytes]) -> Outcome | None:
        message = event.message
        sequence = sequence_in(message.headers)
        if sequence is None:
            raise UnsequencedError("no sequence among the headers")
        if message.topic == INTERESTS_CHANGED.name:
            outcome = self._desk.interest_changed(sequence, message.key or b"", message.value)
        else:
            outcome = self._desk.flights_observed(sequence, decode_flights(message.value))
        if outcome is not None and partition_of(outcome.airport, FLIGHTS_OBSERVED) != message.partition:
            raise MisroutedError("not in the partition of its airport")
        return outcome

    async def _raise(self, alerts: tuple[Alert, ...], cause_published_at: datetime) -> None:
        """Send alerts and return once the broker has all of them; tries as long as it takes."""
        if not alerts:
            return

        async def send() -> None:
            sent = [
                await self._alerts.send(
                    key=(user_id := str(alert.user_id)).encode(),
                    value=encode_alert(alert, cause_published_at),
                    partition=partition_of(user_id, ALERTS_RAISED),
                )
                for alert in alerts
            ]
            for each in sent:
                await each

        await _insist(send)
        for alert in alerts:
            self._raised.labels(bound=alert.bound.value, state=alert.state.value).inc()

    async def _put_aside(self, event: EventT[bytes], reason: str) -> bool:
        await _insist(lambda: dead_letter(self._dead_letters, event, reason))
        return self._counted(event, "dead_letter")

    def _counted(self, event: EventT[bytes], outcome: str) -> bool:
        self._events.labels(topic=event.message.topic, outcome=outcome).inc()
        return True

    async def _acknowledge(self, stream: StreamT[bytes], event: EventT[bytes]) -> None:
        """Acknowledge an event once the state that it made, or that made it a duplicate, is in the changelog."""
        write = self._tables[event.message.topic].last_write(event.message.partition)
        if write is not None:
            await asyncio.wait([write])
            error = write.exception()
            if error is not None:
                log.error("join.state_not_kept", error=type(error).__name__)
                self._crash(error)
                return
        if self._still_ours(event):
            await stream.ack(event)


async def _insist(send: Callable[[], Awaitable[None]]) -> None:
    """Send; tries as long as it takes, because without the broker nothing else goes on."""
    pause = 0.1
    while True:
        try:
            await send()
            return
        except (KafkaError, FaustError) as error:
            log.warning("join.broker_refused", error=type(error).__name__, again_in_s=pause)
        await asyncio.sleep(pause)
        pause = min(pause * 2, 10.0)
