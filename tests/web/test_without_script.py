"""Without JavaScript: each page says what it needs, and what mails lead to works all the same."""

from uuid import UUID

import pytest
from playwright.sync_api import Browser

from tests import plain_http
from tests.web.site import Person, Site
from tests.web.watched import set_interest
from user_manager.rest.texts import load_texts
from user_manager.rest.web_files import PAGES


@pytest.mark.parametrize("language", ["en", "it"])
def test_each_page_says_what_it_needs_and_mails_lead_to_pages_that_work(
    site: Site, browser: Browser, ann: Person, language: str
) -> None:
    """Visitors have the form that signs in; people are told what works; one alert is stopped, and all are paused."""
    texts = load_texts()[language]
    for person in (None, ann):
        with site.open(browser, person=person, language=language, java_script_enabled=False, phone=True) as visit:
            for path in PAGES:
                visit.page.goto(site.url + path)
                notice = visit.page.locator("noscript p.notice")
                assert notice.is_visible()
                assert texts.get("site.noscript") in notice.inner_text()
                assert visit.page.locator("#signed-out form").is_visible() is (person is None)
                link = visit.page.locator("noscript a[href='/account/delete']")
                assert link.count() == (1 if path == "/account" else 0)
            assert visit.foreign == []
    interest = set_interest(site, ann)
    links, user = site.accounts.links, UUID(ann.user_id)
    one = links.build_alert_stop_url(user, UUID(interest["interest_id"])).rpartition("/")[2]
    every = links.build_unsubscription_url(user).rpartition("/")[2]
    with site.open(browser, language=language, java_script_enabled=False) as visit:
        for path, action in ((f"/stop/{one}", "stop"), (f"/unsubscribe/{every}", "unsubscribe")):
            visit.page.goto(site.url + path)
            visit.page.get_by_role("button", name=texts.get(f"link.{action}.button")).click()
            assert visit.page.inner_text("h1") == texts.get(f"link.{action}.done_title")
    assert plain_http.get(f"{site.url}/interests", headers=ann.headers).json()["interests"] == []
    user_now = plain_http.get(f"{site.url}/users/{ann.email}", headers=ann.headers).json()["user"]
    assert user_now["paused"] is True
