"""An interest in words, and as the request that sets it again."""

import json
from dataclasses import replace
from datetime import UTC, datetime
from uuid import UUID

import pytest

from collector.rest.requests import WantedInterest
from domain.interests import Direction, Interest
from domain.windows import AlignedTo, Window
from user_manager.interest_wording import describe_interest, format_request

INTEREST = Interest(
    interest_id=UUID(int=7),
    user_id=UUID(int=8),
    airport="KJFK",
    direction=Direction.DEPARTURES,
    window=Window.ONE_HOUR,
    high=None,
    low=5,
    for_windows=1,
    repeat=False,
    effective_from=datetime(2026, 11, 1, tzinfo=UTC),
    version=3,
)
KENNEDY = "KJFK (John F Kennedy International Airport, New York)"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, f"departures from {KENNEDY}, fewer than 5 in an hour"),
        (
            {"direction": Direction.ARRIVALS, "window": Window.ONE_DAY, "high": 1_200, "low": None},
            f"arrivals at {KENNEDY}, more than 1,200 in a day",
        ),
        (
            {"direction": Direction.BOTH, "high": 30, "window": Window.SIX_HOURS, "for_windows": 3},
            f"arrivals and departures at {KENNEDY}, more than 30 or fewer than 5 in six hours, 3 times in a row",
        ),
        (
            {"low": None, "high_percent": 150, "low_percent": 50},
            f"departures from {KENNEDY}, "
            "more than 150 % of what is usual or less than 50 % of what is usual in an hour",
        ),
        (
            {"window": Window.ONE_DAY, "aligned_to": AlignedTo.AIRPORT, "airport": "ZZZZ"},
            "departures from ZZZZ, fewer than 5 in a day by the airport's clock",
        ),
    ],
)
def test_an_interest_is_described_in_words(changes: dict[str, object], words: str) -> None:
    """Every threshold and option is in the words; an airport that is not known is its code."""
    assert describe_interest(replace(INTEREST, **changes)) == words  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"high": 30, "repeat": True, "for_windows": 4, "direction": Direction.BOTH},
        {"low": None, "high_percent": 150, "low_percent": 50, "direction": Direction.ARRIVALS},
        {"window": Window.ONE_DAY, "aligned_to": AlignedTo.AIRPORT},
    ],
)
def test_the_request_sets_the_same_interest_again(changes: dict[str, object]) -> None:
    """The collector accepts it, and takes it for the same thresholds; it names no person."""
    interest = replace(INTEREST, **changes)  # type: ignore[arg-type]
    text = format_request(interest)
    request = WantedInterest(**json.loads(text)).to_request()
    for name in (
        "airport", "direction", "window", "aligned_to", "high", "low", "high_percent", "low_percent", "for_windows",
        "repeat",
    ):  # fmt: skip
        assert getattr(request, name) == getattr(interest, name)
    assert str(interest.user_id) not in text
