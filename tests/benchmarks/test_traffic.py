"""Tests of the benchmarks' generated traffic: it raises alerts only for the interests that are meant to fire."""

from collections import Counter
from itertools import count, islice, pairwise

import pytest

from benchmarks.streams.traffic import (
    NOW,
    build_alarmed_interests,
    build_flight_records,
    build_past_records,
    build_quiet_interests,
    build_watching_interests,
    choose_airports,
    generate_batches,
)
from benchmarks.streams.work import Folding
from domain.alerts import Alert
from domain.interests import Direction
from domain.windows import HOUR_S
from streams.entries import encode_interest_entry
from streams.messages import decode_interest
from towerwatch.topics import FLIGHTS_OBSERVED, JOIN_PARTITIONS, partition_of


def _raise_alerts(interests, names, size, messages) -> list[Alert]:
    """Return the alerts that the past flights and the `messages` batches of `size` flights raise at the airports."""
    folding = Folding({key: encode_interest_entry(1, value) for key, value in interests})
    sequence = count(1)
    raised: list[Alert] = []
    for record in [*build_past_records(names, sequence), *build_flight_records(names, size, messages, sequence)]:
        result = folding.compute_result(record.sequence, record.value)
        raised += folding.state.build_alerts(result)
        folding.write_result(result)
    return raised


@pytest.mark.parametrize("number", [1, 12, 24, 30])
def test_airports_are_spread_over_the_partitions(number):
    """No partition has two airports more than another, so that all workers are equally busy."""
    names = choose_airports(number)
    counts = Counter(partition_of(name, FLIGHTS_OBSERVED) for name in names)
    assert len(set(names)) == number
    assert max(counts.values()) - min(counts.get(partition, 0) for partition in range(JOIN_PARTITIONS)) <= 1


@pytest.mark.parametrize("size", [1, 10, 100, 1_000])
@pytest.mark.parametrize("direction", Direction.BOTH.parts)
def test_batches_have_one_size_and_leave_no_gap(size, direction):
    """Each batch begins where the one before ended, and all its flights lie in its interval."""
    first_batches = list(islice(generate_batches(direction, size), 50))
    assert first_batches[0].begin == NOW
    assert all(earlier.end == later.begin for earlier, later in pairwise(first_batches))
    for batch in first_batches:
        assert len(batch.event_times) == size
        assert all(batch.begin <= at < batch.end for at in batch.event_times)


@pytest.mark.parametrize("kind", [build_quiet_interests, build_watching_interests])
def test_generated_interests_can_be_decoded(kind):
    """The bytes are built by hand: each must decode, with its own key and its own id."""
    names = choose_airports(5)
    made = [(key, decode_interest(value)) for key, value in kind(names, 1_003)]
    assert [key for key, _ in made] == [f"{each.airport}/{each.interest_id}".encode() for _, each in made]
    assert len({each.interest_id for _, each in made}) == 1_003
    assert sorted(Counter(each.airport for _, each in made).values()) == [200, 200, 201, 201, 201]


def test_quiet_interests_have_all_combinations_of_fields():
    """All directions, windows, runs and bounds occur, as quiet interests must cost as much as any."""
    made = [decode_interest(value) for _, value in build_quiet_interests(choose_airports(1), 3_000)]
    kinds = {(each.direction, each.window, each.for_windows, each.high is None, each.low is None) for each in made}
    assert len(kinds) == 3 * 3 * 3 * 3


@pytest.mark.parametrize(("size", "messages"), [(30, 800), (1_000, 60)])
def test_quiet_interests_never_fire(size, messages):
    """A thousand quiet interests at an airport raise no alert in up to a month of flights."""
    names = choose_airports(1)
    assert _raise_alerts(build_quiet_interests(names, 1_000), names, size, messages) == []


def test_watching_interests_fire_sometimes():
    """In ten days there are alerts, but fewer than one per interest and day."""
    names, interests = choose_airports(1), 80
    raised = _raise_alerts(build_watching_interests(names, interests), names, 100, 10 * 2 * 960 // 100)
    assert interests < len(raised) < 10 * interests
    assert all(alert.window_start.timestamp() >= NOW for alert in raised)


def test_alarmed_interests_fire_together():
    """All alarmed interests fire at the first flight above their threshold, and none before."""
    (name,) = choose_airports(1)
    day = sum(1 for at in next(generate_batches(Direction.DEPARTURES, 2_000)).event_times if at < NOW + 24 * HOUR_S)
    interests = 50
    silent = _raise_alerts(build_alarmed_interests(name, interests, high=day), [name], day, 2)
    loud = _raise_alerts(build_alarmed_interests(name, interests, high=day - 1), [name], day, 2)
    assert silent == []
    assert len({alert.interest_id for alert in loud}) == interests
