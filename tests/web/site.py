"""The site for tests: real processes of user_manager, collector and the gateway, and browsers that visit it."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from playwright.sync_api import Browser, BrowserContext, Page

from chassis.clock import SystemClock
from chassis.db.database import Database
from tests import plain_http
from tests.collector.process import CollectorProcess
from tests.ports import HOST, free_ports
from tests.service_process import ROOT, ServiceProcess, kill_with_parent
from tests.streams.browser import PHONE, WIDE, Visit
from tests.user_manager.conftest import Service
from tests.user_manager.process import process_starter
from tests.waiting import eventually
from user_manager.web_sessions import SessionLifetimes

PATIENCE_S: Final = 180.0
"""Seconds that one step may take on a busy machine."""

PASSWORD: Final = "the-secret-of-the-services"


@dataclass
class Person:
    """Somebody with a confirmed account."""

    email: str
    token: str
    user_id: str

    @property
    def headers(self) -> dict[str, str]:
        """The header that opens REST for this person."""
        return {"Authorization": f"Bearer {self.token}"}


@dataclass
class Site:
    """The running site. Accounts and sessions are made by user_manager's own use cases on its database."""

    url: str
    """The one address of the pages and of REST, without a slash at its end."""
    user_manager: ServiceProcess
    collector: CollectorProcess
    accounts: Service
    """The use cases of user_manager on the same database."""
    collector_database_url: str
    _count: int = 0

    def register(self, email: str | None = None, name: str = "Ann") -> Person:
        """Register a new person with a confirmed address; without `email`, with an address that nobody else has."""
        self._count += 1
        email = email or f"person{self._count}@example.org"
        registration = self.accounts.register_confirmed(email, name)
        assert registration.token is not None
        return Person(email, registration.token, str(registration.account.user_id))

    def sign_in(self, context: BrowserContext, email: str) -> None:
        """Sign a browser context in to the account with this address, as the link in a mail would."""
        secret = self.accounts.sign_in(email, "Chromium on Linux").text
        context.add_cookies(
            [
                {
                    "name": "towerwatch-session",
                    "value": secret,
                    "url": self.url,
                    "httpOnly": True,
                    "sameSite": "Strict",
                },
                {"name": "towerwatch-signed-in", "value": "yes", "url": self.url, "httpOnly": True, "sameSite": "Lax"},
            ]
        )

    @contextmanager
    def open(
        self,
        browser: Browser,
        path: str = "/",
        *,
        person: Person | None = None,
        phone: bool = False,
        dark: bool = False,
        language: str = "en",
        **options: Any,
    ) -> Iterator["SiteVisit"]:
        """Open a page in a new browser context and wait until its script has run; signed in if there is a `person`.

        `options`: Playwright's options of a context.
        """
        options = {
            "viewport": PHONE if phone else WIDE,
            "has_touch": phone,
            "color_scheme": "dark" if dark else "light",
            "locale": {"en": "en-GB", "it": "it-IT"}[language],
            "timezone_id": "Europe/Rome",
            **options,
        }
        with browser.new_context(**options) as context:
            context.set_default_timeout(PATIENCE_S * 1000)
            if person is not None:
                self.sign_in(context, person.email)
            visit = SiteVisit(context.new_page(), origin=self.url)
            visit.page.goto(self.url + path)
            if options.get("java_script_enabled", True):
                wait_until_ready(visit.page)
            yield visit


@dataclass
class SiteVisit(Visit):
    """An open page of the site, with all faults that the browser reports, and the requests to other origins."""

    origin: str = ""
    foreign: list[str] = field(default_factory=list)
    """Addresses at other origins that the page asked for."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.page.on("request", self._record_request)

    def _record_request(self, request: Any) -> None:
        if not request.url.startswith((f"{self.origin}/", "data:", "blob:")):
            self.foreign.append(request.url)

    def goto(self, path: str) -> None:
        """Go to another page of the site, and wait until its script has run."""
        self.page.goto(self.origin + path)
        wait_until_ready(self.page)


def wait_until_ready(page: Page) -> None:
    """Wait until the page's script has run to its end (`startPage` says so)."""
    page.wait_for_selector("html[data-ready]", state="attached", timeout=PATIENCE_S * 1000)


def wait_until(page: Page, expression: str, arg: Any = None) -> None:
    """Wait until a JavaScript expression is true in the page.

    Playwright's `wait_for_function` cannot: unless the expression is true at once, it needs `eval` in the page, which
    our Content-Security-Policy refuses.
    """

    def look() -> bool:
        page.wait_for_timeout(1)  # the browser's events, such as held requests, are handled meanwhile
        return bool(page.evaluate(expression, arg))

    eventually(look, expression, PATIENCE_S)


@contextmanager
def running_site(folder: Path) -> Iterator[Site]:
    """Run both services on SQLite files in the folder, without Kafka, and the gateway before them, for the block."""
    gateway_port = free_ports(2)
    url = f"http://{HOST}:{gateway_port}"
    with ExitStack() as stack:
        start = stack.enter_context(process_starter(folder, PUBLIC_URL=url, TRUSTED_PROXY=HOST, GRPC_SECRET=PASSWORD))
        collector_grpc = free_ports(1)
        user_manager = start(COLLECTOR_GRPC_TARGET=f"{HOST}:{collector_grpc}")
        collector_database_url = f"sqlite:///{folder}/collector.db"
        collector = CollectorProcess(
            folder,
            {
                "DATABASE_URL": collector_database_url,
                "GRPC_PORT": str(collector_grpc),
                "USER_MANAGER_GRPC_TARGET": user_manager.grpc_target,
                "GRPC_SECRET": PASSWORD,
                "PUBLIC_URL": url,
                "TRUSTED_PROXY": HOST,
            },
        )
        stack.callback(collector.kill)
        gateway = stack.enter_context(
            subprocess.Popen(
                [
                    *(sys.executable, "-m", "local.gateway", "--port", str(gateway_port)),
                    *("--web-port", str(gateway_port + 1), "--public-url", url),
                    *("--user-manager", urlsplit(user_manager.base_url).netloc),
                    *("--collector", urlsplit(collector.base_url).netloc),
                ],
                cwd=ROOT, stdout=subprocess.PIPE, text=True, preexec_fn=kill_with_parent,
            )
        )  # fmt: skip
        stack.callback(gateway.kill)
        assert gateway.stdout is not None
        assert "serving people" in gateway.stdout.readline()
        eventually(user_manager.is_ready, "readiness of user_manager")
        eventually(collector.is_ready, "readiness of collector")
        assert plain_http.get(f"{url}/", timeout=60).status_code == 200
        database = Database(f"sqlite:///{folder}/user_manager.db")
        stack.callback(database.close)
        accounts = Service(database, clock=SystemClock(), lifetimes=SessionLifetimes())  # type: ignore[arg-type]
        yield Site(url, user_manager, collector, accounts, collector_database_url)
