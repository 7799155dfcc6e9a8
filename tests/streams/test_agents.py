"""Tests of the agent: the order of sends, writes and acknowledgements, and the reaction to failures of each."""

import asyncio
from unittest import mock

import pytest

from tests.domain.test_rule import seen
from tests.streams.events import observed
from tests.streams.join_with_fakes import INTEREST, THREE, JoinWithFakes, join_with_interest, run_pending_tasks


@pytest.fixture(autouse=True)
def skip_backoff(monkeypatch) -> None:
    """Make the pauses between retries take no time."""
    sleep = asyncio.sleep
    monkeypatch.setattr(asyncio, "sleep", lambda _seconds: sleep(0))


def test_alerts_are_sent_before_the_table_is_written_and_the_event_is_acknowledged_after_the_changelog() -> None:
    """A crash between two of the three steps may repeat alerts, and loses none."""

    async def scenario() -> None:
        join = await join_with_interest(INTEREST)
        await join.run(THREE)
        assert join.action_names == ["alert", "written"]
        join.airports.keep()
        await run_pending_tasks()
        assert join.action_names == ["alert", "written", "kept", "acknowledged"]

    asyncio.run(scenario())


@pytest.mark.parametrize("refusals", [{"refuse_at_once": 3}, {"refuse_later": 3}])
def test_a_refused_alert_is_sent_again_and_nothing_is_written_meanwhile(refusals) -> None:
    """A refusal by the broker never makes a good event a dead letter."""

    async def scenario() -> None:
        join = await join_with_interest(INTEREST, **refusals)
        await join.run(THREE)
        assert join.action_names == [*["alert refused"] * 3, "alert", "written"]

    asyncio.run(scenario())


@pytest.mark.parametrize("refusals", [{"refuse_at_once": 2}, {"refuse_later": 2}])
def test_a_refused_dead_letter_is_sent_again_and_its_event_is_not_acknowledged_meanwhile(refusals) -> None:
    """An unusable event is evidence, and must not be lost either."""

    async def scenario() -> None:
        join = JoinWithFakes(**refusals)
        await join.run(observed("KJFK", None, seen(0, 1)))
        assert join.action_names == [*["dead letter refused"] * 2, "dead letter", "acknowledged"]

    asyncio.run(scenario())


def test_a_duplicate_is_acknowledged_only_after_the_changelog_has_its_entry() -> None:
    """An earlier acknowledgement could lose the entry in a crash, because nobody reads the event again.

    The entry is written once more: a killed worker may have written it to its table on disk and not to the changelog.
    """

    async def scenario() -> None:
        join = await join_with_interest(INTEREST)
        await join.run(THREE)
        join.airports.keep()
        await run_pending_tasks()
        entry = dict(join.airports)
        join.actions.clear()
        await join.run(THREE)
        assert join.action_names == ["written"]
        join.airports.keep()
        await run_pending_tasks()
        assert join.action_names == ["written", "kept", "acknowledged"]
        assert dict(join.airports) == entry
        join.actions.clear()
        await join.run(INTEREST)
        join.interests.keep()
        await run_pending_tasks()
        assert join.action_names == ["written", "kept", "acknowledged"]

    asyncio.run(scenario())


def test_closed_days_are_in_the_history_changelog_before_the_airport_entry_is_written() -> None:
    """A crash between the two repeats the move; in the other order a crash would lose the days."""

    async def scenario() -> None:
        join = await join_with_interest(INTEREST)
        await join.run(THREE)
        join.airports.keep()
        await run_pending_tasks()
        join.actions.clear()
        later = asyncio.create_task(join.run(observed("KJFK", 3, seen(1, 60))))
        await run_pending_tasks()
        assert join.action_names == ["alert", "past written"]
        join.history.keep()
        await later
        join.airports.keep()
        await run_pending_tasks()
        assert join.action_names == ["alert", "past written", "kept", "written", "kept", "acknowledged"]

    asyncio.run(scenario())


def test_a_history_write_that_the_changelog_will_never_have_crashes_the_worker() -> None:
    """The airport's entry still has the days, and the event comes again."""

    async def scenario() -> None:
        join = await join_with_interest(INTEREST)
        await join.run(THREE)
        join.airports.keep()
        later = asyncio.create_task(join.run(observed("KJFK", 3, seen(1, 60))))
        await run_pending_tasks()
        lost = ConnectionError("gone")
        join.history.keep(lost)
        await later
        assert join.crashes == [lost]
        assert join.action_names.count("written") == 1

    asyncio.run(scenario())


def test_an_event_whose_partition_was_revoked_is_neither_written_nor_acknowledged() -> None:
    """A rebalance began while the alerts were sent: the table may have a new owner, or may be in recovery."""

    async def scenario() -> None:
        join = await join_with_interest(INTEREST)
        join.is_still_owned = lambda _event: "alert" not in join.action_names
        await join.run(THREE)
        assert join.action_names == ["alert"]
        assert join.state.read_traffic("KJFK")[0] == 0

    asyncio.run(scenario())


def test_an_event_whose_partition_was_revoked_before_the_changelog_had_its_entry_is_not_acknowledged() -> None:
    """A late acknowledgement would count for the new assignment, in which the table may have an older entry again."""

    async def scenario() -> None:
        join = await join_with_interest(INTEREST)
        await join.run(THREE)
        join.is_still_owned = lambda _event: False
        join.airports.keep()
        await run_pending_tasks()
        assert join.action_names == ["alert", "written", "kept"]

    asyncio.run(scenario())


def test_a_table_write_that_the_changelog_will_never_have_crashes_the_worker() -> None:
    """The table and its changelog differ; the next worker starts from the changelog."""

    async def scenario() -> None:
        join = await join_with_interest(INTEREST)
        await join.run(THREE)
        lost = ConnectionError("gone")
        join.airports.keep(lost)
        await run_pending_tasks()
        assert join.crashes == [lost]
        assert "acknowledged" not in join.action_names

    asyncio.run(scenario())


def test_an_event_that_hits_a_bug_becomes_a_dead_letter(monkeypatch) -> None:
    """Any error in the rule costs one event, and the next event is folded."""

    async def scenario() -> None:
        join = await join_with_interest(INTEREST)
        with monkeypatch.context() as patch:
            patch.setattr(join.state, "fold_flights", mock.Mock(side_effect=ZeroDivisionError))
            await join.run(THREE)
        await join.run(THREE)
        assert join.action_names == ["dead letter", "acknowledged", "alert", "written"]
        assert join.actions[0][1] == THREE.value

    asyncio.run(scenario())


def test_events_and_flights_are_counted() -> None:
    """The metrics have one series for each outcome of an event, and one of flights."""

    async def scenario() -> None:
        join = await join_with_interest(INTEREST)
        await join.run(THREE, THREE, observed("KJFK", None, seen(0, 1)))
        exposition = join.metrics.exposition()[0].decode()
        for outcome in ("folded", "duplicate", "dead_letter"):
            labels = f'node="test",outcome="{outcome}",service="streams",topic="flights.observed.v1"'
            assert f"stream_events_total{{{labels}}} 1.0" in exposition
        assert 'stream_flights_total{node="test",service="streams"} 3.0' in exposition

    asyncio.run(scenario())
