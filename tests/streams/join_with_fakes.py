"""The agent among fakes: what it does, in which order."""

import asyncio
from collections.abc import Callable
from typing import Any

from chassis.clock import SystemClock
from chassis.metrics import Metrics, ServiceIdentity
from streams.agents import Join, Tables
from streams.join_state import JoinState
from streams.metrics import StreamMetrics
from streams.recent_activity import RecentActivity
from tests.domain.logs import an_interest
from tests.domain.test_rule import seen
from tests.fakes.stream import Deed, FakeStream, FakeTable, FakeTopic, an_event
from tests.streams.events import Event, interest_set, observed

THREE = observed("KJFK", 2, seen(0, 1, (0.1, 0.2, 0.3)))
INTEREST = interest_set(an_interest(), 1)


class Room:
    """An agent among fakes."""

    def __init__(self, **refusals: int) -> None:
        self.deeds: list[Deed] = []
        self.airports, self.interests = FakeTable(self.deeds), FakeTable(self.deeds)
        self.history = FakeTable(self.deeds, "past written")
        self.desk = JoinState(self.airports, self.interests, self.history)
        self.is_still_owned: Callable[[Any], bool] = lambda _event: True
        self.crashes: list[BaseException] = []
        self.metrics = Metrics(ServiceIdentity("streams", "test"))
        self.alerts = FakeTopic("alert", self.deeds, **refusals)
        self.join = Join(
            self.desk,
            Tables(self.airports, self.interests, self.history),
            self.alerts.send_record,
            FakeTopic("dead letter", self.deeds, **refusals),
            StreamMetrics(self.metrics),
            RecentActivity(SystemClock()),
            lambda event: self.is_still_owned(event),
            self.crashes.append,
        )

    async def run(self, *events: Event) -> None:
        """Let the agent read these, up to where it waits for the changelog."""
        await self.join.run(FakeStream(map(self._given, events), self.deeds))
        await settle()

    @staticmethod
    def _given(each: Event) -> Any:
        return an_event(
            each.topic.name,
            each.partition,
            each.key,
            each.value,
            {} if each.sequence is None else {"sequence": str(each.sequence).encode()},
        )

    async def run_late(self, *events: Event) -> None:
        """The same, but each event comes only when what followed from the one before is on its way."""
        await self.join.run(FakeStream(map(self._given, events), self.deeds, late=True))
        await settle()

    def hold_alerts(self) -> None:
        """The broker takes its time with alerts, until they are released."""
        self.alerts.held.clear()

    def release_alerts(self) -> None:
        self.alerts.held.set()

    @property
    def order(self) -> list[str]:
        return [what for what, _ in self.deeds]


async def settle() -> None:
    """Everything runs that can."""
    for _ in range(10):
        await asyncio.sleep(0)


async def a_room_with(interest: Event, **refusals: int) -> Room:
    """A room in which an interest is set, and in which nothing was done yet."""
    room = Room(**refusals)
    await room.run(interest)
    room.interests.keep()
    await settle()
    room.deeds.clear()
    return room
