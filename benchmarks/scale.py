"""`python -m benchmarks.scale [FILE …]`: what 10,000, a million and a hundred million people need.

Reads the lines of JSON that `make bench` prints, from files or from standard input, and prints two Markdown tables:
what an installation for so many people needs, and from how many people on a part must be built in another way. The
assumptions about people stand in `benchmarks/scale_model.py`, and each is an option here. docs/scale.md explains both.
"""

import argparse
import fileinput
import json
import math
import sys
from collections.abc import Iterable
from dataclasses import fields
from typing import Final

from benchmarks.scale_model import Assumptions, Limit, Needs, UnitCosts, compute_needs, find_limits, read_costs

NAME: Final = "scale"
PEOPLE: Final = (10_000, 1_000_000, 100_000_000)
_ROWS: Final = {
    "interests": "interests",
    "airports": "airports that somebody watches",
    "interests_in_top_airport": "interests in the most popular airport",
    "stream_workers": "workers of the stream",
    "index_gib": "… their memory for interests, GiB",
    "worst_burst_s": "… until all alerts of the most popular airport are raised, s",
    "notifier_workers": "workers of the notifier",
    "partitions": "partitions of the topics",
    "collector_replicas": "replicas of the collector",
    "order_s": "… order of the next collections, s of processor time",
    "order_gib": "… and GiB",
    "comparison_s": "… comparison of the interests with the stream's, s of processor time",
    "comparison_gib": "… and GiB",
    "user_db_gib": "database of accounts, GiB",
    "data_db_gib": "database of interests, GiB",
    "log_gib": "Kafka's log with its copies, GiB",
    "credits": "credits a day for the record of the night",
    "accounts": "… in accounts at OpenSky",
}
"""The words of the table for each number of `Needs`."""


def main() -> int:
    """Read the figures, and print both tables; return 0, or 1 with a sentence if a figure is missing."""
    parser = argparse.ArgumentParser(prog=f"python -m benchmarks.{NAME}", description=__doc__)
    parser.add_argument("files", nargs="*", help="output of `make bench` (default: standard input)")
    usual = Assumptions()
    for each in fields(usual):
        default = getattr(usual, each.name)
        flag = "--" + each.name.replace("_", "-")
        parser.add_argument(flag, type=type(default), default=default, help=f"(default: {default:g})")
    options = vars(parser.parse_args())
    with fileinput.input(options.pop("files") or ("-",), encoding="utf-8") as lines:
        figures = read_figures(lines)
    try:
        costs = read_costs(figures)
    except KeyError as error:
        print(f"benchmarks.{NAME}: no line has the figure {error.args[0]}: run `make bench` first", file=sys.stderr)
        return 1
    given = Assumptions(**options)
    print(render_needs([compute_needs(people, costs, given) for people in PEOPLE]))
    print()
    print(render_limits(costs, given))
    return 0


def read_figures(lines: Iterable[str]) -> dict[tuple[str, str, str], float]:
    """Return the values by benchmark, figure and unit. The last value of a figure counts; other lines are ignored."""
    figures = {}
    for line in lines:
        if line.startswith('{"benchmark"'):
            entry = json.loads(line)
            if "figure" in entry:
                figures[entry["benchmark"], entry["figure"], entry["unit"]] = float(entry["value"])
    return figures


def render_needs(needs: Iterable[Needs]) -> str:
    """Render what installations need as a table in Markdown, a column for each number of people."""
    columns = list(needs)
    lines = [
        "| people | " + " | ".join(f"{each.people:,}" for each in columns) + " |",
        "|---" * (len(columns) + 1) + "|",
    ]
    for name, words in _ROWS.items():
        lines.append(f"| {words} | " + " | ".join(_format(getattr(each, name)) for each in columns) + " |")
    return "\n".join(lines)


def render_limits(costs: UnitCosts, given: Assumptions) -> str:
    """Render which parts must be built in another way, and from how many people on, as a table in Markdown."""
    lines = ["| from | what | what would have to change |", "|---|---|---|"]
    lines += [_render_limit(limit) for limit in find_limits(costs, given)]
    return "\n".join(lines)


def _render_limit(limit: Limit) -> str:
    """Render one row of the table of limits."""
    people = "never" if math.isinf(limit.people) else f"{_format(limit.people)} people"
    return f"| {people} | {limit.what} | {limit.remedy} |"


def _format(number: float) -> str:
    """Write a number with two digits, or whole if it is small and an integer: the estimate has no more."""
    if number < 100 and number == int(number):
        return f"{int(number)}"
    rounded = float(f"{number:.2g}")
    return f"{rounded:,.0f}" if rounded >= 10 else f"{rounded:g}"


if __name__ == "__main__":
    sys.exit(main())
