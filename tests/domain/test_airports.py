"""Airports: which there are, and which may be meant."""

import pytest
from hypothesis import given, strategies as st

from domain.airports import MAX_SUGGESTIONS, describe_unknown_code, find_airport, find_similar_airports


def test_an_airport_is_known_by_its_icao_code_only():
    """Four letters, upper case."""
    known = find_airport("KJFK")
    assert known is not None
    assert (known.icao, known.iata, known.city, known.time_zone) == ("KJFK", "JFK", "New York", "America/New_York")
    assert find_airport("JFK") is find_airport("kjfk") is find_airport("XXXX") is find_airport("") is None


@pytest.mark.parametrize(("given_", "meant"), [("JFK", "KJFK"), ("CTA", "LICC"), ("LHR", "EGLL"), ("FCO", "LIRF")])
def test_an_iata_code_means_its_airport(given_: str, meant: str):
    """And no other."""
    assert [each.icao for each in find_similar_airports(given_)] == [meant]


@pytest.mark.parametrize(("slip", "meant"), [("KJFQ", "KJFK"), ("LICX", "LICC"), ("EGGLL", "EGLL"), ("LIRRF", "LIRF")])
def test_a_slip_is_near_to_what_is_meant(slip: str, meant: str):
    """Those of the same country first."""
    assert meant in [each.icao for each in find_similar_airports(slip)]
    assert f"{meant} (" in describe_unknown_code(slip)


def test_what_is_like_no_code_is_near_to_nothing():
    """However long it is; the text then says what a code looks like."""
    for nonsense in ("", "?", "'; DROP TABLE interests; --", "Q" * 10_000):
        assert find_similar_airports(nonsense) == ()
        assert describe_unknown_code(nonsense).endswith("ICAO codes look like KJFK.")


@given(st.text(max_size=8))
def test_anything_can_be_asked_for(code: str):
    """A few airports at most, which exist."""
    found = find_similar_airports(code)
    assert len(found) <= MAX_SUGGESTIONS
    assert all(find_airport(each.icao) is each for each in found)
