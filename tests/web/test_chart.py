"""The chart: bars are coloured by the rule's own comparison, and the scale holds all that is drawn."""

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st
from playwright.sync_api import Browser, Page

from domain.alerts import Bound
from domain.measures import compute_percent_level
from domain.usual import LEAST_DOUBLED_USUAL
from tests.web.site import Site


@pytest.fixture(scope="module")
def charting(site: Site, browser: Browser) -> Iterator[Page]:
    """A page that has loaded the chart's module."""
    with site.open(browser, "/register") as visit:
        script = visit.page.locator("script[type=module]").get_attribute("src")
        assert script is not None
        folder = script.rsplit("/", 1)[0]
        visit.page.evaluate("async (folder) => { window.chart = await import(`${folder}/chart.js`); }", folder)
        yield visit.page


WINDOWS = st.fixed_dictionaries(
    {
        "flights": st.none() | st.integers(0, 40),
        "usual": st.none() | st.integers(0, 60).map(lambda doubled: doubled / 2),
        "isClosed": st.booleans(),
    }
)
LEVELS = st.fixed_dictionaries({"high": st.none() | st.integers(0, 40), "low": st.none() | st.integers(1, 40)})
PERCENTS = st.fixed_dictionaries({"high": st.none() | st.integers(101, 400), "low": st.none() | st.integers(1, 99)})
EACH = settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])


def find_breach(window: dict[str, Any], measure: str, levels: dict[str, int | None]) -> str | None:
    """Return the bound that the domain's rule finds breached in a window, or None."""
    flights = window["flights"]
    if flights is None:
        return None
    doubled = None if window["usual"] is None else round(2 * window["usual"])
    if measure == "percent" and (doubled is None or doubled < LEAST_DOUBLED_USUAL):
        return None
    for bound, name in ((Bound.HIGH, "high"), (Bound.LOW, "low")):
        level = levels[name]
        if level is None or (bound is Bound.LOW and not window["isClosed"]):
            continue
        count = flights if measure == "flights" else compute_percent_level(bound, flights, doubled or 1)
        if bound.is_breached(count, level):
            return name
    return None


@EACH
@given(windows=st.lists(WINDOWS, min_size=1, max_size=30), levels=LEVELS, percents=PERCENTS)
def test_bars_are_coloured_as_the_rule_judges(
    charting: Page, windows: list[dict[str, Any]], levels: dict[str, int | None], percents: dict[str, int | None]
) -> None:
    """In flights and in percent: exactly the windows that breach a level have its colour."""
    for measure, limits in (("flights", levels), ("percent", percents)):
        found = charting.evaluate(
            "([windows, measure, levels]) => windows.map((each) => window.chart.findBreach(each, measure, levels))",
            [windows, measure, limits],
        )
        assert found == [find_breach(window, measure, limits) for window in windows]


@EACH
@given(windows=st.lists(WINDOWS, max_size=30), levels=LEVELS)
def test_the_scale_holds_all_bars_and_levels(
    charting: Page, windows: list[dict[str, Any]], levels: dict[str, int | None]
) -> None:
    """In flights nothing is cut off; the top is never 0."""
    top = charting.evaluate(
        "([windows, levels]) => window.chart.findTop(windows, 'flights', levels)", [windows, levels]
    )
    drawn = [window[name] for window in windows for name in ("flights", "usual") if window[name] is not None]
    needed = max([6, *drawn, *(level for level in levels.values() if level is not None)])
    assert needed <= top <= 2 * needed
    assert top % 2 == 0, "the numbers at the axis, the top and its half, are whole"


@pytest.mark.parametrize("measure", ["flights", "percent"])
def test_what_is_usual_is_drawn_only_where_it_is_known(charting: Page, measure: str) -> None:
    """Nothing is drawn over windows of which nothing is usual, in percent neither; and no legend speaks of it."""
    script = """async ([folder, measure, usuals]) => {
        const {loadTexts} = await import(`${folder}/text.js`);
        await loadTexts();
        const start = "2026-03-01T00:00:00Z";
        const windows = usuals.map((usual) => (
          {start, end: start, flights: 9, usual, isClosed: true, isLive: false, why: null, alerts: []}));
        const drawn = window.chart.createChart({windows, measure, zone: "UTC"});
        document.body.append(drawn.element);
        const bars = drawn.element.querySelector(".chart-bars");
        while (!bars.hasAttribute("width")) await new Promise(requestAnimationFrame);
        const path = bars.querySelector("path.chart-usual");
        const others = bars.querySelector("line.chart-usual") !== null;
        const legend = drawn.element.querySelector(".chart-legend .chart-usual") !== null;
        drawn.element.remove();
        return [path === null ? "" : path.getAttribute("d"), others || legend, Number(bars.getAttribute("width")) / 4];
    }"""
    address = charting.locator("script[type=module]").get_attribute("src")
    assert address is not None
    folder = address.rsplit("/", 1)[0]
    known = charting.evaluate(script, [folder, measure, [None, 10, 10, None]])
    unknown = charting.evaluate(script, [folder, measure, [None, None, None, None]])
    assert unknown[:2] == ["", False]
    path, has_legend, bar = known
    assert has_legend
    assert path.startswith(f"M{bar:.2f} ")
    assert path.endswith(f"H{3 * bar:.2f}")
    assert path.count("M") == 1
