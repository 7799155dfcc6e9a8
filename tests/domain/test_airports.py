"""Tests of airports: look-up by ICAO code, and suggestions for unknown codes."""

import csv
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest
from hypothesis import given, strategies as st

from domain.airports import (
    _FORMER_CODES,
    MAX_SUGGESTIONS,
    describe_unknown_code,
    explain_retired_code,
    find_airport,
    find_former_name,
    find_similar_airports,
    find_successor,
)
from local.former_codes import MAX_DISTANCE_KM


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
        ("UAFM", "UCFM"), ("UAFO", "UCFO"), ("UTTT", "UZTT"), ("UTSS", "UZSS"), ("UAFP", "UCFP"), ("LYPR", "BKPR"),
        ("DNTZ", "DTNH"), ("HSSS", "HSSK"), ("KFPY", None), ("K40J", "KFPY"), ("EDDI", None), ("EGCN", None),
        ("HSSJ", None), ("KJFK", None), ("ZQZQ", None), ("", None),
    ],
)  # fmt: skip
def test_former_codes_lead_to_the_new_one(former: str, current: str | None) -> None:
    """A code that is in use, even if a newer one is known, has no successor, as has one that never was."""
    successor = find_successor(former)
    assert (successor.icao if successor is not None else None) == current
    assert (explain_retired_code(former) is None) is (former in ("HSSJ", "KJFK", "KFPY"))


ROWS = list(csv.DictReader(_FORMER_CODES.open(encoding="utf-8", newline="")))
TABLE_VERSION = version("airportsdata")


def test_each_former_code_is_out_of_use_and_leads_to_one_in_use() -> None:
    """From the version on that the row names; a table from before still has the former code, or not yet the new one."""
    for row in ROWS:
        assert row["source"].startswith(("airportsdata 20", "OpenFlights "))
        former, current = find_airport(row["former"]), find_airport(row["current"])
        if row["since"] <= TABLE_VERSION:
            assert former is None, row
            assert (current is not None) is bool(row["current"]), row
        else:
            assert former is not None or current is None, row


def test_both_codes_are_of_one_place() -> None:
    """The derivation has compared the positions of both tables; no chain leads from a former code to a former one."""
    assert len({row["former"] for row in ROWS}) == len(ROWS) > 300
    assert not {row["current"] for row in ROWS} & {row["former"] for row in ROWS}
    assert [row["former"] for row in ROWS if row["current"] and not float(row["km"]) <= MAX_DISTANCE_KM] == []
    assert [row["former"] for row in ROWS if not row["current"] and not (row["name"] and row["iata"])] == []


def test_the_table_in_use_has_been_compared() -> None:
    """A new version of `airportsdata` in uv.lock needs `local/former_codes.py` again: else its codes lead nowhere."""
    locked = {
        package["version"]
        for package in tomllib.loads(Path("uv.lock").read_text(encoding="utf-8"))["package"]
        if package["name"] == "airportsdata"
    }
    assert max(locked) == max(row["since"] for row in ROWS)


def test_a_code_that_is_gone_still_has_its_name() -> None:
    """A mail can name the airport, also one that is closed."""
    assert find_former_name("EDDI") == "Berlin Tempelhof Airport"
    assert find_former_name("UAFM") == "Manas International Airport"
    assert find_former_name("ZQZQ") == find_former_name("KJFK") == ""
