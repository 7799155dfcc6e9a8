"""Airports, by ICAO code (source: the `airportsdata` package)."""

from dataclasses import dataclass
from functools import cache

import airportsdata


@dataclass(frozen=True, slots=True)
class Airport:
    """An airport that exists."""

    icao: str
    name: str
    city: str
    time_zone: str
    """IANA name."""


@cache
def _all() -> dict[str, Airport]:
    return {
        icao: Airport(icao, row["name"], row["city"], row["tz"])
        for icao, row in airportsdata.load("ICAO").items()
        if len(icao) == 4
    }


def airport(icao: str) -> Airport | None:
    """The airport of an upper-case ICAO code, or None where there is none. The first call reads the table."""
    return _all().get(icao)
