"""What holds on every page in every state, as functions for the tests of each page.

axe-core comes with the package `axe-playwright-python`: pinned in uv.lock, and no large file of others here.
"""

from importlib.resources import files
from typing import Any, Final

from playwright.sync_api import Page

from tests.web.site import SiteVisit

_AXE: Final = (files("axe_playwright_python") / "axe.min.js").read_text(encoding="utf-8")
_RULES: Final = {"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]}
"""Rules of WCAG 2.2 AA, and what axe-core's authors advise beside them."""

MOST_SHIFT: Final = 0.1
"""The largest layout shift that is good (web.dev, Cumulative Layout Shift)."""

SMALLEST_TARGET_PX: Final = 44

_SHIFT: Final = """() => new Promise((resolve) => {
  let sum = 0;
  const add = (list) => { for (const each of list.getEntries()) if (!each.hadRecentInput) sum += each.value; };
  const observer = new PerformanceObserver(add);
  observer.observe({type: "layout-shift", buffered: true});
  requestAnimationFrame(() => setTimeout(() => { add({getEntries: () => observer.takeRecords()}); resolve(sum); }, 0));
})"""

_SMALL_TARGETS: Final = """(least) => [...document.querySelectorAll("button, select, input, summary, .button, nav a")]
  .filter((each) => each.checkVisibility({visibilityProperty: true}) && !each.classList.contains("unseen"))
  .map((each) => ({each: each.closest("label.check") ?? each}))
  .filter(({each}) => each.type !== "hidden" && each.getBoundingClientRect().height < least - 0.5)
  .map(({each}) => `${each.outerHTML.slice(0, 120)}: ${each.getBoundingClientRect().height}`)"""


def check_page(visit: SiteVisit) -> None:
    """Assert all that holds on every page: see the other functions of this module."""
    check_requests(visit)
    check_accessibility(visit.page)
    check_layout(visit.page)


def check_requests(visit: SiteVisit) -> None:
    """Assert that the browser has reported nothing, and has asked no other origin for anything."""
    assert visit.faults == [], "\n".join(visit.faults)
    assert visit.foreign == [], "\n".join(visit.foreign)


def check_accessibility(page: Page) -> None:
    """Assert that axe-core finds nothing wrong on the page as it stands (WCAG 2.2 AA and its authors' advice)."""
    page.evaluate(_AXE)
    found: dict[str, Any] = page.evaluate("rules => axe.run(document, rules)", _RULES)
    assert found["passes"], "axe-core has looked at nothing"
    faults = [
        f"{fault['id']} ({fault['help']}): {node['html']} {node['failureSummary']}"
        for fault in found["violations"]
        for node in fault["nodes"]
    ]
    assert faults == [], "\n".join(faults)


def check_layout(page: Page) -> None:
    """Assert that nothing has moved while the page was built, nothing is too wide, and fingers hit each control."""
    assert measure_layout_shift(page) <= MOST_SHIFT
    check_fit(page)


def check_fit(page: Page) -> None:
    """Assert that nothing is wider than the window, and that fingers hit each control."""
    wider = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    assert wider <= 0, f"the page is {wider} px wider than the window"
    small = page.evaluate(_SMALL_TARGETS, SMALLEST_TARGET_PX)
    assert small == [], "\n".join(small)


def measure_layout_shift(page: Page) -> float:
    """Return the sum of all layout shifts so far that no input has caused (at least the Cumulative Layout Shift)."""
    shift = page.evaluate(_SHIFT)
    assert isinstance(shift, int | float)
    return float(shift)
