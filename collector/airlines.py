"""The operator (airline) of a flight, read from its callsign.

An airline's callsign is its ICAO designator, three letters (ICAO Doc 8585), and the flight's own part, which begins
with a digit. Other aircraft, such as private ones, give their registration, which is not taken for a designator.
"""

import csv
import re
from functools import cache
from pathlib import Path
from typing import Final

_NAMES: Final = Path(__file__).with_name("airlines.csv")
_AIRLINE_CALLSIGN: Final = re.compile("([A-Z]{3})[0-9]", re.ASCII)


def parse_operator(callsign: str) -> str | None:
    """Return the ICAO designator that the callsign begins with, or None if the callsign begins with no designator."""
    found = _AIRLINE_CALLSIGN.match(callsign)
    return found[1] if found else None


@cache
def _load_names() -> dict[str, str]:
    """Load the airlines' names by ICAO designator from `airlines.csv`; the file is read once per process."""
    with _NAMES.open(encoding="utf-8", newline="") as lines:
        return {row["code"]: row["name"] for row in csv.DictReader(lines)}


def find_airline_name(code: str) -> str | None:
    """Return the name of the airline with this designator, or None if it is not in our list of well-known airlines."""
    return _load_names().get(code)
