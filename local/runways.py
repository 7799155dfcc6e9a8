"""`python -m local.runways AIRPORTS RUNWAYS OUTPUT`: derive `collector/live/runways.csv.gz` from OurAirports' tables.

Run it when runways have changed, and write the day into `collector/live/runways.md`:

    curl -O https://davidmegginson.github.io/ourairports-data/airports.csv
    curl -O https://davidmegginson.github.io/ourairports-data/runways.csv
    python -m local.runways airports.csv runways.csv collector/live/runways.csv.gz

OurAirports' data are in the public domain. The output has one line for each runway of which both thresholds are known,
at airports with an ICAO code: its two directions (`le` and `he`, the lower and the higher number) with the positions of
their thresholds, the airport's elevation in feet, and its type (l, m or s: large, medium, small).
"""

import csv
import gzip
import io
import math
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

COLUMNS: Final = ("airport", "elevation_ft", "type", "le", "le_lat", "le_lon", "he", "he_lat", "he_lon")
SHORTEST_M: Final = 150.0
"""What is shorter is no runway: a helipad, or two thresholds at one place by mistake."""

_LONGEST_M: Final = 7_000.0
"""Longer than any runway: a mistyped threshold."""
_NORTHERNMOST: Final = 85.0
"""Beyond this latitude, at the South Pole, no plane with degrees of longitude can be laid."""
_TYPES: Final = {"large_airport": "l", "medium_airport": "m", "small_airport": "s"}
_ICAO: Final = re.compile(r"[A-Z]{4}")
_HELIPAD: Final = re.compile(r"H[0-9]*|[0-9]{2}H")
_METRES_PER_DEGREE: Final = 111_195.0


def is_runway(row: Mapping[str, str]) -> bool:
    """Return True if the two thresholds of a row of the output are the ends of one runway for airplanes, else False."""
    if _HELIPAD.fullmatch(row["le"]) or _HELIPAD.fullmatch(row["he"]):
        return False
    try:
        low, high = (float(row["le_lat"]), float(row["le_lon"])), (float(row["he_lat"]), float(row["he_lon"]))
        float(row["elevation_ft"])
    except ValueError:  # an empty field: unknown
        return False
    if abs(low[0]) > _NORTHERNMOST:
        return False
    east = (high[1] - low[1]) * math.cos(math.radians(low[0]))
    return SHORTEST_M <= math.hypot(high[0] - low[0], east) * _METRES_PER_DEGREE <= _LONGEST_M


def derive_runways(
    airports: Iterable[Mapping[str, str]], runways: Iterable[Mapping[str, str]]
) -> Iterator[dict[str, str]]:
    """Yield the rows of the output in the order of ICAO code and runway, from rows of OurAirports' two tables.

    Closed runways, helipads, water and airports without an ICAO code of four letters are left out.
    """
    known = {
        row["ident"]: row for row in airports if row["type"] in _TYPES and _ICAO.fullmatch(_read_icao(row)) is not None
    }
    found = [
        {
            "airport": _read_icao(known[row["airport_ident"]]),
            "elevation_ft": known[row["airport_ident"]]["elevation_ft"],
            "type": _TYPES[known[row["airport_ident"]]["type"]],
            **{
                f"{end}{column}": row[f"{end}_{source}"]
                for end in ("le", "he")
                for column, source in (("", "ident"), ("_lat", "latitude_deg"), ("_lon", "longitude_deg"))
            },
        }
        for row in runways
        if row["airport_ident"] in known and row["closed"] != "1" and "water" not in row["surface"].lower()
    ]
    yield from sorted(filter(is_runway, found), key=lambda row: (row["airport"], row["le"]))


def _read_icao(airport: Mapping[str, str]) -> str:
    """Return an airport's ICAO code: newer tables have a column for it, in older ones it is the identifier."""
    return airport.get("icao_code") or airport["ident"]


def write_table(rows: Iterable[Mapping[str, str]]) -> bytes:
    """Return the output as a compressed file, which is the same for the same rows."""
    text = io.StringIO()
    lines = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    lines.writeheader()
    lines.writerows({name: row[name] for name in COLUMNS} for row in rows)
    return gzip.compress(text.getvalue().encode(), mtime=0)


def main(arguments: Sequence[str]) -> None:
    """Write the table of runways; exit with one sentence if a given file is not usable."""
    if len(arguments) != 3:
        sys.exit(f"runways: name OurAirports' airports.csv, its runways.csv, and the output.\n\n{__doc__}")
    airports, runways, output = map(Path, arguments)
    try:
        with airports.open(encoding="utf-8", newline="") as first, runways.open(encoding="utf-8", newline="") as second:
            rows = list(derive_runways(csv.DictReader(first), csv.DictReader(second)))
        output.write_bytes(write_table(rows))
    except KeyError as error:
        sys.exit(f"runways: a table lacks the column {error}: take airports.csv and runways.csv of OurAirports")
    except (OSError, ValueError) as error:
        sys.exit(f"runways: a table cannot be read or written: {error}")
    print(f"{len(rows):,} runways of {len({row['airport'] for row in rows}):,} airports", file=sys.stderr)


if __name__ == "__main__":
    main(sys.argv[1:])
