"""What I was told: window by window, newest first, with corrections beside what they correct, and why not judged."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from playwright.sync_api import Browser, Route, expect

from collector.rest.window_answers import InterestWindows
from tests import plain_http
from tests.web.checks import check_page
from tests.web.site import Person, Site
from tests.web.test_home import answering
from tests.web.watched import set_interest, store_flights
from tests.web.windows_answers import (
    HOUR,
    INTEREST_ID,
    build_alert,
    build_answer,
    build_interest,
    build_states,
    find_hour,
)

PATIENCE_MS = 120_000
STATES = tuple(build_states())


def build_corrected() -> dict[str, Any]:
    """Return an answer with an alert that was withdrawn, beside one that stands, and a former version."""
    answer, corrected = build_answer(), build_alert(1, "firing")["alert_id"]
    answer["windows"][10] |= {
        "flights": 19,
        "alerts": [
            build_alert(1, "firing", flights=22),
            build_alert(2, "withdrawn", flights=19, withdrawn_state="firing", corrects_alert_id=corrected),
        ],
    }
    answer["windows"][30] |= {"flights": 31, "breached": ["high"], "alerts": [build_alert(3, "firing")]}
    answer["windows"][31] |= {"alerts": [build_alert(4, "resolved", flights=12)]}
    answer["windows"][5] |= {"flights": None, "is_closed": False, "why_unknown": "gap"}
    hour = find_hour()
    former = {name: value for name, value in answer["interest"].items() if not name.startswith("learning")}
    since, until = (f"{hour - days * 24 * HOUR:%Y-%m-%dT%H:%M:%SZ}" for days in (9, 3))
    answer["former_versions"] = [former | {"version": 2, "high_value": 15, "since": since, "until": until}]
    return answer


def test_corrections_stand_beside_what_they_correct(site: Site, browser: Browser, ann: Person) -> None:
    """Newest first; only what was alerted, until the filter is taken away; former levels are told."""
    answer = build_corrected()
    InterestWindows.model_validate_json(json.dumps(answer), extra="forbid")
    with site.open(browser, "/account", person=ann, phone=True) as visit, answering(visit, lambda: answer):
        visit.goto(f"/told?interest={INTEREST_ID}")
        page = visit.page
        windows = page.locator(".told-windows > li")
        expect(windows).to_have_count(3, timeout=PATIENCE_MS)
        expect(windows.nth(0)).to_contain_text("Back to normal: 12 departures, not above your 20.")
        expect(windows.nth(1)).to_contain_text("31 departures, above your 20.")
        first = windows.nth(2)
        expect(first.locator(".mails > li")).to_have_count(1)
        expect(first.locator(".mails > li")).to_contain_text("22 departures, above your 20.")
        expect(first.locator(".correction")).to_have_text(
            "Corrected later. We take back the alert above 20: 19 departures by what is known now."
        )
        page.get_by_text("Your levels before: 1").click()
        expect(page.locator(".told-head")).to_contain_text("above 15 flights")
        check_page(visit)
        page.get_by_label("Only what I was told").uncheck()
        expect(windows).to_have_count(48)
        expect(page.locator(".told-list")).to_contain_text("Not judged: a part of it was not collected.")
        check_page(visit)


def test_an_older_collector_is_asked_for_the_same_days_by_name(site: Site, browser: Browser, ann: Person) -> None:
    """During an upgrade one may answer that does not know `whole`, and refuses it; the real one takes the other."""
    store_flights(site, "KJFK")
    interest = set_interest(site, ann)["interest_id"]
    asked: list[str] = []

    def refuse_whole(route: Route) -> None:
        asked.append(urlsplit(route.request.url).query)
        if "whole" in asked[-1]:
            route.fulfill(status=422, json={"title": "Unprocessable", "status": 422, "detail": "whole: unknown"})
        else:
            route.continue_()

    with site.open(browser, "/account", person=ann) as visit:
        visit.page.route("**/interests/*/windows*", refuse_whole)
        visit.goto(f"/told?interest={interest}")
        expect(visit.page.locator(".told-chart .chart")).to_be_visible(timeout=PATIENCE_MS)
        assert visit.page.locator("#problem").inner_text() == ""
    begin = parse_qs(asked[1])["begin"][0]
    assert asked[0] == "whole=true"
    assert datetime.now(UTC) - datetime.fromisoformat(begin) > timedelta(days=40)


def build_reasons() -> dict[str, Any]:
    """Return an answer of an interest in percent with alerts of it, of a version in flights, and of one not kept."""
    percent = build_interest(high_value=None, low_percent=50, high_percent=150, version=3)
    answer = build_answer(percent)
    for at, window in enumerate(answer["windows"]):
        weeks = [{"window_start": window["window_start"], "flights": flights} for flights in (25, 27, 31, 26)]
        window |= {"usual": 26.5, "base": weeks, "version": 3 if at > 20 else 2}
    low, high = {"bound": "low", "flights": 4}, {"bound": "high", "flights": 44}
    for at, alert in {
        40: build_alert(1, "firing", **low),
        35: build_alert(2, "firing", **high),
        30: build_alert(3, "resolved", **low | {"flights": 14}),
        15: build_alert(4, "still", **low, version=2),
        10: build_alert(5, "firing", **high, version=1),
    }.items():
        answer["windows"][at] |= {"flights": alert["flights"], "alerts": [alert]}
    answer["windows"][10] |= {"usual": None, "base": []}
    hour = find_hour()
    former = {name: value for name, value in answer["interest"].items() if not name.startswith("learning")}
    levels = {"high_percent": None, "low_percent": None, "low_value": 5, "for_windows": 3, "repeat": True}
    times = {name: f"{hour - days * 24 * HOUR:%Y-%m-%dT%H:%M:%SZ}" for name, days in (("since", 9), ("until", 1))}
    answer["former_versions"] = [former | levels | times | {"version": 2}]
    return answer


@pytest.mark.parametrize("language", ["en", "it"])
def test_each_entry_says_by_which_level_and_why(site: Site, browser: Browser, ann: Person, language: str) -> None:
    """The level is that of the version that raised the alert; of a version that is not kept, none is made up."""
    answer = build_reasons()
    InterestWindows.model_validate_json(json.dumps(answer), extra="forbid")
    said = {
        "en": [
            [
                "4 departures where 26.5 are usual, below your 50 %.",
                "The weeks before had 25, 27, 31, 26.",
            ],
            ["44 departures where 26.5 are usual, above your 150 %."],
            ["Back to normal: 14 departures where 26.5 are usual, not below your 50 %."],
            ["4 departures, still below your 5. It was so for 3 hours in a row."],
            ["Above your level: 44 departures."],
        ],
        "it": [
            ["4 partenze, di solito 26,5: sotto la tua soglia (50 %)."],
            ["44 partenze, di solito 26,5: sopra la tua soglia (150 %)."],
            ["Di nuovo normale: 14 partenze, di solito 26,5: non sotto la tua soglia (50 %)."],
            ["4 partenze, ancora sotto la tua soglia (5). È stato così per 3 ore di fila."],
            ["Sopra la tua soglia: 44 partenze."],
        ],
    }
    with (
        site.open(browser, "/account", person=ann, phone=True, language=language) as visit,
        answering(visit, lambda: answer),
    ):
        visit.goto(f"/told?interest={INTEREST_ID}")
        entries = visit.page.locator(".told-windows > li")
        expect(entries).to_have_count(5, timeout=PATIENCE_MS)
        for at, texts in enumerate(said[language]):
            for text in texts:
                expect(entries.nth(at)).to_contain_text(text, timeout=PATIENCE_MS)
        kinds, legend = (
            visit.page.locator(f"{place} .chart-mark").evaluate_all("all => all.map((each) => each.classList[1])")
            for place in (".told-windows", ".told-chart .chart-legend")
        )
        assert kinds == ["low", "high", "resolved", "low", "high"]
        assert sorted(legend) == sorted(set(kinds)), "the marks of the list, the chart and its legend are the same"
        check_page(visit)


def test_a_device_with_another_clock_shows_the_same(site: Site, browser: Browser, ann: Person) -> None:
    """How far back is asked is the service's word: in the demo, for example, it is another year there."""
    interest = set_interest(site, ann, high_value=20)
    with site.open(browser, "/account", person=ann) as visit:
        visit.page.clock.set_fixed_time(datetime(2040, 1, 1, tzinfo=UTC))
        with visit.page.expect_response(lambda answer: "/windows?" in answer.url) as asked:
            visit.goto(f"/told?interest={interest['interest_id']}")
        assert asked.value.status == 200
        assert asked.value.json()["windows"][0]["window_start"] == asked.value.json()["earliest_begin"]
        expect(visit.page.locator(".told-head")).to_contain_text("New York")
        assert visit.faults == []


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("language", ["en", "it"])
def test_each_state_is_told_in_the_readers_language(
    site: Site, browser: Browser, ann: Person, state: str, language: str
) -> None:
    """All windows of each state have words; nothing breaks where there is none."""
    with (
        site.open(browser, "/account", person=ann, language=language, dark=language == "it") as visit,
        answering(visit, lambda: build_states()[state]),
    ):
        visit.goto(f"/told?interest={INTEREST_ID}")
        expect(visit.page.locator(".told-list h2")).to_be_visible(timeout=PATIENCE_MS)
        visit.page.locator(".told-choice input[type=checkbox]").uncheck()
        count = len(build_states()[state]["windows"])
        expect(visit.page.locator(".told-windows > li")).to_have_count(min(count, 60))
        check_page(visit)


def test_the_page_shows_what_the_collector_says_was_alerted(site: Site, browser: Browser, ann: Person) -> None:
    """Of a real interest: one entry for each window with an alert that `GET /interests/{id}/windows` has."""
    store_flights(site, "KJFK")
    today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    interest = set_interest(site, ann, effective_from=(today - timedelta(days=29)).isoformat())
    begin = (today - timedelta(days=39)).isoformat().replace("+00:00", "Z")
    url = f"{site.url}/interests/{interest['interest_id']}/windows"
    windows = plain_http.get(url, params={"begin": begin}, headers=ann.headers).json()["windows"]
    said = [window for window in windows if window["alerts"]]
    assert said, "the flights of these tests cross the level"
    with site.open(browser, "/told", person=ann) as visit:
        entries = visit.page.locator(".told-windows > li")
        expect(entries).to_have_count(min(len(said), 60), timeout=PATIENCE_MS)
        newest = said[-1]["alerts"][-1]
        expect(entries.first).to_contain_text(f"{newest['flights']} departure")
        check_page(visit)


def test_without_interests_the_page_leads_on(site: Site, browser: Browser, ann: Person) -> None:
    """Nothing was said, and the page says where to begin."""
    with site.open(browser, "/told", person=ann, phone=True) as visit:
        expect(visit.page.locator(".empty")).to_contain_text("nothing was said")
        check_page(visit)
