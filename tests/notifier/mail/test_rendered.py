"""The HTML pages of the mails in a real Chromium, light, dark and on a phone. Screenshots are kept for review."""

import re
from base64 import b64encode
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser

from domain.alerts import AlertState, Bound
from domain.interests import Direction
from domain.windows import Window
from notifier.mail import (
    InterestLinks,
    compose_alert_mail,
    compose_alerts_mail,
    compose_confirmation_mail,
    compose_retired_mail,
    compose_sign_in_mail,
    compose_unheard_mail,
)
from tests.notifier.alerts import (
    ALERT,
    CAUSE,
    CONTACT,
    EARLIER,
    NOTICE,
    NOW,
    RETIRED,
    SENDER,
    a_day_at_five_airports,
    delivered,
)
from tests.streams.browser import PHONE, SCREENSHOTS, require_installed, running_browser, visit

_INTERESTS = {each.interest_id for each in (ALERT, *a_day_at_five_airports(NOW))}
READER = replace(
    CONTACT,
    unsubscribe_url="https://towerwatch.example.org/unsubscribe?token=a.b-c",
    interest_links={
        each: InterestLinks(
            f"https://towerwatch.example.org/watch?interest={each}", f"https://towerwatch.example.org/stop/{each}.a-b_c"
        )
        for each in _INTERESTS
    },
)
SCREENS: dict[str, dict[str, Any]] = {
    "light": {"viewport": {"width": 760, "height": 900}, "color_scheme": "light"},
    "dark": {"viewport": {"width": 760, "height": 900}, "color_scheme": "dark"},
    "phone": {"viewport": PHONE, "color_scheme": "light", "device_scale_factor": 2},
    "phone-dark": {"viewport": PHONE, "color_scheme": "dark", "device_scale_factor": 2},
}
TODAY = NOW.replace(hour=3)
FIRING = replace(ALERT, window_start=TODAY, earlier=EARLIER)
MAILS = {
    "firing": compose_alert_mail(FIRING, READER, SENDER, NOW, CAUSE),
    "resolved": compose_alert_mail(
        replace(FIRING, state=AlertState.RESOLVED, count=11, earlier=(*EARLIER[2:], 24, 31)), READER, SENDER, NOW, CAUSE
    ),
    "low-in-a-year": compose_alert_mail(
        replace(
            ALERT,
            airport="LICC",
            direction=Direction.BOTH,
            window=Window.ONE_DAY,
            window_start=datetime(2013, 2, 9, tzinfo=UTC),
            bound=Bound.LOW,
            state=AlertState.STILL,
            count=0,
            threshold=1_200,
            for_windows=3,
            earlier=(1_300, 1_270, None, None, 1_310, 900, 640, 12),
        ),
        replace(READER, name="Æthelflæd 蝶", time_zone="Asia/Kathmandu"),
        SENDER,
        NOW,
        CAUSE,
    ),
    "correction": compose_alert_mail(
        replace(
            FIRING,
            bound=Bound.LOW,
            state=AlertState.WITHDRAWN,
            withdrawn_count=19,
            window=Window.SIX_HOURS,
            window_start=TODAY - timedelta(hours=9),
            earlier=(),
        ),
        READER,
        SENDER,
        NOW,
        CAUSE,
    ),
    "unusual": compose_alert_mail(
        replace(
            FIRING,
            bound=Bound.LOW,
            state=AlertState.RESOLVED,
            count=23,
            threshold=14,
            percent=50,
            doubled_usual=53,
            base_counts=(25, 27, 31, 26),
            earlier=(12, 15, None, 0, 0, 1, 0, 2, 9, 3, 5, 7),
            earlier_usual=(24, 31, 18, 6, 0, 0, 0, 3, 20, 44, 50, 61),
        ),
        READER,
        SENDER,
        NOW,
        CAUSE,
    ),
    "night-at-five-airports": compose_alerts_mail(a_day_at_five_airports(TODAY), READER, SENDER, NOW, CAUSE),
    "unheard": compose_unheard_mail(NOTICE, READER, SENDER, NOW),
    "retired": compose_retired_mail(RETIRED, READER, SENDER, NOW),
    "confirmation": compose_confirmation_mail(
        replace(CONTACT, confirm_url="https://towerwatch.example.org/users/confirm?token=" + "aB9._-" * 20),
        "1",
        SENDER,
        NOW,
    ),
    "sign-in": compose_sign_in_mail(
        replace(
            CONTACT,
            sign_in_url="https://towerwatch.example.org/sign-in/" + "aB9._-" * 25,
            stop_url="https://towerwatch.example.org/not-me/" + "aB9._-" * 25,
        ),
        "1",
        SENDER,
        NOW,
    ),
}


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    require_installed()
    with running_browser() as running:
        yield running


def page_of(mail: EmailMessage) -> str:
    """Return the HTML page as a mail program shows it: each cid: link replaced by the image with that Content-ID."""
    received = delivered(mail)
    pictures = {
        part["Content-ID"].strip("<>"): f"data:image/png;base64,{b64encode(part.get_content()).decode()}"
        for part in received.walk()
        if part.get_content_type() == "image/png"
    }
    html = received.get_body(("html",)).get_content()
    shown = re.sub(r"cid:([^\"]+)", lambda found: pictures.pop(found[1]), html)
    assert not pictures, "each picture is shown"
    return shown


@pytest.mark.parametrize("screen", SCREENS)
@pytest.mark.parametrize("name", MAILS)
def test_a_mail_can_be_read_on_any_screen(browser: Browser, tmp_path: Path, name: str, screen: str) -> None:
    """No element is wider than the screen, every image is shown, all text has enough contrast (WCAG AA)."""
    page_file = tmp_path / "mail.html"
    page_file.write_text(page_of(MAILS[name]), encoding="utf-8")
    with visit(browser, page_file.as_uri(), **SCREENS[screen]) as seen:
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        seen.page.screenshot(path=SCREENSHOTS / f"mail-{name}-{screen}.png", full_page=True)
        assert seen.faults == []
        assert seen.page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
        pictures = seen.page.locator("img")
        for at in range(pictures.count()):
            assert pictures.nth(at).evaluate("image => image.complete && image.naturalWidth === 1120")
        faint = seen.page.evaluate(CONTRASTS)
        assert faint == []


CONTRASTS = """
() => {
  const channels = text => text.match(/[\\d.]+/g).map(Number);
  const luminance = ([r, g, b]) => [r, g, b].map(each => each / 255)
    .map(each => each <= 0.04045 ? each / 12.92 : ((each + 0.055) / 1.055) ** 2.4)
    .reduce((sum, each, at) => sum + each * [0.2126, 0.7152, 0.0722][at], 0);
  const ground = element => {
    for (; element; element = element.parentElement) {
      const colour = channels(getComputedStyle(element).backgroundColor);
      if (colour.length === 3 || colour[3] === 1) return colour;
    }
    return [255, 255, 255];
  };
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  const faint = [];
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement;
    if (!walker.currentNode.textContent.trim() || !element.getClientRects().length) continue;
    const pair = [channels(getComputedStyle(element).color), ground(element)].map(luminance);
    const contrast = (Math.max(...pair) + 0.05) / (Math.min(...pair) + 0.05);
    if (contrast < 4.5) faint.push(walker.currentNode.textContent.trim());
  }
  return faint;
}
"""
