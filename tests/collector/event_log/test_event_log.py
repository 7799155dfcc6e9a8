"""What is noted of the log and its readers: what was told, what differs, and what is published again."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import select

from chassis.log_identity import LogIdentity
from collector.event_log.comparison import find_differences, load_interests, repair
from collector.event_log.republication import republish
from collector.event_log.told import limit_told_flights, mark_told, take_snapshot
from collector.intervals import DAY
from collector.messages import encode_coverage_gap, encode_interest_set
from collector.model import OUTBOX, CoverageRow, EventLogRow, FlightRow, InterestRow
from domain.interests import Direction
from tests.collector.conftest import ANN, BOB, NOON, Service, outbox, wish
from towerwatch.flights.v1.events_pb2 import FlightsObserved
from towerwatch.interests.v1.events_pb2 import InterestSet
from towerwatch.topics import FLIGHTS_OBSERVED, INTERESTS_CHANGED

DEPARTURES = Direction.DEPARTURES
TODAY = NOON.replace(hour=0)
BEFORE = LogIdentity("one", {"a": "1", "b": "2"}, {"a/0": 7})


@pytest.mark.parametrize(
    ("now", "reason"),
    [
        (BEFORE, None),
        (LogIdentity("one", {"a": "1", "b": "2", "c": "3"}, {"a/0": 9, "c/0": 1}), None),
        (LogIdentity("one", {"a": "1"}, {"a/0": 7}), None),
        (LogIdentity("two", {"a": "1", "b": "2"}, {"a/0": 7}), "another cluster"),
        (LogIdentity("one", {"a": "4", "b": "2"}, {"a/0": 7}), "topic a was made anew"),
        (LogIdentity("one", {"a": "1", "b": "2"}, {"a/0": 6}), "a/0 ends before"),
    ],
    ids=["equal", "grown", "a topic is missing", "another cluster", "another topic", "truncated"],
)
def test_a_log_is_another_one(now: LogIdentity, reason: str | None) -> None:
    """Another cluster, a topic with another id, and a partition that ends earlier than it did are losses."""
    found = BEFORE.find_loss(now)
    assert (reason is None) == (found is None)
    assert reason is None or reason in (found or "")


def publish_all(service: Service) -> None:
    """Empty the outbox, as a relay that publishes everything."""
    with service.database.transaction() as session:
        session.execute(OUTBOX.rows.delete())


def note_told(service: Service) -> None:
    """Note that everything is told, as after the stream and the notifier have read everything."""
    with service.database.transaction() as session:
        row = session.get(EventLogRow, 1)
        if row is None:
            row = EventLogRow(
                id=1, cluster="", topics="{}", ends="{}", republishing=False, told_flight_id=0, compared_at=0.0,
                out_of_step=0,
            )  # fmt: skip
            session.add(row)
        snapshot = take_snapshot(session)
        assert snapshot is not None
        mark_told(session, row, snapshot)


def publish_again(service: Service) -> None:
    """Publish everything again, as after a loss."""
    with service.database.transaction() as session:
        row = session.get(EventLogRow, 1)
        republish(session, row.told_flight_id if row is not None else 0)


def read_outbox(service: Service) -> tuple[Sequence[str], Sequence[str]]:
    """Return what stands in the outbox before and behind the barrier, a word for each event."""
    with service.database.transaction() as session:
        rows = session.execute(OUTBOX.rows.select().order_by(OUTBOX.rows.c.id)).all()
    words = []
    for row in rows:
        if row.topic == FLIGHTS_OBSERVED.name:
            batch = FlightsObserved.FromString(row.value)
            kind = "anew" if batch.begins_anew else "past" if batch.past else "new"
            words.append(f"{kind} {batch.begin.ToDatetime():%d} {len(batch.flights)}")
        elif row.topic == INTERESTS_CHANGED.name:
            kind = "gone" if row.value is None else "past" if InterestSet.FromString(row.value).past else "new"
            words.append(f"{kind} interest")
        else:
            words.append(row.topic)
    barrier = words.index("")
    assert "" not in words[barrier + 1 :]
    return words[:barrier], words[barrier + 1 :]


def test_what_was_told_is_past_and_the_rest_is_new(service: Service) -> None:
    """What changed after the note is behind the barrier; an interest that is not told is removed before it is set."""
    service.cover(DEPARTURES, TODAY - 2 * DAY, TODAY - DAY)
    service.store(DEPARTURES, TODAY - 2 * DAY, TODAY - 2 * DAY + timedelta(hours=1))
    service.set(wish(), ANN)
    publish_all(service)
    note_told(service)
    with service.database.transaction() as session:
        cursor = session.get(CoverageRow, ("KJFK", DEPARTURES.value))
        assert cursor is not None
        assert cursor.told_until == TODAY - DAY
        cursor.covered_until = TODAY
        OUTBOX.add(session, [encode_coverage_gap("KJFK", DEPARTURES, TODAY - DAY, TODAY)])  # is in the database, too
    service.store(DEPARTURES, TODAY - DAY, TODAY - 2 * DAY + timedelta(hours=2), icao24="aaaaaa")
    service.set(wish(), BOB)
    publish_again(service)
    told, untold = read_outbox(service)
    assert told[-4:] == ["anew 11 0", "past 11 2", *told[-2:]]
    assert sorted(told[-2:]) == ["gone interest", "past interest"]
    assert "new 12 0" not in told, "the flights that waited are withdrawn"
    assert untold == ["new 11 1", "new 12 1", "new interest"]


def test_nothing_is_noted_while_something_waits_in_the_outbox(service: Service) -> None:
    """Nobody can have read what is not published."""
    service.set(wish(), ANN)
    with service.database.transaction() as session:
        assert take_snapshot(session) is None
    publish_all(service)
    with service.database.transaction() as session:
        assert take_snapshot(session) is not None


def test_a_version_that_came_after_the_note_is_not_told(service: Service) -> None:
    """The note is about the version of the snapshot, whatever was set meanwhile."""
    interest = service.set(wish(), ANN)
    publish_all(service)
    with service.database.transaction() as session:
        snapshot = take_snapshot(session)
    assert snapshot is not None
    service.interests.change(ANN, interest.interest_id, None, {"high": 9})
    note_told_row = EventLogRow(told_flight_id=0)
    with service.database.transaction() as session:
        mark_told(session, note_told_row, snapshot)
    with service.database.transaction() as session:
        row = session.scalars(select(InterestRow)).one()
        assert (row.version, row.told_version) == (2, 1)
    publish_again(service)
    assert read_outbox(service)[0][-1] == "gone interest"


def test_ids_that_are_given_again_are_not_told(service: Service) -> None:
    """SQLite gives the ids of deleted flights again; the flights that get them were not told."""
    service.cover(DEPARTURES, TODAY - DAY, TODAY)
    service.store(DEPARTURES, TODAY - DAY, TODAY - DAY + timedelta(hours=1))
    note_told(service)
    with service.database.transaction() as session:
        session.delete(session.scalars(select(FlightRow).order_by(FlightRow.id.desc()).limit(1)).one())
        session.flush()
        limit_told_flights(session)
    service.store(DEPARTURES, TODAY - DAY + timedelta(hours=2), icao24="aaaaaa")
    publish_again(service)
    assert read_outbox(service) == (["anew 12 0", "past 12 1"], ["new 12 1"])


def test_differences_are_found_and_healed(service: Service) -> None:
    """Missing interests are set, others replaced, left-over ones removed; what changed since is left out."""
    missing, other, equal, changed = (service.set(wish(airport), ANN) for airport in ("KJFK", "LICC", "EGLL", "EDDF"))
    gone = replace(missing, interest_id=BOB)
    with service.database.transaction() as session:
        stored = load_interests(session)
    known = {
        (message := encode_interest_set(each)).key: message.value or b""
        for each in (replace(other, high=77), equal, gone, replace(changed, low=1))
    }
    assert find_differences(stored, {key: message.value or b"" for key, message in _encode(stored).items()}) == []
    differences = find_differences(stored, known)
    assert {each.key for each in differences} == {
        encode_interest_set(each).key for each in (missing, other, gone, changed)
    }
    service.interests.change(ANN, changed.interest_id, None, {"high": 9})
    publish_all(service)
    with service.database.transaction() as session:
        assert repair(session, differences) == 3
    repaired = [(each.key, each.value) for each in outbox(service.database, INTERESTS_CHANGED.name)]
    assert sorted(repaired, key=lambda each: each[0]) == sorted(
        [
            (encode_interest_set(missing).key, encode_interest_set(missing).value),
            (encode_interest_set(other).key, None),
            (encode_interest_set(other).key, encode_interest_set(other).value),
            (encode_interest_set(gone).key, None),
        ],
        key=lambda each: each[0],
    )


def _encode(stored):  # type: ignore[no-untyped-def]
    """Return the messages of interests, by key."""
    return {key: encode_interest_set(interest) for key, interest in stored.items()}
