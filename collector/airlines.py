"""Who operates a flight, by its callsign.

An airline's callsign is its ICAO designator, three letters (ICAO Doc 8585), and the flight's own part, which begins
with a digit. Others, such as private aircraft, give their registration, which is not read as anybody's designator.
"""

import csv
import re
from functools import cache
from pathlib import Path
from typing import Final

_NAMES: Final = Path(__file__).with_name("airlines.csv")
_OF_AN_AIRLINE: Final = re.compile("([A-Z]{3})[0-9]", re.ASCII)


def operator_of(callsign: str) -> str | None:
    """The ICAO designator that the callsign begins with, or None where it begins with none."""
    found = _OF_AN_AIRLINE.match(callsign)
    return found[1] if found else None


@cache
def _names() -> dict[str, str]:
    with _NAMES.open(encoding="utf-8", newline="") as lines:
        return {row["code"]: row["name"] for row in csv.DictReader(lines)}


def name_of(code: str) -> str | None:
    """The airline with this designator, if it is one of those that are best known."""
    return _names().get(code)
