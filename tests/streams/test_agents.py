"""The agent: in which order it sends, writes and acknowledges, and what it does when something of that fails."""

import asyncio
from collections.abc import Callable
from typing import Any
from unittest import mock
from uuid import UUID

import pytest

from chassis.clock import SystemClock
from chassis.kafka import sequence_in
from chassis.metrics import Identity, Metrics
from streams import agents
from streams.agents import Join, Tables
from streams.desk import Desk
from streams.metrics import StreamMetrics
from streams.ticker import Ticker
from tests.domain.logs import an_interest
from tests.domain.test_judgement import seen
from tests.fakes.stream import Deed, FakeStream, FakeTable, FakeTopic, an_event
from tests.streams.events import Event, interest_removed, interest_set, observed

THREE = observed("KJFK", 2, seen(0, 1, (0.1, 0.2, 0.3)))
INTEREST = interest_set(an_interest(), 1)


class Room:
    """An agent among fakes."""

    def __init__(self, **refusals: int) -> None:
        self.deeds: list[Deed] = []
        self.airports, self.interests = FakeTable(self.deeds), FakeTable(self.deeds)
        self.history = FakeTable(self.deeds, "past written")
        self.desk = Desk(self.airports, self.interests, self.history)
        self.still_ours: Callable[[Any], bool] = lambda _event: True
        self.crashes: list[BaseException] = []
        self.metrics = Metrics(Identity("streams", "test"))
        self.alerts = FakeTopic("alert", self.deeds, **refusals)
        self.join = Join(
            self.desk,
            Tables(self.airports, self.interests, self.history),
            self.alerts.send_record,
            FakeTopic("dead letter", self.deeds, **refusals),
            StreamMetrics(self.metrics),
            Ticker(SystemClock()),
            lambda event: self.still_ours(event),
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
    """Or a crash would forget that state, and nobody would read the event again. It is written once more, because a
    table on disk may have it from a worker that was killed before the changelog did."""

    async def story() -> None:
        room = await a_room_with(INTEREST)
        await room.run(THREE)
        room.airports.keep()
        await settle()
        entry = dict(room.airports)
        room.deeds.clear()
        await room.run(THREE)
        assert room.order == ["written"]
        room.airports.keep()
        await settle()
        assert room.order == ["written", "kept", "acknowledged"]
        assert dict(room.airports) == entry
        room.deeds.clear()
        await room.run(INTEREST)
        room.interests.keep()
        await settle()
        assert room.order == ["written", "kept", "acknowledged"]

    asyncio.run(story())


def test_days_are_kept_in_history_before_the_airport_forgets_them() -> None:
    """Between the two a crash repeats the move; the other way round it would lose the days."""

    async def story() -> None:
        room = await a_room_with(INTEREST)
        await room.run(THREE)
        room.airports.keep()
        await settle()
        room.deeds.clear()
        later = asyncio.create_task(room.run(observed("KJFK", 3, seen(1, 60))))
        await settle()
        assert room.order == ["alert", "past written"]
        room.history.keep()
        await later
        room.airports.keep()
        await settle()
        assert room.order == ["alert", "past written", "kept", "written", "kept", "acknowledged"]

    asyncio.run(story())


def test_history_that_will_never_be_kept_ends_the_worker() -> None:
    """The airport still has the days, and the event comes again."""

    async def story() -> None:
        room = await a_room_with(INTEREST)
        await room.run(THREE)
        room.airports.keep()
        later = asyncio.create_task(room.run(observed("KJFK", 3, seen(1, 60))))
        await settle()
        lost = ConnectionError("gone")
        room.history.keep(lost)
        await later
        assert room.crashes == [lost]
        assert room.order.count("written") == 1

    asyncio.run(story())


def test_more_alerts_than_memory_should_hold_go_out_some_at_a_time(monkeypatch) -> None:
    """All of them, before the state is written; and none after the partition was taken away."""

    async def story() -> None:
        monkeypatch.setattr(agents, "_ALERTS_AT_ONCE", 2)
        room = Room()
        await room.run(*(interest_set(an_interest(interest_id=UUID(int=n)), 1) for n in range(5)))
        room.deeds.clear()
        await room.run(THREE)
        assert room.order == [*["alert"] * 5, "written"]
        room.deeds.clear()
        room.still_ours = lambda _event: len(room.deeds) < 2
        await room.run(observed("KJFK", 3, seen(1, 2)))
        assert room.order == ["alert"] * 2

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


def test_events_that_wait_together_take_each_step_together() -> None:
    """What follows from one follows from those before it, written or not: the broker is waited for once."""

    async def story() -> None:
        room = Room()
        after = observed("KJFK", 3, seen(1, 2))
        await room.run(THREE, INTEREST, after, observed("LICC", 1, seen(0, 1)))
        assert room.order == ["alert", "alert", "written", "written", "written"]
        assert [what for _, what in room.deeds[2:]] == [b"KJFK", INTEREST.key, b"LICC"]
        assert room.desk.traffic("KJFK")[0] == 3
        fresh = Desk(room.airports, room.interests, room.history)
        assert fresh.traffic("KJFK") == room.desk.traffic("KJFK")
        assert fresh.thresholds("KJFK") == room.desk.thresholds("KJFK")

    asyncio.run(story())


def test_a_repeat_of_what_is_not_written_yet_does_not_bring_back_what_was_before() -> None:
    """It is folded while its like is still on the way to the table, and writes what the table has by then."""

    async def story() -> None:
        room = await a_room_with(INTEREST)
        await room.run(observed("KJFK", 2, seen(0, 0.5)))
        old = room.airports[b"KJFK"]
        room.deeds.clear()
        first, second = observed("KJFK", 3, seen(0.5, 1, (0.6, 0.7, 0.8))), observed("KJFK", 4, seen(1, 2))
        await room.run(first, second, first, second)
        assert room.order == ["alert", "alert", "written"]
        assert room.airports[b"KJFK"] != old
        assert Desk(room.airports, room.interests, room.history).traffic("KJFK")[0] == 4
        room.deeds.clear()
        room.hold_alerts()
        third = observed("KJFK", 5, seen(2, 3, (2.1, 2.2, 2.3)))
        running = asyncio.create_task(room.run_late(third, third))
        await settle()
        room.release_alerts()
        await running
        assert room.order == ["alert", "written", "written"]
        assert Desk(room.airports, room.interests, room.history).traffic("KJFK")[0] == 5

    asyncio.run(story())


def test_an_interest_that_is_set_and_removed_while_it_waits_leaves_its_mark() -> None:
    """What was not written yet is known all the same."""

    async def story() -> None:
        room = Room()
        await room.run(INTEREST, interest_removed(an_interest(), 2), INTEREST, THREE)
        assert room.order == ["written", "written"]
        assert len(room.desk.thresholds("KJFK")) == 0
        assert Desk(room.airports, room.interests, room.history).interest("KJFK", an_interest().interest_id) is None

    asyncio.run(story())


def test_what_is_wrong_with_one_event_costs_no_other_that_waits_with_it() -> None:
    """It is put aside, and those around it are folded as if it had never been."""

    async def story() -> None:
        room = Room()
        await room.run(INTEREST, observed("KJFK", None, seen(0, 1)), THREE)
        assert room.order == ["dead letter", "alert", "written", "written"]

    asyncio.run(story())


def test_what_was_folded_upon_what_is_forgotten_is_void() -> None:
    """It was folded while the other's alerts were on their way, and would put into the table what is not ours."""

    async def story() -> None:
        room = await a_room_with(INTEREST)
        room.hold_alerts()
        running = asyncio.create_task(room.run_late(THREE, observed("KJFK", 3, seen(1, 2))))
        await settle()
        await settle()
        room.still_ours = lambda event: sequence_in(event.message.headers) != THREE.sequence
        room.release_alerts()
        await running
        assert room.airports == {}
        assert room.desk.traffic("KJFK")[0] == 0

    asyncio.run(story())


def test_what_was_followed_and_not_written_is_forgotten() -> None:
    """The partition went away while the alerts were sent; when it comes back the same events say the same again."""

    async def story() -> None:
        room = Room()
        room.still_ours = lambda _event: "alert" not in room.order
        await room.run(INTEREST, THREE)
        assert room.order == ["alert"]
        assert (room.airports, room.interests) == ({}, {})
        first = room.deeds[0]
        room.deeds.clear()
        room.still_ours = lambda _event: True
        await room.run(INTEREST, THREE)
        assert room.order == ["alert", "written", "written"]
        assert room.deeds[0] == first

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
