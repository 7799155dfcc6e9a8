"""`python -m benchmarks.pages`: measure the people's pages as a slow phone sees them, by Lighthouse.

Starts user_manager, collector and the gateway on SQLite files of their own, without Kafka, with a person who watches
two airports, and opens each page in a new Chromium, by Lighthouse's own profile of a phone: a slow 4G network and a
processor that is four times slower, both simulated. Prints for each page the three scores, the bytes over the wire of a
first visit, when the largest content was painted, and the layout shift; a score is the median of `--rounds`.

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
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx

from benchmarks.streams.figures import median, print_progress, report
from local.processes import ROOT
from tests.streams.browser import INSTALLED, MISSING
from tests.web.site import Person, Site, running_site

SCORES: Final = ("performance", "accessibility", "best-practices")

_FOLDER: Final = ROOT / "build" / "lighthouse"
_LOCK: Final = ROOT / "benchmarks" / "lighthouse"
_TIMEOUT_S: Final = 300


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
    layout_shift: float
    """The cumulative layout shift (CLS)."""

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
            audits["cumulative-layout-shift"]["numericValue"],
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
    lowest = 100.0
    with tempfile.TemporaryDirectory() as folder, running_site(Path(folder)) as site:
        person = site.register()
        watch_airports(site, person)
        cookie = (
            f"towerwatch-session={site.accounts.sign_in(person.email, 'Lighthouse').text}; towerwatch-signed-in=yes"
        )
        for name, path, headers in (
            ("welcome", "/", {}),
            ("home", "/", {"Cookie": cookie}),
            ("watch", "/watch", {"Cookie": cookie}),
            ("told", "/told", {"Cookie": cookie}),
            ("account", "/account", {"Cookie": cookie}),
        ):
            print_progress(f"{name}: {path}")
            rounds = [run_lighthouse(site.url + path, headers, Path(folder)) for _ in range(given.rounds)]
            lowest = min(lowest, report_page(name, rounds))
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


def watch_airports(site: Site, person: Person) -> None:
    """Set two interests of the person, so that the pages have something to show."""
    for body in (
        {"airport_icao": "KJFK", "direction": "departures", "window": "1h", "low_value": 5},
        {"airport_icao": "LICC", "direction": "both", "window": "1d", "high_value": 200},
    ):
        httpx.post(
            f"{site.url}/interests", json=body, headers=person.headers, timeout=60, trust_env=False
        ).raise_for_status()


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


def report_page(name: str, rounds: list[PageFigures]) -> float:
    """Print the medians of a page's figures, and return the lowest of its scores."""
    scores = {score: median(each.scores[score] for each in rounds) for score in SCORES}
    for score, value in scores.items():
        report("pages", f"{name}: {score}", value, "of 100")
    report("pages", f"{name}: over the wire", median(each.wire_bytes for each in rounds) / 1000, "kB")
    report("pages", f"{name}: first content", median(each.first_paint_s for each in rounds), "s")
    report("pages", f"{name}: largest content", median(each.largest_paint_s for each in rounds), "s")
    report("pages", f"{name}: layout shift", median(each.layout_shift for each in rounds), "")
    return min(scores.values())


if __name__ == "__main__":
    sys.exit(main())
