"""A stranger's whole way through the pages, on a phone and a second browser, with real flights, Kafka and mails."""

import json
import re
from collections.abc import Callable
from datetime import datetime
from html import escape
from pathlib import Path
from typing import Any, Final

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect

from chassis.clock import HeldClock
from local.mailbox.reading import ReceivedMail, find_confirmation_link, find_sign_in_link, get_plain_text, read_mails
from local.ports import HOST, Ports
from notifier.mail.alert_header import ALERT_HEADER, parse_alert_header
from tests import plain_http
from tests.e2e.demo_process import read_output, run_demo
from tests.e2e.replicas import read_environment, with_second_replicas
from tests.e2e.test_demo import find_processes, port_base
from tests.streams.browser import INSTALLED, PHONE, WIDE
from tests.waiting import eventually
from tests.web.checks import check_layout, check_requests
from tests.web.conftest import browser
from tests.web.site import PATIENCE_S, SiteVisit, wait_until, wait_until_ready

__all__ = ["browser", "port_base"]

STRANGER: Final = "zoe@towerwatch.test"
WANTED_LEVEL: Final = 8
"""Flights in an hour that KJFK has more of on each day of the story: a level there is told at once."""


@pytest.mark.timeout(1_200)  # the story of the demo comes before the journey, and the machine may be busy
def test_a_stranger_watches_an_airport_and_leaves_again(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, port_base: int, browser: Browser
) -> None:
    """Registers, watches, is told, pauses, signs in elsewhere, takes everything along, and deletes the account.

    The story of the demo has collected the flights that the stranger is told of. The collector's clock has halted by
    then, in another year than that of the browsers, whose pages go by it all the same (ADR 67). Two replicas of
    user_manager and of the collector answer in turn.
    """
    data = tmp_path_factory.mktemp("j") / "demo"  # short, as paths of sockets must be
    with run_demo(data, port_base, "--settled", "--interest", "KJFK:departures:1h:high=20") as process:
        eventually(
            lambda: re.search(r"/sign-in/\S+$", read_output(data), re.M) or process.poll() is not None,
            "the story is told", 600,
        )  # fmt: skip
        assert process.poll() is None, read_output(data)
        clock = read_clock(data)
        eventually(clock.is_halted, "the clock halts", 120)
        people = f"http://{HOST}:{Ports.from_base(port_base).gateway_http}"
        with with_second_replicas(data) as proxies:
            Journey(people, data, browser).go(tmp_path)
            check_only_the_story_is_left(Ports.from_base(port_base))
        for service, proxy in proxies.items():
            assert min(proxy.taken.values()) >= 5, f"each replica of {service} has answered: {proxy.taken}"
    assert not find_processes(data)


def read_clock(data: Path) -> HeldClock:
    """Return the clock of a running demo, which the environment of its processes describes."""
    variables = read_environment(data, "collector")
    start, stop = (datetime.fromisoformat(variables[f"CLOCK_{name}"]) for name in ("START", "STOP"))
    return HeldClock(start, float(variables["CLOCK_RATE"]), Path(variables["CLOCK_ANCHOR_PATH"]), stop)


class Journey:
    """One stranger with a phone, a second browser, and a mailbox."""

    def __init__(self, people: str, data: Path, browser: Browser) -> None:
        """`people`: the address of the pages; `data`: the demo's folder."""
        self._people = people
        self._maildir = data / "mail"
        self._browser = browser
        self._seen: set[str] = set()

    def go(self, folder: Path) -> None:
        """Go the whole way; `folder` gets the downloaded file."""
        with self._open_context(self._browser, viewport=PHONE, has_touch=True, is_mobile=True) as phone:
            visit = self._visit(phone)
            self._register(visit)
            level = self._watch(visit)
            self._follow_the_mail(visit, level)
            self._pause(visit)
            visit.page.get_by_role("button", name="Sign out").tap()
            visit.page.wait_for_url(f"{self._people}/")
            expect(visit.page.locator("#signed-out form")).to_be_visible()
            check_requests(visit)
            second = self._browser.browser_type.launch(executable_path=INSTALLED, args=["--no-sandbox"])
            try:
                with self._open_context(second, viewport=WIDE, color_scheme="dark") as desk:
                    self._leave(self._visit(desk), level, folder / "everything.json")
            finally:
                second.close()
            visit.goto("/account")
            expect(visit.page.locator("#signed-out form")).to_be_visible()
            check_requests(visit)

    def _open_context(self, browser: Browser, **options: Any) -> BrowserContext:
        context = browser.new_context(locale="en-GB", timezone_id="Europe/Rome", **options)
        context.set_default_timeout(PATIENCE_S * 1000)
        return context

    def _visit(self, context: BrowserContext) -> SiteVisit:
        return SiteVisit(context.new_page(), origin=self._people)

    def _ask_for_mail(self, visit: SiteVisit) -> None:
        """Type the address on the first page, and send it."""
        visit.goto("/")
        check_layout(visit.page)
        visit.page.fill("#signed-out input[name=email]", STRANGER)
        visit.page.get_by_role("button", name="Sign in or register").click()
        expect(visit.page.get_by_role("heading", level=1)).to_have_text("Look into your mailbox")

    def _register(self, visit: SiteVisit) -> None:
        self._ask_for_mail(visit)
        page = visit.page
        page.goto(self._receive(find_confirmation_link))
        page.fill("input[name=name]", "Zoë")
        page.get_by_role("button", name="Confirm my address").click()
        expect(page.get_by_role("heading", level=1)).to_have_text("Your address is confirmed")
        check_layout(page)
        page.get_by_text("Choose an airport").click()
        page.wait_for_url("**/watch")
        wait_until_ready(page)

    def _watch(self, visit: SiteVisit) -> int:
        """Find KJFK by "kenn", move the level by a finger, see that the preview follows, save; return the level."""
        page = visit.page
        page.get_by_role("combobox", name="Airport").press_sequentially("kenn")
        option = page.get_by_role("option").first
        expect(option).to_contain_text("KJFK")
        option.tap()
        before = wait_for_preview(page)
        assert re.match(r"\d+ mails? in \d days$", before)
        level = move_level(page, WANTED_LEVEL)
        expect(page.locator(".preview-headline")).not_to_have_text(before, timeout=PATIENCE_S * 1000)
        after = wait_for_preview(page)
        assert int(after.split()[0]) > int(before.split()[0]), "a lower level is passed more often"
        check_layout(page)
        page.get_by_role("button", name="Watch this airport").tap()
        page.wait_for_selector(".airport-card.wanted")
        expect(page.locator(".airport-card h2")).to_have_text("New York, JFK")
        expect(page.locator(".airport-card")).to_contain_text(f"a mail above {level} flights")
        check_layout(page)
        return level

    def _follow_the_mail(self, visit: SiteVisit, level: int) -> None:
        """Wait for the mail of the level that was set, and open "Change this alert" of it."""

        def find_change_link(mail: ReceivedMail) -> str | None:
            alerts = [parse_alert_header(str(each)) for each in mail.message.get_all(ALERT_HEADER, [])]
            if not alerts:
                return None
            assert {(each.airport, each.threshold) for each in alerts} == {("KJFK", level)}
            link = re.search(rf"{re.escape(self._people)}/watch\?interest=\S+", get_plain_text(mail))
            assert link is not None
            html = mail.message.get_body(("html",))
            assert html is not None
            assert f'href="{escape(link[0])}"' in html.get_content()
            return link[0]

        page = visit.page
        page.goto(self._receive(find_change_link))
        expect(page.get_by_role("heading", level=1)).to_have_text("Change an alert")
        expect(page.locator("#high-level")).to_have_value(str(level))
        wait_for_preview(page)
        check_layout(page)

    def _pause(self, visit: SiteVisit) -> None:
        page = visit.page
        page.get_by_role("navigation").get_by_role("link", name="My airports").tap()
        page.get_by_role("button", name="Pause", exact=True).tap()
        page.get_by_role("button", name="Until I resume").tap()
        expect(page.locator(".airport-card .badge").first).to_have_text("Paused", timeout=PATIENCE_S * 1000)
        expect(page.get_by_role("button", name="Resume")).to_be_visible()
        check_layout(page)

    def _leave(self, visit: SiteVisit, level: int, file: Path) -> None:
        """Sign in on another browser, find everything there, download it, and delete the account."""
        page = visit.page
        self._ask_for_mail(visit)
        page.goto(self._receive(find_sign_in_link))
        page.get_by_role("button", name="Sign in").click()
        page.wait_for_url(f"{self._people}/")
        expect(page.locator(".airport-card .badge").first).to_have_text("Paused", timeout=PATIENCE_S * 1000)
        page.get_by_role("navigation").get_by_role("link", name="Account").click()
        with page.expect_download() as download:
            page.get_by_role("button", name="Download").click()
        download.value.save_as(file)
        everything = json.loads(file.read_text("utf-8"))
        assert everything["account"]["email"] == STRANGER
        assert everything["account"]["name"] == "Zoë"
        assert [(each["airport_icao"], each["high_value"]) for each in everything["interests"]] == [("KJFK", level)]
        check_layout(page)
        page.fill("#typed", STRANGER)
        page.get_by_role("button", name="Delete my account").click()
        page.get_by_role("heading", name="Your account is deleted").wait_for()
        check_layout(page)
        check_requests(visit)

    def _receive(self, find_link: Callable[[ReceivedMail], str | None]) -> str:
        """Wait for a mail to the stranger, which was not read before, with such a link, and return the link."""

        def read() -> str | None:
            for mail in read_mails(self._maildir, self._seen):
                if STRANGER in str(mail.message["To"]) and (link := find_link(mail)):
                    self._seen.add(mail.key)
                    return link
            return None

        found = eventually(read, "the mail comes", PATIENCE_S)
        assert isinstance(found, str)
        return found


def wait_for_preview(page: Page) -> str:
    """Wait until no preview is asked for any more, and return its headline."""
    wait_until(
        page,
        """() => !document.querySelector(".preview[aria-busy]")
          && document.querySelector(".preview-headline").textContent""",
    )
    return page.locator(".preview-headline").text_content() or ""


def move_level(page: Page, wanted: int) -> int:
    """Drag the upper level by a finger to about the wanted number of flights; return where it is then."""
    slider = page.get_by_role("slider", name="Upper level")
    slider.scroll_into_view_if_needed()
    now = int(slider.get_attribute("aria-valuenow") or 0)
    assert now > wanted + 1
    box, bars = slider.bounding_box(), page.locator(".chart-base").first.bounding_box()
    assert box is not None
    assert bars is not None
    x, y = box["x"] + box["width"] - 25, box["y"] + box["height"] / 2
    aim = bars["y"] - (bars["y"] - y) * wanted / now
    session = page.context.new_cdp_session(page)
    for kind, at in (("touchStart", y), ("touchMove", (y + aim) / 2), ("touchMove", aim), ("touchEnd", None)):
        points = [] if at is None else [{"x": x, "y": at}]
        session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
    wait_until(
        page,
        "([low, high]) => { const at = Number(document.querySelector('.chart-handle').getAttribute('aria-valuenow'));"
        " return low <= at && at <= high; }",
        arg=[wanted - 1, wanted + 1],
    )
    return int(slider.get_attribute("aria-valuenow") or 0)


def check_only_the_story_is_left(ports: Ports) -> None:
    """Assert that the stream knows the interest of the story alone: that of the deleted account is gone from Kafka."""
    airports = f"http://{HOST}:{ports.streams_web}/api/airports?scope=worker"
    eventually(
        lambda: [(each["icao"], each["interests"]) for each in plain_http.get(airports).json() if each["interests"]]
        == [("KJFK", 1)],
        "the stream drops the interest", PATIENCE_S,
    )  # fmt: skip
