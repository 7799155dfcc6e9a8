"""Airports, by ICAO code (source: the `airportsdata` package)."""

from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache, lru_cache
from typing import Final

import airportsdata

MOST_NEAR: Final = 5
"""Airports that are named to who mistyped a code."""

_LIKE: Final = 0.7
"""What two codes have in common at least, as difflib counts it: three letters of four, or all three of an IATA code."""

_LONGEST_SLIP: Final = 6
"""Characters; what is longer is no slip of the pen, and looked for nowhere."""


@dataclass(frozen=True, slots=True)
class Airport:
    """An airport that exists."""

    icao: str
    name: str
    city: str
    time_zone: str
    """IANA name."""
    iata: str = ""
    """IATA code; empty where it has none, as most that no airline flies to."""


@cache
def _all() -> dict[str, Airport]:
    return {
        icao: Airport(icao, row["name"], row["city"], row["tz"], row["iata"])
        for icao, row in airportsdata.load("ICAO").items()
        if len(icao) == 4
    }


@cache
def _by_iata() -> dict[str, Airport]:
    return {each.iata: each for each in _all().values() if each.iata}


def airport(icao: str) -> Airport | None:
    """The airport of an upper-case ICAO code, or None where there is none. The first call reads the table."""
    return _all().get(icao)


@lru_cache(maxsize=1024)
def near(code: str) -> tuple[Airport, ...]:
    """The airports that may be meant by an upper-case code that is none, the likeliest first.

    One with this IATA code; else those with a similar ICAO code, the more of its beginning, which tells the country,
    the better. Of those that airlines fly to (the ones with an IATA code), for there are others for every slip.
    """
    if (meant := _by_iata().get(code)) is not None:
        return (meant,)
    if len(code) > _LONGEST_SLIP:
        return ()
    alike = get_close_matches(code, [each.icao for each in _by_iata().values()], n=100, cutoff=_LIKE)
    return tuple(_all()[icao] for icao in sorted(alike, key=lambda icao: (-_common(icao, code), icao))[:MOST_NEAR])


def _common(one: str, other: str) -> int:
    """How many letters two codes begin with alike."""
    return next(
        (index for index, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(map(len, (one, other)))
    )


def unknown(code: str) -> str:
    """What to say to who gave an upper-case code that is no airport's."""
    meant = ", ".join(f"{each.icao} ({each.city or each.name})" for each in near(code))
    hint = f"did you mean {meant}?" if meant else "ICAO codes look like KJFK."
    return f"no airport has this ICAO code; {hint}"
