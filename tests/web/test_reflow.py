"""Enlarged to 200 % and in a window of 320 px (WCAG 1.4.4, 1.4.10), with reduced motion: every page in many states."""

from typing import Any, Final
from uuid import UUID

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.web.checks import check_accessibility, check_fit, check_requests
from tests.web.site import Person, Site, SiteVisit
from tests.web.test_home import answering
from tests.web.test_told import build_reasons
from tests.web.test_watch import wait_for_preview
from tests.web.watched import set_interest, store_flights
from tests.web.windows_answers import INTEREST_ID, build_states

PATIENCE_MS = 120_000
LOOKS: Final = [
    pytest.param({"viewport": {"width": 640, "height": 400}, "device_scale_factor": 2}, "en", id="desk at 200 %"),
    pytest.param({"viewport": {"width": 320, "height": 256}, "dark": True}, "it", id="320 px"),
]
"""A window of 1280 px enlarged to 200 % has 640 px of CSS, and one enlarged to 400 % has 320 (WCAG 1.4.10)."""

_SCROLLERS: Final = """() => [...document.querySelectorAll("body *")]
  .filter((each) => each.scrollWidth > each.clientWidth + 1)
  .filter((each) => ["auto", "scroll"].includes(getComputedStyle(each).overflowX))
  .map((each) => each.className)"""

_TEXTS: Final = "h1, h2, h3, p, label, button, .button, legend, dt, dd, summary"
_CLIPPED: Final = f"""() => [...document.querySelectorAll("{_TEXTS}")]
  .filter((each) => each.checkVisibility({{visibilityProperty: true}}) && !each.closest(".unseen"))
  .map((each) => [each, each.getBoundingClientRect()])
  .filter(([, box]) => box.left < -0.5 || box.right > innerWidth + 0.5).map(([each]) => each)
  .filter((each) => !each.closest(".chart-scroller, .chart-table"))
  .map((each) => each.outerHTML.slice(0, 120))"""

_MOVING: Final = """() => [...document.querySelectorAll("body, body *")].filter((each) => {
    const style = getComputedStyle(each);
    return style.transitionDuration.split(", ").some((one) => one !== "0s") || style.animationName !== "none"
      || style.scrollBehavior === "smooth";
  }).map((each) => each.outerHTML.slice(0, 120))"""


@pytest.fixture(scope="module", autouse=True)
def flights(site: Site) -> None:
    store_flights(site, "KJFK")


def check_enlarged(visit: SiteVisit) -> None:
    """Assert that a page reads in one direction: nothing is cut off, and only charts and tables scroll sideways."""
    page = visit.page
    check_requests(visit)
    check_accessibility(page)
    check_fit(page)
    assert set(page.evaluate(_SCROLLERS)) <= {"chart-scroller", "chart-table"}
    assert page.evaluate(_CLIPPED) == []
    assert page.evaluate(_MOVING) == [], "something moves though motion is reduced"


@pytest.mark.parametrize(("look", "language"), LOOKS)
def test_every_page_can_be_enlarged(
    site: Site, browser: Browser, ann: Person, look: dict[str, Any], language: str
) -> None:
    """For visitors and people, with menus, questions and errors open; and nothing moves for who wants no motion."""
    options = {**look, "language": language, "reduced_motion": "reduce"}
    service = site.accounts
    with site.open(browser, **options) as visit:
        check_enlarged(visit)
        check_motion_is_there_to_be_reduced(visit.page)
        visit.page.fill("#signed-out input[name=email]", f"new-{language}@example.org")
        visit.page.click("#signed-out button[type=submit]")
        visit.page.wait_for_url("**/sign-in/mail")
        check_enlarged(visit)
        newcomer = service.register(f"newer-{language}@example.org")
        stop = service.links.build_alert_stop_url(
            UUID(ann.user_id), UUID(set_interest(site, ann)["interest_id"])
        ).rpartition("/")[2]
        for path in ("/register", f"/confirm/{service.build_confirmation_token(newcomer)}", f"/stop/{stop}"):
            visit.page.goto(site.url + path)
            check_enlarged(visit)
        visit.page.click("form button")
        visit.page.click("summary")
        check_enlarged(visit)
    with site.open(browser, "/account", person=ann, **options) as visit:
        page = visit.page
        page.click("#replace")
        page.fill("#typed", "x@example.org")
        page.click("#delete button")
        check_enlarged(visit)
        page.goto(f"{site.url}/account/delete")
        check_enlarged(visit)
        visit.goto("/watch")
        page.locator("#airport").press_sequentially("new york")
        page.wait_for_selector("[role=option]")
        check_enlarged(visit)
        page.fill("#airport", "")
        choose_in_any_language(page)
        page.check("input[value=percent]")
        page.click(".more summary")
        wait_for_preview(page)
        check_enlarged(visit)
        for state in ("firing", "usual", "late"):
            with answering(visit, lambda state=state: build_states()[state]):
                visit.goto("/")
                expect(page.locator("article h2")).to_have_text("New York, JFK", timeout=PATIENCE_MS)
                page.click("article button[aria-expanded]")
                check_enlarged(visit)
                page.locator("article > .actions > button").last.click()
                page.wait_for_selector("dialog[open]")
                check_enlarged(visit)
            page.unroute_all()
        with answering(visit, build_reasons):
            visit.goto(f"/told?interest={INTEREST_ID}")
            expect(page.locator(".told-windows > li")).to_have_count(5, timeout=PATIENCE_MS)
            page.click(".chart-details summary")
            page.click(".told-head summary")
            check_enlarged(visit)


def choose_in_any_language(page: Page) -> None:
    """Type in the field, and take the first airport."""
    page.locator("#airport").press_sequentially("kenn")
    page.wait_for_selector("[role=option]")
    page.keyboard.press("Enter")
    wait_for_preview(page)


def check_motion_is_there_to_be_reduced(page: Page) -> None:
    """Assert that the check of motion finds what moves for everybody else."""
    page.emulate_media(reduced_motion="no-preference")
    assert page.evaluate(_MOVING) != []
    page.emulate_media(reduced_motion="reduce")
