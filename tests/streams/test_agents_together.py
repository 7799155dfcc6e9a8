"""Tests of the agent with several waiting events: steps are done together, and a failure of one event is isolated."""

import asyncio
from uuid import UUID

from chassis.kafka import sequence_in
from streams import agents
from streams.join_state import FoldResult, JoinState
from tests.domain.logs import an_interest
from tests.domain.test_rule import seen
from tests.streams.events import interest_removed, interest_set, observed
from tests.streams.join_with_fakes import INTEREST, THREE, JoinWithFakes, join_with_interest, run_pending_tasks


def test_very_many_alerts_are_sent_in_several_batches(monkeypatch) -> None:
    """All alerts are sent before the table is written, and none after the partition was revoked."""

    async def scenario() -> None:
        monkeypatch.setattr(agents, "_ALERTS_AT_ONCE", 2)
        join = JoinWithFakes()
        await join.run(*(interest_set(an_interest(interest_id=UUID(int=n)), 1) for n in range(5)))
        join.actions.clear()
        await join.run(THREE)
        assert join.action_names == [*["alert"] * 5, "written"]
        join.actions.clear()
        join.is_still_owned = lambda _event: len(join.actions) < 2
        await join.run(observed("KJFK", 3, seen(1, 2)))
        assert join.action_names == ["alert"] * 2

    asyncio.run(scenario())


def test_waiting_events_are_folded_before_any_of_them_is_written() -> None:
    """Each event is folded upon the unwritten results of the events before it: the agent waits for the broker once."""

    async def scenario() -> None:
        join = JoinWithFakes()
        after = observed("KJFK", 3, seen(1, 2))
        await join.run(THREE, INTEREST, after, observed("LICC", 1, seen(0, 1)))
        assert join.action_names == ["alert", "alert", "written", "written", "written"]
        assert [key for _, key in join.actions[2:]] == [b"KJFK", INTEREST.key, b"LICC"]
        assert join.state.read_traffic("KJFK")[0] == 3
        fresh = JoinState(join.airports, join.interests, join.history)
        assert fresh.read_traffic("KJFK") == join.state.read_traffic("KJFK")
        assert fresh.find_thresholds("KJFK") == join.state.find_thresholds("KJFK")

    asyncio.run(scenario())


def test_a_duplicate_of_an_unwritten_event_does_not_restore_the_older_entry() -> None:
    """The duplicate is folded before the original is written, and writes the table's entry of the later time."""

    async def scenario() -> None:
        join = await join_with_interest(INTEREST)
        await join.run(observed("KJFK", 2, seen(0, 0.5)))
        old = join.airports[b"KJFK"]
        join.actions.clear()
        first, second = observed("KJFK", 3, seen(0.5, 1, (0.6, 0.7, 0.8))), observed("KJFK", 4, seen(1, 2))
        await join.run(first, second, first, second)
        assert join.action_names == ["alert", "alert", "written"]
        assert join.airports[b"KJFK"] != old
        assert JoinState(join.airports, join.interests, join.history).read_traffic("KJFK")[0] == 4
        join.actions.clear()
        join.hold_alerts()
        third = observed("KJFK", 5, seen(2, 3, (2.1, 2.2, 2.3)))
        running = asyncio.create_task(join.run_one_by_one(third, third))
        await run_pending_tasks()
        join.release_alerts()
        await running
        assert join.action_names == ["alert", "written", "written"]
        assert JoinState(join.airports, join.interests, join.history).read_traffic("KJFK")[0] == 5

    asyncio.run(scenario())


def test_an_interest_that_is_set_and_removed_among_waiting_events_stays_removed() -> None:
    """The unwritten removal makes the duplicate of the older event have no effect."""

    async def scenario() -> None:
        join = JoinWithFakes()
        await join.run(INTEREST, interest_removed(an_interest(), 2), INTEREST, THREE)
        assert join.action_names == ["written", "written"]
        assert len(join.state.find_thresholds("KJFK")) == 0
        assert (
            JoinState(join.airports, join.interests, join.history).find_interest("KJFK", an_interest().interest_id)
            is None
        )

    asyncio.run(scenario())


def test_an_unusable_event_does_not_affect_the_events_that_wait_with_it() -> None:
    """The unusable event becomes a dead letter, and the events around it are folded as if it were absent."""

    async def scenario() -> None:
        join = JoinWithFakes()
        await join.run(INTEREST, observed("KJFK", None, seen(0, 1)), THREE)
        assert join.action_names == ["dead letter", "alert", "written", "written"]

    asyncio.run(scenario())


def test_results_that_build_on_a_discarded_result_are_discarded_too() -> None:
    """The second event was folded while the first one's alerts were in flight, and contains the first one's flights."""

    async def scenario() -> None:
        join = await join_with_interest(INTEREST)
        join.hold_alerts()
        running = asyncio.create_task(join.run_one_by_one(THREE, observed("KJFK", 3, seen(1, 2))))
        await run_pending_tasks()
        await run_pending_tasks()
        join.is_still_owned = lambda event: sequence_in(event.message.headers) != THREE.sequence
        join.release_alerts()
        await running
        assert join.airports == {}
        assert join.state.read_traffic("KJFK")[0] == 0

    asyncio.run(scenario())


def test_events_after_a_rebalance_are_not_discarded_with_the_events_before_it(monkeypatch) -> None:
    """Both wait together. The partition's new owner reads the earlier event again; nobody would read the later one."""

    async def scenario() -> None:
        monkeypatch.setattr(agents, "_YIELD_AFTER_S", -1.0)
        join = JoinWithFakes()
        apply = join.state.apply_before_write

        def apply_and_rebalance(result: FoldResult) -> None:
            apply(result)
            monkeypatch.setattr(join.state, "apply_before_write", apply)
            asyncio.get_running_loop().call_soon(join.state.discard_indexes)

        monkeypatch.setattr(join.state, "apply_before_write", apply_and_rebalance)
        await join.run(INTEREST, THREE)
        assert [action for action in join.actions if action[0] == "written"] == [("written", b"KJFK")]

    asyncio.run(scenario())


def test_applied_results_that_were_not_written_are_discarded() -> None:
    """The partition was revoked while the alerts were sent; after its return the same events raise the same alerts."""

    async def scenario() -> None:
        join = JoinWithFakes()
        join.is_still_owned = lambda _event: "alert" not in join.action_names
        await join.run(INTEREST, THREE)
        assert join.action_names == ["alert"]
        assert (join.airports, join.interests) == ({}, {})
        first = join.actions[0]
        join.actions.clear()
        join.is_still_owned = lambda _event: True
        await join.run(INTEREST, THREE)
        assert join.action_names == ["alert", "written", "written"]
        assert join.actions[0] == first

    asyncio.run(scenario())
