"""What the collector's answers say of coverage: up to when the record has it, and how much was seen live. Pure."""

from collections.abc import Collection, Mapping
from datetime import datetime, timedelta
from typing import Any

from domain.interests import Direction


def find_settled(coverage: Mapping[str, Mapping[str, Any]]) -> dict[tuple[str, Direction], datetime]:
    """Return up to when the record has covered airports, by airport and direction; what it has not covered is missing.

    `coverage`: the collector's answers, by ICAO code.
    """
    return {
        (icao, part): datetime.fromisoformat(answer[part.value]["covered_until"])
        for icao, answer in coverage.items()
        for part in Direction.BOTH.parts
        if answer[part.value] is not None
    }


def describe_live_share(
    coverage: Mapping[str, Mapping[str, Any]], keys: Collection[tuple[str, Direction]], begin: datetime, now: datetime
) -> str:
    """Return how much of the time since `begin` was seen live at these airports and directions, for the progress line.

    Empty before `begin` and while the collector does not answer. `coverage`: its answers, by ICAO code.
    """
    if now <= begin or not coverage or not keys:
        return ""
    seen = timedelta(0)
    for icao, part in keys:
        for stretch in coverage.get(icao, {}).get("live", {}).get(part.value, {}).get("stretches", []):
            from_, until = (datetime.fromisoformat(stretch[name]) for name in ("covered_from", "covered_until"))
            seen += max(min(until, now) - max(from_, begin), timedelta(0))
    share = seen / (len(keys) * (now - begin))
    return f"   {share:.0%} seen live so far; the night's record fills the rest"
