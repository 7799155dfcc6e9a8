"""The parser of readsb's `aircraft.json`: feet, knots and ages become SI units and times; nonsense is dropped."""

import math

import pytest
from hypothesis import given, strategies as st

from collector.sources.readsb.aircraft_json import parse_aircraft
from collector.sources.state_vector import Poll, Position, PositionSource, StateVector, UnreadablePollError

NOW = 1_633_608_290.5
ROW: dict[str, object] = {
    "hex": "3949EA", "type": "adsb_icao", "flight": "AFR982  ", "alt_baro": 2000, "alt_geom": 2100, "gs": 180.0,
    "track": 265.24, "baro_rate": 1200, "category": "A7", "lat": 48.99181, "lon": 2.47857, "seen": 0.5, "seen_pos": 2.5,
}  # fmt: skip


def parse_row(**changes: object) -> Poll:
    """Parse a poll of the one row, with these members changed."""
    return parse_aircraft({"now": NOW, "aircraft": [ROW | changes]})


def test_a_row_becomes_a_state_vector() -> None:
    """Feet become metres, knots and feet a minute metres a second, and ages become times."""
    (state,) = parse_row().states
    assert state == StateVector(
        "3949ea", "AFR982", NOW - 0.5, Position(NOW - 2.5, 48.99181, 2.47857), False,
        pytest.approx(609.6), pytest.approx(640.08), pytest.approx(92.6), 265.24, pytest.approx(6.096), 8,
        PositionSource.ADS_B,
    )  # fmt: skip


def test_an_altitude_of_ground_is_on_the_ground_at_an_unknown_altitude() -> None:
    """readsb has no member for it; without any altitude it is unknown whether the aircraft flies."""
    (state,) = parse_row(alt_baro="ground").states
    assert (state.on_ground, state.baro_altitude_m) == (True, None)
    (state,) = parse_row(alt_baro=None).states
    assert (state.on_ground, state.baro_altitude_m) == (None, None)


def test_a_row_that_only_has_an_address_is_valid() -> None:
    """What is unknown is missing."""
    assert parse_aircraft({"now": NOW, "aircraft": [{"hex": "3949ea"}]}).states == [
        StateVector("3949ea", "", NOW, None, None, None, None, None, None, None, None, PositionSource.ADS_B)
    ]


def test_services_that_share_send_another_list_and_milliseconds() -> None:
    """`/v2/point` has its list under `ac`; adsb.lol's `now` is in milliseconds."""
    assert parse_aircraft({"now": 1_633_608_290_500, "ac": [ROW]}) == parse_row()


@pytest.mark.parametrize(
    ("changes", "field", "expected"),
    [
        ({"seen_pos": None}, "position", None),
        ({"seen_pos": -0.2}, "position", Position(NOW, 48.99181, 2.47857)),
        ({"seen_pos": "2"}, "position", None),
        ({"lat": 91}, "position", None),
        ({"lon": None}, "position", None),
        ({"seen": 1e9}, "contact_time", NOW - 2.5),
        ({"alt_baro": "sky"}, "baro_altitude_m", None),
        ({"alt_baro": 300_000}, "baro_altitude_m", None),
        ({"alt_geom": math.nan}, "geo_altitude_m", None),
        ({"gs": -3}, "velocity_m_s", None),
        ({"track": "N"}, "track_deg", None),
        ({"baro_rate": None, "geom_rate": -600}, "vertical_rate_m_s", pytest.approx(-3.048)),
        ({"category": "A0"}, "category", None),
        ({"category": 7}, "category", None),
        ({"category": "C2"}, "category", 17),
        ({"category": "B2"}, "category", 10),
        ({"flight": 7}, "callsign", ""),
        ({"flight": "@@@@@@@@"}, "callsign", ""),
        ({"type": "mlat"}, "source", PositionSource.MLAT),
        ({"type": "tisb_icao"}, "source", PositionSource.RADAR),
        ({"type": "mode_s"}, "source", PositionSource.OTHER),
        ({"type": 7}, "source", PositionSource.OTHER),
    ],
)
def test_a_field_that_cannot_be_true_is_dropped_alone(changes: dict[str, object], field: str, expected: object) -> None:
    """The rest of the row stays."""
    (state,) = parse_row(**changes).states
    assert getattr(state, field) == expected
    assert state.icao24 == "3949ea"


def test_an_identity_that_is_no_icao_address_is_dropped_and_counted() -> None:
    """`~` marks one; it would be another aircraft tomorrow, and no flight of the record has it."""
    poll = parse_aircraft({"now": NOW, "aircraft": [{**ROW, "hex": "~2a3b4c"}, {**ROW, "hex": 7}, [], {}]})
    assert poll == Poll(NOW, [], {"icao24": 3, "row": 1})


@pytest.mark.parametrize(
    "answer",
    [None, [], 7, {}, {"now": NOW}, {"aircraft": []}, {"now": "noon", "aircraft": []}, {"now": NOW, "aircraft": {}},
     {"now": math.nan, "ac": []}, {"now": 1e300, "ac": []}],
)  # fmt: skip
def test_what_is_no_poll_is_refused(answer: object) -> None:
    """One kind of error with one sentence, whatever the value is."""
    with pytest.raises(UnreadablePollError, match=r"^it"):
        parse_aircraft(answer)


_values = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9) | st.lists(st.integers())


@given(rows=st.lists(st.dictionaries(st.sampled_from(sorted(ROW)), _values).map(lambda row: {"hex": "3949ea"} | row)))
def test_no_row_ends_in_another_error(rows: list[object]) -> None:
    """Whatever JSON a member holds, the poll is read, and each time in it is not later than the poll."""
    for state in parse_aircraft({"now": NOW, "aircraft": rows}).states:
        assert state.contact_time <= NOW
        assert state.position is None or NOW - 86_400 <= state.position.time <= NOW
