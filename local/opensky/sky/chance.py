"""Chance that is a pure function of its seed: the same draw in every process, and at any time in any order."""

from hashlib import blake2b
from typing import Final

_MASK: Final = (1 << 64) - 1
_GOLDEN: Final = 0x9E3779B97F4A7C15


def derive_seed(*parts: object) -> int:
    """Return a seed of 64 bits that depends on all parts, by their texts."""
    return int.from_bytes(blake2b("\0".join(map(str, parts)).encode(), digest_size=8).digest())


def draw(seed: int, number: int) -> float:
    """Draw the `number`-th number of a seed, from 0 to below 1.

    The function is SplitMix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number generators", 2014), which can
    begin at any number: a poll needs the draws of its own seconds and of no others.
    """
    x = (seed + number * _GOLDEN) & _MASK
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & _MASK
    return ((x ^ (x >> 31)) >> 11) * 2.0**-53


def draw_between(low: float, high: float, *parts: object) -> float:
    """Draw a number from `low` to below `high` by a seed that is derived from the parts."""
    return low + (high - low) * draw(derive_seed(*parts), 0)
