"""Tests that alerts of thresholds in percent are a function of the log, whatever happens to the stream meanwhile."""

from dataclasses import replace
from random import Random
from uuid import UUID

from hypothesis import given, settings, strategies as st

from tests.domain.percent_model import ModelListener
from tests.domain.test_percents import AIRPORTS, draw_interest
from tests.domain.usual_logs import generate_usual_log
from tests.streams.events import interest_set, observed
from tests.streams.join_state_on_dicts import JoinStateOnDicts
from tests.streams.test_join_state import Partition, read_with_crashes
from tests.streams.traffic import generate_traffic


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32), is_first=st.booleans())
def test_the_alerts_are_a_function_of_the_log(seed, is_first):
    """Interests that were set before the flights get all that the model says, in spite of duplicates and crashes.

    Who comes amid or after the flights gets a part of it, and all of the outcome; also after a crash, for what is usual
    is known from the tables alone. The log has corrections, gaps that are filled, and changes of clocks.
    """
    chance = Random(seed)
    log = generate_usual_log(chance)
    airport = AIRPORTS[log.zone]
    wanted = [replace(draw_interest(chance, log), interest_id=UUID(int=number)) for number in range(4)]
    flights = [observed(airport, number + 1, seen) for number, seen in enumerate(log.messages)]
    for _ in range(chance.randrange(3)):  # a relay that crashed before its delete
        end = chance.randrange(len(flights)) + 1
        flights[end:end] = flights[max(end - 4, 0) : end]
    join = JoinStateOnDicts()
    set_events = [interest_set(interest, number + 1) for number, interest in enumerate(wanted)]
    if is_first:
        for event in set_events:
            join.fold(event)
    partitions = [Partition(flights), Partition([] if is_first else set_events)]
    raised, _ = read_with_crashes(join, partitions, chance.randint)
    for interest in wanted:
        listener, everything = ModelListener(log.zone, interest), set[UUID]()
        for number in range(1, len(log.messages) + 1):
            everything |= listener.hear(log, number)
        ids = set(raised.get(interest.interest_id, ()))
        assert ids == everything if is_first else listener.hear_late() <= ids <= everything


def test_generated_traffic_raises_what_the_model_says():
    """The traffic of the tests with real workers, which has percents if weeks are told before it."""
    traffic = generate_traffic(seed=31, airports=3, hours=60, weeks_before=4)
    join, percents = JoinStateOnDicts(), 0
    raised = {interest_id: set[UUID]() for interest_id in traffic.interest_ids}
    for event in traffic.events:
        for alert in join.fold(event):
            raised[alert.interest_id].add(alert.alert_id)
            percents += alert.percent is not None
    assert raised == traffic.expected
    assert percents > 20
