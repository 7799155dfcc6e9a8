"""Tests of the join state: the result of each event, with duplicates, reordering and interruptions."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from random import Random
from uuid import UUID

import pytest
from hypothesis import given, settings, strategies as st

from domain.alerts import AlertState
from domain.interests import Direction, Interest
from domain.live_record import Provenance
from domain.traffic import Coverage
from domain.windows import HOUR_S, seconds
from streams.errors import UndecodableError
from streams.join_state import JoinState
from tests.domain.corrected_logs import generate_corrected_log, tell_statements
from tests.domain.logs import BASE, an_interest, expected_ids, interests, interleaved
from tests.domain.test_rule import seen
from tests.streams.events import AIRPORTS, Event, interest_removed, interest_set, observed
from tests.streams.join_state_on_dicts import JoinStateOnDicts
from towerwatch.flights.v1.events_pb2 import PROVENANCE_UNSPECIFIED, FlightsObserved

THREE = seen(0, 1, (0.1, 0.2, 0.3))


@pytest.fixture
def join() -> JoinStateOnDicts:
    return JoinStateOnDicts()


def test_computing_a_result_changes_nothing(join):
    """The agent may be stopped before the write, and then the same event must have the same result again."""
    for event in (interest_set(an_interest(), 1), observed("KJFK", 2, THREE)):
        first = join.compute_result(event)
        assert (join.airports, join.interests) == ({}, {}) or join.airports == {}
        assert join.compute_result(event) == first
        alerts = list(join.state.build_alerts(first))
        assert alerts == list(join.state.build_alerts(first))
        join.write_result(event, first)
    assert len(alerts) == 1


def test_a_duplicate_batch_is_dropped(join):
    """The sequence in the airport's own entry identifies a duplicate, whatever other events came between."""
    join.fold(interest_set(an_interest(), 1))
    assert len(join.fold(observed("KJFK", 2, THREE))) == 1
    before = dict(join.airports)
    assert join.compute_result(observed("KJFK", 2, THREE)) is None
    assert join.compute_result(observed("KJFK", 1, seen(1, 2))) is None
    assert join.airports == before
    assert join.compute_result(observed("LICC", 1, THREE)) is not None, "another airport has a count of its own"


def test_what_the_record_corrects_is_marked_also_after_a_crash(join):
    """What was told from positions is read from the entry; a message from before provenance is of the record."""
    join.fold(interest_set(an_interest(), 1))
    live = replace(THREE, provenance=Provenance.LIVE)
    [first] = join.fold(observed("KJFK", 2, live))
    assert (first.provenance, first.corrects) == (Provenance.LIVE, False)
    record = FlightsObserved.FromString(observed("KJFK", 3, seen(0, 2, (1.1, 1.2, 1.3, 1.4))).value)
    record.provenance = PROVENANCE_UNSPECIFIED
    record.retracted.extend(FlightsObserved.FromString(observed("KJFK", 2, live).value).flights)
    event = replace(observed("KJFK", 3, THREE), value=record.SerializeToString())
    result = join.compute_result(event)
    join.state = join.new_state()
    assert join.compute_result(event) == result
    assert [(a.state, a.provenance, a.corrects) for a in join.fold(event)] == [
        (AlertState.WITHDRAWN, Provenance.SETTLED, True),
        (AlertState.FIRING, Provenance.SETTLED, False),
    ]


def test_an_older_version_does_not_overwrite_a_newer_one(join):
    """The version decides, also against a higher sequence."""
    newer, older = an_interest(version=2, high=5), an_interest(version=1)
    join.fold(interest_set(newer, 1))
    assert join.compute_result(interest_set(older, 2)) is None
    assert join.state.find_interest("KJFK", newer.interest_id) == newer
    assert [each.threshold for each in join.state.find_thresholds("KJFK").list_in_force()] == [5]


def test_a_duplicate_does_not_set_a_removed_interest_again(join):
    """The entry of a removed interest stays, with the sequence of its removal."""
    join.fold(interest_set(an_interest(), 1))
    join.fold(interest_removed(an_interest(), 2))
    assert join.compute_result(interest_set(an_interest(), 1)) is None
    join.state.discard_indexes()
    assert join.compute_result(interest_set(an_interest(), 1)) is None
    assert len(join.state.find_thresholds("KJFK")) == 0
    assert join.state.find_interest("KJFK", an_interest().interest_id) is None
    assert join.fold(observed("KJFK", 3, THREE)) == ()


def test_the_removal_of_an_unknown_interest_is_stored(join):
    """Compaction may leave only the tombstone of an interest, and an older event may still be published again."""
    assert join.fold(interest_removed(an_interest(), 2)) == ()
    assert join.compute_result(interest_set(an_interest(), 1)) is None


@pytest.mark.parametrize(
    "key",
    [
        None,
        b"",
        b"KJFK",
        b"KJFK/",
        b"KJFK/1",
        b"kjfk/00000000-0000-0000-0000-000000000001",
        b"KJFK/{00000000-0000-0000-0000-000000000001}",
        b"KJFK/ABCDEFAB-0000-0000-0000-000000000001",
        b"\xff/00000000-0000-0000-0000-000000000001",
    ],
)
@pytest.mark.parametrize("is_set", [True, False])
def test_an_invalid_key_is_refused(join, key, is_set):
    """Another spelling of an id would be another entry, and the interest would be in force twice."""
    event = interest_set(an_interest(), 1) if is_set else interest_removed(an_interest(), 1)
    with pytest.raises(UndecodableError):
        join.compute_result(replace(event, key=key))


@given(key=st.binary(max_size=60), value=st.none() | st.binary(max_size=60))
def test_random_bytes_as_a_key_are_refused(key, value):
    """Random bytes raise UndecodableError and no other error."""
    with pytest.raises(UndecodableError):
        JoinStateOnDicts().state.fold_interest(1, key, value)


def test_an_interest_under_the_key_of_another_is_refused(join):
    """The interest would be removed with the other one, or never."""
    event = interest_set(an_interest(), 1)
    for other in (an_interest(interest_id=UUID(int=9)), an_interest(airport="LICC")):
        with pytest.raises(UndecodableError):
            join.compute_result(replace(event, key=interest_set(other, 1).key))


def test_discarded_indexes_are_built_again_from_the_tables(join):
    """The new indexes have the same interests and the same traffic."""
    for number, airport in enumerate(AIRPORTS):
        interest = an_interest(interest_id=UUID(int=10 + number), airport=airport)
        join.fold(interest_set(interest, 1))
        join.fold(observed(airport, 1, THREE))
    fresh = join.new_state()
    join.state.discard_indexes()
    for airport in AIRPORTS:
        assert join.state.find_thresholds(airport) == fresh.find_thresholds(airport)
        assert len(fresh.find_thresholds(airport)) == 1
        assert join.state.read_traffic(airport) == fresh.read_traffic(airport)


def test_indexes_built_again_contain_what_another_worker_wrote(join):
    """A partition that comes back is recovered to the entries of its last owner."""
    join.fold(observed("KJFK", 1, THREE))
    other = JoinStateOnDicts()
    other.fold(observed("KJFK", 1, THREE))
    other.fold(observed("KJFK", 2, seen(1, 2)))
    other.fold(interest_set(an_interest(), 3))
    join.airports.update(other.airports)
    join.interests.update(other.interests)
    join.state.discard_indexes()
    assert join.state.read_traffic("KJFK") == other.state.read_traffic("KJFK")
    assert join.state.find_thresholds("KJFK") == other.state.find_thresholds("KJFK")
    assert len(join.state.find_thresholds("KJFK")) == 1


def test_flights_out_of_reach_are_counted_apart(join):
    """Stray flights are counted in a metric and in no window."""
    hour = seconds(BASE) // HOUR_S
    batch = replace(THREE, event_times=(*THREE.event_times, 0, 253_370_764_800), coverage=Coverage.COMPLETE)
    result = join.compute_result(observed("KJFK", 1, batch))
    assert (result.flights, result.stray_flights) == (3, 2)
    assert result.state.traffic.departures.counts.total(hour, 1) == 3
    assert len(result.entry) < 100


def test_the_oldest_watermark_is_of_the_watched_airports(join):
    """Airports without interests lag behind for ever, and uncovered airports have no watermark: both are left out."""
    assert join.state.find_oldest_watermark(Direction.DEPARTURES) is None
    for number, (airport, until) in enumerate((("KJFK", 5), ("LICC", 3), ("EGLL", 1))):
        join.fold(observed(airport, 1, seen(0, until)))
        if airport != "EGLL":
            join.fold(interest_set(an_interest(interest_id=UUID(int=number), airport=airport), 1))
    join.fold(interest_set(an_interest(interest_id=UUID(int=9), airport="LIMC"), 1))
    assert join.state.find_oldest_watermark(Direction.DEPARTURES) == seconds(BASE) + 3 * HOUR_S
    assert join.state.find_oldest_watermark(Direction.ARRIVALS) is None
    join.state.discard_indexes()
    assert join.state.find_oldest_watermark(Direction.DEPARTURES) is None, "the interests are not indexed yet"


def test_late_flights_are_counted_apart(join):
    """Late flights lie before their batch's interval, and are folded."""
    join.fold(observed("KJFK", 1, seen(0, 5, (0.5,))))
    result = join.compute_result(observed("KJFK", 2, seen(5, 6, (1.5, 2.5, 5.5))))
    assert (result.flights, result.late_flights, result.stray_flights) == (3, 2, 0)


def test_history_is_kept_as_long_as_the_setting_says_also_after_it_was_lowered(join):
    """The default is ninety days; older days of an earlier setting are deleted when the next day closes."""
    for day in range(100):
        join.fold(observed("KJFK", day + 1, seen(24 * day, 24 * (day + 1), (24 * day + 5,))))
    assert len(join.history) == 90
    assert join.state.read_history("KJFK", Direction.DEPARTURES).total(0, 10**7) == 91, "and the day that still changes"
    join.state = JoinState(join.airports, join.interests, join.history, history_days=50)
    join.fold(observed("KJFK", 101, seen(24 * 100, 24 * 101)))
    assert len(join.history) == 50
    assert join.state.read_traffic("KJFK") == join.new_state().read_traffic("KJFK")


# The main property, for any log.


@dataclass
class Partition:
    """One topic partition: its events, and the offsets read and acknowledged."""

    log: list[Event]
    read: int = 0
    acknowledged: int = 0


@st.composite
def with_duplicates(draw, log: list[Event]) -> list[Event]:
    """Generate a log in which some runs of events are published again, as by a relay that crashed before its delete."""
    events: list[Event] = []
    for event in log:
        events.append(event)
        if draw(st.integers(0, 9)) == 0:
            events += events[draw(st.integers(0, len(events) - 1)) :]
    return events


@st.composite
def topic_contents(draw) -> tuple[list[Partition], dict[UUID, set[UUID]]]:
    """Generate the partitions of both topics, and by interest that is set and never changed the ids of its alerts."""
    partitions: list[Partition] = []
    expected: dict[UUID, set[UUID]] = {}
    for airport in AIRPORTS[: draw(st.integers(1, 3))]:
        log = draw(interleaved(longest=6))
        partitions.append(
            Partition(draw(with_duplicates([observed(airport, n + 1, seen) for n, seen in enumerate(log)])))
        )
        changes: list[Interest | None] = []
        for shape in draw(st.lists(interests, min_size=1, max_size=4)):
            interest = replace(shape, airport=airport, interest_id=UUID(int=len(expected) + 1))
            expected[interest.interest_id] = expected_ids(interest, log)
            changes.append(interest)
        events = [interest_set(interest, n + 1) for n, interest in enumerate(changes)]
        for shape in draw(st.lists(interests, max_size=2)):  # other interests, which are changed and removed
            other = replace(shape, airport=airport, interest_id=UUID(int=1000 + len(expected) * 10 + len(events)))
            events += [interest_set(other, len(events) + 1), interest_set(replace(other, version=2), len(events) + 2)]
            events.append(interest_removed(other, len(events) + 1))
        partitions.append(Partition(draw(with_duplicates(events))))
    return partitions, expected


def read_with_crashes(
    join: JoinStateOnDicts, partitions: list[Partition], draw: Callable[[int, int], int]
) -> tuple[dict[UUID, list[UUID]], int]:
    """Read the partitions to their ends in any interleaving, with up to four crashes after the alerts or the write.

    `draw` returns a number from the first to the second of two numbers. Return by interest the ids of its alerts, in
    the order of raising, and the number of crashes.
    """
    raised: dict[UUID, list[UUID]] = {}
    crashes = 0
    while unread := [each for each in partitions if each.read < len(each.log)]:
        partition = unread[draw(0, len(unread) - 1)]
        event = partition.log[partition.read]
        result = join.compute_result(event)
        for alert in join.state.build_alerts(result) if result else ():
            raised.setdefault(alert.interest_id, []).append(alert.alert_id)
        crash_point = draw(0, 9) if crashes < 4 else 9
        if result is not None and crash_point == 0:  # it crashes between the alerts and the state
            if draw(0, 1):  # but the days have moved into history
                join.write_history(result)
        elif result is not None:
            join.write_result(event, result)
        partition.read += 1
        if crash_point <= 1:
            crashes += 1
            join.state.discard_indexes()
            for each in partitions:
                each.acknowledged = each.read = draw(each.acknowledged, min(each.read, len(each.log)))
            if crash_point == 0:
                partition.acknowledged = partition.read = min(partition.read, partition.log.index(event))
        fresh = join.new_state()
        assert join.state.find_thresholds(event.airport) == fresh.find_thresholds(event.airport)
        assert join.state.read_traffic(event.airport) == fresh.read_traffic(event.airport)
    return raised, crashes


@settings(max_examples=120, deadline=None)
@given(contents=topic_contents(), data=st.data())
def test_the_alerts_are_a_function_of_the_log(contents, data):
    """Any interleaving, duplicates in both topics, and crashes after the alerts or the write give the same ids."""
    partitions, expected = contents
    raised, crashes = read_with_crashes(
        JoinStateOnDicts(), partitions, lambda low, high: data.draw(st.integers(low, high))
    )
    assert {interest_id: set(raised.get(interest_id, ())) for interest_id in expected} == expected
    if not crashes:
        assert all(len(ids) == len(set(ids)) for ids in raised.values()), "without a crash no alert is raised twice"


@settings(max_examples=80, deadline=None)
@given(seed=st.integers(0, 2**32), wanted=st.lists(interests, min_size=1, max_size=3), is_first=st.booleans())
def test_with_corrections_too_the_alerts_are_a_function_of_the_log(seed, wanted, is_first):
    """Interests that were set before the flights get all that the model says, in spite of duplicates and crashes.

    Who comes amid or after the flights gets a part of it, and all of the outcome; also after a crash, for whatever was
    withdrawn before is known from the tables alone.
    """
    chance = Random(seed)
    log = generate_corrected_log(chance)
    wanted = [replace(each, interest_id=UUID(int=number), airport="KJFK") for number, each in enumerate(wanted)]
    flights = [observed("KJFK", number + 1, seen) for number, seen in enumerate(log)]
    for _ in range(chance.randrange(3)):  # a relay that crashed before its delete
        end = chance.randrange(len(flights)) + 1
        flights[end:end] = flights[chance.randrange(end) : end]
    join = JoinStateOnDicts()
    set_events = [interest_set(interest, n + 1) for n, interest in enumerate(wanted)]
    if is_first:
        for event in set_events:
            join.fold(event)
    partitions = [Partition(flights), Partition([] if is_first else set_events)]
    raised, _ = read_with_crashes(join, partitions, chance.randint)
    for interest in wanted:
        told, outcome = tell_statements(interest, log)
        ids, everything = set(raised.get(interest.interest_id, ())), set[UUID]().union(*told)
        assert ids == everything if is_first else outcome <= ids <= everything


def test_a_batch_whose_earlier_coverage_was_lost_raises_nothing(join):
    """What a breach is compared with is missing: a FIRING could be wrong, and all is published again."""
    join.fold(interest_set(an_interest(), 1))
    event = observed("KJFK", 2, THREE)
    message = FlightsObserved.FromString(event.value)
    message.covered_from.seconds = message.begin.seconds - HOUR_S
    lost = replace(event, value=message.SerializeToString())
    assert join.fold(lost) == ()
    message.covered_from.seconds = message.begin.seconds
    again = JoinStateOnDicts()
    again.fold(interest_set(an_interest(), 1))
    assert len(again.fold(replace(event, value=message.SerializeToString()))) == 1
