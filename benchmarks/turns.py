"""Comparison of this working copy with another commit: both run a small program in turns, by processor time."""

import argparse
import json
import os
import subprocess
import tempfile
from pathlib import Path
from typing import Final

from benchmarks.streams.figures import print_progress

ROOT: Final = Path(__file__).parents[1]

Least = dict[str, float]
"""The least processor time of each piece of work, in seconds, by the work's name."""


def compare_with_commit(name: str, description: str | None, program: str) -> tuple[Least, Least]:
    """Read a commit from the command line, take turns with it, and return its least times and those of this copy.

    The other commit gets a working tree and an environment of its own in a temporary folder. `program`: Python that
    prints a JSON object of times by the name of the work. It runs in either tree, so it may only use what both have.
    """
    parser = argparse.ArgumentParser(prog=f"python -m benchmarks.{name}", description=description)
    parser.add_argument("commit", help="as git names it")
    parser.add_argument("--turns", type=int, default=5, help="of each (default 5)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        other = Path(folder) / "other"
        subprocess.run(["git", "worktree", "add", "--quiet", "--detach", other, options.commit], cwd=ROOT, check=True)
        try:
            subprocess.run(["make", "--silent", "stubs"], cwd=other, check=True)
            uv = [str(other / ".venv/bin/uv"), "sync", "--quiet", "--frozen", "--inexact", "--group", "bench"]
            subprocess.run(uv, cwd=other, check=True)
            return _take_turns(program, other, options.turns)
        finally:
            subprocess.run(["git", "worktree", "remove", "--force", other], cwd=ROOT, check=True)


def _take_turns(program: str, other: Path, turns: int) -> tuple[Least, Least]:
    """Run the program in both trees in turn; return the least times of the other one and of this one."""
    least: dict[Path, Least] = {other: {}, ROOT: {}}
    for turn in range(turns):
        for tree, best in least.items():
            for what, took in _run(program, tree).items():
                best[what] = min(best.get(what, took), took)
        print_progress(f"turn {turn + 1} of {turns}")
    return least[other], least[ROOT]


def _run(program: str, tree: Path) -> Least:
    """Run the program in a new process of a tree's own environment; return what it prints."""
    environment = {**os.environ, "PYTHONPATH": str(tree)}
    python = tree / ".venv/bin/python"
    ended = subprocess.run([python, "-c", program], cwd=tree, env=environment, stdout=subprocess.PIPE, check=True)
    found: Least = json.loads(ended.stdout)
    return found
