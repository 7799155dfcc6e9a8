"""The page of the account in a real browser: what it changes, that it works by keyboard, and how it says goodbye."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from playwright.sync_api import Browser, Page, Route

from tests import plain_http
from tests.waiting import eventually
from tests.web.checks import check_page
from tests.web.site import Person, Site, wait_until_ready
from user_manager.deletion.records import build_due_deletion


def load_user(site: Site, person: Person) -> dict[str, Any]:
    """Return the account as REST shows it."""
    answer = plain_http.get(f"{site.url}/users/{person.email}", headers=person.headers, timeout=60)
    return dict(answer.json()["user"])


def is_there(site: Site, email: str) -> bool:
    """Return True if an account has the address."""
    return site.accounts.accounts.is_registered(email)


@pytest.mark.parametrize("phone", [True, False])
def test_name_zone_and_mails_are_changed(site: Site, browser: Browser, phone: bool) -> None:
    """The page says so, shows what time it is there, and keeps markup in a name a name."""
    person = site.register(name="Ann")
    with site.open(browser, "/account", person=person, phone=phone) as visit:
        page = visit.page
        assert page.locator("#account").get_by_text(person.email).is_visible()
        assert page.input_value("#zone") == "Europe/Rome"
        assert not page.locator("#own-zone").is_visible(), "the browser's zone is the account's"
        page.get_by_label("Name").fill("<img src=x onerror=alert(1)>")
        page.get_by_label("Time zone").fill("Asia/Kathmandu")
        assert "there now" in page.inner_text("#zone-hint")
        assert page.locator("#zones option[value='Asia/Kathmandu'], #zones option[value='Asia/Katmandu']").count() > 0
        page.get_by_label("Mail me, once a day").uncheck()
        page.get_by_role("button", name="Save").click()
        page.get_by_text("Saved.").last.wait_for()
        user = load_user(site, person)
        assert (user["name"], user["time_zone"]) == ("<img src=x onerror=alert(1)>", "Asia/Kathmandu")
        assert user["corrections"] is False
        page.get_by_role("button", name="Use this device").click()
        page.get_by_role("button", name="Save").click()
        eventually(lambda: load_user(site, person)["time_zone"] == "Europe/Rome", "the browser's zone")
        visit.goto("/account")
        assert page.input_value("#name") == "<img src=x onerror=alert(1)>"
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), "nothing is wider than the page"
        assert (visit.faults, visit.foreign) == ([], [])


def test_the_language_of_account_and_pages_is_changed(site: Site, browser: Browser, ann: Person) -> None:
    """Together with what else was typed; and the next page is in it, too."""
    with site.open(browser, "/account", person=ann) as visit:
        page = visit.page
        assert page.input_value("#language") == "en"
        page.get_by_label("Name").fill("Anna")
        page.locator("#language").select_option("it")
        page.get_by_role("button", name="Save").click()
        page.get_by_role("heading", name="I tuoi dati").wait_for()
        wait_until_ready(page)
        user = load_user(site, ann)
        assert (user["language"], user["name"]) == ("it", "Anna")
        visit.goto("/account")
        assert page.get_attribute("html", "lang") == "it"
        assert page.input_value("#language") == "it"
        check_page(visit)


def test_the_switch_in_the_footer_changes_the_accounts_language_too(site: Site, browser: Browser, ann: Person) -> None:
    """Mails are in the account's language: whoever reads Italian pages gets Italian mails. If the account cannot be
    changed, that is said, and the page stays as it is; another tab, or no account, is only a page in that language."""
    with site.open(browser, "/told", person=ann, phone=True) as visit:
        page = visit.page
        page.route("**/users/*", lambda route: route.fulfill(status=503, json={"detail": "x"}))
        page.get_by_role("link", name="Italiano").click()
        page.locator("#problem").get_by_text("cannot answer at the moment").wait_for()
        assert page.get_attribute("html", "lang") == "en"
        page.unroute("**/users/*")
        page.get_by_role("link", name="Italiano").click()
        page.wait_for_url("**/told?language=it")
        wait_until_ready(page)
        assert page.get_attribute("html", "lang") == "it"
        assert load_user(site, ann)["language"] == "it"
        page.get_by_role("link", name="English").click()
        page.wait_for_url("**/told?language=en")
        assert load_user(site, ann)["language"] == "en"
    with site.open(browser, "/") as visit:
        visit.page.get_by_role("link", name="Italiano").click()
        visit.page.wait_for_url("**/?language=it")
        assert (visit.faults, visit.foreign) == ([], [])
    assert load_user(site, ann)["language"] == "en"


def test_what_is_wrong_is_said_beside_the_field(site: Site, browser: Browser, ann: Person) -> None:
    """With what may be meant; the focus goes there, and nothing is changed."""
    with site.open(browser, "/account", person=ann) as visit:
        page = visit.page
        page.get_by_label("Time zone").fill("europe/rom")
        page.get_by_role("button", name="Save").click()
        page.get_by_text("Did you mean Europe/Rome?").wait_for()
        assert page.evaluate("document.activeElement.id") == "zone"
        assert page.get_attribute("#zone", "aria-invalid") == "true"
        assert load_user(site, ann)["time_zone"] == "Europe/Rome"
        page.get_by_label("Time zone").fill("Europe/Rome")
        page.get_by_role("button", name="Save").click()
        page.get_by_text("Saved.").last.wait_for()
        assert page.get_attribute("#zone", "aria-invalid") == "false"


def test_a_change_elsewhere_is_not_overwritten(site: Site, browser: Browser, ann: Person) -> None:
    """The page shows what it is now, and the next attempt changes that."""
    with site.open(browser, "/account", person=ann) as visit:
        page = visit.page
        changed = plain_http.request(
            "PATCH", f"{site.url}/users/{ann.email}", headers=ann.headers | {"If-Match": "*"},
            json={"name": "Elsewhere"}, timeout=60,
        )  # fmt: skip
        assert changed.status_code == 200
        page.get_by_role("button", name="Pause all alerts").click()
        page.get_by_text("changed elsewhere").wait_for()
        assert page.input_value("#name") == "Elsewhere"
        assert load_user(site, ann)["paused"] is False
        page.get_by_role("button", name="Pause all alerts").click()
        page.get_by_role("button", name="Resume alerts").wait_for()
        assert load_user(site, ann)["paused"] is True
        assert not page.locator("#problem .problem").is_visible(), "what was wrong is over"


def test_all_alerts_are_paused_and_resumed(site: Site, browser: Browser, ann: Person) -> None:
    """What was typed and not saved stays."""
    with site.open(browser, "/account", person=ann) as visit:
        page = visit.page
        page.get_by_label("Name").fill("Half a na")
        page.get_by_role("button", name="Pause all alerts").click()
        page.get_by_text("All alerts are paused").first.wait_for()
        assert page.input_value("#name") == "Half a na"
        assert load_user(site, ann)["paused"] is True
        page.get_by_role("button", name="Resume alerts").click()
        page.get_by_role("button", name="Pause all alerts").wait_for()
        assert (load_user(site, ann)["paused"], load_user(site, ann)["name"]) == (False, "Ann")
        assert visit.faults == []


def test_other_browsers_are_seen_and_signed_out(site: Site, browser: Browser, ann: Person) -> None:
    """One by one, or all; this one leads to the first page."""
    for device in ("Safari on iPhone", "Firefox on Linux"):
        site.accounts.sign_in(ann.email, device)
    with site.open(browser, "/account", person=ann) as visit:
        page = visit.page
        assert page.locator("#sessions li").count() == 3
        assert "this one" in page.inner_text("#sessions li[data-current]")
        page.get_by_role("button", name="Sign out: Safari on iPhone").click()
        page.locator("#sessions li", has_text="iPhone").wait_for(state="detached")
        assert page.locator("#sessions li").count() == 2
        assert page.evaluate("document.activeElement.id") == "sessions-title"
        page.get_by_role("button", name="Sign out everywhere").click()
        page.wait_for_url(f"{site.url}/")
        wait_until_ready(page)
        assert page.locator("#signed-out").is_visible()
        assert site.accounts.sessions.list_of_account(ann.token, ann.email) == []
        assert visit.faults == []


def test_a_token_is_shown_once(site: Site, browser: Browser, ann: Person) -> None:
    """After a question; the one before is void, the session goes on, and a reload shows no token."""
    with site.open(browser, "/account", person=ann, permissions=["clipboard-read", "clipboard-write"]) as visit:
        page = visit.page
        page.get_by_role("button", name="Make a new token").click()
        page.get_by_role("button", name="Keep the old one").click()
        assert load_user(site, ann)["email"] == ann.email, "the token works"
        page.get_by_role("button", name="Make a new token").click()
        page.get_by_role("button", name="Yes, replace it").click()
        page.get_by_label("Your new token").wait_for()
        token = page.input_value("#token")
        page.get_by_role("button", name="Copy").click()
        page.get_by_text("Copied.").last.wait_for()
        assert page.evaluate("navigator.clipboard.readText()") == token
        by_token = {"Authorization": f"Bearer {token}"}
        assert plain_http.get(f"{site.url}/users/{ann.email}", headers=by_token, timeout=60).status_code == 200
        assert plain_http.get(f"{site.url}/users/{ann.email}", headers=ann.headers, timeout=60).status_code == 401
        kept = page.evaluate("JSON.stringify([{...localStorage}, {...sessionStorage}, location.href])")
        assert token not in kept
        visit.goto("/account")
        assert token not in page.content()
        assert page.input_value("#token") == ""
        assert visit.faults == []


def test_everything_is_downloaded(site: Site, browser: Browser, ann: Person, tmp_path: Path) -> None:
    """With the interests of the collector, by the same request as a program's."""
    interest = {"airport_icao": "KJFK", "direction": "departures", "window": "1h", "high_value": 30}
    answer = plain_http.post(f"{site.url}/interests", headers=ann.headers, json=interest, timeout=60)
    assert answer.status_code == 201, answer.text
    with site.open(browser, "/account", person=ann) as visit:
        with visit.page.expect_download() as download:
            visit.page.get_by_role("button", name="Download").click()
        assert download.value.suggested_filename.startswith("towerwatch-20")
        download.value.save_as(tmp_path / "file.json")
        assert visit.faults == []
    file = json.loads((tmp_path / "file.json").read_text("utf-8"))
    assert file["account"]["email"] == ann.email
    assert [each["airport_icao"] for each in file["interests"]] == ["KJFK"]
    assert [each["device"] for each in file["sessions"]] == ["Chromium on Linux"]
    assert file["writes"]["writes"] == 1
    assert ann.token not in json.dumps(file)


def delete_by_keyboard(page: Page, typed: str) -> None:
    """Go to the form by the tabulator alone, type an address, and press Enter."""
    for _ in range(60):
        if page.evaluate("document.activeElement.id") == "typed":
            break
        page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "typed"
    page.keyboard.press("Control+A")
    page.keyboard.type(typed)
    page.keyboard.press("Enter")


@pytest.mark.parametrize("phone", [True, False])
def test_the_account_is_deleted_by_keyboard(site: Site, browser: Browser, phone: bool) -> None:
    """Only once its own address is typed; then the session is gone, and the focus is where the news is."""
    person = site.register()
    with site.open(browser, "/account", person=person, phone=phone) as visit:
        page = visit.page
        delete_by_keyboard(page, "somebody@example.org")
        page.get_by_text(f"Type {person.email}.").wait_for()
        assert page.evaluate("document.activeElement.id") == "typed"
        assert is_there(site, person.email)
        delete_by_keyboard(page, person.email.upper())
        page.get_by_role("heading", name="Your account is deleted").wait_for()
        assert page.evaluate("document.activeElement.id") == "deletion-title"
        assert not page.locator("#account").is_visible()
        assert not page.locator("#nav").is_visible()
        assert [each for each in visit.page.context.cookies() if "towerwatch" in each.get("name", "")] == []
        assert not is_there(site, person.email)
        assert (visit.faults, visit.foreign) == ([], [])
        visit.goto("/account")
        assert page.locator("#signed-out form").is_visible()


def test_the_progress_of_a_deletion_is_shown(site: Site, browser: Browser, ann: Person) -> None:
    """Step by step as the service says it, also after a reload, until it is complete."""
    deletion_id = "6f0c3f6e-0000-4000-8000-0123456789ab"
    state = {"deletion_id": deletion_id, "status": "in_progress", "interests_deleted": False}

    def begin(route: Route) -> None:
        """Answer the request that deletes: it was begun. All other requests go on."""
        if route.request.method == "DELETE":
            route.fulfill(status=202, json=state, headers={"Location": f"/deletions/{deletion_id}"})
        else:
            route.continue_()

    with site.open(browser, "/account", person=ann) as visit:
        page = visit.page
        page.route("**/users/**", begin)
        page.route("**/deletions/*", lambda route: route.fulfill(json=state))
        delete_by_keyboard(page, ann.email)
        page.get_by_role("heading", name="Your account is being deleted").wait_for()
        assert page.locator("#deletion-steps li.done").count() == 1
        site.accounts.sessions.end_all(ann.token, ann.email)
        page.reload()
        wait_until_ready(page)
        page.get_by_role("heading", name="Your account is being deleted").wait_for()
        assert not page.locator("#signed-out").is_visible()
        state["interests_deleted"] = True
        page.locator("#deletion-steps li.done").nth(1).wait_for()
        state["status"] = "completed"
        page.get_by_role("heading", name="Your account is deleted").wait_for()
        assert page.locator("#deletion-steps li.done").count() == 3


def test_a_deletion_that_fails_is_said(site: Site, browser: Browser, ann: Person) -> None:
    """In words that say what to do; the page stays as it is."""
    with site.open(browser, "/account", person=ann) as visit:
        page = visit.page
        problem = {"title": "Service Unavailable", "status": 503, "detail": "The interests cannot be deleted."}
        page.route(
            "**/users/*",
            lambda route: (
                route.fulfill(status=503, json=problem) if route.request.method == "DELETE" else route.continue_()
            ),
        )
        delete_by_keyboard(page, ann.email)
        page.get_by_role("alert").get_by_text("cannot be deleted at the moment").wait_for()
        assert page.locator("#account").is_visible()
        assert is_there(site, ann.email)


@pytest.mark.parametrize("language", ["en", "it"])
def test_without_javascript_the_account_is_deleted(site: Site, browser: Browser, language: str) -> None:
    """The page says where; the form there needs the session and the typed address, and is of the same style."""
    person = site.register()
    with site.open(browser, "/account", person=person, language=language, java_script_enabled=False) as visit:
        page = visit.page
        assert not page.locator("#account").is_visible()
        page.locator("noscript a, a[href='/account/delete']").first.click()
        page.wait_for_url(f"{site.url}/account/delete")
        page.locator("#typed").fill("other@example.org")
        page.locator("button.danger").click()
        assert page.locator("#typed-fault").is_visible()
        page.locator("#typed").fill(person.email)
        page.locator("button.danger").click()
        title = {"en": "Your account is deleted", "it": "Il tuo account è eliminato"}[language]
        page.get_by_role("heading", name=title).wait_for()
        assert [each for each in page.context.cookies() if "towerwatch" in each.get("name", "")] == []
        assert not is_there(site, person.email)
        assert page.evaluate("1") == 1
        # Where scripts are off the browser refuses to load them; and it reports the answer to the wrong address.
        assert [each for each in visit.faults if "422" not in each and not each.endswith(".js: csp")] == []


@pytest.mark.parametrize("language", ["en", "it"])
@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("phone", [True, False])
def test_every_state_is_accessible_and_keeps_still(
    site: Site, browser: Browser, phone: bool, dark: bool, language: str
) -> None:
    """With a question open, a new token, faults beside fields, a problem, and after the deletion."""
    person = site.register()
    site.accounts.sign_in(person.email, "Safari on iPhone")
    with site.open(browser, "/account", person=person, phone=phone, dark=dark, language=language) as visit:
        page = visit.page
        check_page(visit)
        page.locator("#replace").click()
        check_page(visit)
        page.locator("#replace-yes").click()
        page.locator("#token-new").wait_for()
        page.locator("#zone").fill("nowhere")
        page.locator("#you button[type=submit]").click()
        page.locator("#zone-fault:not(:empty)").wait_for()
        page.locator("#typed").fill("nobody")
        page.locator("#delete button").click()
        page.locator("#typed-fault:not(:empty)").wait_for()
        visit.faults = [each for each in visit.faults if "422" not in each]  # the zone that there is not
        check_page(visit)
        page.locator("#typed").fill(person.email)
        page.locator("#delete button").click()
        page.locator("#deletion-next a").wait_for()
        check_page(visit)


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("phone", [True, False])
def test_the_pages_without_javascript_are_accessible(
    site: Site, browser: Browser, ann: Person, phone: bool, dark: bool
) -> None:
    """The form, the form with a fault, what is said to a visitor, and the progress of a deletion."""
    with site.open(browser, "/account", person=ann, phone=phone, dark=dark) as visit:
        page = visit.page
        page.goto(f"{site.url}/account/delete")
        check_page(visit)
        page.locator("#typed").fill("other@example.org")
        page.locator("button.danger").click()
        page.locator("#typed-fault").wait_for()
        visit.faults.clear()  # 422 is an error for the browser's console
        check_page(visit)
        with site.accounts.database.transaction() as session:
            deletion = build_due_deletion(uuid4(), datetime.now(UTC) + timedelta(hours=1))
            deletion.next_attempt_at = datetime.now(UTC) + timedelta(seconds=50)
            session.add(deletion)
            deletion_id = deletion.deletion_id
        page.goto(f"{site.url}/account/delete/{deletion_id}")
        assert page.locator(".progress li").count() == 3
        check_page(visit)
        page.context.clear_cookies()
        page.goto(f"{site.url}/account/delete")
        page.get_by_role("link", name="Sign in").wait_for()
        visit.faults.clear()
        check_page(visit)


def test_the_page_is_read_at_twice_its_size(site: Site, browser: Browser, ann: Person) -> None:
    """A desktop window of 1280 px at 400 % is 320 px wide (WCAG 2.2, 1.4.10); nothing is cut off or lies beside it."""
    narrow = {"width": 320, "height": 640}
    with site.open(browser, "/account", person=ann, viewport=narrow, reduced_motion="reduce") as visit:
        check_page(visit)
        visit.page.set_viewport_size({"width": 640, "height": 450})
        check_page(visit)
