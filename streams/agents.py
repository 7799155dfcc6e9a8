"""The one agent. It reads both inputs, because two agents would have to lock the airport against each other."""

import asyncio
from datetime import UTC, datetime

import faust
import structlog
from aiokafka.errors import KafkaError
from faust.types import EventT, StreamT, TopicT
from towerwatch.topics import ALERTS_RAISED, FLIGHTS_OBSERVED, INTERESTS_CHANGED, partition_of

from chassis.kafka import sequence_in
from chassis.metrics import Metrics
from chassis.stream_app import dead_letter
from domain.alerts import Alert
from streams.desk import Desk, Outcome
from streams.errors import UndecodableError, UnsequencedError
from streams.messages import decode_flights, encode_alert

log = structlog.get_logger()


class Join:
    """Flight events meet interests. Alerts are acknowledged by the broker before the state that makes the
    event a duplicate is written: a crash between them repeats alerts, under the same ids, and loses none."""

    def __init__(
        self,
        desk: Desk,
        airports: faust.Table,
        interests: faust.Table,
        alerts: TopicT,
        dead_letters: TopicT,
        metrics: Metrics,
    ) -> None:
        self._desk = desk
        self._tables = {FLIGHTS_OBSERVED.name: airports, INTERESTS_CHANGED.name: interests}
        self._alerts = alerts
        self._dead_letters = dead_letters
        self._folded = metrics.counter("stream_events_total", "Events by what became of them", "topic", "outcome")
        self._flights = metrics.counter("stream_flights_total", "Flights folded").labels()
        self._raised = metrics.counter("alerts_raised_total", "Alerts raised", "bound", "state")

    async def run(self, stream: StreamT) -> None:
        """Fold each event. Nothing leaves the loop: Faust would acknowledge the event all the same."""
        async for event in stream.events():
            try:
                outcome = self._outcome(event)
                if outcome is None:
                    self._count(event, "duplicate")
                    continue
                await self._raise(outcome.alerts, datetime.fromtimestamp(event.message.timestamp, UTC))
                self._tables[event.message.topic][outcome.key] = outcome.entry
                self._desk.written(outcome)
                self._count(event, "folded")
            except (UndecodableError, UnsequencedError) as error:
                await self._put_aside(event, str(error))
            except Exception as error:  # a bug in the rule must cost one event, kept as evidence, and not the stream
                log.error("join.failed", error=type(error).__name__, exc_info=error)
                await self._put_aside(event, f"{type(error).__name__} in the join")

    def _outcome(self, event: EventT) -> Outcome | None:
        sequence = sequence_in(event.message.headers)
        if sequence is None:
            raise UnsequencedError("no sequence among the headers")
        if event.message.topic == INTERESTS_CHANGED.name:
            return self._desk.interest_changed(sequence, event.message.key or b"", event.message.value)
        batch = decode_flights(event.message.value)
        outcome = self._desk.flights_observed(sequence, batch)
        if outcome is not None:
            self._flights.inc(len(batch.observation.event_times))
        return outcome

    async def _raise(self, alerts: tuple[Alert, ...], cause_published_at: datetime) -> None:
        """Send alerts and return once the broker has all of them; tries as long as it takes."""
        pause = 0.2
        while alerts:
            try:
                pending = [
                    await self._alerts.send(
                        key=(user_id := str(alert.user_id)).encode(),
                        value=encode_alert(alert, cause_published_at),
                        partition=partition_of(user_id, ALERTS_RAISED),
                    )
                    for alert in alerts
                ]
                for sent in pending:
                    await sent
                break
            except KafkaError as error:
                log.warning("join.alerts_not_sent", error=type(error).__name__, again_in_s=pause)
                await asyncio.sleep(pause)
                pause = min(pause * 2, 10.0)
        for alert in alerts:
            self._raised.labels(bound=alert.bound.value, state=alert.state.value).inc()

    async def _put_aside(self, event: EventT, reason: str) -> None:
        self._count(event, "dead_letter")
        pause = 0.2
        while True:
            try:
                await dead_letter(self._dead_letters, event, reason)
                return
            except KafkaError as error:
                log.warning("join.dead_letter_not_sent", error=type(error).__name__, again_in_s=pause)
                await asyncio.sleep(pause)
                pause = min(pause * 2, 10.0)

    def _count(self, event: EventT, outcome: str) -> None:
        self._folded.labels(topic=event.message.topic, outcome=outcome).inc()
