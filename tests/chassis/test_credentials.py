"""Which requests may use a session's cookie: those that a page of an own origin has sent."""

import pytest
from hypothesis import given, strategies as st

from chassis.credentials import FOREIGN, UNPROVEN, SessionSecret, find_origin_fault, parse_origin

OWN = ("https://towerwatch.example", "http://127.0.0.1:8520/")
OURS = "https://towerwatch.example"
READS = ("GET", "HEAD", "OPTIONS")
WRITES = ("POST", "PUT", "PATCH", "DELETE", "TRACE", "get", "BREW")


@pytest.mark.parametrize("method", [*READS, *WRITES])
@pytest.mark.parametrize("origin", [None, OURS, "null", "https://evil.example"])
def test_the_browsers_own_word_decides(method: str, origin: str | None) -> None:
    """Sec-Fetch-Site goes first, which no page can set; `none` is a person who typed the address."""
    assert find_origin_fault(method, "same-origin", origin, OWN) is None
    assert find_origin_fault(method, "none", origin, OWN) == (None if method in READS else FOREIGN)
    for site in ("same-site", "cross-site", "", "Same-Origin", "same-origin, cross-site", "same-origin,same-origin"):
        assert find_origin_fault(method, site, origin, OWN) == FOREIGN


@pytest.mark.parametrize("method", [*READS, *WRITES])
def test_without_it_the_origin_decides(method: str) -> None:
    """Old browsers, and all on plain http but of the own machine, send Origin alone."""
    for own in (OURS, "https://TOWERWATCH.example:443", "http://127.0.0.1:8520"):
        assert find_origin_fault(method, None, own, OWN) is None
    for foreign in (
        "null", "", "https://evil.example", "http://towerwatch.example", "https://towerwatch.example:444",
        "https://towerwatch.example.evil.example", "https://evil.example/https://towerwatch.example",
        "https://a@towerwatch.example", "https://sub.towerwatch.example", "http://127.0.0.1:8521", "http://127.0.0.1",
        "https://towerwatch.example https://evil.example", "file://", "https://[", "https://towerwatch.example:x",
    ):  # fmt: skip
        assert find_origin_fault(method, None, foreign, OWN) == FOREIGN, foreign


@pytest.mark.parametrize("method", [*READS, *WRITES])
def test_without_either_a_request_may_only_read(method: str) -> None:
    """A request that says nothing of its page is none of a browser of these years."""
    assert find_origin_fault(method, None, None, OWN) == (None if method in READS else UNPROVEN)


@given(st.text(), st.sampled_from(WRITES))
def test_no_text_that_is_not_an_own_origin_is_taken_for_one(text: str, method: str) -> None:
    """Whatever stands in Origin, it counts only if it is scheme, host and port of an own URL."""
    allowed = find_origin_fault(method, None, text, OWN) is None
    assert allowed == (parse_origin(text) in {("https", "towerwatch.example", 443), ("http", "127.0.0.1", 8520)})


def test_nothing_is_own_without_urls() -> None:
    """A URL that has no origin makes nothing own, neither does an unreadable one."""
    assert find_origin_fault("POST", None, "null", ["nonsense", ""]) == FOREIGN


def test_a_secret_is_not_printed() -> None:
    """A log of an object must not open somebody's account."""
    assert "hidden" not in repr(SessionSecret("hidden"))
