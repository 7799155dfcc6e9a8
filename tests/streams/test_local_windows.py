"""Tests that alerts of windows by the airport's clock are a function of the log, whatever happens meanwhile."""

from dataclasses import replace
from random import Random
from uuid import UUID

from hypothesis import given, settings, strategies as st

from domain.hourly_counts import QuarterDay
from domain.interests import Direction
from domain.traffic import Coverage, Observation
from tests.domain.local_logs import generate_local_log, tell_local_statements
from tests.streams.events import interest_set, observed
from tests.streams.join_state_on_dicts import JoinStateOnDicts
from tests.streams.test_join_state import Partition, read_with_crashes
from towerwatch.streams.v1 import state_pb2


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32), is_first=st.booleans())
def test_the_alerts_are_a_function_of_the_log(seed, is_first):
    """An interest that was set before the flights gets all that the model says, in spite of duplicates and crashes.

    Who comes amid or after the flights gets a part of it, and all of the outcome; also after a crash, for counts of
    quarters of an hour are known from the tables alone. The log has corrections, fills, and changes of clocks.
    """
    chance = Random(seed)
    log = generate_local_log(chance)
    airport = log.clock.airport
    flights = [observed(airport, number + 1, seen) for number, seen in enumerate(log.messages)]
    for _ in range(chance.randrange(3)):  # a relay that crashed before its delete
        end = chance.randrange(len(flights)) + 1
        flights[end:end] = flights[max(end - 4, 0) : end]
    join = JoinStateOnDicts()
    set_event = interest_set(log.interest, 1)
    if is_first:
        join.fold(set_event)
    raised, _ = read_with_crashes(
        join, [Partition(flights), Partition([] if is_first else [set_event])], chance.randint
    )
    told, outcome = tell_local_statements(log)
    everything = set[UUID]().union(*told)
    ids = set(raised.get(log.interest.interest_id, ()))
    assert ids == everything if is_first else outcome <= ids <= everything


@settings(max_examples=60, deadline=None)
@given(log=st.integers(0, 2**32).map(lambda seed: generate_local_log(Random(seed))))
def test_counts_of_quarters_are_recovered_from_the_tables(log):
    """After each message a worker that has only the tables knows the same traffic as one that has folded them all."""
    join = JoinStateOnDicts()
    for number, message in enumerate(log.messages):
        join.fold(observed(log.clock.airport, number + 1, message))
        recovered = join.new_state().read_traffic(log.clock.airport)
        assert recovered == join.state.read_traffic(log.clock.airport)


def test_an_entry_from_before_quarters_were_told_is_read_on_and_later_days_are_exact():
    """Of the days before the upgrade only the hours are known; the open one stays so, and the next day is split."""
    begin, day = 15_800 * 86_400, 86_400
    message = Observation(Direction.DEPARTURES, begin, begin + day, (begin + 18 * 3600,), Coverage.COMPLETE)
    join = JoinStateOnDicts()
    join.fold(observed("VNKT", 1, message))
    state = state_pb2.AirportState.FromString(join.airports[b"VNKT"])
    (kept,) = state.departures.days
    assert sum(kept.quarters) == sum(kept.counts) == 1
    kept.ClearField("quarters")
    join.airports[b"VNKT"] = state.SerializeToString()
    join.state = join.new_state()
    for number in (1, 2):
        at = begin + (number - 1) * day + 19 * 3600  # the first of these flights is late
        later = replace(message, begin=begin + number * day, end=begin + (number + 1) * day, event_times=(at,))
        join.fold(observed("VNKT", number + 1, later))
    _, traffic = join.state.read_traffic("VNKT")
    assert [isinstance(each, QuarterDay) for each in traffic.departures.counts.days] == [False, True]
    assert join.new_state().read_traffic("VNKT")[1] == traffic
