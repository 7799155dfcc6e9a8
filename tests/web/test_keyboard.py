"""Every page by the keyboard alone: each control is reached, its focus is seen, and what it does is done."""

import re
from typing import Final

from playwright.sync_api import Browser, Page, expect

from tests.web.site import Person, Site, wait_until, wait_until_ready
from tests.web.test_account import load_user
from tests.web.test_home import answering
from tests.web.test_told import build_reasons
from tests.web.watched import list_interests, set_interest, store_flights
from tests.web.windows_answers import INTEREST_ID

PATIENCE_MS = 120_000
MOST_STOPS: Final = 120

_NAME: Final = """each => (each.getAttribute("aria-label") || each.labels?.[0]?.textContent || each.textContent
  || each.id || each.className || each.tagName).trim().slice(0, 60)"""

_CONTROL: Final = "a[href], button, input, select, summary, textarea, [tabindex='0']"
_CONTROLS: Final = f"""() => [...document.querySelectorAll("{_CONTROL}")]
  .filter((each) => each.checkVisibility({{visibilityProperty: true}}) && !each.disabled && each.type !== "hidden")
  .filter((each) => each.type !== "radio" || each.checked)
  .map({_NAME})"""

_FOCUS: Final = f"""() => {{
  const each = document.activeElement;
  if (!each || each === document.body || each === document.documentElement) return null;
  const box = each.getBoundingClientRect();
  const seen = [each, each.nextElementSibling].filter(Boolean)
    .some((one) => getComputedStyle(one).outlineStyle !== "none");
  const isInside = box.bottom > 0 && box.top < innerHeight && box.right > 0 && box.left < innerWidth;
  return {{name: ({_NAME})(each), isSeen: seen && isInside}};
}}"""


def walk(page: Page) -> None:
    """Go through the page by the tabulator. Assert that it reaches every control, each with a focus that is seen."""
    # The next stop is the first of the page: the focus begins at the body.
    page.evaluate(
        "() => { const {body} = document; body.tabIndex = -1; body.focus(); body.removeAttribute('tabindex'); }"
    )
    stops: list[str] = []
    for _ in range(MOST_STOPS):
        page.keyboard.press("Tab")
        found = page.evaluate(_FOCUS)
        if found is None:
            break
        assert found["isSeen"], f"the focus on {found['name']!r} is not seen"
        stops.append(found["name"])
    else:
        raise AssertionError(f"the focus does not leave the page again: {stops[-5:]}")
    missing = [each for each in page.evaluate(_CONTROLS) if each not in stops]
    assert missing == [], f"not reached by the keyboard: {missing}"
    assert len(stops) >= 4


def press_on(page: Page, name: str, key: str = "Enter") -> None:
    """Go to a control by the tabulator, from wherever the focus is, and press a key there."""
    for _ in range(MOST_STOPS):
        page.keyboard.press("Tab")
        found = page.evaluate(_FOCUS)
        if found is not None and re.match(name, found["name"]):
            page.keyboard.press(key)
            return
    raise AssertionError(f"the keyboard does not reach {name!r}")


def expect_focus(page: Page, name: str) -> None:
    """Wait until the focus is on a control whose name begins so."""
    script = f"(name) => new RegExp(name).test(({_FOCUS})()?.name ?? '')"
    wait_until(page, script, f"^(?:{name})")


def test_a_visitor_asks_for_a_mail(site: Site, browser: Browser) -> None:
    """The first stop skips to the content; Enter in the field sends the form; the next page leads on."""
    with site.open(browser) as visit:
        page = visit.page
        walk(page)
        page.reload()
        wait_until_ready(page)
        page.keyboard.press("Tab")
        page.keyboard.press("Enter")
        assert page.evaluate("document.activeElement.id") == "main"
        press_on(page, "Your e-mail address", "k")
        page.keyboard.type("eys@example.org")
        page.keyboard.press("Enter")
        page.wait_for_url("**/sign-in/mail")
        walk(page)
        press_on(page, "E-mail address", "k")
        page.keyboard.type("eys@example.org")
        page.keyboard.press("Enter")
        page.wait_for_load_state()
        assert page.inner_text("h1") == "Look into your mailbox"


def test_a_card_is_paused_resumed_removed_and_brought_back(site: Site, browser: Browser, ann: Person) -> None:
    """The focus goes along: into the menu, to the button that undoes, into the question, and back."""
    store_flights(site, "KJFK")
    set_interest(site, ann)
    with site.open(browser, "/", person=ann) as visit:
        page = visit.page
        badge = page.locator("article .badge").first
        expect(badge).to_have_text("Normal", timeout=PATIENCE_MS)
        walk(page)
        press_on(page, "Pause")
        expect_focus(page, "For an hour")
        page.keyboard.press("Enter")
        expect_focus(page, "Resume")
        expect(badge).to_have_text("Paused", timeout=PATIENCE_MS)
        page.keyboard.press("Enter")
        expect_focus(page, "Pause")
        press_on(page, "Remove", "Space")
        expect_focus(page, "Keep it")
        page.keyboard.press("Escape")
        expect_focus(page, "Remove")
        page.keyboard.press("Enter")
        expect_focus(page, "Keep it")
        press_on(page, "Remove")
        expect_focus(page, "Undo")
        assert list_interests(site, ann) == []
        page.keyboard.press("Enter")
        expect_focus(page, "New York, JFK")
        assert len(list_interests(site, ann)) == 1


def test_what_was_told_is_read(site: Site, browser: Browser, ann: Person) -> None:
    """The interest, the filter, the table and the former levels."""
    with site.open(browser, "/account", person=ann) as visit, answering(visit, build_reasons):
        visit.goto(f"/told?interest={INTEREST_ID}")
        page = visit.page
        entries = page.locator(".told-windows > li")
        expect(entries).to_have_count(5, timeout=PATIENCE_MS)
        press_on(page, "Only what I was told", "Space")
        expect(entries).to_have_count(48, timeout=PATIENCE_MS)
        press_on(page, "Your levels before")
        press_on(page, "As a table")
        expect(page.locator(".chart-table tbody tr")).to_have_count(48, timeout=PATIENCE_MS)
        walk(page)


def test_the_account_is_kept(site: Site, browser: Browser, ann: Person) -> None:
    """Name, pause, other browsers and the token; its deletion is tested with the page of the account."""
    site.accounts.sign_in(ann.email, "Safari on iPhone")
    with site.open(browser, "/account", person=ann) as visit:
        page = visit.page
        walk(page)
        press_on(page, "Name", "Control+A")
        page.keyboard.type("Keys")
        page.keyboard.press("Enter")
        page.get_by_text("Saved.").last.wait_for()
        press_on(page, "Pause all alerts")
        expect_text(page, "#pause", "Resume alerts")
        press_on(page, "Sign out: Safari on iPhone")
        expect_focus(page, "Where you are signed in")
        press_on(page, "Make a new token")
        press_on(page, "Yes, replace it")
        expect_focus(page, "Your new token")
        user = load_user(site, Person(ann.email, page.input_value("#token"), ann.user_id))
        assert (user["name"], user["paused"]) == ("Keys", True)


def expect_text(page: Page, selector: str, text: str) -> None:
    expect(page.locator(selector)).to_have_text(text, timeout=PATIENCE_MS)
