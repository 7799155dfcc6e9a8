"""Tests of decoding and encoding: valid messages decode, invalid bytes raise UndecodableError and nothing else."""

from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from uuid import UUID

import pytest
from hypothesis import given, settings, strategies as st

from domain.grids import LOCAL_WINDOWS
from domain.interests import HIGH_PERCENTS, HIGHEST_THRESHOLD, LOW_PERCENTS, MAX_FOR_WINDOWS, Direction
from domain.traffic import LONGEST_INTERVAL_S, Coverage, Observation
from domain.windows import AlignedTo, Window, seconds
from streams.errors import UndecodableError
from streams.messages import decode_flights, decode_interest, encode_alert
from tests.domain.corrected_logs import corrected_logs
from tests.domain.logs import BASE, an_interest, interests
from tests.notifier.alerts import alerts
from tests.streams.events import build_flights_message, build_interest_message, damaged
from towerwatch.alerts.v1 import events_pb2 as alerts_pb
from towerwatch.flights.v1 import events_pb2 as flights_pb
from towerwatch.interests.v1 import events_pb2 as interests_pb

INT64 = st.integers(-(2**63), 2**63 - 1)
INT32 = st.integers(-(2**31), 2**31 - 1)
UINT32 = st.integers(0, 2**32 - 1)
NOON = seconds(BASE)
COMPLETE = Coverage.COMPLETE


def build_batch(**changes) -> flights_pb.FlightsObserved:
    """Build a valid batch message with these fields changed; `begin` and `end` in seconds since 1970."""
    message = flights_pb.FlightsObserved(airport="KJFK", direction=2, coverage=2)
    message.begin.seconds, message.end.seconds = NOON, NOON + 3600
    for name, value in changes.items():
        if name in ("begin", "end"):
            getattr(message, name).seconds = value
        else:
            setattr(message, name, value)
    return message


@given(log=corrected_logs)
def test_a_batch_decodes_to_the_observation(log):
    """The event time of a departure is first seen, of an arrival last seen."""
    for seen in log:
        decoded = decode_flights(build_flights_message("KJFK", seen).SerializeToString())
        assert (decoded.airport, replace(decoded.observation, fingerprints=(), retracted=())) == (
            "KJFK",
            replace(seen, fingerprints=(), retracted=()),
        )
        assert len(decoded.observation.fingerprints) == len(seen.event_times)
        assert [at for at, _ in decoded.observation.retracted] == [at for at, _ in seen.retracted]


def test_a_retracted_flight_is_recognised_by_its_address_and_its_event_time():
    """The other fields do not count; another address, or another event time, is another flight."""
    message = build_flights_message("KJFK", Observation(Direction.DEPARTURES, NOON, NOON + 3600, (NOON,), COMPLETE))
    (flight,) = message.flights
    for changes in ({}, {"callsign": "OTHER"}, {"icao24": "abcdef"}, {"first_seen": NOON + 1}, {"last_seen": NOON}):
        retracted = message.retracted.add(icao24=flight.icao24)
        retracted.first_seen.CopyFrom(flight.first_seen)
        for name, value in changes.items():
            if isinstance(value, int):
                getattr(retracted, name).seconds = value
            else:
                setattr(retracted, name, value)
    observation = decode_flights(message.SerializeToString()).observation
    (known,) = zip(observation.event_times, observation.fingerprints, strict=True)
    assert [each == known for each in observation.retracted] == [True, True, False, False, True]


@given(
    interest=interests,
    version=st.integers(0, 2**64 - 1),
    high_percent=st.none() | st.integers(HIGH_PERCENTS.start, HIGH_PERCENTS.stop - 1),
    low_percent=st.none() | st.integers(LOW_PERCENTS.start, LOW_PERCENTS.stop - 1),
)
def test_an_interest_decodes_with_every_field(interest, version, high_percent, low_percent):
    """Every field of the interest is in its event; a bound has flights or a percent."""
    interest = replace(interest, version=version, high_percent=high_percent, low_percent=low_percent)
    if high_percent is not None:
        interest = replace(interest, high=None)
    if low_percent is not None:
        interest = replace(interest, low=None)
    assert decode_interest(build_interest_message(interest).SerializeToString()) == interest


@given(interest=interests, window=st.sampled_from(LOCAL_WINDOWS))
def test_an_interest_by_the_airports_clock_decodes_so_and_one_without_a_clock_is_by_utc(interest, window):
    """A message from before there were clocks is of windows by UTC, as one that names UTC."""
    local = replace(interest, window=window, aligned_to=AlignedTo.AIRPORT)
    assert decode_interest(build_interest_message(local).SerializeToString()) == local
    percent = replace(local, low=None, low_percent=50)
    assert decode_interest(build_interest_message(percent).SerializeToString()) == percent
    message = build_interest_message(interest)
    assert not message.aligned_to
    for message.aligned_to in (interests_pb.ALIGNED_TO_UNSPECIFIED, interests_pb.ALIGNED_TO_UTC):
        assert decode_interest(message.SerializeToString()) == interest


def test_unknown_fields_are_ignored():
    """A newer collector may publish more fields than this version has."""
    unknown = bytes.fromhex("9a3e0568656c6c6f")  # field 995, a string
    assert decode_flights(build_batch().SerializeToString() + unknown).airport == "KJFK"
    assert decode_interest(build_interest_message(an_interest()).SerializeToString() + unknown) == an_interest()


@pytest.mark.parametrize(
    "changes",
    [
        {"airport": ""},
        {"airport": "kjfk"},
        {"airport": "KJFK/"},
        {"airport": "<script>"},
        {"direction": 0},
        {"direction": 3},
        {"direction": 99},
        {"coverage": 0},
        {"coverage": 99},
        {"end": NOON},
        {"begin": -1},
        {"end": NOON + LONGEST_INTERVAL_S + 1},
        {"begin": 253_402_300_799, "end": 253_402_300_800},
        {"end": 2**62, "coverage": 3},
    ],
)
def test_an_invalid_batch_is_refused(changes):
    """A batch needs an airport, one direction, a known coverage, and an interval that can have been collected."""
    with pytest.raises(UndecodableError):
        decode_flights(build_batch(**changes).SerializeToString())


def test_a_gap_may_be_long():
    """A collector that was stopped for months publishes one gap for the whole time."""
    year = build_batch(end=NOON + 365 * 86_400, coverage=3).SerializeToString()
    assert decode_flights(year).observation.coverage is Coverage.GAP


@pytest.mark.parametrize(
    "changes",
    [
        {"interest_id": "no UUID"},
        {"user_id": ""},
        {"airport": "jfk"},
        {"direction": 0},
        {"direction": 4},
        {"window": 0},
        {"window": 7},
        {"for_windows": 0},
        {"for_windows": MAX_FOR_WINDOWS + 1},
        {"for_windows": 2**32 - 1},
        {"high": HIGHEST_THRESHOLD + 1},
        {"low": 2},
        {"high_percent": 150},
        {"low_percent": 0},
        {"low_percent": 100},
        {"aligned_to": 2},
        {"aligned_to": 3},
        {"effective_from": 2**62},
        {"effective_from": -(2**62)},
    ],
)
def test_an_invalid_interest_is_refused(changes):
    """An interest that the collector would not have accepted must not reach the fold."""
    message = build_interest_message(an_interest())
    for name, value in changes.items():
        if name == "effective_from":
            message.effective_from.seconds = value
        else:
            setattr(message, name, value)
    with pytest.raises(UndecodableError):
        decode_interest(message.SerializeToString())


def test_an_interest_without_a_threshold_is_refused():
    """Such an interest could never raise an alert."""
    message = build_interest_message(an_interest())
    message.ClearField("high")
    with pytest.raises(UndecodableError):
        decode_interest(message.SerializeToString())


def test_no_value_is_undecodable():
    """A tombstone among flights has no meaning."""
    with pytest.raises(UndecodableError):
        decode_flights(None)


stamps = st.fixed_dictionaries({"seconds": INT64, "nanos": INT32})
flights = st.fixed_dictionaries({"icao24": st.text(max_size=8), "first_seen": stamps, "last_seen": stamps})
any_batch = st.fixed_dictionaries(
    {
        "airport": st.sampled_from(["KJFK", ""]) | st.text(max_size=6),
        "direction": st.integers(0, 4) | INT32,
        "coverage": st.integers(0, 4) | INT32,
        "begin": stamps,
        "end": stamps,
        "flights": st.lists(flights, max_size=3),
    }
).map(lambda fields: flights_pb.FlightsObserved(**fields).SerializeToString())
any_interest = st.fixed_dictionaries(
    {
        "interest_id": st.sampled_from([str(UUID(int=1)), "{" + str(UUID(int=1)) + "}"]) | st.text(max_size=40),
        "user_id": st.just(str(UUID(int=2))) | st.text(max_size=40),
        "airport": st.just("KJFK") | st.text(max_size=6),
        "direction": st.integers(0, 4) | INT32,
        "window": st.integers(0, 4) | INT32,
        "high": st.none() | UINT32,
        "low": st.none() | UINT32,
        "high_percent": st.none() | UINT32,
        "low_percent": st.none() | UINT32,
        "aligned_to": st.integers(0, 3) | INT32,
        "for_windows": st.integers(0, 3) | UINT32,
        "effective_from": stamps,
        "version": st.integers(0, 2**64 - 1),
    }
).map(lambda fields: interests_pb.InterestSet(**fields).SerializeToString())
valid = st.sampled_from([build_batch().SerializeToString(), build_interest_message(an_interest()).SerializeToString()])


@settings(max_examples=500)
@given(value=st.binary(max_size=200) | valid.flatmap(damaged) | any_batch | any_interest)
def test_any_bytes_decode_or_raise_undecodable(value):
    """Random and damaged bytes raise UndecodableError and no other error."""
    with suppress(UndecodableError):
        decode_flights(value)
    with suppress(UndecodableError):
        decode_interest(value)


@given(alert=alerts, published=st.datetimes(datetime(1970, 1, 1), datetime(9999, 1, 1), timezones=st.just(UTC)))
def test_an_alert_is_encoded_with_every_field(alert, published):
    """Every field of an alert is in its event, under the contract's name."""
    message = alerts_pb.AlertRaised.FromString(encode_alert(alert, published))
    assert (message.alert_id, message.interest_id, message.user_id) == (
        str(alert.alert_id),
        str(alert.interest_id),
        str(alert.user_id),
    )
    assert alerts_pb.Bound.Name(message.bound) == f"BOUND_{alert.bound.name}"
    assert alerts_pb.State.Name(message.state) == f"STATE_{alert.state.name}"
    assert interests_pb.Window.Name(message.window) == f"WINDOW_{Window(alert.window).name}"
    assert flights_pb.Direction.Name(message.direction) == f"DIRECTION_{alert.direction.name}"
    assert message.window_start.ToDatetime(UTC) == alert.window_start
    assert message.cause_published_at.ToDatetime(UTC) == published
    for name in ("version", "airport", "count", "threshold", "for_windows"):
        assert getattr(message, name) == getattr(alert, name)
    withdrawn = message.withdrawn_count if message.HasField("withdrawn_count") else None
    assert withdrawn == alert.withdrawn_count
    assert message.withdrawn_state == (
        0 if alert.withdrawn_state is None else alerts_pb.State.Value(f"STATE_{alert.withdrawn_state.name}")
    )
    assert message.revision == alert.revision
    assert message.corrects is alert.corrects
    assert (message.count_before if message.HasField("count_before") else None) == alert.count_before
    assert message.provenance == (
        0 if alert.provenance is None else flights_pb.Provenance.Value(f"PROVENANCE_{alert.provenance.name}")
    )
    assert message.episode_id == (str(alert.episode_id) if alert.episode_id is not None else "")
    assert (message.percent if message.HasField("percent") else None) == alert.percent
    assert (message.doubled_usual if message.HasField("doubled_usual") else None) == alert.doubled_usual
    assert tuple(message.base_counts) == alert.base_counts
    assert message.live_windows == alert.live_windows
    assert tuple(each - 1 if each else None for each in message.earlier_usual) == alert.earlier_usual
    is_local = alert.aligned_to is AlignedTo.AIRPORT
    assert message.aligned_to == (interests_pb.ALIGNED_TO_AIRPORT if is_local else interests_pb.ALIGNED_TO_UNSPECIFIED)
    assert (message.window_end.ToDatetime(UTC) if message.HasField("window_end") else None) == (
        alert.window_end if is_local else None
    )
    earlier = zip(message.earlier_counts, message.earlier_known, strict=True)
    assert tuple(count if known else None for count, known in earlier) == alert.earlier
