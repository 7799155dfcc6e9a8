"""The time zones that people can be in, by the names of the IANA database."""

import re
from difflib import SequenceMatcher, get_close_matches
from functools import cache
from importlib.resources import files
from typing import Final

_NOBODYS_ZONES: Final = frozenset(("Factory", "Etc/Unknown", "localtime", "posixrules"))
"""Names that stand for "not set" or for the machine's own zone. Lists of some machines have them."""

_LONGEST_NAME: Final = 64
"""Characters; a longer text resembles no name."""

_MIN_SIMILARITY: Final = 0.75
"""How alike two places must be, from 0 to 1; a common continent makes any two names alike."""

_OFFSET: Final = re.compile(r"(?:GMT|UTC)?([+-])0?(\d{1,2})(?::?00)?", re.IGNORECASE)
"""A whole number of hours from UTC, as people and some browsers write it: "GMT+03:00", "UTC-3"."""


@cache
def list_time_zones() -> frozenset[str]:
    """Return the names of all time zones of the IANA database, with the older names that browsers still send.

    The list is that of the package `tzdata`, the same on every machine, from which `zoneinfo` loads what the machine
    lacks. The copies `posix/…` and `right/…` are not in it, nor is what no person is in.
    """
    return frozenset(files("tzdata").joinpath("zones").read_text(encoding="ascii").split()) - _NOBODYS_ZONES


def suggest_time_zone(text: str) -> str | None:
    """Return the time zone that a text probably means, or None: "europe/rome", "New York", "GMT+03:00" (Etc/GMT-3)."""
    wanted = re.sub(r"^(posix|right)/", "", text.strip()[: _LONGEST_NAME + 1], flags=re.IGNORECASE)
    offset = _OFFSET.fullmatch(wanted)
    if offset is not None:  # POSIX counts hours west of Greenwich, people count those east of it
        name = f"Etc/GMT{'-' if offset[1] == '+' else '+'}{offset[2]}"
        return name if name in list_time_zones() else None
    folded = re.sub(r"\s+", "_", wanted).lower()
    if not folded or len(folded) > _LONGEST_NAME:
        return None
    names = _index_by_folded_name()
    close = [folded] if folded in names else get_close_matches(folded, names, n=1, cutoff=0.8)
    return names[close[0]] if close and _have_similar_places(folded, close[0]) else None


def _have_similar_places(one: str, other: str) -> bool:
    """Return True if the last parts of two names are alike too, False for Europe/Milan and Europe/Minsk."""
    place, other_place = one.rpartition("/")[2], other.rpartition("/")[2]
    return SequenceMatcher(None, place, other_place).ratio() >= _MIN_SIMILARITY


@cache
def _index_by_folded_name() -> dict[str, str]:
    """Return each time zone by its name in lower case, and by the last part of that name where only one has it."""
    zones = sorted(list_time_zones())
    places: dict[str, list[str]] = {}
    for zone in zones:
        places.setdefault(zone.rpartition("/")[2].lower(), []).append(zone)
    return {place: found[0] for place, found in places.items() if len(found) == 1} | {
        zone.lower(): zone for zone in zones
    }
