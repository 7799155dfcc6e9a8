"""The faults of a source of positions: for some minutes it is silent, or lies. Pure.

A fault lasts, as those of positions do: each request within these minutes meets it, and none after them. Faults come
from a list, or are drawn from a seed: then each hour has one with some probability, and any instant can be asked for.
"""

import re
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final

from local.opensky.sky.chance import derive_seed, draw

DEFAULT_RATE: Final = 0.2
"""Probability of a fault per hour."""
_HOUR: Final = 3_600
_LONGEST_MINUTES: Final = 20


class StateFault(StrEnum):
    """A kind of fault that requests for positions meet for some minutes."""

    FROZEN = "frozen"
    """Each answer is that of the fault's begin, with its time."""
    OLD = "old"
    """The time of the answers goes on, but all positions are those of the fault's begin, with their times."""
    NULL = "null"
    """`"states": null`."""
    EMPTY = "empty"
    """An empty list of states."""
    HTML = "html"
    """A web page with status 200."""
    BAD_GATEWAY = "502"
    """Status 502 of a proxy, with a page."""
    UNAVAILABLE = "503"
    """Status 503."""
    OUTAGE = "outage"
    """The connection is reset without an answer."""


@dataclass(frozen=True, slots=True)
class FaultSpell:
    """A fault with the time in which requests meet it."""

    fault: StateFault
    begin: int
    """Unix seconds."""
    end: int
    """Unix seconds of the first instant after it."""


@dataclass(frozen=True, slots=True)
class StateFaultPlan:
    """The faults of one source of positions: those of a list, and those that are drawn from a seed."""

    spells: tuple[FaultSpell, ...] = ()
    seed: int | None = None
    """None: no fault is drawn."""
    rate: float = DEFAULT_RATE

    def find_spell(self, now: int) -> FaultSpell | None:
        """Return the fault that a request at this instant meets; None: it meets none.

        Of faults in the list that overlap, the first counts.
        """
        listed = next((spell for spell in self.spells if spell.begin <= now < spell.end), None)
        if listed is not None or self.seed is None:
            return listed
        hour = now // _HOUR
        chance = derive_seed("state faults", self.seed, hour)
        if draw(chance, 0) >= self.rate:
            return None
        kinds = list(StateFault)
        length = 60 * (1 + int(_LONGEST_MINUTES * draw(chance, 1)))
        begin = hour * _HOUR + int((_HOUR - length) * draw(chance, 2))
        spell = FaultSpell(kinds[int(len(kinds) * draw(chance, 3))], begin, begin + length)
        return spell if spell.begin <= now < spell.end else None


def parse_state_faults(text: str) -> StateFaultPlan:
    """Make the plan of an option: SEED or SEED:RATE, or KIND@START+MINUTES and more of these after commas.

    START is an instant with its offset from UTC, as 2013-02-08T14:00Z. Raises ValueError with one sentence.
    """
    if "@" in text:
        return StateFaultPlan(tuple(map(_parse_spell, text.split(","))))
    seed, colon, rate = text.partition(":")
    try:
        number, share = int(seed), float(rate) if colon else DEFAULT_RATE
    except ValueError:
        raise ValueError(f"{text!r} is neither SEED, a whole number, nor SEED:RATE nor KIND@START+MINUTES") from None
    if not 0 <= share <= 1:
        raise ValueError(f"the rate of faults is from 0 to 1, not {rate}")
    return StateFaultPlan(seed=number, rate=share)


def _parse_spell(text: str) -> FaultSpell:
    """Parse KIND@START+MINUTES. Raises ValueError with one sentence."""
    match = re.fullmatch(r"([^@]+)@(.+)\+([0-9]{1,5})", text, re.ASCII)
    if match is None:
        raise ValueError(f"{text!r} is no fault; write it as outage@2013-02-08T14:00Z+15")
    kind, start, minutes = match.groups()
    try:
        fault = StateFault(kind)
    except ValueError:
        raise ValueError(f"{kind!r} is no fault of positions; there are {', '.join(StateFault)}") from None
    try:
        instant = datetime.fromisoformat(start)
    except ValueError:
        raise ValueError(f"{start!r} is no instant; write it as 2013-02-08T14:00Z") from None
    if instant.utcoffset() is None:
        raise ValueError(f"{start!r} must end in Z or an offset from UTC")
    begin = int(instant.timestamp())
    return FaultSpell(fault, begin, begin + 60 * int(minutes))
