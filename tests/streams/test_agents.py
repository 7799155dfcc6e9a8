"""The agent: in which order it sends, writes and acknowledges, and what it does when something of that fails."""

import asyncio
from collections.abc import Callable
from typing import Any
from unittest import mock

import pytest

from chassis.metrics import Identity, Metrics
from streams.agents import Join
from streams.desk import Desk
from tests.domain.logs import an_interest
from tests.domain.test_judgement import seen
from tests.fakes.stream import Deed, FakeStream, FakeTable, FakeTopic, an_event
from tests.streams.events import Event, interest_set, observed

THREE = observed("KJFK", 2, seen(0, 1, (0.1, 0.2, 0.3)))
INTEREST = interest_set(an_interest(), 1)


class Room:
    """An agent among fakes."""

    def __init__(self, **refusals: int) -> None:
        self.deeds: list[Deed] = []
        self.airports, self.interests = FakeTable(self.deeds), FakeTable(self.deeds)
        self.desk = Desk(self.airports, self.interests)
        self.still_ours: Callable[[Any], bool] = lambda _event: True
        self.crashes: list[BaseException] = []
        self.metrics = Metrics(Identity("streams", "test"))
        self.join = Join(
            self.desk,
            self.airports,
            self.interests,
            FakeTopic("alert", self.deeds, **refusals),
            FakeTopic("dead letter", self.deeds, **refusals),
            self.metrics,
            lambda event: self.still_ours(event),
            self.crashes.append,
        )

    async def run(self, *events: Event) -> None:
        """Let the agent read these, up to where it waits for the changelog."""
        given = [
            an_event(
                each.topic.name,
                each.partition,
                each.key,
                each.value,
                {} if each.sequence is None else {"sequence": str(each.sequence).encode()},
            )
            for each in events
        ]
        await self.join.run(FakeStream(given, self.deeds))
        await settle()

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


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch) -> None:
    """Pauses between tries take no time."""
    sleep = asyncio.sleep
    monkeypatch.setattr(asyncio, "sleep", lambda _seconds: sleep(0))


def test_alerts_are_sent_before_the_state_is_written_and_that_is_kept_before_the_event_is_acknowledged() -> None:
    """A crash between any two of the three repeats alerts, and loses none."""

    async def story() -> None:
        room = await a_room_with(INTEREST)
        await room.run(THREE)
        assert room.order == ["alert", "written"]
        room.airports.keep()
        await settle()
        assert room.order == ["alert", "written", "kept", "acknowledged"]

    asyncio.run(story())


@pytest.mark.parametrize("refusals", [{"refuse_at_once": 3}, {"refuse_later": 3}])
def test_an_alert_that_is_refused_is_sent_again_and_nothing_is_written_meanwhile(refusals) -> None:
    """However the broker refuses, it is no reason to put a good event aside."""

    async def story() -> None:
        room = await a_room_with(INTEREST, **refusals)
        await room.run(THREE)
        assert room.order == [*["alert refused"] * 3, "alert", "written"]

    asyncio.run(story())


@pytest.mark.parametrize("refusals", [{"refuse_at_once": 2}, {"refuse_later": 2}])
def test_a_dead_letter_that_is_refused_is_sent_again_and_not_acknowledged_meanwhile(refusals) -> None:
    """What can never be folded is evidence, and is lost as little as anything else."""

    async def story() -> None:
        room = Room(**refusals)
        await room.run(observed("KJFK", None, seen(0, 1)))
        assert room.order == [*["dead letter refused"] * 2, "dead letter", "acknowledged"]

    asyncio.run(story())


def test_a_duplicate_is_acknowledged_only_once_the_state_that_it_repeats_is_kept() -> None:
    """Or a crash would forget that state, and nobody would read the event again."""

    async def story() -> None:
        room = await a_room_with(INTEREST)
        await room.run(THREE, THREE)
        assert room.order == ["alert", "written"]
        room.airports.keep()
        await settle()
        assert room.order == ["alert", "written", "kept", "acknowledged", "acknowledged"]

    asyncio.run(story())


def test_an_event_whose_partition_was_taken_away_is_neither_written_nor_acknowledged() -> None:
    """While its alerts were sent a rebalance began: the table may be another's, or be recovering."""

    async def story() -> None:
        room = await a_room_with(INTEREST)
        room.still_ours = lambda _event: "alert" not in room.order
        await room.run(THREE)
        assert room.order == ["alert"]
        assert room.desk.traffic("KJFK")[0] == 0

    asyncio.run(story())


def test_an_event_whose_partition_was_taken_away_before_its_state_was_kept_is_not_acknowledged() -> None:
    """An acknowledgement of then would be taken for one of now, when the state may be an older one again."""

    async def story() -> None:
        room = await a_room_with(INTEREST)
        await room.run(THREE)
        room.still_ours = lambda _event: False
        room.airports.keep()
        await settle()
        assert room.order == ["alert", "written", "kept"]

    asyncio.run(story())


def test_a_state_that_will_never_be_kept_ends_the_worker() -> None:
    """What it knows and what it would be recovered to differ; the next one begins from what is kept."""

    async def story() -> None:
        room = await a_room_with(INTEREST)
        await room.run(THREE)
        lost = ConnectionError("gone")
        room.airports.keep(lost)
        await settle()
        assert room.crashes == [lost]
        assert "acknowledged" not in room.order

    asyncio.run(story())


def test_a_bug_costs_one_event_and_keeps_it_as_evidence(monkeypatch) -> None:
    """Whatever the rule raises, the next event is folded."""

    async def story() -> None:
        room = await a_room_with(INTEREST)
        with monkeypatch.context() as patch:
            patch.setattr(room.desk, "flights_observed", mock.Mock(side_effect=ZeroDivisionError))
            await room.run(THREE)
        await room.run(THREE)
        assert room.order == ["dead letter", "acknowledged", "alert", "written"]
        assert room.deeds[0][1] == THREE.value

    asyncio.run(story())


def test_an_interest_that_comes_after_its_flights_is_told_before_it_is_written() -> None:
    """The same order holds for the other topic."""

    async def story() -> None:
        room = Room()
        await room.run(THREE, INTEREST)
        assert room.order == ["written", "alert", "written"]

    asyncio.run(story())


def test_what_was_done_is_counted() -> None:
    """One series for each fate of an event, and the flights by whether they counted."""

    async def story() -> None:
        room = await a_room_with(INTEREST)
        await room.run(THREE, THREE, observed("KJFK", None, seen(0, 1)))
        exposition = room.metrics.exposition()[0].decode()
        for outcome in ("folded", "duplicate", "dead_letter"):
            labels = f'node="test",outcome="{outcome}",service="streams",topic="flights.observed.v1"'
            assert f"stream_events_total{{{labels}}} 1.0" in exposition
        assert 'stream_flights_total{node="test",service="streams"} 3.0' in exposition

    asyncio.run(story())
