"""Tests of the figures that the benchmarks print, and of percentiles."""

import json
import math

import pytest

from benchmarks.streams.figures import percentile, report


@pytest.mark.parametrize(
    ("values", "share", "expected"),
    [([7], 0.5, 7), ([1, 2, 3, 4], 0.5, 2), ([4, 3, 2, 1, 5], 0.5, 3), (range(1, 101), 0.99, 99), ([1, 2], 1.0, 2)],
)
def test_percentile_is_the_nearest_rank(values, share, expected):
    """A percentile is the smallest value that at least that share of the values do not exceed."""
    assert percentile(values, share) == expected


def test_the_percentile_of_no_values_is_not_a_number():
    """A latency without a single alert must not look like a short one."""
    assert math.isnan(percentile([], 0.5))


def test_a_figure_is_one_line_of_json_with_its_ratio(capsys):
    """A line has the value, and its ratio to a value that was measured in the same run."""
    report("b", "ours", 1234.5678, "flights/s", ("theirs", 1000.0), rounds=3)
    report("b", "alone", 2.0, "s")
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert lines == [
        {
            "benchmark": "b",
            "figure": "ours",
            "value": 1235,
            "unit": "flights/s",
            "ratio": 1.235,
            "beside": "theirs",
            "rounds": 3,
        },
        {"benchmark": "b", "figure": "alone", "value": 2, "unit": "s"},
    ]
