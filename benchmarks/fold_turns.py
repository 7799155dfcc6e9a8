"""`python -m benchmarks.fold_turns COMMIT`: the pure fold of this working copy beside that of another commit.

The other commit gets a working tree and an environment of its own in a temporary folder. Then both take turns: a new
process folds ordinary batches (thresholds in flights, none of which fires) at 8 airports with 20,000 interests, and
prints the least processor time of eight rounds for each size of batch. Printed is the least of all turns, and its
ratio to the other commit's: more than 1 is faster. The process that folds uses only what both commits have.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

from benchmarks.streams.figures import print_progress, report

NAME: Final = "fold_turns"
ROOT: Final = Path(__file__).parents[1]
SIZES: Final = (30, 60, 600, 1_000)
_FOLD: Final = f"""
import json, time
from itertools import count
from benchmarks.streams.traffic import build_flight_records, build_past_records, build_quiet_interests, choose_airports
from benchmarks.streams.work import Folding
from streams.entries import encode_interest_entry

names, sequence = choose_airports(8), count(1)
known = Folding({{}})
def fold(folding, records):
    for record in records:
        result = folding.compute_result(record.sequence, record.value)
        if result is not None:
            folding.write_result(result)
fold(known, build_past_records(names, sequence))
least = {{}}
for size in {SIZES}:
    table = {{key: encode_interest_entry(1, value) for key, value in build_quiet_interests(names, 20_000)}}
    folding = Folding(table, known)
    while folding.state.index_more_interests():
        pass
    batches = max(16, min(600, 30_000 // size))
    records = list(build_flight_records(names, size, batches * 8, sequence))
    for at in range(0, len(records), batches):
        began = time.process_time()
        fold(folding, records[at : at + batches])
        took = (time.process_time() - began) / batches / size
        least[size] = min(least.get(size, took), took)
print(json.dumps(least))
"""
"""The program of one turn. It is run in either tree, so it may only use what both have."""


def main() -> int:
    """Make the other working tree, take turns, and print the figures; return 0."""
    parser = argparse.ArgumentParser(prog=f"python -m benchmarks.{NAME}", description=__doc__)
    parser.add_argument("commit", help="as git names it")
    parser.add_argument("--turns", type=int, default=5, help="of each (default 5)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        other = Path(name) / "other"
        subprocess.run(["git", "worktree", "add", "--quiet", "--detach", other, options.commit], cwd=ROOT, check=True)
        try:
            subprocess.run(["make", "--silent", "stubs"], cwd=other, check=True)
            uv = [str(other / ".venv/bin/uv"), "sync", "--quiet", "--frozen", "--inexact", "--group", "bench"]
            subprocess.run(uv, cwd=other, check=True)
            _take_turns(other, options.turns)
        finally:
            subprocess.run(["git", "worktree", "remove", "--force", other], cwd=ROOT, check=True)
    return 0


def _take_turns(other: Path, turns: int) -> None:
    """Let both trees fold in turn, and report flights per second of both by size of batch."""
    least: dict[Path, dict[str, float]] = {other: {}, ROOT: {}}
    for turn in range(turns):
        for tree, best in least.items():
            for size, took in _fold(tree).items():
                best[size] = min(best.get(size, took), took)
        print_progress(f"turn {turn + 1} of {turns}")
    for size in map(str, SIZES):
        base = f"the other commit, batches of {size}", 1 / least[other][size]
        report(NAME, base[0], base[1], "flights/s")
        report(NAME, f"this one, batches of {size}", 1 / least[ROOT][size], "flights/s", base)


def _fold(tree: Path) -> dict[str, float]:
    """Fold in a new process of a tree's own environment; return processor seconds of a flight, by size of batch."""
    environment = {**os.environ, "PYTHONPATH": str(tree)}
    python = tree / ".venv/bin/python"
    ended = subprocess.run([python, "-c", _FOLD], cwd=tree, env=environment, stdout=subprocess.PIPE, check=True)
    found: dict[str, float] = json.loads(ended.stdout)
    return found


if __name__ == "__main__":
    sys.exit(main())
