import re
from collections.abc import Iterator

import pytest
from hypothesis import given, strategies as st

from local.opensky.flights import TimetableFlight
from local.opensky.icao24 import compute_icao24, compute_us_address

LETTERS = "ABCDEFGHJKLMNPQRSTUVWXYZ"


def in_order(digits: str) -> Iterator[str]:
    """Every registration that begins with these digits, in the order of the FAA."""
    yield f"N{digits}"
    if len(digits) == 5:
        return
    for first in LETTERS:
        yield f"N{digits}{first}"
        if len(digits) < 4:
            yield from (f"N{digits}{first}{second}" for second in LETTERS)
    for digit in "0123456789":
        yield from in_order(digits + digit)


def test_the_whole_block_is_counted_one_by_one() -> None:
    """All 915,399 registrations in their order have the addresses a00001 to adf7c7: none twice, none left out."""
    registrations = (registration for first in "123456789" for registration in in_order(first))
    address = 0xA00000
    for address, registration in enumerate(registrations, start=0xA00001):
        assert compute_us_address(registration) == address, registration
    assert address == 0xADF7C7


@pytest.mark.parametrize(
    ("registration", "icao24"),
    [("N1", "a00001"), ("N1ZZ", "a00259"), ("N10", "a0025a"), ("N628TS", "a835af"), ("N99999", "adf7c7")],
)
def test_known_aircraft(registration: str, icao24: str) -> None:
    """The ends of the block, a step of the tree, and an aircraft whose address the newspapers print."""
    assert compute_icao24(registration) == icao24


@pytest.mark.parametrize(
    "name", ["", "N", "N0", "N01", "N123456", "N1234AB", "N12345A", "N1I", "N1O", "N1ABC", "n1", "N1\n", "D942DN", "N٣"]
)
def test_other_names_are_no_registrations_of_the_united_states(name: str) -> None:
    """They follow the FAA's form or they have no place in the count."""
    assert compute_us_address(name) is None


@given(st.text())
def test_invented_addresses_belong_to_nobody(name: str) -> None:
    """Whatever an airline calls its aircraft has an address, in no country's block if it must be invented."""
    address = compute_icao24(name)
    assert re.fullmatch("[0-9a-f]{6}", address)
    assert address.startswith("a" if compute_us_address(name) is not None else "d")


def test_no_two_aircraft_of_the_data_share_an_address(flights: list[TimetableFlight]) -> None:
    """4,037 registrations fly in the data, and so many addresses do."""
    assert len({flight.icao24 for flight in flights}) == 4_037
