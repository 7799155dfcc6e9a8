"""The agent: events that wait together take each step together, and what then goes wrong with one of them."""

import asyncio
from uuid import UUID

from chassis.kafka import parse_sequence
from streams import agents
from streams.join_state import Desk, Outcome
from tests.domain.logs import an_interest
from tests.domain.test_rule import seen
from tests.streams.events import interest_removed, interest_set, observed
from tests.streams.room import INTEREST, THREE, Room, a_room_with, settle


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
        room.still_ours = lambda event: parse_sequence(event.message.headers) != THREE.sequence
        room.release_alerts()
        await running
        assert room.airports == {}
        assert room.desk.traffic("KJFK")[0] == 0

    asyncio.run(story())


def test_what_comes_after_a_rebalance_does_not_share_the_fate_of_what_came_before(monkeypatch) -> None:
    """Both wait together. The one is read again by whoever has the partition now; the other would be by nobody."""

    async def story() -> None:
        monkeypatch.setattr(agents, "_YIELD_AFTER_S", -1.0)
        room = Room()
        follow = room.desk.follow

        def followed(outcome: Outcome) -> None:
            follow(outcome)
            monkeypatch.setattr(room.desk, "follow", follow)
            asyncio.get_running_loop().call_soon(room.desk.forget)

        monkeypatch.setattr(room.desk, "follow", followed)
        await room.run(INTEREST, THREE)
        assert [each for each in room.deeds if each[0] == "written"] == [("written", b"KJFK")]

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
