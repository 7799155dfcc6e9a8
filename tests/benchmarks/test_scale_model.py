"""Tests of the estimate of needs: more people never need less, and a limit is where a need exceeds it."""

import json
import math
import subprocess
import sys
from dataclasses import fields, replace
from pathlib import Path

import pytest
from hypothesis import given, strategies as st

from benchmarks.scale import read_figures, render_limits, render_needs
from benchmarks.scale_model import Assumptions, UnitCosts, compute_needs, compute_shares, find_limits, read_costs

ROOT = Path(__file__).parents[2]
USUAL = Assumptions()
COSTS = UnitCosts(
    folded_flights_per_s=30_000,
    alerts_per_s=17_000,
    index_bytes=95,
    recovery_s=21e-6,
    mails_per_s=500,
    user_row=700,
    person_row=150,
    interest_row=400,
    interest_record=170,
    alert_record=285,
    flight_record=38,
    order_s=160e-6,
    order_bytes=3_500,
    comparison_s=130e-6,
    comparison_bytes=1_200,
    page_requests_per_s=200,
    changes_per_s=100,
)
# None of these may fall as the number of people grows.
_NEEDS = [each.name for each in fields(compute_needs(1, COSTS, USUAL))]


@given(st.integers(1, 10**8), st.integers(1, 10**8))
def test_more_people_never_need_less(one, other):
    """Each number of what is needed grows with the people, or stays."""
    few, many = (compute_needs(people, COSTS, USUAL) for people in sorted((one, other)))
    for name in _NEEDS:
        assert getattr(few, name) <= getattr(many, name) * (1 + 1e-9), name


@given(st.integers(1, 5_000))
def test_shares_are_a_whole_and_fall(airports):
    """The shares of all airports add up to one, and a less popular airport has no more."""
    shares = compute_shares(airports)
    assert math.isclose(sum(shares), 1)
    assert shares == sorted(shares, reverse=True)


def test_no_more_airports_are_watched_than_there_are():
    """Few people watch as many airports as they have interests, at most; very many watch all."""
    assert compute_needs(10, COSTS, USUAL).airports <= 30
    assert compute_needs(10**8, COSTS, USUAL).airports == pytest.approx(USUAL.airports_heard, rel=1e-3)


@pytest.mark.parametrize(
    ("words", "need", "most"),
    [
        ("one account's credits", "airports", 4_000 / 60),
        ("takes the leader", "order_s", USUAL.leader_s),
        ("comparison of all interests takes longer", "comparison_s", USUAL.comparison_s),
    ],
)
def test_a_limit_is_where_a_need_passes_it(words, need, most):
    """At 90 % of a limit's people the need is within the limit, at 110 % it exceeds it."""
    (limit,) = (each for each in find_limits(COSTS, USUAL) if words in each.what)
    below, above = (compute_needs(round(limit.people * share), COSTS, USUAL) for share in (0.9, 1.1))
    assert getattr(below, need) <= most < getattr(above, need)


def test_the_notifiers_limit_is_where_twelve_workers_are_too_few():
    """Just below it twelve workers are enough for the worst quarter of an hour, just above a thirteenth is needed."""
    (limit,) = (each for each in find_limits(COSTS, USUAL) if "workers of the notifier" in each.what)
    assert compute_needs(int(limit.people * 0.999), COSTS, USUAL).notifier_workers == 12
    assert compute_needs(int(limit.people * 1.001), COSTS, USUAL).notifier_workers == 13


def test_limits_come_in_their_order_and_move_with_their_cost():
    """Limits are sorted by people, and at half the cost a limit is reached by twice as many."""
    limits = find_limits(COSTS, USUAL)
    assert [each.people for each in limits] == sorted(each.people for each in limits)
    cheaper = find_limits(replace(COSTS, order_s=COSTS.order_s / 2), USUAL)
    (before,), (after,) = (
        [each.people for each in found if "takes the leader" in each.what] for found in (limits, cheaper)
    )
    assert after == pytest.approx(2 * before)


def _build_lines():
    """Build a line of each figure that the costs are read from, whose values are 1, 2, 3 …"""
    asked = []

    class Recording(dict):
        def __missing__(self, key):
            asked.append(key)
            return float(len(asked))

    costs = read_costs(Recording())
    lines = [
        json.dumps({"benchmark": benchmark, "figure": figure, "value": number, "unit": unit})
        for number, (benchmark, figure, unit) in enumerate(asked, 1)
    ]
    return costs, lines


def test_costs_are_read_from_what_benchmarks_print():
    """Each figure is found by benchmark, name and unit; other lines are ignored; of equal ones the last counts."""
    costs, lines = _build_lines()
    noise = [
        "ready after 8 s",
        '{"benchmark": "live_week", "topics, MB": {}}',
        lines[0].replace('"value": 1', '"value": 99'),
    ]
    assert read_costs(read_figures([*noise, *lines])) == costs


def test_the_figures_are_ones_that_the_benchmarks_name():
    """A benchmark whose figure is renamed is found out here, and not after ten minutes of `make bench`."""
    _, lines = _build_lines()
    sources = "".join(each.read_text() for each in (ROOT / "benchmarks").rglob("*.py"))
    for line in lines:
        entry = json.loads(line)
        assert f'NAME: Final = "{entry["benchmark"]}"' in sources
        assert f'"{entry["unit"]}"' in sources or entry["unit"] in ("requests/s",)


def test_both_tables_have_a_row_for_each_number():
    """The table of needs names every number; the table of limits every limit, the first one first."""
    needs = render_needs([compute_needs(people, COSTS, USUAL) for people in (10_000, 10**8)]).splitlines()
    assert len(needs) == len(_NEEDS) + 1
    assert needs[0] == "| people | 10,000 | 100,000,000 |"
    assert all(line.count("|") == 4 for line in needs)
    limits = render_limits(COSTS, USUAL).splitlines()
    assert len(limits) == len(find_limits(COSTS, USUAL)) + 2


def test_a_missing_figure_is_named_with_what_to_do():
    """Without the output of `make bench` the command ends with a sentence, and not with a table of guesses."""
    ended = subprocess.run(
        [sys.executable, "-m", "benchmarks.scale"],
        input="nothing\n",
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )
    assert ended.returncode == 1
    assert "run `make bench` first" in ended.stderr
    assert not ended.stdout
    assert "Traceback" not in ended.stderr
