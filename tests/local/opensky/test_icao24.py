"""The transponder addresses of the data set's aircraft."""

import re
from collections.abc import Iterator

import pytest
from hypothesis import given, strategies as st

from local.opensky.flights import TimetableFlight
from local.opensky.icao24 import compute_icao24, compute_us_address

LETTERS = "ABCDEFGHJKLMNPQRSTUVWXYZ"


def list_registrations(digits: str) -> Iterator[str]:
    """Yield every registration that begins with these digits, in the FAA's order."""
    yield f"N{digits}"
    if len(digits) == 5:
        return
    for first in LETTERS:
        yield f"N{digits}{first}"
        if len(digits) < 4:
            yield from (f"N{digits}{first}{second}" for second in LETTERS)
    for digit in "0123456789":
        yield from list_registrations(digits + digit)


def test_registrations_and_addresses_map_one_to_one() -> None:
    """All 915,399 registrations, in their order, have the addresses a00001 to adf7c7, each exactly once."""
    registrations = (registration for first in "123456789" for registration in list_registrations(first))
    address = 0xA00000
    for address, registration in enumerate(registrations, start=0xA00001):
        assert compute_us_address(registration) == address, registration
    assert address == 0xADF7C7


@pytest.mark.parametrize(
    ("registration", "icao24"),
    [("N1", "a00001"), ("N1ZZ", "a00259"), ("N10", "a0025a"), ("N628TS", "a835af"), ("N99999", "adf7c7")],
)
def test_known_aircraft(registration: str, icao24: str) -> None:
    """The ends of the block, some steps between, and a published address of a real aircraft are right."""
    assert compute_icao24(registration) == icao24


@pytest.mark.parametrize(
    "name", ["", "N", "N0", "N01", "N123456", "N1234AB", "N12345A", "N1I", "N1O", "N1ABC", "n1", "N1\n", "D942DN", "N٣"]
)
def test_an_invalid_registration_has_no_us_address(name: str) -> None:
    """A name that does not follow the FAA's form has no address in the block."""
    assert compute_us_address(name) is None


@given(st.text())
def test_invented_addresses_are_outside_of_every_countrys_block(name: str) -> None:
    """A name that is no registration gets an address that ICAO has given to no state."""
    address = compute_icao24(name)
    assert re.fullmatch("[0-9a-f]{6}", address)
    assert address.startswith("a" if compute_us_address(name) is not None else "d")


def test_no_two_aircraft_of_the_data_share_an_address(flights: list[TimetableFlight]) -> None:
    """The data's 4,037 registrations have 4,037 addresses; 99 more stand for those that are wrong."""
    assert len({flight.icao24 for flight in flights}) == 4_037 + 99
