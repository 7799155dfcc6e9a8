"""Stopping an alert with a real browser without JavaScript: open the link in the mail, read, press the button."""

import json
import re

import pytest
from playwright.sync_api import Browser, ViewportSize

from tests.ports import free_port
from tests.user_manager.conftest import ON_SQLITE, Service
from tests.user_manager.rest.test_interest_wording import KENNEDY
from tests.user_manager.rest.test_sign_in_browser import HOME, PATIENCE_MS, browser, serve
from tests.user_manager.rest.test_stop_pages import AWAY, add, build_path

__all__ = ["browser"]  # a fixture

pytestmark = ON_SQLITE


@pytest.mark.parametrize("host", ["127.0.0.1", HOME])
def test_an_alert_is_stopped_by_one_click_without_javascript(browser: Browser, service: Service, host: str) -> None:
    """Also on a telephone, and after the collector was away. Nothing is stored in the browser, nothing but style and
    icon is loaded, and the page says what was stopped and how to have it again."""
    interest = add(service, low=5)
    port = free_port()
    url = f"http://{host}:{port}"
    screen = ViewportSize(width=360, height=740)
    with serve(service, url, port), browser.new_context(java_script_enabled=False, viewport=screen) as context:
        context.set_default_timeout(PATIENCE_MS)
        page = context.new_page()
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        page.goto(url + build_path(service))
        assert f"departures from {KENNEDY}, fewer than 5 flights in an hour" in page.inner_text("main")
        service.interests.failure = AWAY
        page.get_by_role("button", name="Stop this alert").click()
        assert page.inner_text("h1") == "This alert is not stopped"
        assert service.interests.interests == {interest.interest_id: interest}
        service.interests.failure = None
        page.get_by_role("button", name="Try again").click()
        assert page.inner_text("h1") == "This alert is stopped"
        assert service.interests.interests == {}
        text = page.inner_text("main")
        assert f"departures from {KENNEDY}, fewer than 5 flights in an hour" in text
        assert page.get_by_role("link", name="Watch an airport again").get_attribute("href") == "/watch"
        assert "{" not in text, "only who opens the part for programs sees it"
        page.get_by_text("For programs").click()
        text = page.inner_text("main")
        (body,) = re.findall(r"\{.*\}", text)
        assert json.loads(body)["low_value"] == 5
        assert page.get_by_role("button").count() == 0
        page.goto(url + build_path(service))
        assert "stopped before, or its account is gone" in page.inner_text("main")
        assert context.cookies() == []
        loaded = {each.removeprefix(url) for each in asked} - {build_path(service)}
        assert {each.rpartition("/")[2] for each in loaded if each.startswith("/web/")} == {"style.css", "icon.svg"}
        assert all(each.startswith("/web/") for each in loaded), loaded
