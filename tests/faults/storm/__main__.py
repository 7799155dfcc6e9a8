"""`python -m tests.faults.storm --seed N [--count M]`: run storms by hand, one after the other, a line for each."""

import argparse
import shutil
import sys
import tempfile
from pathlib import Path

from tests.faults.storm.run import StormOptions, StormReport, StormRun
from tests.faults.storm.stack import can_run_mariadb


def main() -> int:
    """Run the storms of the arguments; return 0 if all of them came out exact, else 1."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.storm", description=__doc__, allow_abbrev=False)
    parser.add_argument("--seed", type=int, default=1, help="the first seed (%(default)s)")
    parser.add_argument("--count", type=int, default=1, help="run so many seeds, one after the other (%(default)s)")
    parser.add_argument("--faults", type=int, default=14, help="faults of one storm (%(default)s)")
    parser.add_argument("--database", choices=("mariadb", "sqlite"), help="default: by turns, if MariaDB is installed")
    parser.add_argument(
        "--folder", type=Path, help="for the logs; default: a temporary one; kept if a storm is not exact"
    )
    parser.add_argument(
        "--quiet", action="store_true", help="print the lines of summary alone, unless one is not exact"
    )
    chosen = parser.parse_args()
    base = chosen.folder or Path(tempfile.mkdtemp(prefix="storm-"))
    reports: list[StormReport] = []
    for seed in range(chosen.seed, chosen.seed + chosen.count):
        database = chosen.database or ("mariadb" if can_run_mariadb() and seed % 2 == 0 else "sqlite")
        folder = base / f"seed-{seed}"
        folder.mkdir(parents=True)
        say = (lambda _: None) if chosen.quiet else (lambda line: print(f"  {line}", flush=True))
        report = StormRun(StormOptions(seed, chosen.faults, database), folder, say).run()
        print(report.describe() if report.problems else report.summarize(), flush=True)
        if not report.problems:
            shutil.rmtree(folder, ignore_errors=True)
        reports.append(report)
    failed = [str(each.options.seed) for each in reports if each.problems]
    print(
        f"{len(reports) - len(failed)} of {len(reports)} storms came out exact"
        + f"; not: {', '.join(failed)}" * bool(failed)
    )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
