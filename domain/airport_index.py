"""The index of airports that the pages' search reads: those that a person may look for, the best known first.

No table that we may use says how well known an airport is. So the index is ordered by `airport_sizes.csv`: large
airports come first, as OurAirports classes them (public domain); within a class the one with the longest runways in all
comes first. So London is Heathrow first, Gatwick next. Airfields without an IATA code and without a known runway are
left out: most of the 28,000 codes are such, and a person who knows the code can still type it.
"""

import csv
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from domain.airports import Airport

_SIZES: Final = Path(__file__).with_name("airport_sizes.csv")
"""Derived by `local/airport_sizes.py`."""

_KINDS: Final = "lms"
"""Large, medium, small; an airport without a known runway comes after these."""


@dataclass(frozen=True, slots=True)
class AirportSize:
    """The size of an airport."""

    kind: str
    """l, m or s: large, medium, small."""
    runways_m: int
    """Length of all its runways together, in metres."""


def load_sizes() -> Mapping[str, AirportSize]:
    """Read the size of each airport with a known runway, by ICAO code."""
    with _SIZES.open(encoding="utf-8", newline="") as lines:
        return {row["airport"]: AirportSize(row["kind"], int(row["runways_m"])) for row in csv.DictReader(lines)}


def build_airport_index(airports: Iterable[Airport], sizes: Mapping[str, AirportSize]) -> dict[str, Any]:
    """Return the index as a JSON object: by column, the best known airport first.

    `large`: how many of the first airports are large; `zones`: the IANA names that `zone` numbers; then one list for
    each column, all of the same length: `icao`, `iata` (empty if there is none), `name`, `city` (may be empty),
    `country` (ISO 3166, two letters) and `zone`. An airport of `airports` that has neither an IATA code nor a size is
    left out.
    """
    listed = [each for each in airports if each.iata or each.icao in sizes]
    listed.sort(key=lambda each: (*_rank(sizes.get(each.icao)), each.icao))
    zones = sorted({each.time_zone for each in listed})
    numbers = {zone: number for number, zone in enumerate(zones)}
    return {
        "large": sum(each.icao in sizes and sizes[each.icao].kind == "l" for each in listed),
        "zones": zones,
        "icao": [each.icao for each in listed],
        "iata": [each.iata for each in listed],
        "name": [each.name for each in listed],
        "city": [each.city for each in listed],
        "country": [each.country for each in listed],
        "zone": [numbers[each.time_zone] for each in listed],
    }


def _rank(size: AirportSize | None) -> tuple[int, int]:
    """Return the place of an airport by its size: lower is better known. None: no runway is known."""
    return (len(_KINDS), 0) if size is None else (_KINDS.index(size.kind), -size.runways_m)
