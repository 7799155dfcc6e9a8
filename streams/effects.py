"""The effects of folded events that are not done yet, and how their alerts are sent."""

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime

import structlog
from faust.types import EventT

from domain.alerts import Alert
from streams.join_state import FoldResult
from streams.messages import encode_alert
from towerwatch.topics import ALERTS_RAISED, partition_of

log = structlog.get_logger()

Send = Callable[[bytes, bytes, int], Awaitable[Awaitable[object]]]
"""A function that passes a record (key, value, partition) to the producer, and returns once the producer accepted it.

The returned awaitable is done once the broker has the record. Both may raise KafkaError or FaustError.
"""


@dataclass(slots=True)
class PendingEffects:
    """The effects of up to 200 folded events, which are not done yet: dead letters, alerts and table writes.

    `Join._fold_event` adds the effects of one event after the other; `Join._perform_effects` does them all together.
    The fields are in the order in which the effects must be done.
    """

    epoch: int
    """`JoinState.epoch` at the fold: the effects are invalid once the join state has another epoch."""
    dead_letters: list[tuple[EventT[bytes], str, Exception]] = field(default_factory=list)
    """Unusable events, each with its reason and its error."""
    alerts: list[Iterable[tuple[Alert, datetime]]] = field(default_factory=list)
    """For each folded event, its alerts, each with the time at which the event was published.

    Only the last event's alerts may be a generator that builds them while they are sent.
    """
    history_entries: dict[bytes, tuple[EventT[bytes], bytes | None]] = field(default_factory=dict)
    """By key of the history table, the event and the entry to write. Entry None: delete."""
    table_entries: dict[tuple[str, bytes], tuple[EventT[bytes], bytes | None]] = field(default_factory=dict)
    """By topic and key, the last event and the entry to write. Entry None: write the table's present entry again."""
    results: list[FoldResult] = field(default_factory=list)
    """Results of the folded events, which the join state in memory contains already."""
    events: list[EventT[bytes]] = field(default_factory=list)
    """Events to acknowledge when all effects are done: folded events and duplicates.

    `Join._perform_effects` appends the events of the dead letters at its end.
    """
    has_many_alerts: bool = False
    """True if the last event has so many alerts that they are built while they are sent."""

    def may_follow(self, topic: str, key: bytes, result: FoldResult) -> bool:
        """Return True if a result can be added, False if these effects must be done before it is folded.

        False for a batch that closes days, if the airport's entry is written here already: a day moves to the history
        only after the changelog has the entry that contains it. `topic`, `key`: those of the result's table entry.
        """
        return not result.history_entries or (topic, key) not in self.table_entries


async def send_alerts(send: Send, alerts: tuple[tuple[Alert, datetime], ...]) -> None:
    """Send alerts, each by its user's key to the user's partition, and wait until the broker has all of them.

    Raises KafkaError or FaustError; then some of the alerts may have been sent.
    """
    sent = [
        await send(
            (user_id := str(alert.user_id)).encode(),
            encode_alert(alert, cause_published_at),
            partition_of(user_id, ALERTS_RAISED),
        )
        for alert, cause_published_at in alerts
    ]
    for confirmation in sent:
        await confirmation
