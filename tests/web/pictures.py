"""The command `python -m tests.web.pictures`, which makes README's pictures of the pages for people, in docs/pictures.

Needs a Chromium and some minutes: the demo tells the blizzard's story by the night's record, with real flights, and its
person looks at the pages afterwards.
"""

import re
import sys
import tempfile
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

from playwright.sync_api import Page

from tests.e2e.demo_process import PORTS, read_output, run_demo
from tests.e2e.test_journey import read_clock
from tests.ports import free_ports
from tests.streams.browser import INSTALLED, MISSING, PHONE, running_browser
from tests.streams.pictures import FOLDER, MOST_BYTES
from tests.waiting import eventually
from tests.web.site import SiteVisit, wait_until_ready

INTERESTS: Final = ("KJFK:departures:1h:high=20:low=1", "KBOS:arrivals:1d@airport:low=10", "KLGA:both:6h:low=20")

PICTURES: Final[dict[str, tuple[str, str, dict[str, Any]]]] = {
    "my-airports": ("/", ".card .chart", {"viewport": {"width": 1080, "height": 900}}),
    "watch": ("/watch?interest={interest}", ".preview-headline", {"viewport": {"width": 1080, "height": 980}}),
    "told": ("/told?interest={interest}", ".chart", {"viewport": {"width": 1080, "height": 900}}),
    "my-airports-phone-dark": ("/", ".card .chart", {"viewport": PHONE, "has_touch": True, "color_scheme": "dark"}),
}
"""The page of each picture, what it must show, and the options of its browser."""


def main() -> None:
    """Make all pictures. Fails if a picture is too large or a page reports an error."""
    if INSTALLED is None:
        sys.exit(MISSING)
    options = [part for interest in INTERESTS for part in ("--interest", interest)]
    with tempfile.TemporaryDirectory() as made:
        data = Path(made) / "demo"
        with run_demo(data, free_ports(PORTS + 1), "--settled", *options) as process, running_browser() as browser:
            is_link = re.compile(r"^  (http://\S+/sign-in/\S+)$", re.M)
            found = eventually(
                lambda: is_link.search(read_output(data)) or process.poll() is not None, "the story is told", 900
            )
            assert isinstance(found, re.Match), read_output(data)
            clock = read_clock(data)
            eventually(clock.is_halted, "the clock halts", 120)
            link, people = found[1], found[1].partition("/sign-in/")[0]
            state: Any = None
            for name, (path, shown, look) in PICTURES.items():
                with browser.new_context(
                    locale="en-GB", timezone_id="America/New_York", storage_state=state, **look
                ) as context:
                    context.clock.set_fixed_time(clock.now() + timedelta(seconds=1))
                    visit = SiteVisit(context.new_page(), origin=people)
                    if state is None:
                        sign_in(visit.page, link)
                        state = context.storage_state()
                    interest = visit.page.request.get(f"{people}/interests").json()["interests"][0]["interest_id"]
                    visit.goto(path.format(interest=interest))
                    visit.page.locator(shown).first.wait_for()
                    visit.page.wait_for_load_state("networkidle")
                    picture = FOLDER / f"{name}.png"
                    visit.page.screenshot(path=picture)
                    assert picture.stat().st_size < MOST_BYTES, f"{picture.name} is too large"
                    assert visit.faults == []
                    print(f"{picture.relative_to(FOLDER.parents[1])}: {picture.stat().st_size / 1000:.0f} kB")


def sign_in(page: Page, link: str) -> None:
    """Follow the link of a mail that signs in, and press its button."""
    page.goto(link)
    page.get_by_role("button", name="Sign in").click()
    wait_until_ready(page)


if __name__ == "__main__":
    main()
