"""Figures of benchmarks: one line of JSON each, with the ratio to another figure; medians, the process's memory."""

import gc
import json
import os
import statistics
import sys
import time
from collections.abc import Iterable
from pathlib import Path

_BEGAN = time.monotonic()


def report(
    benchmark: str,
    figure: str,
    value: float,
    unit: str,
    beside: tuple[str, float] | None = None,
    **circumstances: float,
) -> None:
    """Print a figure as a line of JSON, with its ratio to the figure `beside` (name and value) of the same run.

    `circumstances` are further members. Value and ratio are rounded to four digits.
    """
    line: dict[str, object] = {"benchmark": benchmark, "figure": figure, "value": _round(value), "unit": unit}
    if beside is not None:
        line |= {"ratio": _round(value / beside[1]), "beside": beside[0]}
    print(json.dumps(line | circumstances), flush=True)


def print_progress(text: str) -> None:
    """Print a progress message on standard error, after the seconds since the benchmark's start."""
    print(f"{time.monotonic() - _BEGAN:6.1f} s  {text}", file=sys.stderr, flush=True)


def median(values: Iterable[float]) -> float:
    """Return the median of several rounds: other load on the machine would distort a mean."""
    return statistics.median(values)


def percentile(values: Iterable[float], share: float) -> float:
    """Return the percentile by nearest rank: the smallest value that at least `share` of the values do not exceed.

    Return nan for no values.
    """
    ranked = sorted(values)
    if not ranked:
        return float("nan")
    return ranked[max(0, -int(-share * len(ranked) // 1) - 1)]


def measure_resident_bytes() -> int:
    """Collect garbage, and return the resident memory of this process in bytes (Linux); 0 elsewhere."""
    gc.collect()
    statm = Path("/proc/self/statm")
    return int(statm.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") if statm.exists() else 0


def _round(value: float) -> float:
    """Round to four digits, which is more than a shared machine can measure."""
    return float(f"{value:.4g}")
