"""`python -m local.airport_sizes`: derive `domain/airport_sizes.csv` from the table of runways of the collector.

Run it after `collector/live/runways.csv.gz` was derived anew (`local/runways.py`):

    python -m local.airport_sizes > domain/airport_sizes.csv

One line is one airport with a runway: its ICAO code, its kind (l, m, s: large, medium, small, as OurAirports classes
it) and the length of all its runways together, in metres. The pages' search shows large airports first; passengers are
in no table that we may use, and the runways say nearly the same.
"""

import csv
import gzip
import io
import math
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final

COLUMNS: Final = ("airport", "kind", "runways_m")

_RUNWAYS: Final = Path(__file__).parents[1] / "collector" / "live" / "runways.csv.gz"
_METRES_PER_DEGREE: Final = 111_195.0


def derive_sizes(runways: Iterable[Mapping[str, str]]) -> Iterator[dict[str, str]]:
    """Yield the rows of the output, in the order of the codes, from rows of the table of runways."""
    lengths: dict[tuple[str, str], float] = {}
    for runway in runways:
        key = runway["airport"], runway["type"]
        lengths[key] = lengths.get(key, 0.0) + _measure(runway)
    for (airport, kind), length in sorted(lengths.items()):
        yield {"airport": airport, "kind": kind, "runways_m": str(round(length / 10) * 10)}


def _measure(runway: Mapping[str, str]) -> float:
    """Return the length of a runway in metres, from the positions of its two thresholds."""
    low_latitude, low_longitude, high_latitude, high_longitude = (
        float(runway[name]) for name in ("le_lat", "le_lon", "he_lat", "he_lon")
    )
    east = (high_longitude - low_longitude) * math.cos(math.radians(low_latitude))
    return math.hypot(high_latitude - low_latitude, east) * _METRES_PER_DEGREE


def read_runways(path: Path = _RUNWAYS) -> list[dict[str, str]]:
    """Return the rows of the table of runways."""
    with gzip.open(path) as file:
        return list(csv.DictReader(io.TextIOWrapper(file, encoding="utf-8")))


def main() -> None:
    """Write the table of sizes to standard output."""
    writer = csv.DictWriter(sys.stdout, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(derive_sizes(read_runways()))


if __name__ == "__main__":
    main()
