"""`python -m benchmarks.pages`: measure the people's pages as a slow phone sees them, by Lighthouse.

Starts user_manager, collector and the gateway on SQLite files of their own, without Kafka, with five weeks of flights
of an airport and a person with two interests there, and opens each page in a new Chromium, by Lighthouse's own profile
of a phone: a slow 4G network and a processor that is four times slower, both simulated. Prints for each page the three
scores, the bytes over the wire of a first visit, when something and when the largest content was painted, for how long
the page could not answer (total blocking time), and the layout shift: medians of `--rounds`, as lines of JSON and at
the end as one table. A run that Lighthouse cannot judge is said, and repeated twice at most.

Lighthouse comes from npm, at the version of benchmarks/lighthouse/package-lock.json, into build/; Node (18.16 or newer)
and Chromium are those of the machine. Scores depend on the load of the machine: run it when nothing else runs.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

from benchmarks.streams.figures import median, print_progress, report
from domain.interests import Direction
from local.processes import ROOT
from tests.streams.browser import INSTALLED, MISSING
from tests.web.site import Person, Site, running_site
from tests.web.watched import find_today, set_interest, store_flights

SCORES: Final = ("performance", "accessibility", "best-practices")

_FOLDER: Final = ROOT / "build" / "lighthouse"
_LOCK: Final = ROOT / "benchmarks" / "lighthouse"
_TIMEOUT_S: Final = 300
_ATTEMPTS: Final = 3


@dataclass(frozen=True, slots=True)
class PageFigures:
    """The figures of a page from one run of Lighthouse."""

    scores: Mapping[str, float]
    """0 to 100 each, by the category's name."""
    wire_bytes: int
    """Bytes of all answers of a first visit, as they went over the network."""
    largest_paint_s: float
    """Seconds until the largest content is painted, on the simulated phone (LCP)."""
    first_paint_s: float
    """Seconds until something is painted, on the simulated phone (FCP)."""
    blocking_s: float
    """Seconds in which the simulated phone's main thread could answer no finger (TBT)."""
    layout_shift: float
    """The cumulative layout shift (CLS)."""
    speed: float
    """Lighthouse's index of the machine's speed during the run; it falls when something else runs."""

    @classmethod
    def parse(cls, result: Mapping[str, Any]) -> "PageFigures":
        """Parse Lighthouse's result (LHR).

        Raises ValueError if Lighthouse could not judge the page, with its reason, or if a category has no score.
        """
        if error := result.get("runtimeError"):
            raise ValueError(f"Lighthouse could not judge the page: {error.get('message', error)}")
        audits = result["audits"]
        scores = {}
        for name in SCORES:
            score = result["categories"][name]["score"]
            if score is None:
                raise ValueError(f"Lighthouse gave no score for {name}")
            scores[name] = 100 * score
        return cls(
            scores,
            int(audits["total-byte-weight"]["numericValue"]),
            audits["largest-contentful-paint"]["numericValue"] / 1000,
            audits["first-contentful-paint"]["numericValue"] / 1000,
            audits["total-blocking-time"]["numericValue"] / 1000,
            audits["cumulative-layout-shift"]["numericValue"],
            result["environment"]["benchmarkIndex"],
        )


def main() -> int:
    """Measure all pages and print the figures. Return 1 if a score is below `--least`, 2 if a tool is missing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3, help="runs of Lighthouse for each page (%(default)s)")
    parser.add_argument("--least", type=float, default=0, help="the lowest score that is good enough (%(default)s)")
    given = parser.parse_args()
    if INSTALLED is None:
        print(f"benchmarks.pages: {MISSING}", file=sys.stderr)
        return 2
    if shutil.which("npm") is None:
        print("benchmarks.pages: no Node is installed: `apt-get install nodejs npm`", file=sys.stderr)
        return 2
    install_lighthouse()
    measured: dict[str, list[PageFigures]] = {}
    with tempfile.TemporaryDirectory() as folder, running_site(Path(folder)) as site:
        person = site.register()
        interest = watch_airport(site, person)
        cookie = (
            f"towerwatch-session={site.accounts.sign_in(person.email, 'Lighthouse').text}; towerwatch-signed-in=yes"
        )
        signed_in = {"Cookie": cookie}
        # Round by round, so that another load of the machine falls on all pages alike.
        for number in range(given.rounds):
            for name, path, headers in (
                ("welcome", "/", {}),
                ("home", "/", signed_in),
                ("watch", "/watch", signed_in),
                ("change", f"/watch?interest={interest}", signed_in),
                ("told", "/told", signed_in),
                ("account", "/account", signed_in),
            ):
                print_progress(f"round {number + 1}, {name}")
                figures = measure_page(site.url + path, headers, Path(folder))
                measured.setdefault(name, []).append(figures)
    for name, rounds in measured.items():
        report_page(name, rounds)
    print(format_table(measured), flush=True)
    lowest = min(median(each.scores[score] for each in rounds) for rounds in measured.values() for score in SCORES)
    if lowest < given.least:
        print_progress(f"The lowest score is {lowest:.0f}, below {given.least:.0f}.")
        return 1
    return 0


def install_lighthouse() -> None:
    """Install Lighthouse as its lock file says into build/, unless this version is there. Needs npm and a network."""
    lock = (_LOCK / "package-lock.json").read_bytes()
    installed = _FOLDER / "package-lock.json"
    if installed.exists() and installed.read_bytes() == lock and (_FOLDER / "installed").exists():
        return
    shutil.rmtree(_FOLDER, ignore_errors=True)
    shutil.copytree(_LOCK, _FOLDER)
    print_progress("installing Lighthouse")
    subprocess.run(["npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts", "--silent"], cwd=_FOLDER, check=True)
    (_FOLDER / "installed").touch()


def watch_airport(site: Site, person: Person) -> str:
    """Store five weeks of an airport's flights, set two interests of the person there, and return the id of the first.

    So the pages have something to show: windows of 29 days were judged, and alerts were raised in them.
    """
    for direction in (Direction.DEPARTURES, Direction.ARRIVALS):
        store_flights(site, "KJFK", direction)
    since = (find_today() - timedelta(days=29)).isoformat()
    first = set_interest(site, person, effective_from=since)
    set_interest(site, person, direction="both", window="1d", high_value=None, low_percent=80, effective_from=since)
    return str(first["interest_id"])


def measure_page(url: str, headers: Mapping[str, str], folder: Path) -> PageFigures:
    """Return a page's figures from one run of Lighthouse that could judge it; raises what the third failure raises."""
    for _ in range(_ATTEMPTS - 1):
        try:
            return run_lighthouse(url, headers, folder)
        except (subprocess.SubprocessError, ValueError) as error:
            print_progress(f"once more: {error}")
    return run_lighthouse(url, headers, folder)


def run_lighthouse(url: str, headers: Mapping[str, str], folder: Path) -> PageFigures:
    """Open a page in a new Chromium by Lighthouse, with these headers in each request, and return its figures.

    Raises CalledProcessError if Lighthouse fails, ValueError if it could not judge the page.
    """
    output = folder / "lighthouse.json"
    subprocess.run(
        [
            *("node", str(_FOLDER / "node_modules" / "lighthouse" / "cli" / "index.js"), url, "--quiet"),
            *("--output", "json", "--output-path", str(output), f"--only-categories={','.join(SCORES)}"),
            f"--chrome-flags=--headless=new --no-sandbox --user-data-dir={folder}/chromium",
            f"--extra-headers={json.dumps(dict(headers))}",
        ],
        env={**os.environ, "CHROME_PATH": str(INSTALLED)},
        timeout=_TIMEOUT_S,
        check=True,
    )
    return PageFigures.parse(json.loads(output.read_bytes()))


def report_page(name: str, rounds: Sequence[PageFigures]) -> None:
    """Print the medians of a page's figures, a line each."""
    for score in SCORES:
        report("pages", f"{name}: {score}", median(each.scores[score] for each in rounds), "of 100")
    report("pages", f"{name}: over the wire", median(each.wire_bytes for each in rounds) / 1000, "kB")
    report("pages", f"{name}: first content", median(each.first_paint_s for each in rounds), "s")
    report("pages", f"{name}: largest content", median(each.largest_paint_s for each in rounds), "s")
    report("pages", f"{name}: blocked", median(each.blocking_s for each in rounds), "s")
    report("pages", f"{name}: layout shift", median(each.layout_shift for each in rounds), "")


def format_table(measured: Mapping[str, Sequence[PageFigures]]) -> str:
    """Return the medians of all pages as a table in Markdown, a row for each page."""
    head = [
        *(
            "page",
            *SCORES,
            "over the wire, kB",
            "first content, s",
            "largest content, s",
            "blocked, ms",
            "layout shift",
        ),
        "machine's speed",
    ]
    rows = [head, ["---"] * len(head)]
    for name, rounds in measured.items():
        rows.append(
            [
                name,
                *(f"{median(each.scores[score] for each in rounds):.0f}" for score in SCORES),
                f"{median(each.wire_bytes for each in rounds) / 1000:.0f}",
                f"{median(each.first_paint_s for each in rounds):.1f}",
                f"{median(each.largest_paint_s for each in rounds):.1f}",
                f"{1000 * median(each.blocking_s for each in rounds):.0f}",
                f"{median(each.layout_shift for each in rounds):.3f}",
                f"{median(each.speed for each in rounds):.0f}",
            ]
        )
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


if __name__ == "__main__":
    sys.exit(main())
