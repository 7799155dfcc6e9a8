"""The parser of `/states/all`: what is true is kept in SI units, what cannot be true is dropped field by field."""

import math

import pytest
from hypothesis import given, strategies as st

from collector.sources.opensky.states import parse_states
from collector.sources.state_vector import Poll, Position, PositionSource, StateVector, UnreadablePollError

NOW = 1_633_608_290
ROW = [
    "3949EA", "AFR982  ", "France", NOW - 2, NOW, 2.47857, 48.99181, 777.24,
    False, 93.11, 265.24, 9.1, None, 800.1, "1000", False, 0, 8,
]  # fmt: skip


def parse_row(**changes: object) -> Poll:
    """Parse a poll of the one row, with the fields of these indexes (`at_3=…`) changed."""
    row = list(ROW)
    for name, value in changes.items():
        row[int(name.removeprefix("at_"))] = value
    return parse_states({"time": NOW, "states": [row]})


def test_a_row_becomes_a_state_vector() -> None:
    """Units are the answer's own, the address is in lower case, the callsign without padding."""
    assert parse_states({"time": NOW, "states": [ROW]}) == Poll(
        NOW,
        [
            StateVector(
                "3949ea", "AFR982", NOW, Position(NOW - 2, 48.99181, 2.47857), False,
                777.24, 800.1, 93.11, 265.24, 9.1, 8, PositionSource.ADS_B,
            )
        ],
    )  # fmt: skip


def test_rows_without_category_and_null_states_are_valid() -> None:
    """The category comes only with `extended=1`; a sky without aircraft is null, and is no error."""
    (state,) = parse_states({"time": NOW, "states": [ROW[:17]]}).states
    assert state.category is None
    assert parse_states({"time": NOW, "states": None}) == Poll(NOW, ())


@pytest.mark.parametrize(
    ("changes", "field", "expected"),
    [
        ({"at_3": NOW + 3}, "position", Position(NOW, 48.99181, 2.47857)),
        ({"at_3": NOW + 60}, "position", None),
        ({"at_3": None}, "position", None),
        ({"at_3": "noon"}, "position", None),
        ({"at_4": math.inf}, "contact_time", NOW - 2),
        ({"at_4": None, "at_3": None}, "contact_time", NOW),
        ({"at_5": 181.0}, "position", None),
        ({"at_6": math.nan}, "position", None),
        ({"at_6": True}, "position", None),
        ({"at_5": 0, "at_6": 0}, "position", None),
        ({"at_7": 1e9}, "baro_altitude_m", None),
        ({"at_7": "777"}, "baro_altitude_m", None),
        ({"at_8": None}, "on_ground", None),
        ({"at_8": 1}, "on_ground", None),
        ({"at_9": -1}, "velocity_m_s", None),
        ({"at_10": 360}, "track_deg", 0.0),
        ({"at_10": 400}, "track_deg", None),
        ({"at_11": 10**400}, "vertical_rate_m_s", None),
        ({"at_1": "\x1b[31m"}, "callsign", ""),
        ({"at_1": "much too long"}, "callsign", ""),
        ({"at_16": 9}, "source", PositionSource.OTHER),
        ({"at_16": 2}, "source", PositionSource.MLAT),
        ({"at_17": 99}, "category", None),
    ],
)
def test_a_field_that_cannot_be_true_is_dropped_alone(changes: dict[str, object], field: str, expected: object) -> None:
    """The rest of the row stays: an aircraft with an absurd altitude has a position all the same."""
    (state,) = parse_row(**changes).states
    assert getattr(state, field) == expected
    assert state.icao24 == "3949ea"


def test_what_is_dropped_is_counted() -> None:
    """An operator sees from the counts that a source has begun to send nonsense."""
    states = [ROW, {"icao24": "3949ea"}, ["3949ea"], ["~12345", *ROW[1:]], [7, *ROW[1:]], [*ROW[:7], -9e9, *ROW[8:]]]
    poll = parse_states({"time": NOW, "states": states})
    assert len(poll.states) == 2
    assert poll.dropped == {"row": 2, "icao24": 2, "baro_altitude": 1}


@pytest.mark.parametrize(
    "answer",
    [None, [], 7, "states", {}, {"time": NOW}, {"states": []}, {"time": None, "states": []},
     {"time": True, "states": []}, {"time": 17, "states": []}, {"time": NOW, "states": {}}],
)  # fmt: skip
def test_what_is_no_poll_is_refused(answer: object) -> None:
    """One kind of error with one sentence, whatever the value is."""
    with pytest.raises(UnreadablePollError, match=r"^it"):
        parse_states(answer)


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9) | st.just("3949ea"),
    lambda inner: st.lists(inner, max_size=18) | st.dictionaries(st.text(max_size=9), inner, max_size=4),
    max_leaves=40,
)


@given(rows=st.lists(st.lists(_json, min_size=7, max_size=19).map(lambda row: ["3949ea", NOW, *row]) | _json))
def test_no_row_ends_in_another_error(rows: list[object]) -> None:
    """Whatever JSON a row holds, the poll is read, and each number in it is finite and within its bounds."""
    for state in parse_states({"time": NOW, "states": rows}).states:
        assert state.contact_time <= NOW
        for number in (state.baro_altitude_m, state.velocity_m_s, state.track_deg, state.vertical_rate_m_s):
            assert number is None or math.isfinite(number)
        if state.position is not None:
            assert state.position.time <= NOW
            assert -90 <= state.position.latitude <= 90
