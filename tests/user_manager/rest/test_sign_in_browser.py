"""Signing in with a real browser without JavaScript, and pages that try to use the session from elsewhere.

The service is asked by http under two names: 127.0.0.1, for which browsers send Sec-Fetch-Site, and a name as in a home
network, for which they send only Origin.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Final

import pytest
from playwright.sync_api import Browser, sync_playwright

from chassis.hosts import AllowedHosts
from chassis.web.wsgi import HttpServer
from tests.ports import free_port
from tests.streams.browser import INSTALLED, require_installed
from tests.user_manager.apps import build_app
from tests.user_manager.conftest import ON_SQLITE, Service
from user_manager.accounts import AccountUpdate

pytestmark = ON_SQLITE

ANN: Final = "ann@example.org"
HOME: Final = "towerwatch.home.example"
"""A name that the browser resolves to this machine, and does not trust as it trusts https."""

_PATIENCE_MS: Final = 180_000
"""Milliseconds that the browser may take for one step on a busy machine."""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A Chromium that finds all names of the home network on this machine."""
    require_installed()
    with sync_playwright() as playwright:
        rules = "--host-resolver-rules=MAP *.home.example 127.0.0.1"
        running = playwright.chromium.launch(executable_path=INSTALLED, args=["--no-sandbox", rules])
        yield running
        running.close()


@contextmanager
def serve(service: Service, public_url: str, port: int) -> Iterator[None]:
    """Serve user_manager for the block, under its public URL's host and IP addresses."""
    app = build_app(service, public_url=public_url, hosts=AllowedHosts((public_url,)))
    server = HttpServer(app, "127.0.0.1", port)
    server.start()
    yield
    server.stop()


@contextmanager
def serve_page(page: str) -> Iterator[int]:
    """Serve one page on a free port for the block, and yield the port."""

    class Handler(BaseHTTPRequestHandler):
        """Answers every GET with the page."""

        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(page.encode())

        def log_message(self, *_args: object) -> None:
            """Print nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server.server_address[1]
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.mark.parametrize("host", ["127.0.0.1", HOME])
def test_a_person_signs_in_without_javascript(browser: Browser, service: Service, host: str) -> None:
    """Asks for a mail by the form, opens its link, presses the button, and is signed in; with the headers that browsers
    send by themselves. Pages of other origins cannot use the session, of a sibling host or port neither."""
    token = service.register_confirmed(ANN).token or ""
    port = free_port()
    url = f"http://{host}:{port}"
    form = f'<form method="post" action="{url}/users/{ANN}/token"><button>Win</button></form>'
    with (
        serve(service, url, port),
        serve_page(form) as foreign,
        browser.new_context(java_script_enabled=False) as context,
    ):
        context.set_default_timeout(_PATIENCE_MS)
        page = context.new_page()
        page.goto(f"{url}/sign-in/mail")
        page.get_by_label("E-mail address").fill(ANN)
        page.get_by_role("button", name="Mail me a link").click()
        assert "Look into your mailbox" in page.inner_text("h1")
        page.goto(f"{url}/sign-in/{service.load_sign_in_token(ANN)}")
        assert context.cookies() == []
        page.get_by_role("button", name="Sign in").click()
        page.wait_for_url(f"{url}/")
        assert page.inner_text("h1 >> visible=true") == "My airports"
        cookie, mark = sorted(context.cookies(), key=lambda each: each["name"])
        assert (mark["name"], mark["sameSite"]) == ("towerwatch-signed-in", "Lax")
        assert (cookie["name"], cookie["httpOnly"], cookie["sameSite"]) == ("towerwatch-session", True, "Strict")
        shown = page.goto(f"{url}/session")
        assert shown is not None
        assert shown.status == 200
        for elsewhere in (host, "evil.home.example"):
            page.goto(f"http://{elsewhere}:{foreign}/")
            with page.expect_navigation() as navigation:
                page.get_by_role("button", name="Win").click()
            # The cookie comes with requests of the same site, and not with those of another.
            is_same_site = HOME.partition(".")[2] in host or elsewhere == host
            assert navigation.value.status == (403 if is_same_site else 401), elsewhere
    assert service.accounts.update(token, ANN, None, AccountUpdate(name="Ann")).name == "Ann", "the token is as before"
