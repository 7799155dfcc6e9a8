"""A slow and plain model of the alert rule (`docs/design.md`), which the rule is tested against.

Shares no code with the rule: it sees the whole log at once, keeps every flight, and asks each window.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

Said = tuple[str, str, datetime]
"""Bound, state, window start."""

LENGTHS = {"1h": timedelta(hours=1), "6h": timedelta(hours=6), "1d": timedelta(days=1)}


@dataclass
class Log:
    """Everything that one direction of one airport will ever be known to have."""

    flights: list[datetime]
    covered: tuple[datetime, datetime] | None
    gaps: list[tuple[datetime, datetime]]


@dataclass
class Wish:
    window: str
    high: int | None
    low: int | None
    for_windows: int
    repeat: bool
    effective_from: datetime


def everything_to_be_said(logs: list[Log], wish: Wish) -> set[Said]:
    if any(log.covered is None for log in logs):
        return set()
    length = LENGTHS[wish.window]
    midnight = min(log.covered[0] for log in logs).replace(hour=0, minute=0, second=0) - timedelta(days=1)
    last = max(max([log.covered[1], *log.flights]) for log in logs)
    starts = []
    while midnight <= last:
        starts.append(midnight)
        midnight += length

    def count(start):
        return sum(1 for log in logs for flight in log.flights if start <= flight < start + length)

    def never(start):
        if start < wish.effective_from:
            return True
        for log in logs:
            if start < log.covered[0]:
                return True
            if any(begin < start + length and end > start for begin, end in log.gaps):
                return True
        return False

    def closed(start):
        return not never(start) and all(log.covered[1] >= start + length for log in logs)

    said: set[Said] = set()
    for start in starts:
        before = [start - i * length for i in range(1, wish.for_windows + 1)]
        too_early = start < wish.effective_from or any(start < log.covered[0] for log in logs)
        if wish.high is not None and not too_early and all(never(b) or closed(b) for b in before):
            over = [not never(b) and count(b) > wish.high for b in before]
            if count(start) > wish.high and all(over[: wish.for_windows - 1]):
                if not all(over):
                    said.add(("high", "FIRING", start))
                elif wish.repeat:
                    said.add(("high", "STILL", start))
            elif all(over) and closed(start):
                said.add(("high", "RESOLVED", start))
        if wish.low is not None and closed(start):
            under = [closed(b) and count(b) < wish.low for b in before]
            if count(start) < wish.low and all(under[: wish.for_windows - 1]):
                if not all(under):
                    said.add(("low", "FIRING", start))
                elif wish.repeat:
                    said.add(("low", "STILL", start))
            elif all(under):
                said.add(("low", "RESOLVED", start))
    return said
