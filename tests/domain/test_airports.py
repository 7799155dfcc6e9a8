"""Tests of airports: look-up by ICAO code, and suggestions for unknown codes."""

import pytest
from hypothesis import given, strategies as st

from domain.airports import (
    MAX_SUGGESTIONS,
    _load_former_codes,
    describe_unknown_code,
    explain_retired_code,
    find_airport,
    find_similar_airports,
    find_successor,
)


def test_an_airport_is_known_by_its_icao_code_only():
    """An airport is found by four upper-case letters; an IATA code, lower case and other texts find none."""
    known = find_airport("KJFK")
    assert known is not None
    assert (known.icao, known.iata, known.city, known.time_zone) == ("KJFK", "JFK", "New York", "America/New_York")
    assert find_airport("JFK") is find_airport("kjfk") is find_airport("XXXX") is find_airport("") is None


@pytest.mark.parametrize(("given_", "meant"), [("JFK", "KJFK"), ("CTA", "LICC"), ("LHR", "EGLL"), ("FCO", "LIRF")])
def test_an_iata_code_means_its_airport(given_: str, meant: str):
    """An IATA code suggests the airport that has it, and no other."""
    assert [each.icao for each in find_similar_airports(given_)] == [meant]


@pytest.mark.parametrize(("slip", "meant"), [("KJFQ", "KJFK"), ("LICX", "LICC"), ("EGGLL", "EGLL"), ("LIRRF", "LIRF")])
def test_a_mistyped_code_suggests_the_right_airport(slip: str, meant: str):
    """A code with one wrong or one additional letter suggests the right airport among others."""
    assert meant in [each.icao for each in find_similar_airports(slip)]
    assert f"{meant} (" in describe_unknown_code(slip)


def test_a_text_like_no_code_suggests_nothing():
    """A text that resembles no code suggests nothing, however long it is; the message shows an example of a code."""
    for nonsense in ("", "?", "'; DROP TABLE interests; --", "Q" * 10_000):
        assert find_similar_airports(nonsense) == ()
        assert describe_unknown_code(nonsense).endswith("ICAO codes look like KJFK.")


@given(st.text(max_size=8))
def test_any_text_gives_a_few_airports_that_exist(code: str):
    """Suggestions for any text are at most MAX_SUGGESTIONS, and all of them are airports that exist."""
    found = find_similar_airports(code)
    assert len(found) <= MAX_SUGGESTIONS
    assert all(find_airport(each.icao) is each for each in found)


@pytest.mark.parametrize(
    ("former", "current"),
    [
        ("UAFM", "UCFM"), ("UAFO", "UCFO"), ("UTTT", "UZTT"), ("UTSS", "UZSS"), ("ORBS", "ORBI"), ("SEQU", "SEQM"),
        ("ENFB", "ENGM"), ("LYSK", "LWSK"), ("LYPR", "BKPR"), ("ULTT", "EETN"), ("UGKS", "UGKO"),
        ("HSSJ", None), ("KJFK", None), ("ZQZQ", None), ("", None),
    ],
)  # fmt: skip
def test_former_codes_lead_to_the_new_one(former: str, current: str | None) -> None:
    """A code that is in use, even if a newer one is known, has no successor, as has one that never was."""
    successor = find_successor(former)
    assert (successor.icao if successor is not None else None) == current
    assert (explain_retired_code(former) is None) is (former in ("HSSJ", "KJFK"))


def test_each_former_code_leads_to_a_code_in_use_or_to_one_that_will_be():
    """A row is of no use once both codes are out of use; and no code leads to a former one."""
    former = _load_former_codes()
    assert not set(former.values()) & former.keys()
    for old, new in former.items():
        assert find_airport(old) is not None or find_airport(new) is not None
