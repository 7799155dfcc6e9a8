"""The frame of all pages in a real browser: for visitors and for people, on a phone and a desk, by day and by night."""

import json
from itertools import product
from typing import Final

import pytest
from playwright.sync_api import Browser

from tests import plain_http
from tests.waiting import eventually
from tests.web.checks import check_accessibility, check_layout, check_page, measure_layout_shift
from tests.web.site import Person, Site, wait_until
from user_manager.rest.web_files import PAGES

LOOKS: Final = [
    pytest.param(phone, dark, language, id=f"{'phone' if phone else 'desk'}-{'dark' if dark else 'light'}-{language}")
    for (phone, dark), language in zip(product([True, False], repeat=2), ["en", "it", "it", "en"], strict=True)
]


@pytest.mark.parametrize(("phone", "dark", "language"), LOOKS)
def test_every_page_opens_for_visitors_and_for_people(
    site: Site, browser: Browser, ann: Person, phone: bool, dark: bool, language: str
) -> None:
    """A visitor gets the form that signs in; whoever is signed in gets the page. All checks hold."""
    for person in (None, ann):
        with site.open(browser, person=person, phone=phone, dark=dark, language=language) as visit:
            for path in PAGES:
                visit.goto(path)
                assert visit.page.locator("html").get_attribute("lang") == language
                assert visit.page.locator("#signed-out").is_visible() is (person is None)
                assert visit.page.locator("#page h1:visible").count() == (0 if person is None else 1)
                check_page(visit)


def test_the_checks_find_what_they_look_for(site: Site, browser: Browser) -> None:
    """Each check fails on a page that was spoilt on purpose, so that none passes because it looks at nothing."""
    with site.open(browser) as visit:
        visit.page.evaluate("document.querySelector('.lead').style.color = '#aab'")
        with pytest.raises(AssertionError, match="color-contrast"):
            check_accessibility(visit.page)
    with site.open(browser, phone=True) as visit:
        visit.page.evaluate("document.querySelector('button.primary').style.minHeight = '20px'")
        visit.page.evaluate("document.querySelector('button.primary').style.padding = '0'")
        with pytest.raises(AssertionError, match="primary"):
            check_layout(visit.page)
    with site.open(browser) as visit:
        visit.page.evaluate("document.querySelector('main').style.paddingTop = '900px'")
        assert measure_layout_shift(visit.page) > 0.1
    with site.open(browser) as visit:
        visit.page.evaluate("fetch('http://192.0.2.1/').catch(() => {})")
        eventually(
            lambda: visit.page.evaluate("true") and any("192.0.2.1" in each for each in visit.faults),
            "the policy refuses it, and the browser says so",
        )


def test_nothing_in_a_page_runs_that_is_no_file_of_ours(site: Site, browser: Browser) -> None:
    """Inline scripts and styles, event handlers and pictures of others do nothing: the policy has no exception."""
    with site.open(browser) as visit:
        visit.page.evaluate(
            """() => {
              const script = document.createElement("script");
              script.textContent = "window.hacked = true";
              document.body.append(script);
              document.body.insertAdjacentHTML("beforeend", `<img src=x onerror="window.hacked = true">
                <p id=styled style="color: rgb(1, 2, 3)">x</p><style>h1 { color: rgb(1, 2, 3) }</style>`);
            }"""
        )
        wait_until(visit.page, "document.images.length > 0 && document.images[0].complete")
        assert visit.page.evaluate("window.hacked") is None
        colors = visit.page.evaluate(
            "['#styled', 'h1'].map((each) => getComputedStyle(document.querySelector(each)).color)"
        )
        assert "rgb(1, 2, 3)" not in colors


def test_no_other_page_can_frame_ours(site: Site, browser: Browser) -> None:
    """Clickjacking: the page does not show in a frame of another origin, nor of its own."""
    for path in (*PAGES, "/sign-in/mail"):
        headers = plain_http.get(f"{site.url}{path}", timeout=60).headers
        assert headers["X-Frame-Options"] == "DENY"
        assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
    with browser.new_context() as context:
        page = context.new_page()
        said: list[str] = []
        page.on("console", lambda message: said.append(message.text))
        page.set_content(f'<iframe src="{site.url}/"></iframe>')
        wait_until(page, "frames.length === 1")
        page.wait_for_load_state("networkidle")
        assert any("frame" in each.lower() for each in said), said
        assert page.frames[-1].locator("form").count() == 0


def test_a_request_for_another_host_gets_no_page(site: Site) -> None:
    """DNS rebinding: a foreign name that leads here is refused, and stands in no page."""
    answer = plain_http.get(f"{site.url}/", headers={"Host": "evil.example"}, timeout=60)
    assert answer.status_code == 421
    forwarded = plain_http.get(f"{site.url}/", headers={"X-Forwarded-Host": "evil.example"}, timeout=60)
    assert forwarded.status_code == 200
    assert "evil" not in forwarded.text


def test_a_link_elsewhere_leads_to_the_page_and_not_to_the_form(site: Site, browser: Browser, ann: Person) -> None:
    """A click in a mail that is read on a foreign page sends no session (SameSite=Strict); the page asks with it."""
    with browser.new_context() as context:
        site.sign_in(context, ann.email)
        page = context.new_page()
        page.route(
            "http://mail.example/",
            lambda route: route.fulfill(body=f'<a href="{site.url}/told">x</a>', content_type="text/html"),
        )
        page.goto("http://mail.example/")
        page.click("a")
        page.wait_for_selector("html[data-ready]", state="attached")
        assert page.locator("html").get_attribute("data-session") == "maybe"
        assert page.locator("#page h1").is_visible()
        assert not page.locator("#signed-out").is_visible()


def test_signing_out_leads_to_the_first_page(site: Site, browser: Browser, ann: Person) -> None:
    """The session is over, and the browser keeps neither of its cookies."""
    with site.open(browser, "/account", person=ann) as visit:
        visit.page.click("#sign-out")
        visit.page.wait_for_url(f"{site.url}/")
        visit.page.wait_for_selector("#signed-out form", state="visible")
        assert [each["name"] for each in visit.page.context.cookies()] == []
        visit.goto("/account")
        assert visit.page.locator("#signed-out").is_visible()


def test_a_session_that_was_ended_elsewhere_shows_the_form(site: Site, browser: Browser, ann: Person) -> None:
    """The browser still has its cookies, which open nothing any more."""
    with site.open(browser, person=ann) as visit:
        plain_http.delete(f"{site.url}/users/{ann.email}/sessions", headers=ann.headers, timeout=60)
        visit.goto("/told")
        assert visit.page.locator("#signed-out form").is_visible()
        assert not visit.page.locator("#nav").is_visible()


def test_whoever_chooses_a_language_keeps_it(site: Site, browser: Browser) -> None:
    """The choice goes before the browser's own language, and the address keeps what it asks for."""
    interest = "11111111-1111-4111-8111-111111111111"
    with site.open(browser, f"/watch?interest={interest}") as visit:
        visit.page.click("text=Italiano")
        visit.page.wait_for_url(f"{site.url}/watch?interest={interest}&language=it")
        assert visit.page.locator("html").get_attribute("lang") == "it"
        visit.goto("/")
        assert visit.page.locator("html").get_attribute("lang") == "it"


def test_signing_in_leads_back_to_the_page_that_asked_for_it(site: Site, browser: Browser, ann: Person) -> None:
    """The browser keeps the page's path for some minutes; an address that is none of a page is not followed."""
    interest = "11111111-1111-4111-8111-111111111111"
    with site.open(browser, f"/told?interest={interest}") as visit:
        site.sign_in(visit.page.context, ann.email)
        visit.page.goto(f"{site.url}/")
        visit.page.wait_for_url(f"{site.url}/told?interest={interest}")
        for hostile in ("//evil.example/told", "/told?interest=x", "javascript:alert(1)", "https://evil.example/"):
            kept = json.dumps({"path": hostile, "at": 9e15})
            visit.page.evaluate("kept => localStorage.setItem('towerwatch-back', kept)", kept)
            visit.goto("/")
            assert visit.page.url == f"{site.url}/"


def test_the_first_view_is_small(site: Site, browser: Browser, ann: Person) -> None:
    """Less than 150 KB over the wire, as the browser counts them, signed in or not."""
    for person in (None, ann):
        with browser.new_context() as context:
            if person is not None:
                site.sign_in(context, person.email)
            page = context.new_page()
            devtools = context.new_cdp_session(page)
            sizes: list[float] = []
            devtools.on("Network.loadingFinished", lambda event, sizes=sizes: sizes.append(event["encodedDataLength"]))
            devtools.send("Network.enable")
            page.goto(site.url)
            page.wait_for_selector("html[data-ready]", state="attached")
            page.wait_for_load_state("networkidle")
            assert 8 <= len(sizes) <= 40
            assert 5_000 < sum(sizes) < 150_000
