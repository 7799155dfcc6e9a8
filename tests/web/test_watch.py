"""Watch an airport: the chart, the level that is moved, what it would have meant, saving and changing."""

import contextlib
import json
import re
from typing import Any

import pytest
from playwright.sync_api import Browser, Error as PlaywrightError, Page, expect

from tests import plain_http
from tests.streams.browser import PHONE, WIDE
from tests.web.checks import check_page
from tests.web.site import Person, Site, SiteVisit, wait_until, wait_until_ready
from tests.web.watched import list_interests, set_interest, store_flights

PATIENCE_MS = 120_000
NOWHERE = "00000000-0000-4000-8000-000000000000"


@pytest.fixture(scope="module", autouse=True)
def flights(site: Site) -> None:
    """KJFK has departures of 38 days; of EDDF nothing is known."""
    store_flights(site, "KJFK")


def choose(page: Page, typed: str = "kenn") -> None:
    """Type in the field, and take the first airport."""
    page.get_by_role("combobox", name="Airport").press_sequentially(typed)
    page.wait_for_selector("[role=option]")
    page.keyboard.press("Enter")
    page.wait_for_selector(".preview-headline:not(:empty)")


def wait_for_preview(page: Page) -> str:
    """Wait until no preview is asked for any more, and return its headline."""
    wait_until(
        page,
        """() => !document.querySelector(".preview[aria-busy]")
          && document.querySelector(".preview-headline").textContent""",
    )
    return page.locator(".preview-headline").text_content() or ""


def expect_headline(page: Page, pattern: str) -> None:
    expect(page.locator(".preview-headline")).to_have_text(re.compile(pattern), timeout=PATIENCE_MS)


def preview(site: Site, person: Person, **members: Any) -> dict[str, Any]:
    """Return what REST's preview says of departures of KJFK by the hour."""
    body = {"airport_icao": "KJFK", "direction": "departures", "window": "1h", **members}
    return dict(plain_http.post(f"{site.url}/interests/preview", json=body, headers=person.headers).json())


@pytest.mark.parametrize("phone", [True, False])
@pytest.mark.parametrize("dark", [True, False])
def test_typing_kenn_shows_at_once_what_a_level_would_have_meant(
    site: Site, browser: Browser, ann: Person, phone: bool, dark: bool
) -> None:
    """The suggested level of about a mail a week is filled in, with the mails that REST's preview has for it."""
    suggested = preview(site, ann, high_value=20)["suggestions"]["high_value"]["week"]
    with site.open(browser, "/watch", person=ann, phone=phone, dark=dark) as visit:
        page = visit.page
        choose(page)
        expect_headline(page, rf"^{suggested['mails']} mails in 35 days$")
        assert page.locator("#high-level").input_value() == str(suggested["level"])
        slider = page.get_by_role("slider", name="Upper level")
        assert slider.get_attribute("aria-valuenow") == str(suggested["level"])
        assert slider.get_attribute("aria-valuetext") == f"more than {suggested['level']} flights"
        assert page.locator(".mails li").count() == min(suggested["mails"], 5)
        check_page(visit)


def test_the_level_moves_by_keys_by_mouse_and_by_number_and_the_preview_follows(
    site: Site, browser: Browser, ann: Person
) -> None:
    """Whatever moves the level, the number, the line and the mails say the same; the mails are those of REST."""
    with site.open(browser, "/watch", person=ann) as visit:
        page = visit.page
        choose(page)
        slider = page.get_by_role("slider", name="Upper level")
        slider.focus()
        before = int(slider.get_attribute("aria-valuenow") or 0)
        for key in ("ArrowDown", "ArrowDown", "ArrowUp"):
            page.keyboard.press(key)
        assert page.locator("#high-level").input_value() == str(before - 1)
        page.keyboard.press("Home")
        assert page.locator("#high-level").input_value() == "0"
        mails = len(preview(site, ann, high_value=0)["alerts"])
        expect_headline(page, rf"^{mails} mails in 35 days$")
        # By mouse: the line follows the pointer, and the number is what stands at its height.
        box = page.locator(".chart-plot").bounding_box()
        assert box is not None
        slider.hover()
        page.mouse.down()
        page.mouse.move(box["x"] + 200, box["y"] + box["height"] / 2, steps=4)
        page.mouse.up()
        moved = int(page.locator("#high-level").input_value())
        assert moved > 10
        assert slider.get_attribute("aria-valuenow") == str(moved)
        expect_headline(page, rf"^{len(preview(site, ann, high_value=moved)['alerts'])} mails? in 35 days$")
        # By number.
        page.fill("#high-level", "12")
        assert slider.get_attribute("aria-valuenow") == "12"
        expect_headline(page, rf"^{len(preview(site, ann, high_value=12)['alerts'])} mails in 35 days$")
        assert visit.faults == []


def test_a_finger_moves_the_level(site: Site, browser: Browser, ann: Person) -> None:
    """A touch on the line drags it, and does not scroll the page."""
    with site.open(browser, "/watch", person=ann, phone=True) as visit:
        page = visit.page
        choose(page)
        wait_for_preview(page)
        slider = page.get_by_role("slider", name="Upper level")
        slider.scroll_into_view_if_needed()
        before = int(slider.get_attribute("aria-valuenow") or 0)
        scrolled = page.evaluate("scrollY")
        box = slider.bounding_box()
        assert box is not None
        session = page.context.new_cdp_session(page)
        x, y = box["x"] + box["width"] - 25, box["y"] + box["height"] / 2
        for kind, at in (("touchStart", y), ("touchMove", y + 30), ("touchMove", y + 60), ("touchEnd", None)):
            points = [] if at is None else [{"x": x, "y": at}]
            session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
        wait_until(
            page,
            "(before) => Number(document.querySelector('.chart-handle').getAttribute('aria-valuenow')) < before",
            arg=before,
        )
        assert page.evaluate("scrollY") == scrolled


def test_what_is_typed_over_an_airport_is_not_watched(site: Site, browser: Browser, ann: Person) -> None:
    """Nothing can be saved while another text than the chosen airport's is in the field."""
    with site.open(browser, "/watch", person=ann, phone=True) as visit:
        page = visit.page
        choose(page)
        save = page.get_by_role("button", name="Watch this airport")
        expect(save).to_be_visible()
        page.get_by_role("combobox", name="Airport").fill("xyzzy")
        expect(save).to_be_hidden()
        page.keyboard.press("Enter")
        assert list_interests(site, ann) == []
        page.get_by_role("combobox", name="Airport").fill("")
        choose(page)
        expect(save).to_be_visible()


def test_the_last_answer_wins(site: Site, browser: Browser, ann: Person) -> None:
    """An answer that comes late, to a level of before, is not shown over that of the present level."""
    with site.open(browser, "/watch", person=ann) as visit:
        page = visit.page
        choose(page)
        wait_for_preview(page)
        held = []

        def hold(route: Any) -> None:
            if json.loads(route.request.post_data)["high_value"] == 3:
                held.append(route)
            else:
                route.continue_()

        page.route("**/interests/preview*", hold)
        page.fill("#high-level", "3")
        wait_until(page, "() => document.querySelector('.preview[aria-busy]')")
        while not held:
            page.wait_for_timeout(20)
        page.fill("#high-level", "100")
        expect_headline(page, "^0 mails in 35 days$")
        # The browser has given this request up; if not, its answer must not be shown.
        with contextlib.suppress(PlaywrightError):
            held[0].fulfill(json={"alerts": [], "windows": 24, "unknown": None, "notice": None, "suggestions": {}})
        wait_until(page, "() => !document.querySelector('.preview[aria-busy]')")
        expect_headline(page, "^0 mails in 35 days$")


def test_suggestions_are_buttons_and_percents_are_levels_too(site: Site, browser: Browser, ann: Person) -> None:
    """A suggestion sets the level; in percent the chart, the level and the request are in percent."""
    suggestions = preview(site, ann, high_value=20)["suggestions"]
    with site.open(browser, "/watch", person=ann) as visit:
        page = visit.page
        choose(page)
        month = suggestions["high_value"]["month"]
        page.get_by_role("button", name=f"a mail a month: {month['level']}").click()
        expect_headline(page, rf"^{month['mails']} mails? in 35 days$")
        page.check("input[value=percent]")
        level = page.locator("#high-level").input_value()
        shown = preview(site, ann, high_percent=int(level))
        expect_headline(page, rf"^{len(shown['alerts'])} mails? in 35 days$")
        slider = page.get_by_role("slider", name="Upper level")
        assert slider.get_attribute("aria-valuetext") == f"more than {level} % of what is usual"
        page.get_by_label("fewer than").first.check()
        expect(page.get_by_role("slider", name="Lower level")).to_be_visible()
        check_page(visit)


def test_in_percent_unusually_quiet_comes_first(site: Site, browser: Browser, ann: Person) -> None:
    """Who has chosen nothing yet gets half of what is usual as the lower level, also where nothing is known; who has
    chosen a level keeps the bound that they chose."""
    with site.open(browser, "/watch", person=ann) as visit:
        page = visit.page
        choose(page)
        wait_for_preview(page)
        page.check("input[value=percent]")
        mails = len(preview(site, ann, low_percent=50)["alerts"])
        expect_headline(page, rf"^{mails} mails? in 35 days$")
        assert (page.locator("#low-level").input_value(), page.locator("#high-level").input_value()) == ("50", "")
        page.fill("#airport", "")
        choose(page, "EDDF")
        expect_headline(page, "Nothing is known of Frankfurt am Main, FRA yet")
        assert page.locator("#low-level").input_value() == "50"
        assert not page.locator("#high-on").is_checked()
        visit.goto("/watch")
        choose(page)
        wait_for_preview(page)
        page.fill("#high-level", "21")
        page.check("input[value=percent]")
        expect(page.locator("#high-on")).to_be_checked(timeout=PATIENCE_MS)
        assert not page.locator("#low-on").is_checked()


@pytest.mark.parametrize(
    ("typed", "said"),
    [("-1", "whole number from 0"), ("1.5", "whole number"), ("100001", "to 100,000"), ("", "Choose a level")],
)
def test_a_wrong_level_is_said_in_words(site: Site, browser: Browser, ann: Person, typed: str, said: str) -> None:
    """What cannot be a level is neither asked for nor saved."""
    with site.open(browser, "/watch", person=ann) as visit:
        page = visit.page
        choose(page)
        wait_for_preview(page)
        page.fill("#high-level", typed)
        expect_headline(page, said)
        page.get_by_role("button", name="Watch this airport").click()
        expect(page.locator("form [role=alert]")).to_contain_text(re.compile(said))
    assert list_interests(site, ann) == []


def test_levels_that_cross_are_said_in_words(site: Site, browser: Browser, ann: Person) -> None:
    """The upper level must be above the lower one, as the service demands."""
    with site.open(browser, "/watch", person=ann) as visit:
        page = visit.page
        choose(page)
        wait_for_preview(page)
        page.fill("#high-level", "10")
        page.get_by_label("fewer than").first.check()
        page.fill("#low-level", "10")
        expect_headline(page, "must be above the lower")


def test_an_airport_without_data_says_what_will_happen(site: Site, browser: Browser, ann: Person) -> None:
    """Nothing known is no zero: the page says what is done once it is saved, and saving works."""
    with site.open(browser, "/watch", person=ann, phone=True) as visit:
        page = visit.page
        choose(page, "EDDF")
        expect_headline(page, "Nothing is known of Frankfurt am Main, FRA yet")
        assert "soon after you save" in (page.locator(".preview-body").text_content() or "")
        check_page(visit)


def test_saving_leads_to_the_card(site: Site, browser: Browser, ann: Person) -> None:
    """The interest is set as the page shows it, with what stands under "More"."""
    with site.open(browser, "/watch", person=ann) as visit:
        page = visit.page
        choose(page)
        wait_for_preview(page)
        page.check("input[value='1d']")
        wait_for_preview(page)
        page.get_by_text("More", exact=True).click()
        page.fill("#for-windows", "2")
        page.get_by_label("Tell me again each time while it lasts").check()
        page.fill("#high-level", "150")
        wait_for_preview(page)
        page.get_by_role("button", name="Watch this airport").click()
        page.wait_for_url(re.compile(r"/(#.*)?$"))
        wait_until_ready(page)
        (interest,) = list_interests(site, ann)
        expected = {"airport_icao": "KJFK", "direction": "departures", "window": "1d", "aligned_to": "airport",
                    "high_value": 150, "low_value": None, "for_windows": 2, "repeat": True}  # fmt: skip
        assert {name: interest[name] for name in expected} == expected
        page.wait_for_selector(f"#interest-{interest['interest_id']}.wanted")


def test_what_is_watched_already_is_said(site: Site, browser: Browser, ann: Person) -> None:
    """Setting the same again would change it: the page says so, and leads to it."""
    known = set_interest(site, ann)
    with site.open(browser, "/watch", person=ann) as visit:
        choose(visit.page)
        link = visit.page.get_by_role("link", name="See how it is now")
        link.click()
        visit.page.wait_for_url(f"**/watch?interest={known['interest_id']}")


def open_change(visit: SiteVisit, interest: dict[str, Any]) -> None:
    visit.goto(f"/watch?interest={interest['interest_id']}")
    wait_for_preview(visit.page)


def test_a_change_keeps_what_it_does_not_change(site: Site, browser: Browser, ann: Person) -> None:
    """The form has the interest's levels; a pause goes on; saving leads to the card."""
    pause = "2027-06-01T00:00:00Z"
    interest = set_interest(site, ann, low_value=2, effective_from=pause)
    with site.open(browser, "/", person=ann) as visit:
        open_change(visit, interest)
        page = visit.page
        assert page.locator("#high-level").input_value() == "20"
        assert page.locator("#low-level").input_value() == "2"
        page.fill("#low-level", "3")
        wait_for_preview(page)
        page.get_by_role("button", name="Save the change").click()
        page.wait_for_url(re.compile(r"/(#.*)?$"))
        wait_until_ready(page)
    (changed,) = list_interests(site, ann)
    assert (changed["high_value"], changed["low_value"], changed["version"]) == (20, 3, 2)
    assert changed["effective_from"] == pause


def test_a_change_of_the_measure_takes_the_place_of_the_other(site: Site, browser: Browser, ann: Person) -> None:
    """From flights to percent: the interest has no level in flights any more."""
    interest = set_interest(site, ann)
    with site.open(browser, "/", person=ann) as visit:
        open_change(visit, interest)
        page = visit.page
        page.check("input[value=percent]")
        page.fill("#high-level", "180")
        wait_for_preview(page)
        page.get_by_role("button", name="Save the change").click()
        page.wait_for_url(re.compile(r"/(#.*)?$"))
    (changed,) = list_interests(site, ann)
    assert (changed["high_value"], changed["high_percent"]) == (None, 180)


def test_a_change_elsewhere_is_said_and_shown(site: Site, browser: Browser, ann: Person) -> None:
    """Nobody's change is overwritten unseen: the page shows the new, and saves on the second attempt."""
    interest = set_interest(site, ann)
    with site.open(browser, "/", person=ann) as visit:
        open_change(visit, interest)
        page = visit.page
        page.fill("#high-level", "25")
        wait_for_preview(page)
        set_interest(site, ann, high_value=40)
        page.get_by_role("button", name="Save the change").click()
        expect(page.locator("form [role=alert]")).to_contain_text("changed elsewhere", timeout=PATIENCE_MS)
        assert page.locator("#high-level").input_value() == "40"
        assert list_interests(site, ann)[0]["high_value"] == 40
        page.fill("#high-level", "25")
        wait_for_preview(page)
        page.get_by_role("button", name="Save the change").click()
        page.wait_for_url(re.compile(r"/(#.*)?$"))
    assert list_interests(site, ann)[0]["high_value"] == 25


@pytest.mark.parametrize("which", ["another's", "nobody's", "no id", "markup"])
def test_an_interest_of_somebody_else_is_none(site: Site, browser: Browser, ann: Person, which: str) -> None:
    """The page of another person's interest, of a removed one and of nonsense says the same, and nothing of it."""
    bob = site.register(name="Bob")
    bobs = set_interest(site, bob, airport_icao="LICC", high_value=4321)
    wanted = {
        "another's": bobs["interest_id"],
        "nobody's": NOWHERE,
        "no id": "x",
        "markup": "<img src=x onerror=alert(1)>",
    }
    with site.open(browser, "/", person=ann) as visit:
        visit.goto(f"/watch?interest={wanted[which]}")
        assert "You have no such alert" in (visit.page.locator("#page").text_content() or "")
        assert "4321" not in visit.page.content()
        assert [fault for fault in visit.faults if "404" not in fault] == []
        visit.goto(f"/told?interest={wanted[which]}")
        expect(visit.page.locator("#page")).to_contain_text("You have no such alert", timeout=PATIENCE_MS)
        assert "4321" not in visit.page.content()


@pytest.mark.parametrize(
    ("status", "headers", "said"),
    [
        (503, {"Retry-After": "5"}, "cannot answer at the moment"),
        (429, {"Retry-After": "60"}, "too often"),
        (0, {}, "cannot be reached"),
    ],
)
def test_a_preview_that_fails_says_why_and_can_be_tried_again(
    site: Site, browser: Browser, ann: Person, status: int, headers: dict[str, str], said: str
) -> None:
    """A busy or unavailable service, or no network: words, and a button that asks again."""
    with site.open(browser, "/watch", person=ann) as visit:
        page = visit.page
        problem = {"title": "x", "status": status, "detail": "of the service"}

        def fail(route: Any) -> None:
            if status == 0:
                route.abort()
            else:
                route.fulfill(
                    status=status,
                    headers=headers | {"Content-Type": "application/problem+json"},
                    body=json.dumps(problem),
                )

        page.route("**/interests/preview*", fail)
        choose(page)
        expect_headline(page, said)
        page.unroute("**/interests/preview*")
        page.get_by_role("button", name="Try again").click()
        expect_headline(page, "mails in 35 days")


def test_what_the_service_refuses_is_shown_in_its_words(site: Site, browser: Browser, ann: Person) -> None:
    """A sentence of the service about what cannot be asked for reaches the person."""
    with site.open(browser, "/watch", person=ann) as visit:
        page = visit.page
        fault = {
            "title": "x",
            "status": 422,
            "detail": "no",
            "errors": [{"field": "aligned_to", "message": "not <b>that</b>"}],
        }
        page.route(
            "**/interests/preview*",
            lambda route: route.fulfill(status=422, content_type="application/problem+json", body=json.dumps(fault)),
        )
        choose(page)
        expect_headline(page, "^not <b>that</b>$")


def test_an_unconfirmed_account_is_told_to_confirm(site: Site, browser: Browser, ann: Person) -> None:
    """The page says what to do; the session that says so is a stand-in."""
    with site.open(browser, "/account", person=ann) as visit:

        def deny(route: Any) -> None:
            answer = route.fetch()
            found = answer.json()
            route.fulfill(response=answer, json=found | {"user": found["user"] | {"confirmed": False}})

        visit.page.route("**/session", deny)
        for path in ("/", "/watch"):
            visit.goto(path)
            assert "Confirm your address first" in (visit.page.locator("#page").text_content() or "")
            assert visit.faults == []


def test_everything_works_by_keyboard_alone(site: Site, browser: Browser, ann: Person) -> None:
    """From the field to the saved interest without a mouse."""
    with site.open(browser, "/watch", person=ann) as visit:
        page = visit.page
        page.locator("#airport").focus()
        page.keyboard.type("kenn")
        page.wait_for_selector("[role=option]")
        page.keyboard.press("Enter")
        wait_for_preview(page)
        page.keyboard.press("Tab")  # direction
        page.keyboard.press("ArrowRight")
        assert page.locator("input[value=arrivals]").is_checked()
        page.keyboard.press("ArrowLeft")
        wait_for_preview(page)
        for _ in range(40):
            page.keyboard.press("Tab")
            if page.evaluate("document.activeElement.getAttribute('role')") == "slider":
                break
        page.keyboard.press("PageUp")
        level = page.locator("#high-level").input_value()
        for _ in range(40):
            page.keyboard.press("Tab")
            if page.evaluate("document.activeElement.type") == "submit":
                break
        page.keyboard.press("Enter")
        page.wait_for_url(re.compile(r"/(#.*)?$"))
    assert list_interests(site, ann)[0]["high_value"] == int(level)


@pytest.mark.parametrize("viewport", [PHONE, WIDE])
def test_the_page_is_italian_for_italians(site: Site, browser: Browser, ann: Person, viewport: dict[str, int]) -> None:
    """All of the page is in the visitor's language, numbers and days, too."""
    with site.open(browser, "/watch", person=ann, language="it", viewport=viewport) as visit:
        page = visit.page
        page.get_by_role("combobox", name="Aeroporto").press_sequentially("kenn")
        page.wait_for_selector("[role=option]")
        assert "Stati Uniti" in (page.locator("[role=option]").first.text_content() or "")
        page.keyboard.press("Enter")
        expect_headline(page, r"^\d+ mail in 35 giorni$")
        check_page(visit)
