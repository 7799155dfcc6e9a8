"""Sparklines: small charts without axes, which the templates draw as SVG."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Sparkline:
    """A small chart of numbers in a row, without axes."""

    heights: tuple[float, ...]
    """Heights of the bars in percent, one for each slot; 0 for a slot without a value."""
    gaps: tuple[int, ...]
    """Indexes of the slots that a gap in coverage touches."""
    slots: int


def build_sparkline(values: Sequence[int], slots: int, gaps: Sequence[int] = ()) -> Sparkline:
    """Build a sparkline whose last value fills the last of `slots` slots; empty slots come first.

    Heights are in percent of the highest value. `gaps`: indexes in `values`, of which there are at most `slots`.
    """
    top = max([*values, 1])
    missing = slots - len(values)
    heights = (0.0,) * missing + tuple(round(100 * value / top, 1) for value in values)
    return Sparkline(heights, tuple(missing + gap for gap in gaps), slots)
