"""Skips of tests whose programs the machine lacks, and the sentence about them at the end of a run."""

import os
from collections import Counter
from collections.abc import Iterable
from typing import NoReturn

import pytest


def is_required(program: str) -> bool:
    """Return True if `TOWERWATCH_REQUIRE_<program>` is set and not empty: no test may be skipped for its lack."""
    return bool(os.environ.get(f"TOWERWATCH_REQUIRE_{program}"))


def skip_unless_required(program: str, reason: str) -> NoReturn:
    """Skip the running test, or fail it if the program is required.

    `reason` names what is missing and how to install it, without a full stop.
    """
    if is_required(program):
        pytest.fail(reason)
    pytest.skip(reason)


def summarize_skips(reasons: Iterable[str], total: int) -> str | None:
    """Return one sentence about the skipped tests of a run of `total` tests; None if no test was skipped.

    `reasons` has one entry for each skipped test, as pytest reports it.
    """
    counts = Counter(reason.removeprefix("Skipped: ").rstrip(".") for reason in reasons)
    if not counts:
        return None
    parts = "; ".join(f"{count} because {reason}" for reason, count in counts.most_common())
    return f"{counts.total()} of {total} tests were skipped: {parts}."
