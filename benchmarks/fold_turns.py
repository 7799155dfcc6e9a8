"""`python -m benchmarks.fold_turns COMMIT`: the pure fold of this working copy beside that of another commit.

The other commit gets a working tree and an environment of its own in a temporary folder. Then both take turns: a new
process folds ordinary batches (thresholds in flights, none of which fires) at 8 airports with 20,000 interests, and
prints the least processor time of eight rounds for each size of batch. Printed is the least of all turns, and its
ratio to the other commit's: more than 1 is faster. The process that folds uses only what both commits have.
"""

import sys
from typing import Final

from benchmarks.streams.figures import report
from benchmarks.turns import compare_with_commit

NAME: Final = "fold_turns"
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
    """Let both trees fold in turn, and report flights per second of both by size of batch; return 0."""
    other, own = compare_with_commit(NAME, __doc__, _FOLD)
    for size in map(str, SIZES):
        base = f"the other commit, batches of {size}", 1 / other[size]
        report(NAME, base[0], base[1], "flights/s")
        report(NAME, f"this one, batches of {size}", 1 / own[size], "flights/s", base)
    return 0


if __name__ == "__main__":
    sys.exit(main())
