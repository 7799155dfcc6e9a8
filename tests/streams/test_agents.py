"""The agent: in which order it sends, writes and acknowledges, and what it does when something of that fails."""

import asyncio
from unittest import mock

import pytest

from tests.domain.test_rule import seen
from tests.streams.events import observed
from tests.streams.room import INTEREST, THREE, Room, a_room_with, settle


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


def test_what_was_done_is_counted() -> None:
    """One series for each fate of an event, and the flights by whether they counted."""

    async def story() -> None:
        room = await a_room_with(INTEREST)
        await room.run(THREE, THREE, observed("KJFK", None, seen(0, 1)))
        exposition = room.metrics.format_exposition()[0].decode()
        for outcome in ("folded", "duplicate", "dead_letter"):
            labels = f'node="test",outcome="{outcome}",service="streams",topic="flights.observed.v1"'
            assert f"stream_events_total{{{labels}}} 1.0" in exposition
        assert 'stream_flights_total{node="test",service="streams"} 3.0' in exposition

    asyncio.run(story())
