"""Tests of the parsers of OpenSky's answers."""

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import httpx
import pytest
from hypothesis import given, strategies as st

from collector.sources.opensky.answers import parse_pause

NOW = datetime(2026, 11, 29, 12, tzinfo=UTC)
OWN = "X-Rate-Limit-Retry-After-Seconds"


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, 60),
        ({OWN: "120"}, 120),
        ({OWN: "120", "Retry-After": "7"}, 120),
        ({OWN: "soon", "Retry-After": "7"}, 7),
        ({"retry-after": "7"}, 7),
        ({"Retry-After": format_datetime(NOW + timedelta(minutes=5), usegmt=True)}, 300),
        ({"Retry-After": format_datetime(NOW - timedelta(minutes=5), usegmt=True)}, 1),
        ({"Retry-After": format_datetime(NOW + timedelta(days=400), usegmt=True)}, 86_400),
        ({"Retry-After": "Sun Nov 29 12:00:30 2026"}, 30),
        ({"Retry-After": "nan"}, 60),
        ({"Retry-After": "Sun, 99 Nov 2026 12:00:00 GMT"}, 60),
    ],
)
def test_a_pause_is_read_from_the_sources_header_or_the_standard_one(headers: dict[str, str], seconds: float) -> None:
    """`Retry-After` has seconds or a date (RFC 9110, 10.2.3); a pause lasts from a second to a day."""
    assert parse_pause(httpx.Headers(headers), NOW) == seconds


@given(st.text(), st.text())
def test_no_header_makes_a_pause_of_another_length(own: str, standard: str) -> None:
    """Any text is a pause from a second to a day."""
    assert 1 <= parse_pause({OWN: own, "Retry-After": standard}, NOW) <= 86_400
