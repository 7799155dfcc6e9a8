"""`python -m local.former_codes TABLE...`: derive `domain/former_codes.csv` from older tables of airports.

Run it after each new version of `airportsdata` in `uv.lock`, over the wheels of that version and of older ones, and
over files of OpenFlights, which know codes from before the first wheel:

    pip download --no-deps --dest /tmp/tables airportsdata==20261103   # and each older version
    python -m local.former_codes /tmp/tables/*.whl airports.dat > domain/former_codes.csv

A TABLE is a wheel of `airportsdata`, or a file `airports.dat` of OpenFlights (github.com/jpatokal/openflights). Nothing
is written by hand: a row is there because an older table has the airport under the former code.
"""

import csv
import io
import math
import re
import sys
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

MAX_DISTANCE_KM: Final = 5.0
"""Two positions of one airport are at most this far apart: a reference point moves with a new runway."""

COLUMNS: Final = ("former", "current", "name", "iata", "km", "since", "source")

_EARTH_DIAMETER_KM: Final = 12_742.0
_VERSION: Final = re.compile(r"airportsdata-(\d{8})(?:\.\d+)*-")
_ICAO: Final = re.compile(r"[A-Z0-9]{4}")


@dataclass(frozen=True, slots=True)
class KnownAirport:
    """An airport as one version of the table of `airportsdata` has it."""

    icao: str
    iata: str
    name: str
    latitude: float
    longitude: float


@dataclass(frozen=True, slots=True)
class AirportTable:
    """A table of airports by ICAO code."""

    source: str
    """What the table is, for the column of that name."""
    version: str
    """The version of `airportsdata`, a date; empty for OpenFlights."""
    airports: Mapping[str, KnownAirport]


@dataclass(frozen=True, slots=True)
class FormerCodeRow:
    """A code that is in use no more, and the code of the same airport now; `current` is empty if none is known."""

    former: str
    current: str
    name: str
    iata: str
    km: str
    """The distance of the two positions, with one decimal; empty without a current code."""
    since: str
    """The oldest given version of `airportsdata` from which on the former code is missing and the current one known."""
    source: str
    """The newest given table that has the former code."""


def load_table(path: Path) -> AirportTable:
    """Load a table from a wheel of `airportsdata` or a file of OpenFlights.

    Raises ValueError with one sentence if a file with the suffix .whl is no such wheel.
    """
    if path.suffix != ".whl":
        return AirportTable(f"OpenFlights {path.name}", "", _index(_read_openflights(path.read_text("utf-8"))))
    version = _VERSION.match(path.name)
    if version is None:
        raise ValueError(f"{path.name} is no wheel of airportsdata, whose version is a date")
    with zipfile.ZipFile(path) as wheel, wheel.open("airportsdata/airports.csv") as content:
        rows = list(csv.DictReader(io.TextIOWrapper(content, "utf-8")))
    airports = (
        KnownAirport(row["icao"], row["iata"], row["name"], float(row["lat"]), float(row["lon"])) for row in rows
    )
    return AirportTable(f"airportsdata {version[1]}", version[1], _index(airports))


def _read_openflights(text: str) -> Iterable[KnownAirport]:
    """Yield the airports of an OpenFlights file, which has no header; `\\N` stands for no code."""
    for _, name, _, _, iata, icao, latitude, longitude, *_ in csv.reader(text.splitlines()):
        yield KnownAirport(icao, iata if len(iata) == 3 else "", name, float(latitude), float(longitude))


def _index(airports: Iterable[KnownAirport]) -> dict[str, KnownAirport]:
    """Return the airports with an ICAO code of four letters or digits, by that code."""
    return {each.icao: each for each in airports if _ICAO.fullmatch(each.icao)}


def compute_distance_km(one: KnownAirport, other: KnownAirport) -> float:
    """Return the great-circle distance of two airports, by the haversine formula."""
    latitude, longitude, other_latitude, other_longitude = map(
        math.radians, (one.latitude, one.longitude, other.latitude, other.longitude)
    )
    haversine = (
        math.sin((latitude - other_latitude) / 2) ** 2
        + math.cos(latitude) * math.cos(other_latitude) * math.sin((longitude - other_longitude) / 2) ** 2
    )
    return _EARTH_DIAMETER_KM * math.asin(math.sqrt(haversine))


def derive_former_codes(tables: Sequence[AirportTable]) -> list[FormerCodeRow]:
    """Return the codes that the newest version of `airportsdata` has no more, in their order.

    The airport of a former code is the one in the newest version that has the same IATA code or the same name, and is
    at most MAX_DISTANCE_KM away. A code without such an airport is returned only if a version of `airportsdata` has it
    with an IATA code (airline traffic), for its name. Raises ValueError if no version of `airportsdata` is given.
    """
    versions = sorted((each for each in tables if each.version), key=lambda each: each.version)
    if not versions:
        raise ValueError("at least one wheel of airportsdata is needed: the newest one says which codes are in use")
    newest = versions[-1].airports
    last: dict[str, tuple[AirportTable, KnownAirport]] = {}
    for table in (*(each for each in tables if not each.version), *versions):
        last |= {icao: (table, airport) for icao, airport in table.airports.items() if icao not in newest}
    by_iata = {each.iata: each for each in newest.values() if each.iata}
    by_name: dict[str, list[KnownAirport]] = {}
    for each in newest.values():
        by_name.setdefault(each.name.casefold(), []).append(each)
    found = []
    for icao, (table, airport) in sorted(last.items()):
        likely = [*by_name.get(airport.name.casefold(), ())]
        if airport.iata in by_iata:
            likely.append(by_iata[airport.iata])
        same = min(likely, key=lambda each: compute_distance_km(airport, each), default=None)
        if same is None or compute_distance_km(airport, same) > MAX_DISTANCE_KM:
            same = None
        if same is None and not (table.version and airport.iata):
            continue
        found.append(
            FormerCodeRow(
                icao,
                same.icao if same else "",
                airport.name,
                airport.iata,
                f"{compute_distance_km(airport, same):.1f}" if same else "",
                _find_first_version(versions, icao, same),
                table.source,
            )
        )
    return found


def _find_first_version(versions: Sequence[AirportTable], former: str, current: KnownAirport | None) -> str:
    """Return the version from which on, up to the newest, the former code is missing and the current one known."""
    first = versions[-1].version
    for table in reversed(versions):
        if former in table.airports or (current is not None and current.icao not in table.airports):
            break
        first = table.version
    return first


def main(arguments: Sequence[str]) -> None:
    """Print the table of former codes as CSV; exit with one sentence if a given table is not usable."""
    if not arguments:
        sys.exit(f"former_codes: name the tables to compare.\n\n{__doc__}")
    try:
        found = derive_former_codes([load_table(Path(each)) for each in arguments])
    except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
        sys.exit(f"former_codes: a table cannot be read: {error}")
    lines = csv.writer(sys.stdout, lineterminator="\n")
    lines.writerow(COLUMNS)
    lines.writerows([getattr(each, name) for name in COLUMNS] for each in found)


if __name__ == "__main__":
    main(sys.argv[1:])
