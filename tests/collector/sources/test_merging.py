"""Tests of merging the polls of several sources."""

import random
from collections.abc import Sequence
from itertools import permutations
from typing import Final

from hypothesis import given, strategies as st

from collector.sources.merging import OLDEST_POLL_S, MergedPoll, merge_polls
from collector.sources.state_vector import MAX_CLOCK_LEAD_S, Poll, Position, PositionSource, StateVector

NOW: Final = 1_700_000_000.0


def state(icao24: str = "39de4f", age: float | None = 5.0, **fields: object) -> StateVector:
    """Return a state vector whose position is `age` seconds old; None: it has no position."""
    position = None if age is None else Position(NOW - age, 49.0, 2.5)
    base = StateVector(
        icao24, "", NOW - 1, position, False, 400.0, None, 70.0, None, None, None, PositionSource.ADS_B
    )  # fmt: skip
    return base._replace(**fields)  # type: ignore[arg-type]


def poll(*states: StateVector, age: float = 0.0) -> Poll:
    """Return a poll of these state vectors, `age` seconds old."""
    return Poll(NOW - age, states)


def test_the_freshest_position_of_an_aircraft_wins() -> None:
    """Not the latest message or the latest poll; and all that is known with it stays with it."""
    stale = state(age=40.0, baro_altitude_m=9_000.0, contact_time=NOW)
    fresh = state(age=3.0, baro_altitude_m=120.0, contact_time=NOW - 2)
    other = state("400000", age=80.0)
    merged = merge_polls({"opensky": poll(stale, other), "url-1": poll(fresh, age=2.0)}, NOW)
    assert merged.poll.states == [fresh, other]
    assert (merged.ahead, merged.outdated, merged.poll.time) == ({}, {}, NOW)


def test_a_position_wins_over_none() -> None:
    """However old it is: its age is in it, for others to judge."""
    old, none = state(age=80.0), state(age=None, contact_time=NOW)
    assert merge_polls({"a": poll(none), "b": poll(old)}, NOW).poll.states == [old]


def test_of_equally_fresh_positions_the_aircrafts_own_wins() -> None:
    """A position that receivers computed from times of arrival, or a radar measured, is less exact."""
    own, computed = state(), state(source=PositionSource.MLAT, baro_altitude_m=9_999.0)
    assert merge_polls({"a": poll(computed), "b": poll(own)}, NOW).poll.states == [own]


def test_what_does_not_change_in_flight_is_completed() -> None:
    """The callsign and the category; never altitude or speed, which would be of another time than the position."""
    fresh = state(age=1.0, baro_altitude_m=None)
    stale = state(age=9.0, callsign="TVF12AB", category=8, baro_altitude_m=400.0)
    (merged,) = merge_polls({"a": poll(stale), "b": poll(fresh)}, NOW).poll.states
    assert merged == fresh._replace(callsign="TVF12AB", category=8)


def test_a_source_from_the_future_is_left_out_and_named() -> None:
    """Its clock is wrong: its positions would win over all others, and nobody knows how old they are."""
    ahead = Poll(NOW + MAX_CLOCK_LEAD_S + 1, [state(age=-MAX_CLOCK_LEAD_S)])
    honest = state(age=8.0)
    merged = merge_polls({"url-1": ahead, "opensky": poll(honest)}, NOW)
    assert merged.poll.states == [honest]
    assert merged.ahead == {"url-1": MAX_CLOCK_LEAD_S + 1}


def test_a_clock_that_is_a_little_ahead_counts_as_now() -> None:
    """Clocks are never equal; the poll stays later than its positions."""
    slightly = Poll(NOW + 2, [state(age=-1.0)])
    merged = merge_polls({"url-1": slightly, "opensky": poll(state(age=4.0))}, NOW)
    assert merged.poll.time == NOW + 2
    assert merged.poll.states == [state(age=-1.0)]
    latest = state(age=0.0, contact_time=NOW)
    assert merge_polls({"url-1": slightly, "opensky": poll(latest)}, NOW).poll.states == [latest]


def test_an_old_poll_is_left_out_and_named() -> None:
    """A source that has died or stands still gives nothing to the sky of now."""
    merged = merge_polls({"url-1": poll(state(), age=OLDEST_POLL_S + 1)}, NOW)
    assert merged == MergedPoll(Poll(NOW, []), {}, {"url-1": OLDEST_POLL_S + 1})
    assert merge_polls({}, NOW) == MergedPoll(Poll(NOW, []), {}, {})


AGES = st.sampled_from([None, -6.0, -5.0, -1.0, 0.0, 1.0, 1.5, 30.0, 95.0])
NUMBERS = st.sampled_from([None, 0.0, -10.0, 120.0])
STATES = st.builds(
    lambda icao24, age, fields: state(icao24, age, **fields),
    st.sampled_from(["39de4f", "400000", "a00001"]),
    AGES,
    st.fixed_dictionaries(
        {
            "callsign": st.sampled_from(["", "AAL1", "BAW2"]),
            "contact_time": st.sampled_from([NOW - 9, NOW, NOW + 5]),
            "on_ground": st.sampled_from([None, False, True]),
            "baro_altitude_m": NUMBERS,
            "geo_altitude_m": NUMBERS,
            "velocity_m_s": NUMBERS,
            "category": st.sampled_from([None, 1, 8]),
            "source": st.sampled_from(PositionSource),
        }
    ),
)
POLLS = st.lists(
    st.builds(
        Poll, st.sampled_from([NOW - 91, NOW - 90, NOW - 1, NOW, NOW + 5, NOW + 5.5]), st.lists(STATES, max_size=5)
    ),
    max_size=4,
)


def merge_in_order(polls: Sequence[Poll], order: Sequence[int]) -> MergedPoll:
    """Merge polls whose sources are named in this order; in each poll the rows come in a shuffled order, too."""
    named = {}
    for number in order:
        rows = list(polls[number].states)
        random.Random(order[0]).shuffle(rows)
        named[f"source-{number}"] = Poll(polls[number].time, rows)
    return merge_polls(named, NOW)


@given(POLLS)
def test_the_order_of_the_sources_does_not_matter(polls: list[Poll]) -> None:
    """Nor the order of the rows in a poll, even where positions are equally fresh."""
    outcomes = [merge_in_order(polls, order) for order in permutations(range(len(polls)))]
    assert all(each == outcomes[0] for each in outcomes)


@given(POLLS)
def test_each_aircraft_is_there_once_with_a_position_that_is_as_fresh_as_any(polls: list[Poll]) -> None:
    """Of the polls that count; and nothing is invented: time, position and altitudes are of one and the same row."""
    merged = merge_in_order(polls, range(len(polls)))
    rows = [row for each in polls if NOW - OLDEST_POLL_S <= each.time <= NOW + MAX_CLOCK_LEAD_S for row in each.states]
    assert [each.icao24 for each in merged.poll.states] == sorted({row.icao24 for row in rows})
    for found in merged.poll.states:
        assert found._replace(callsign="", category=None) in [row._replace(callsign="", category=None) for row in rows]
        near = [
            min(row.position.time, NOW)
            for row in rows
            if row.icao24 == found.icao24 and row.position is not None and row.position.time <= NOW + MAX_CLOCK_LEAD_S
        ]
        if near:
            assert found.position is not None
            assert min(found.position.time, NOW) == max(near)
