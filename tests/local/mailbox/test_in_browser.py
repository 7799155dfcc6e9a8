"""The mailbox's pages in a real Chromium: mails appear by themselves, links work, and what is hostile does nothing."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page

from notifier.mail import compose_alert_mail, compose_confirmation_mail
from tests.local.mailbox.process import RunningMailbox, deliver, deliver_bytes, running_mailbox
from tests.notifier.alerts import ALERT, CAUSE, CONTACT, EARLIER, NOW, SENDER
from tests.streams.browser import PHONE, SCREENSHOTS, require_installed, running_browser, visit

SCREENS: dict[str, dict[str, Any]] = {
    "light": {"color_scheme": "light"},
    "dark": {"color_scheme": "dark"},
    "phone": {"viewport": PHONE, "color_scheme": "light"},
    "phone-dark": {"viewport": PHONE, "color_scheme": "dark"},
}


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A Chromium for all tests of the module."""
    require_installed()
    with running_browser() as browser:
        yield browser


@pytest.fixture
def mailbox(tmp_path: Path) -> Iterator[RunningMailbox]:
    """A mailbox without mails."""
    with running_mailbox(tmp_path / "mail") as running:
        yield running


class Target(BaseHTTPRequestHandler):
    """The handler of a web server whose page has a script, which changes the title, and a button that sends a form."""

    requests: list[str]
    """All requests that reached the server, as METHOD PATH."""

    def do_GET(self) -> None:
        """Answer with the page."""
        self.requests.append(f"{self.command} {self.path}")
        page = (
            b"<title>x</title><script>document.title = 'script ran'</script><form method=post><button>Confirm</button>"
        )
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(page)))
        self.end_headers()
        self.wfile.write(page)

    do_POST = do_GET  # noqa: N815 - http.server looks it up by this name

    def log_message(self, *_: object) -> None:
        """Print nothing."""


@contextmanager
def running_target() -> Iterator[tuple[str, list[str]]]:
    """Run a web server for the block; yields its URL and the list of the requests that reach it."""
    requests: list[str] = []
    handler = type("TargetOfOneTest", (Target,), {"requests": requests})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}", requests
        finally:
            server.shutdown()


def deliver_html(mailbox: RunningMailbox, html: str) -> None:
    """Deliver a mail that has only an HTML part."""
    content = f"Subject: page\nContent-Type: text/html\n\n{html}\n"
    deliver_bytes(mailbox.port, content.replace("\n", "\r\n").encode())


def open_newest_mail(page: Page) -> None:
    """Open the first mail of the list."""
    page.locator(".subject").first.click()
    page.wait_for_url("**/mails/*")


def wait_until_live(page: Page) -> None:
    """Wait until new mails appear by themselves."""
    page.get_by_text("Live", exact=True).wait_for()


def test_a_confirmation_mail_appears_by_itself_and_its_link_confirms(mailbox: RunningMailbox, browser: Browser) -> None:
    """The list is never reloaded; the page behind the link has all rights: its script runs, its form can be sent."""
    with running_target() as (url, requests), visit(browser, f"{mailbox.url}/") as visitor:
        page = visitor.page
        wait_until_live(page)
        page.evaluate("window.isSamePage = true")
        assert page.locator(".subject").count() == 0
        contact = replace(CONTACT, confirm_url=f"{url}/confirm?token=" + "aB9._-" * 20 + "x")
        deliver_bytes(mailbox.port, compose_confirmation_mail(contact, "1", SENDER, NOW).as_bytes())
        page.locator(".subject", has_text="Confirm your address for Towerwatch").wait_for()
        assert page.evaluate("window.isSamePage")
        assert page.locator("[data-news]").text_content() == "New mail: Confirm your address for Towerwatch"
        assert page.locator("[data-part=count]").inner_text() == "1 mail"
        deliver(mailbox.port, "another")
        page.locator(".subject", has_text="another").wait_for()
        assert page.locator(".subject").all_inner_texts() == ["another", "Confirm your address for Towerwatch"]

        page.locator(".subject").nth(1).click()
        in_frame = page.frame_locator("iframe").locator(f"a[href^='{url}']").first
        for link in (in_frame, page.locator(f"[data-text] a[href^='{url}']")):
            with page.context.expect_page() as opened:
                link.click()
            confirmation = opened.value
            confirmation.wait_for_load_state()
            assert confirmation.url == contact.confirm_url
            assert confirmation.title() == "script ran"
            assert confirmation.evaluate("window.opener") is None
            with confirmation.expect_request(lambda request: request.method == "POST"):
                confirmation.get_by_role("button", name="Confirm").click()
            confirmation.wait_for_load_state()
            assert any(each.startswith("POST /confirm?token=") for each in requests)
            requests.clear()
            confirmation.close()
        assert page.url.startswith(f"{mailbox.url}/mails/")
        assert visitor.faults == []


def test_mails_that_came_while_the_mailbox_was_down_appear(browser: Browser, tmp_path: Path) -> None:
    """The page says that it has no connection, and connects again by itself."""
    maildir = tmp_path / "mail"
    with running_mailbox(maildir) as first, visit(browser, f"{first.url}/") as visitor:
        wait_until_live(visitor.page)
        first.process.terminate()
        visitor.page.get_by_text("No connection to the mailbox").wait_for()
        first.process.wait(60)
        (maildir / "new" / "1.x").write_text("Subject: meanwhile\n\n")
        with running_mailbox(maildir, web_port=int(first.url.rpartition(":")[2])):
            visitor.page.locator(".subject", has_text="meanwhile").wait_for()
            wait_until_live(visitor.page)


HOSTILE_PAGE = """
<base href="{url}/" target="_top"><meta http-equiv="refresh" content="0;url={url}/refresh">
<link rel="stylesheet" href="{url}/css"><link rel="preconnect" href="{silent}"><link rel="dns-prefetch" href="{silent}">
<style>@import "{url}/import"; p {{ background: url({url}/background) }}</style>
<script>top.document.title = document.title = "ran"; fetch("{url}/fetch")</script><script src="{url}/js"></script>
<p onclick="document.title='ran'; location='{url}/onclick'">click me</p>
<img src="{url}/img" onerror="document.title='ran'"><img src="x" onerror="location='{url}/onerror'">
<svg onload="location='{url}/svg'"><image href="{url}/image"></image></svg>
<iframe src="{url}/frame"></iframe><iframe srcdoc="<script>top.location='{url}/srcdoc'</script>"></iframe>
<object data="{url}/object"></object><video src="{url}/video" poster="{url}/poster" autoplay></video>
<form action="{url}/form" target="_blank"><button>Send</button></form>
<a id="js" href="javascript:document.title='ran';location='{url}/javascript'">a</a>
<a id="top" target="_top" href="{url}/top">b</a> <a id="self" target="_self" href="{url}/self">c</a>
<span id="end">d</span>
"""


def test_the_html_of_a_mail_runs_and_loads_nothing(mailbox: RunningMailbox, browser: Browser) -> None:
    """Neither in the frame of the mail's page nor when it is opened by itself, and whatever a person clicks."""
    with running_target() as (url, requests), socket.create_server(("127.0.0.1", 0)) as silent:
        deliver_html(mailbox, HOSTILE_PAGE.format(url=url, silent=f"http://127.0.0.1:{silent.getsockname()[1]}/"))
        with visit(browser, f"{mailbox.url}/") as visitor:
            page = visitor.page
            dialogs: list[str] = []
            page.on("dialog", lambda dialog: dialogs.append(dialog.message))
            open_newest_mail(page)
            address = page.url
            frame = page.frame_locator("iframe")
            frame.locator("#end").wait_for()
            for name in ("p", "button", "#js", "#top", "#self"):
                page.goto(address)
                frame.locator(name).first.click()
                # Another page is opened after the click, so what the click would do is done.
                assert page.title().startswith("page")
                assert page.url == address
            html_part = f"{mailbox.url}{page.locator('iframe').get_attribute('src')}"
            for name in ("p", "button", "#js"):
                page.goto(html_part)
                page.locator(name).first.click()
                assert page.title() != "ran"
                assert page.url == html_part
            page.goto(f"{mailbox.url}/")
            assert [each.title() for each in page.context.pages if "ran" in each.title()] == []
            assert dialogs == []
        assert requests == []
        silent.setblocking(False)
        with pytest.raises(BlockingIOError):
            silent.accept()


@pytest.mark.parametrize("screen", SCREENS)
def test_our_mail_is_readable_on_every_screen(mailbox: RunningMailbox, browser: Browser, screen: str) -> None:
    """The chart is shown in the frame, nothing is wider than the screen, and the browser reports no error."""
    mail = compose_alert_mail(replace(ALERT, earlier=EARLIER), CONTACT, SENDER, NOW, CAUSE)
    deliver_bytes(mailbox.port, mail.as_bytes())
    deliver(mailbox.port, "x" * 300, "y" * 900)
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    with visit(browser, f"{mailbox.url}/", **SCREENS[screen]) as visitor:
        page = visitor.page
        wait_until_live(page)
        page.screenshot(path=SCREENSHOTS / f"mailbox-list-{screen}.png", full_page=True)
        assert is_within_screen(page)
        open_newest_mail(page)
        assert is_within_screen(page)
        page.get_by_role("link", name="Older").click()
        chart = page.frame_locator("iframe").locator("img")
        chart.wait_for()
        assert chart.evaluate("image => image.decode().then(() => image.naturalWidth)") > 100
        page.screenshot(path=SCREENSHOTS / f"mailbox-mail-{screen}.png", full_page=True)
        assert is_within_screen(page)
        assert visitor.faults == []


def is_within_screen(page: Page) -> bool:
    """Return True if the page need not be scrolled sideways, else False."""
    return bool(page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth"))


def test_the_keyboard_is_enough(mailbox: RunningMailbox, browser: Browser) -> None:
    """The focus goes from mail to mail, stays where it is when a mail comes, and a key opens the mail."""
    for number in range(2):
        deliver(mailbox.port, f"mail {number}")
    with visit(browser, f"{mailbox.url}/") as visitor:
        page = visitor.page
        wait_until_live(page)
        for _ in range(4):  # the link to the content, the brand, two mails
            page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.textContent") == "mail 0"
        deliver(mailbox.port, "mail 2")
        page.locator(".subject", has_text="mail 2").wait_for()
        assert page.evaluate("document.activeElement.textContent") == "mail 0"
        page.keyboard.press("Enter")
        page.wait_for_url("**/mails/*")
        assert page.locator("h1").inner_text() == "mail 0"
