"""Figures as the benchmarks print them: one line of JSON each, the ratio beside the absolute number."""

import json
import statistics
import sys
import time
from collections.abc import Iterable

_BEGAN = time.monotonic()


def report(
    benchmark: str,
    figure: str,
    value: float,
    unit: str,
    beside: tuple[str, float] | None = None,
    **circumstances: float,
) -> None:
    """Print a figure, and with `beside` its ratio to that one (name and value), which was taken in the same run."""
    line: dict[str, object] = {"benchmark": benchmark, "figure": figure, "value": _rounded(value), "unit": unit}
    if beside is not None:
        line |= {"ratio": _rounded(value / beside[1]), "beside": beside[0]}
    print(json.dumps(line | circumstances), flush=True)


def progress(text: str) -> None:
    """Tell whoever waits what is done now; not a figure."""
    print(f"{time.monotonic() - _BEGAN:6.1f} s  {text}", file=sys.stderr, flush=True)


def median(values: Iterable[float]) -> float:
    """The median of several rounds: on a machine that others use, a mean tells of them."""
    return statistics.median(values)


def percentile(values: Iterable[float], share: float) -> float:
    """The nearest rank: the smallest value that at least `share` of the values do not exceed. Of no values, nan."""
    ranked = sorted(values)
    if not ranked:
        return float("nan")
    return ranked[max(0, -int(-share * len(ranked) // 1) - 1)]


def _rounded(value: float) -> float:
    """Four digits are more than a shared machine can tell."""
    return float(f"{value:.4g}")
