"""The desk: what each event changes and makes to be said, whatever is repeated, reordered or interrupted."""

from dataclasses import dataclass, replace
from uuid import UUID

import pytest
from hypothesis import given, settings, strategies as st

from domain.interests import Direction, Interest
from domain.traffic import Coverage
from domain.windows import HOUR_S, seconds
from streams.errors import UndecodableError
from streams.join_state import JoinState
from tests.domain.logs import BASE, an_interest, expected_ids, interests, interleaved
from tests.domain.test_rule import seen
from tests.streams.events import AIRPORTS, Event, interest_removed, interest_set, observed
from tests.streams.join_state_on_dicts import Bench

THREE = seen(0, 1, (0.1, 0.2, 0.3))


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_what_follows_from_an_event_is_not_done_by_asking(bench):
    """The agent sends between asking and writing, and may be stopped there: the same question has the same answer."""
    for event in (interest_set(an_interest(), 1), observed("KJFK", 2, THREE)):
        first = bench.outcome(event)
        assert (bench.airports, bench.interests) == ({}, {}) or bench.airports == {}
        assert bench.outcome(event) == first
        alerts = list(bench.desk.build_alerts(first))
        assert alerts == list(bench.desk.build_alerts(first))
        bench.write(event, first)
    assert len(alerts) == 1


def test_a_repeated_batch_is_dropped(bench):
    """The sequence in the airport's own entry tells it, whatever else came between."""
    bench.fold(interest_set(an_interest(), 1))
    assert len(bench.fold(observed("KJFK", 2, THREE))) == 1
    before = dict(bench.airports)
    assert bench.outcome(observed("KJFK", 2, THREE)) is None
    assert bench.outcome(observed("KJFK", 1, seen(1, 2))) is None
    assert bench.airports == before
    assert bench.outcome(observed("LICC", 1, THREE)) is not None, "another airport has a count of its own"


def test_an_older_version_does_not_overwrite_a_newer_one(bench):
    """Not even under a higher sequence."""
    newer, older = an_interest(version=2, high=5), an_interest(version=1)
    bench.fold(interest_set(newer, 1))
    assert bench.outcome(interest_set(older, 2)) is None
    assert bench.desk.find_interest("KJFK", newer.interest_id) == newer
    assert [each.threshold for each in bench.desk.find_thresholds("KJFK").in_force()] == [5]


def test_a_repeat_does_not_bring_a_removed_interest_back(bench):
    """Its entry stays, with the sequence of its removal."""
    bench.fold(interest_set(an_interest(), 1))
    bench.fold(interest_removed(an_interest(), 2))
    assert bench.outcome(interest_set(an_interest(), 1)) is None
    bench.desk.discard_indexes()
    assert bench.outcome(interest_set(an_interest(), 1)) is None
    assert len(bench.desk.find_thresholds("KJFK")) == 0
    assert bench.desk.find_interest("KJFK", an_interest().interest_id) is None
    assert bench.fold(observed("KJFK", 3, THREE)) == ()


def test_the_removal_of_an_interest_that_was_never_seen_is_remembered(bench):
    """Compaction may have left nothing of an interest but its tombstone; an older event may still be repeated."""
    assert bench.fold(interest_removed(an_interest(), 2)) == ()
    assert bench.outcome(interest_set(an_interest(), 1)) is None


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
def test_a_key_that_is_none_is_refused(bench, key, is_set):
    """Another spelling of an id would be another entry, and its interest twice in force."""
    event = interest_set(an_interest(), 1) if is_set else interest_removed(an_interest(), 1)
    with pytest.raises(UndecodableError):
        bench.outcome(replace(event, key=key))


@given(key=st.binary(max_size=60), value=st.none() | st.binary(max_size=60))
def test_hostile_keys_are_refused_and_nothing_else_happens(key, value):
    """Whatever the bytes are: UndecodableError, for no random bytes are an interest's key."""
    with pytest.raises(UndecodableError):
        Bench().desk.fold_interest(1, key, value)


def test_an_interest_under_the_key_of_another_is_refused(bench):
    """It would be removed with the other, or never."""
    event = interest_set(an_interest(), 1)
    for other in (an_interest(interest_id=UUID(int=9)), an_interest(airport="LICC")):
        with pytest.raises(UndecodableError):
            bench.outcome(replace(event, key=interest_set(other, 1).key))


def test_the_indexes_are_those_of_the_tables(bench):
    """What was forgotten is read again: the same interests, the same traffic, the same alerts."""
    for number, airport in enumerate(AIRPORTS):
        interest = an_interest(interest_id=UUID(int=10 + number), airport=airport)
        bench.fold(interest_set(interest, 1))
        bench.fold(observed(airport, 1, THREE))
    fresh = bench.new_desk()
    bench.desk.discard_indexes()
    for airport in AIRPORTS:
        assert bench.desk.find_thresholds(airport) == fresh.find_thresholds(airport)
        assert len(fresh.find_thresholds(airport)) == 1
        assert bench.desk.read_traffic(airport) == fresh.read_traffic(airport)


def test_forgotten_indexes_follow_tables_that_changed_under_them(bench):
    """A partition that comes back is recovered to what another worker wrote."""
    bench.fold(observed("KJFK", 1, THREE))
    other = Bench()
    other.fold(observed("KJFK", 1, THREE))
    other.fold(observed("KJFK", 2, seen(1, 2)))
    other.fold(interest_set(an_interest(), 3))
    bench.airports.update(other.airports)
    bench.interests.update(other.interests)
    bench.desk.discard_indexes()
    assert bench.desk.read_traffic("KJFK") == other.desk.read_traffic("KJFK")
    assert bench.desk.find_thresholds("KJFK") == other.desk.find_thresholds("KJFK")
    assert len(bench.desk.find_thresholds("KJFK")) == 1


def test_flights_out_of_reach_are_told_apart(bench):
    """They are counted in a metric, and in no window."""
    hour = seconds(BASE) // HOUR_S
    batch = replace(THREE, event_times=(*THREE.event_times, 0, 253_370_764_800), coverage=Coverage.COMPLETE)
    outcome = bench.outcome(observed("KJFK", 1, batch))
    assert (outcome.flights, outcome.stray_flights) == (3, 2)
    assert outcome.state.traffic.departures.counts.total(hour, 1) == 3
    assert len(outcome.entry) < 100


def test_the_oldest_watermark_is_that_of_what_is_watched(bench):
    """Who is not watched any more lags behind for ever, and that is no fault; nor is what was never covered."""
    assert bench.desk.find_oldest_watermark(Direction.DEPARTURES) is None
    for number, (airport, until) in enumerate((("KJFK", 5), ("LICC", 3), ("EGLL", 1))):
        bench.fold(observed(airport, 1, seen(0, until)))
        if airport != "EGLL":
            bench.fold(interest_set(an_interest(interest_id=UUID(int=number), airport=airport), 1))
    bench.fold(interest_set(an_interest(interest_id=UUID(int=9), airport="LIMC"), 1))
    assert bench.desk.find_oldest_watermark(Direction.DEPARTURES) == seconds(BASE) + 3 * HOUR_S
    assert bench.desk.find_oldest_watermark(Direction.ARRIVALS) is None
    bench.desk.discard_indexes()
    assert bench.desk.find_oldest_watermark(Direction.DEPARTURES) is None, (
        "not known yet, and not asked for at any price"
    )


def test_late_flights_are_told_apart(bench):
    """They lie before their batch's interval, and count."""
    bench.fold(observed("KJFK", 1, seen(0, 5, (0.5,))))
    outcome = bench.outcome(observed("KJFK", 2, seen(5, 6, (1.5, 2.5, 5.5))))
    assert (outcome.flights, outcome.late_flights, outcome.stray_flights) == (3, 2, 0)


def test_history_is_kept_as_long_as_the_setting_says_also_after_it_was_lowered(bench):
    """Ninety days by default; what an earlier setting kept longer goes with the next day that is closed."""
    for day in range(100):
        bench.fold(observed("KJFK", day + 1, seen(24 * day, 24 * (day + 1), (24 * day + 5,))))
    assert len(bench.history) == 90
    assert bench.desk.read_history("KJFK", Direction.DEPARTURES).total(0, 10**7) == 91, "and the day that still changes"
    bench.desk = JoinState(bench.airports, bench.interests, bench.history, history_days=50)
    bench.fold(observed("KJFK", 101, seen(24 * 100, 24 * 101)))
    assert len(bench.history) == 50
    assert bench.desk.read_traffic("KJFK") == bench.new_desk().read_traffic("KJFK")


# The law, for any log.


@dataclass
class Partition:
    """One topic-partition: its log, as far as it was read, and what was acknowledged."""

    log: list[Event]
    read: int = 0
    acknowledged: int = 0


@st.composite
def repeated(draw, log: list[Event]) -> list[Event]:
    """A log with stretches published again, as a relay does that crashed before it could forget them."""
    events: list[Event] = []
    for event in log:
        events.append(event)
        if draw(st.integers(0, 9)) == 0:
            events += events[draw(st.integers(0, len(events) - 1)) :]
    return events


@st.composite
def worlds(draw) -> tuple[list[Partition], dict[UUID, set[UUID]]]:
    """The partitions of both topics, and by interest that was set and not changed the ids of its alerts."""
    partitions: list[Partition] = []
    expected: dict[UUID, set[UUID]] = {}
    for airport in AIRPORTS[: draw(st.integers(1, 3))]:
        log = draw(interleaved(longest=6))
        partitions.append(Partition(draw(repeated([observed(airport, n + 1, seen) for n, seen in enumerate(log)]))))
        changes: list[Interest | None] = []
        for wish in draw(st.lists(interests, min_size=1, max_size=4)):
            interest = replace(wish, airport=airport, interest_id=UUID(int=len(expected) + 1))
            expected[interest.interest_id] = expected_ids(interest, log)
            changes.append(interest)
        events = [interest_set(interest, n + 1) for n, interest in enumerate(changes)]
        for wish in draw(st.lists(interests, max_size=2)):  # others, that change and go
            other = replace(wish, airport=airport, interest_id=UUID(int=1000 + len(expected) * 10 + len(events)))
            events += [interest_set(other, len(events) + 1), interest_set(replace(other, version=2), len(events) + 2)]
            events.append(interest_removed(other, len(events) + 1))
        partitions.append(Partition(draw(repeated(events))))
    return partitions, expected


@settings(max_examples=120, deadline=None)
@given(world=worlds(), data=st.data())
def test_the_alerts_are_a_function_of_the_log(world, data):
    """Any interleaving, repeats of both topics, crashes after the alerts or after the state: the same alert ids."""
    partitions, expected = world
    bench = Bench()
    said: dict[UUID, list[UUID]] = {interest_id: [] for interest_id in expected}
    crashes = 0
    while unread := [each for each in partitions if each.read < len(each.log)]:
        partition = data.draw(st.sampled_from(unread))
        event = partition.log[partition.read]
        outcome = bench.outcome(event)
        for alert in bench.desk.build_alerts(outcome) if outcome else ():
            said.setdefault(alert.interest_id, []).append(alert.alert_id)
        fate = data.draw(st.integers(0, 9)) if crashes < 4 else 9
        if outcome is not None and fate == 0:  # it crashes between the alerts and the state
            if data.draw(st.booleans(), "but the days have moved into history"):
                bench.write_past(outcome)
        elif outcome is not None:
            bench.write(event, outcome)
        partition.read += 1
        if fate <= 1:
            crashes += 1
            bench.desk.discard_indexes()
            for each in partitions:
                each.acknowledged = each.read = data.draw(st.integers(each.acknowledged, min(each.read, len(each.log))))
            if fate == 0:
                partition.acknowledged = partition.read = min(partition.read, partition.log.index(event))
        fresh = bench.new_desk()
        assert bench.desk.find_thresholds(event.airport) == fresh.find_thresholds(event.airport)
        assert bench.desk.read_traffic(event.airport) == fresh.read_traffic(event.airport)
    assert {interest_id: set(ids) for interest_id, ids in said.items() if interest_id in expected} == expected
    if not crashes:
        assert all(len(ids) == len(set(ids)) for ids in said.values()), "without a crash nothing is said twice"
