"""The pages of mail links, and registering and signing in by them, in a real browser with and without JavaScript."""

from uuid import UUID

import pytest
from playwright.sync_api import Browser
from sqlalchemy import select

from tests import plain_http
from tests.web.checks import check_page
from tests.web.site import Site
from tests.web.test_pages import LOOKS
from user_manager.model import MailRequest


def find_link(site: Site, email: str) -> str:
    """Return the link in the mail that was asked for last to an address, as the notifier gets it."""
    with site.accounts.database.reading() as session:
        latest = select(MailRequest).where(MailRequest.email == email).order_by(MailRequest.requested_at.desc())
        request = session.scalars(latest).first()
        assert request is not None, "no mail was asked for"
        request_id = str(request.request_id)
    (contact,) = site.accounts.accounts.load_contacts([request_id])
    link = contact.sign_in_url or contact.confirm_url
    return site.url + "/" + link.split("/", 3)[3]


@pytest.mark.parametrize("has_scripts", [True, False])
def test_a_stranger_registers_signs_out_and_signs_in(site: Site, browser: Browser, has_scripts: bool) -> None:
    """Types an address, follows the mail, types a name, and is signed in; the zone is the browser's, with scripts."""
    email = f"stranger-{has_scripts}@example.org".lower()
    with site.open(browser, phone=True, java_script_enabled=has_scripts) as visit:
        page = visit.page
        page.fill("#signed-out input[name=email]", email)
        page.click("text=Sign in or register")
        assert page.inner_text("h1") == "Look into your mailbox"
        if has_scripts:
            check_page(visit)
        page.fill("input[name=email]", f"{email} ")  # nothing has come: another mail, or another address
        page.click("text=Mail me a link again")
        assert page.inner_text("h1") == "Look into your mailbox"
        page.goto(find_link(site, email))
        assert page.input_value("input[name=name]") == email.partition("@")[0]
        page.fill("input[name=name]", "<b>Zoë</b>")
        page.click("text=Confirm my address")
        assert page.inner_text("h1") == "Your address is confirmed"
        assert page.locator("dd", has_text="<b>Zoë</b>").is_visible()
        assert page.locator("b").count() == 0
        session = page.request.get(f"{site.url}/session", headers={"Sec-Fetch-Site": "same-origin"}).json()
        assert session["user"]["name"] == "<b>Zoë</b>"
        assert session["user"]["time_zone"] == ("Europe/Rome" if has_scripts else "UTC")
        page.click("text=Choose an airport")
        page.wait_for_url(f"{site.url}/watch")
        assert page.locator("#page h1").is_visible()
        page.context.clear_cookies()
        page.goto(f"{site.url}/")
        page.fill("#signed-out input[name=email]", email)
        page.click("text=Sign in or register")
        page.goto(find_link(site, email))
        page.click("button >> text=Sign in")
        page.wait_for_url(f"{site.url}/")
        assert page.locator("#page h1").is_visible()
        assert page.locator("noscript p.notice").is_visible() is not has_scripts
        assert visit.foreign == []
        assert [each for each in visit.faults if has_scripts or not each.endswith(".js: csp")] == []


@pytest.mark.parametrize(("phone", "dark", "language"), LOOKS)
def test_each_page_of_a_mail_link_is_as_good_as_the_others(
    site: Site, browser: Browser, phone: bool, dark: bool, language: str
) -> None:
    """All checks hold on each of them, before and after its button, and when its link is none; in both languages."""
    service, person = site.accounts, site.register()
    stop = service.links.build_stop_url(service.limits.compute_hash(person.email), "0" * 64)
    newcomer = service.register(f"new-{person.email}")
    paths = {
        "/sign-in/mail": 200,
        f"/sign-in/{service.request_sign_in_token(person.email)}": 200,
        f"/confirm/{service.build_confirmation_token(newcomer)}": 200,
        f"/unsubscribe/{service.links.build_unsubscription_url(UUID(person.user_id)).rpartition('/')[2]}": 200,
        f"/not-me/{stop.rpartition('/')[2]}": 200,
        "/confirm/x": 400,
        "/sign-in/x": 400,
        "/token/x": 400,
        "/stop/x": 400,
    }
    with site.open(browser, phone=phone, dark=dark, language=language) as visit:
        for path, status in paths.items():
            answer = visit.page.goto(site.url + path)
            assert answer is not None
            assert answer.status == status, path
            assert visit.page.locator("html").get_attribute("lang") == language
            visit.faults[:] = [each for each in visit.faults if status == 200]  # the browser reports each 400
            check_page(visit)
            if status == 200 and path != "/sign-in/mail":
                visit.page.click("form button")
                check_page(visit)


@pytest.mark.parametrize(("phone", "dark", "language"), LOOKS)
def test_the_pages_that_stop_one_alert_are_as_good_as_the_others(
    site: Site, browser: Browser, phone: bool, dark: bool, language: str
) -> None:
    """All checks hold before and after the button, with the part for programs open, and on what is stopped already; the
    real collector removes the interest, and the link leads on to the page where an airport is watched."""
    person = site.register()
    interest = {"airport_icao": "KJFK", "direction": "both", "window": "6h", "low_percent": 80, "high_value": 1_000}
    answer = plain_http.post(f"{site.url}/interests", json=interest, headers=person.headers)
    assert answer.status_code == 201, answer.text
    interest_id = UUID(answer.json()["interest_id"])
    link = site.accounts.links.build_alert_stop_url(UUID(person.user_id), interest_id)
    words = {
        "en": ("Stop this alert", "This alert is stopped", "in six hours", "stopped before"),
        "it": ("Ferma questo avviso", "Questo avviso è stato fermato", "in sei ore", "fermato in precedenza"),
    }
    title, done, window, before = words[language]
    with site.open(browser, phone=phone, dark=dark, language=language) as visit:
        page = visit.page
        for heading, text in ((title, window), (done, window), (done, before)):
            if (heading, text) == (done, window):
                page.click("form button")
            else:
                page.goto(f"{site.url}/stop/{link.rpartition('/')[2]}")
            assert page.inner_text("h1") == heading
            assert text in page.inner_text("main")
            assert page.locator("html").get_attribute("lang") == language
            check_page(visit)
            if (heading, text) == (done, window):
                page.click("summary")
                assert '"low_percent": 80' in page.inner_text("details")
                check_page(visit)
        assert plain_http.get(f"{site.url}/interests", headers=person.headers).json()["interests"] == []
        page.click("main a.button")
        page.wait_for_url(f"{site.url}/watch")
        assert page.locator("html").get_attribute("lang") == language


def test_a_link_that_was_used_says_so_in_words(site: Site, browser: Browser) -> None:
    """Another browser gets a page, with status 410, and not the account."""
    person = site.register()
    token = site.accounts.request_sign_in_token(person.email)
    assert plain_http.post(f"{site.url}/sign-in/{token}", headers={"Sec-Fetch-Site": "same-origin"}).status_code == 303
    with site.open(browser) as visit:
        answer = visit.page.goto(f"{site.url}/sign-in/{token}")
        assert answer is not None
        assert answer.status == 410
        assert "used already" in visit.page.inner_text("main")
        assert visit.page.context.cookies() == []
