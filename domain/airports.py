"""Airports by ICAO code, and suggestions for a mistyped or former code (source: the `airportsdata` package).

An update of the package may retire a code. What was stored with it stays, so no code may be taken for known.
"""

import csv
import re
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache, lru_cache
from pathlib import Path
from typing import Final

import airportsdata

MAX_SUGGESTIONS: Final = 5
"""Airports that are suggested for a mistyped code, at most."""

_MIN_SIMILARITY: Final = 0.7
"""The least difflib ratio of two similar codes: three letters of four in common, or all three of an IATA code."""

_ICAO: Final = re.compile("[A-Z0-9]{4}")

_FORMER_CODES: Final = Path(__file__).with_name("former_codes.csv")
"""Codes that older tables have and newer ones have not, each with its source; see `local/former_codes.py`."""

_MAX_MISTYPED_LENGTH: Final = 6
"""Characters; a longer text is no mistyped code, and no similar code is searched for."""


@dataclass(frozen=True, slots=True)
class Airport:
    """An airport that exists: its ICAO and IATA codes, its name, its city, its time zone and its country."""

    icao: str
    name: str
    city: str
    time_zone: str
    """IANA name."""
    iata: str = ""
    """IATA code; empty if the airport has none, as most airports without airline traffic."""
    country: str = ""
    """Its country's code of two letters (ISO 3166-1)."""


@dataclass(frozen=True, slots=True)
class FormerCode:
    """A code that is no longer in use: its airport's code now, and the airport's name then."""

    current: str
    """The ICAO code that the same airport has now; empty if none is known."""
    name: str
    """The airport's name under the former code."""


def read_airports() -> Iterator[Airport]:
    """Read the table of `airportsdata`, and yield all airports that have an ICAO code of four letters, in its order.

    Nothing of it is kept in memory, as it is by the functions that look airports up.
    """
    for icao, row in airportsdata.load("ICAO").items():
        if len(icao) == 4:
            yield Airport(icao, row["name"], row["city"], row["tz"], row["iata"], row["country"])


@cache
def _load_airports() -> dict[str, Airport]:
    """Return all airports that have an ICAO code of four letters, by that code.

    The first call reads the table of `airportsdata`; later calls return the same dict.
    """
    return {airport.icao: airport for airport in read_airports()}


@cache
def _load_airports_by_iata() -> dict[str, Airport]:
    """Return the airports that have an IATA code, by that code; built once from `_load_airports`."""
    return {airport.iata: airport for airport in _load_airports().values() if airport.iata}


def find_airport(icao: str) -> Airport | None:
    """Return the airport with this upper-case ICAO code, or None if no airport has it.

    The first call reads the table.
    """
    return _load_airports().get(icao)


def is_icao(code: str) -> bool:
    """Return True if a text has the form of an ICAO code, four upper-case letters or digits, whether it is known."""
    return _ICAO.fullmatch(code) is not None


@cache
def _load_former_codes() -> dict[str, FormerCode]:
    """Return what is known of each former code; the file is read once per process."""
    with _FORMER_CODES.open(encoding="utf-8", newline="") as lines:
        return {row["former"]: FormerCode(row["current"], row["name"]) for row in csv.DictReader(lines)}


def find_former_name(icao: str) -> str:
    """Return the name of the airport that had a former code; empty if it is not known."""
    known = _load_former_codes().get(icao)
    return "" if known is None else known.name


def find_successor(icao: str) -> Airport | None:
    """Return the airport that had a former code, under its code of now.

    Returns None if no such airport is known, or if the code is still in use.
    """
    if find_airport(icao) is not None:
        return None
    known = _load_former_codes().get(icao)
    return None if known is None else find_airport(known.current)


def explain_retired_code(icao: str) -> str | None:
    """Return in two sentences that a code is in use no more, and what its people can do; None if it is in use."""
    if find_airport(icao) is not None:
        return None
    successor = find_successor(icao)
    instead = (
        f"Its place has {_name_airport(successor)} now: set an interest there, and remove this one."
        if successor is not None
        else "Set an interest in another airport, and remove this one."
    )
    return f"No airport has the code {icao} any more: no flight is collected there, and no alert will come. {instead}"


def _name_airport(airport: Airport) -> str:
    """Return an airport's code with its city, or else its name: "KJFK (New York)"."""
    return f"{airport.icao} ({airport.city or airport.name})"


@lru_cache(maxsize=1024)
def find_similar_airports(code: str) -> tuple[Airport, ...]:
    """Return up to MAX_SUGGESTIONS airports that an unknown upper-case code may stand for, the likeliest first.

    The airport with this IATA code alone; else the airports with a similar ICAO code, a longer common beginning (which
    names the country) first, ties by code. Only airports with an IATA code (airline traffic) are searched, because
    almost every mistyped code is similar to the code of some small airfield. Empty if none is similar or the code is
    longer than six characters. Results are cached.
    """
    by_iata = _load_airports_by_iata()
    if (meant := by_iata.get(code)) is not None:
        return (meant,)
    if len(code) > _MAX_MISTYPED_LENGTH:
        return ()
    codes = [airport.icao for airport in by_iata.values()]
    similar = get_close_matches(code, codes, n=100, cutoff=_MIN_SIMILARITY)
    likeliest = sorted(similar, key=lambda icao: (-_count_common_prefix(icao, code), icao))[:MAX_SUGGESTIONS]
    return tuple(_load_airports()[icao] for icao in likeliest)


def _count_common_prefix(one: str, other: str) -> int:
    """Return the number of letters at the beginning that two codes have in common."""
    return next(
        (index for index, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(map(len, (one, other)))
    )


def describe_unknown_code(code: str) -> str:
    """Return the error message for an upper-case code that no airport has.

    It names the airport that has a former code's place now. Else it ends with suggestions (code and city) of similar
    airports, or with an example of a code if there are none.
    """
    if (successor := find_successor(code)) is not None:
        return f"no airport has this ICAO code any more; use {_name_airport(successor)}"
    suggestions = ", ".join(map(_name_airport, find_similar_airports(code)))
    hint = f"did you mean {suggestions}?" if suggestions else "ICAO codes look like KJFK."
    return f"no airport has this ICAO code; {hint}"
