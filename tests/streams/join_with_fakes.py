"""The agent of the stream with fakes around it, which record the agent's actions in their order."""

import asyncio
from collections.abc import Callable
from typing import Any

from chassis.clock import SystemClock
from chassis.metrics import Metrics, ServiceIdentity
from streams.agents import Join
from streams.join_state import JoinState
from streams.metrics import StreamMetrics
from streams.recent_activity import RecentActivity
from streams.tables import Tables
from tests.domain.logs import an_interest
from tests.domain.test_rule import seen
from tests.fakes.stream import Deed, FakeStream, FakeTable, FakeTopic, an_event
from tests.streams.events import Event, interest_set, observed

THREE = observed("KJFK", 2, seen(0, 1, (0.1, 0.2, 0.3)))
INTEREST = interest_set(an_interest(), 1)


class JoinWithFakes:
    """A `Join` with a fake stream, fake tables and fake topics."""

    def __init__(self, **refusals: int) -> None:
        """`refusals`: arguments of `FakeTopic`, the number of sends that the broker refuses first."""
        self.actions: list[Deed] = []
        self.airports, self.interests = FakeTable(self.actions), FakeTable(self.actions)
        self.history = FakeTable(self.actions, "past written")
        self.state = JoinState(self.airports, self.interests, self.history)
        self.is_still_owned: Callable[[Any], bool] = lambda _event: True
        self.crashes: list[BaseException] = []
        self.metrics = Metrics(ServiceIdentity("streams", "test"))
        self.alerts = FakeTopic("alert", self.actions, **refusals)
        self.agent = Join(
            self.state,
            Tables(self.airports, self.interests, self.history),
            self.alerts.send_record,
            FakeTopic("dead letter", self.actions, **refusals),
            StreamMetrics(self.metrics),
            RecentActivity(SystemClock()),
            lambda event: self.is_still_owned(event),
            self.crashes.append,
        )

    async def run(self, *events: Event) -> None:
        """Let the agent read the events, which all wait already, until it waits for the changelog."""
        await self.agent.run(FakeStream(map(self._make_faust_event, events), self.actions))
        await run_pending_tasks()

    @staticmethod
    def _make_faust_event(event: Event) -> Any:
        """Return an event as Faust gives it to an agent."""
        return an_event(
            event.topic.name,
            event.partition,
            event.key,
            event.value,
            {} if event.sequence is None else {"sequence": str(event.sequence).encode()},
        )

    async def run_one_by_one(self, *events: Event) -> None:
        """Let the agent read the events, each of which comes once the effects of the event before are in flight."""
        await self.agent.run(FakeStream(map(self._make_faust_event, events), self.actions, late=True))
        await run_pending_tasks()

    def hold_alerts(self) -> None:
        """Let the broker delay alerts until `release_alerts`."""
        self.alerts.held.clear()

    def release_alerts(self) -> None:
        self.alerts.held.set()

    @property
    def action_names(self) -> list[str]:
        """Names of the agent's actions so far, in their order."""
        return [name for name, _ in self.actions]


async def run_pending_tasks() -> None:
    """Let all other tasks run as far as they can."""
    for _ in range(10):
        await asyncio.sleep(0)


async def join_with_interest(interest: Event, **refusals: int) -> JoinWithFakes:
    """Return a join in which an interest is set and stored, with no action recorded yet."""
    join = JoinWithFakes(**refusals)
    await join.run(interest)
    join.interests.keep()
    await run_pending_tasks()
    join.actions.clear()
    return join
