"""How failures of polls are told to people, and when a round that failed is made again."""

import re
from collections.abc import Mapping
from typing import Final

from collector.errors import BreakerOpenError, SourceError

RETRY_AFTER_S: Final = 10.0
"""Seconds after a round that failed until the next: the detector bridges some of them."""
LONGEST_SLEEP_S: Final = 60.0
"""A feed that waits looks after so many seconds whether it still has to."""


def compute_retry_s(failures: Mapping[str, SourceError]) -> float:
    """Return the seconds after which a round that failed is made again: later if no source would be asked before."""
    waits = [each.retry_after_s if isinstance(each, BreakerOpenError) else 0.0 for each in failures.values()]
    return min(max(min(waits, default=0.0), RETRY_AFTER_S), LONGEST_SLEEP_S)


def describe_failures(failures: Mapping[str, SourceError]) -> str:
    """Return the failures of sources in one sentence; of several sources with their names."""
    if len(failures) == 1:
        return str(next(iter(failures.values())))
    return "; ".join(f"{source}: {error}" for source, error in sorted(failures.items()))


def strip_numbers(sentence: str | None) -> str | None:
    """Return a sentence without its numbers, which differ each time, so that two can be compared; None for None."""
    return None if sentence is None else re.sub(r"[0-9][0-9.:Z]*", "", sentence)
