"""Live collection on real databases, from the replay's sky: what is published, also by leaders that are killed."""

import threading
from collections import Counter
from datetime import timedelta
from itertools import pairwise
from random import Random
from typing import Any

import pytest
from sqlalchemy import select

from collector.live.feeds import RoundCounter
from collector.model import LiveMovementRow
from local.opensky.state_faults import FaultSpell, StateFault, StateFaultPlan
from tests.collector.conftest import ON_SQLITE
from tests.collector.live.live_world import BEGIN, detect_in, draw_faults, running_world
from tests.fakes.faulty_database import DatabaseFault
from towerwatch.flights.v1 import events_pb2 as flights_pb

HOURS = 1.2


def test_what_a_detector_finds_is_published_with_its_coverage(database_url: str) -> None:
    """Each movement once, with provenance LIVE; coverage end to end, behind each movement that it covers."""
    with running_world(database_url, HOURS) as world:
        world.lead(BEGIN + timedelta(hours=HOURS))
        published, covered = world.list_published(), world.list_covered()
        assert len(published) == len(set(published)) > 12
        assert set(published) == detect_in(world.polls)
        assert len(covered) == 4
        for stretches in covered.values():
            assert all(one[1] == other[0] for one, other in pairwise(stretches))
            assert stretches[-1][1] - stretches[0][0] > (HOURS - 1.0) * 3_600
        told: dict[tuple[str, int], int] = {}
        for each in world.list_observed():
            assert each.provenance == flights_pb.PROVENANCE_LIVE
            key = each.airport, each.direction
            if each.coverage == flights_pb.COVERAGE_COMPLETE:
                told[key] = each.end.seconds
            else:
                assert each.begin.seconds <= told.get(key, each.begin.seconds)
                assert all(flight.first_seen.seconds >= told.get(key, 0) for flight in each.flights)
        assert world.metrics.registry.get_sample_value(
            "live_polls_total",
            {"feed": "opensky", "outcome": "success", "service": "collector", "node": "local"},
        ) == len(world.polls)


def test_leaders_that_are_stopped_or_killed_lose_and_repeat_nothing(database_url: str) -> None:
    """Stopped at any time, killed before or after any commit, and with transactions whose outcome is lost.

    The same flights are published as by one leader, each once, and its coverage has no hole.
    """
    chance = Random(11)
    kinds = [DatabaseFault.REFUSED, DatabaseFault.LOST, DatabaseFault.KILLED_BEFORE, DatabaseFault.KILLED_AFTER]
    end = BEGIN + timedelta(hours=HOURS)
    with running_world(database_url, HOURS) as world:
        leaders = 0
        while world.clock.now() < end:
            leaders += 1
            until = min(end, world.clock.now() + timedelta(seconds=chance.uniform(60, 900)))
            world.lead(until, draw_faults(chance, lambda: chance.choice(kinds)))
            world.clock.advance(timedelta(seconds=chance.uniform(1, 20)))
        published = world.list_published()
        once = Counter(each[:3] for each in published)
        assert leaders > 6
        assert set(once.values()) == {1}
        expected = detect_in(world.polls)
        assert set(once) == {each[:3] for each in expected}
        for airport, direction, icao24, at in published:
            (other,) = (each[3] for each in expected if each[:3] == (airport, direction, icao24))
            assert abs(at - other) <= 60
        for stretches in world.list_covered().values():
            assert all(one[1] == other[0] for one, other in pairwise(stretches))


@ON_SQLITE
def test_a_source_that_lies_covers_nothing(database_url: str) -> None:
    """No second is covered in which the time stood still, positions were old, or the sky was empty.

    The time in which nobody answered is covered afterwards, because the source still has it.
    """
    first = int(BEGIN.timestamp()) + 1_800
    kinds = [StateFault.FROZEN, StateFault.EMPTY, StateFault.OLD, StateFault.NULL, StateFault.OUTAGE, StateFault.HTML]
    spells = tuple(
        FaultSpell(kind, first + 1_800 * number, first + 1_800 * number + 420) for number, kind in enumerate(kinds)
    )
    hours = 0.5 + 1_800 * len(kinds) / 3_600
    with running_world(database_url, hours, StateFaultPlan(spells)) as world:
        world.lead(BEGIN + timedelta(hours=hours))
        covered = world.list_covered()
        assert len(covered) == 4
        for stretches in covered.values():
            assert all(one[1] <= other[0] for one, other in pairwise(stretches))
            for spell in spells:
                if spell.fault in (StateFault.OUTAGE, StateFault.HTML):
                    assert [each for each in stretches if each[0] < spell.end and each[1] > spell.begin + 60], spell
                    continue
                # Positions of the fault's begin are fresh for a minute.
                assert not [each for each in stretches if each[0] < spell.end and each[1] > spell.begin + 60], spell
        between = sum(end - begin for begin, end in covered["KJFK", flights_pb.DIRECTION_DEPARTURES])
        assert between > 2_000
        published = world.list_published()
        assert len(published) == len({each[:3] for each in published})


@ON_SQLITE
def test_what_one_feed_misses_the_other_covers(database_url: str) -> None:
    """An account and a receiver, each with outages: no movement is published twice, and there is no hole anywhere.

    Nor is there one while the database refuses everything for some minutes: what was found is stored later.
    """
    first = int(BEGIN.timestamp()) + 1_800
    spells = (FaultSpell(StateFault.OUTAGE, first, first + 600),)
    # The account's first poll may come two minutes after its outage, by the breaker's chance, and covers nothing for
    # three minutes more; the receiver's coverage ends some eleven minutes before its own outage.
    other_spells = (FaultSpell(StateFault.OUTAGE, first + 1_700, first + 2_200),)
    with running_world(database_url, 1.6, StateFaultPlan(spells), StateFaultPlan(other_spells)) as world:
        world.lead(BEGIN + timedelta(hours=1.6), [*[None] * 150, *[DatabaseFault.REFUSED] * 40])
        published = world.list_published()
        for airport, direction, icao24, at in published:
            same = [each for each in published if each[:3] == (airport, direction, icao24) and abs(each[3] - at) <= 180]
            assert len(same) == 1
        with world.database.reading() as session:
            feeds = Counter(session.scalars(select(LiveMovementRow.feed)))
        assert set(feeds) == {"opensky", "receivers"}
        covered = world.list_covered()
        assert len(covered) == 4
        for stretches in covered.values():
            assert all(one[1] == other[0] for one, other in pairwise(stretches))
            assert stretches[0][0] < first
            assert stretches[-1][1] > first + 2_200


@ON_SQLITE
def test_polls_are_merged_beside_the_event_loop(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two sources of 100,000 aircraft take a second: meanwhile the leader has to answer Kafka, or it is superseded."""
    judge = RoundCounter.judge
    threads: set[int] = set()

    def note_thread(counter: RoundCounter, *arguments: Any) -> Any:
        """Note in which thread a round is judged."""
        threads.add(threading.get_ident())
        return judge(counter, *arguments)

    monkeypatch.setattr(RoundCounter, "judge", note_thread)
    with running_world(database_url, 0.1) as world:
        world.lead(BEGIN + timedelta(minutes=5))
    assert threads
    assert threading.get_ident() not in threads
