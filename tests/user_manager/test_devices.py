"""Tests of the names that sessions give to browsers, by the header User-Agent."""

import pytest
from hypothesis import given, strategies as st

from user_manager.devices import _BROWSERS, _SYSTEMS, UNKNOWN_DEVICE, describe_device

KNOWN = {
    "Mozilla/5.0 (X11; Linux x86_64; rv:133.0) Gecko/20100101 Firefox/133.0": "Firefox on Linux",
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0 Safari/537.36": (
        "Chrome on Windows"
    ),
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0 Safari/537.36 "
    "Edg/131.0.0.0": "Edge on Windows",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 18_1 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.1 "
    "Mobile/15E148 Safari/604.1": "Safari on iPhone",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 18_1 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) CriOS/131.0 "
    "Mobile/15E148 Safari/604.1": "Chrome on iPhone",
    "Mozilla/5.0 (Linux; Android 14; SM-S928B) AppleWebKit/537.36 (KHTML, like Gecko) SamsungBrowser/27.0 "
    "Chrome/125.0.0.0 Mobile Safari/537.36": "Samsung Internet on Android",
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.1 "
    "Safari/605.1.15": "Safari on macOS",
    "curl/8.11.0": "curl",
    "": UNKNOWN_DEVICE,
    "<script>alert(1)</script>": UNKNOWN_DEVICE,
    "my own (Linux)": f"{UNKNOWN_DEVICE} on Linux",
}


@pytest.mark.parametrize("header", KNOWN)
def test_browser_and_system_are_named(header: str) -> None:
    """The names that people know, also where a browser claims to be several."""
    assert describe_device(header) == KNOWN[header]


@given(st.text() | st.lists(st.sampled_from([mark for mark, _ in (*_BROWSERS, *_SYSTEMS)])).map("<b>".join))
def test_nothing_of_the_header_is_repeated(header: str) -> None:
    """Whoever sends the header may write anything there: only our own words come out, which fit the column."""
    browsers = {UNKNOWN_DEVICE, *(name for _, name in _BROWSERS)}
    systems = {"", *(f" on {name}" for _, name in _SYSTEMS)}
    described = describe_device(header)
    assert described in {browser + system for browser in browsers for system in systems}
    assert len(described) <= 80
