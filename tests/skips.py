"""The sentence at the end of a test run that names what was skipped, and how to run it."""

from collections import Counter
from collections.abc import Iterable


def summarize_skips(reasons: Iterable[str], total: int) -> str | None:
    """Return one sentence about the skipped tests of a run of `total` tests; None if no test was skipped.

    `reasons` has one entry for each skipped test. A reason names the missing program and how to install it.
    """
    counts = Counter(_strip_prefix(reason) for reason in reasons)
    if not counts:
        return None
    parts = "; ".join(f"{count} because {reason}" for reason, count in counts.most_common())
    return f"{counts.total()} of {total} tests were skipped: {parts}. `.ci/run` installs all of these programs."


def _strip_prefix(reason: str) -> str:
    """Return a skip's reason without pytest's own "Skipped: " and without a final full stop."""
    return reason.removeprefix("Skipped: ").rstrip(".")
