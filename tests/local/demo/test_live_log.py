"""What a live run has published, read back: flights in force, live coverage, settled coverage, and alerts."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from collector.intervals import Interval
from collector.messages import encode_flights_observed, encode_partial_flights
from collector.sources.flight import Flight, PublishedFlight
from domain.interests import Direction
from local.demo.live_log import build_live_log, merge_stretches
from streams.messages import encode_alert
from tests.notifier.alerts import new_alert
from towerwatch.flights.v1.events_pb2 import PROVENANCE_LIVE

BEGIN = datetime(2013, 2, 9, tzinfo=UTC)
HOUR = timedelta(hours=1)
TARGET = ("KJFK", Direction.DEPARTURES)


def find_live(at: datetime, number: int) -> list[bytes]:
    """Return the messages of a movement that was found live."""
    interval = Interval(*TARGET, BEGIN, at + timedelta(seconds=1))
    return encode([*encode_partial_flights(interval, [build_flight(at, number)], provenance=PROVENANCE_LIVE)])


def build_flight(at: datetime, number: int) -> Flight:
    """Return a flight of an aircraft of that number."""
    second = int(at.timestamp())
    return Flight.model_validate({"icao24": f"{number:06x}", "firstSeen": second, "lastSeen": second})


def encode(messages: Sequence[object]) -> list[bytes]:
    """Return the values of messages."""
    return [each.value for each in messages]  # type: ignore[attr-defined]


def test_flights_live_and_settled_coverage_are_told_apart() -> None:
    """A flight that is retracted is in force no more; a message that comes twice counts once."""
    first, second = BEGIN + HOUR, BEGIN + 2 * HOUR
    live = [*find_live(first, 1), *find_live(second, 2)]
    covered = encode(
        [
            message
            for begin in (BEGIN, BEGIN + HOUR, BEGIN + 3 * HOUR)
            for message in encode_flights_observed(*TARGET, begin, begin + HOUR, (), provenance=PROVENANCE_LIVE)
        ]
    )
    retracted = [PublishedFlight(f"{2:06x}", second)]
    night = encode([*encode_flights_observed(
        *TARGET, BEGIN, BEGIN + 24 * HOUR, [build_flight(BEGIN + 5 * HOUR, 3)], retracted=retracted
    )])  # fmt: skip
    log = build_live_log([*live, *covered, live[0], *night, *night], [])
    at = int(first.timestamp())
    assert log.flights == {TARGET: frozenset({("000001", at), ("000003", at + 4 * 3_600)})}
    assert log.retracted == 1
    assert log.is_settled([TARGET], BEGIN + 24 * HOUR)
    assert not log.is_settled([TARGET], BEGIN + 25 * HOUR)
    assert not log.is_settled([TARGET, ("KBOS", Direction.ARRIVALS)], BEGIN)
    assert log.measure_live_share([TARGET], BEGIN, BEGIN + 6 * HOUR) == pytest.approx(1 / 2)
    assert log.measure_live_share([TARGET, ("KBOS", Direction.ARRIVALS)], BEGIN, BEGIN + 2 * HOUR) == pytest.approx(0.5)


def test_alerts_are_in_their_order_and_each_once() -> None:
    """A crash may publish an alert twice: the first record counts."""
    one, two = new_alert(alert_id=UUID(int=1)), new_alert(alert_id=UUID(int=2))
    values = [encode_alert(each, BEGIN) for each in (one, two, one)]
    assert [each.alert_id for each in build_live_log([], values).alerts] == [UUID(int=1), UUID(int=2)]


def test_stretches_that_touch_are_one() -> None:
    """Whatever their order."""
    assert merge_stretches([(5, 6), (1, 3), (3, 4), (2, 3)]) == [(1, 4), (5, 6)]
