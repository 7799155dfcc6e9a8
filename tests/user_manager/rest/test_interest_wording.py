"""An interest in words of both languages, and as the request that sets it again."""

import json
from dataclasses import replace
from datetime import UTC, datetime
from itertools import product
from uuid import UUID

import pytest

from chassis.texts import LANGUAGES
from collector.rest.requests import WantedInterest
from domain.interests import Direction, Interest
from domain.windows import AlignedTo, Window
from user_manager.rest.interest_wording import describe_interest, format_request
from user_manager.rest.texts import load_texts

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

CASES = [
    (
        {},
        f"departures from {KENNEDY}, fewer than 5 flights in an hour",
        f"partenze dall’aeroporto {KENNEDY}, meno di 5 voli in un’ora",
    ),
    (
        {"direction": Direction.ARRIVALS, "window": Window.ONE_DAY, "high": 12_000, "low": None},
        f"arrivals at {KENNEDY}, more than 12,000 flights in a day",
        f"arrivi all’aeroporto {KENNEDY}, più di 12.000 voli in un giorno",
    ),
    (
        {"direction": Direction.BOTH, "high": 30, "low": 1, "window": Window.SIX_HOURS, "for_windows": 3},
        f"arrivals and departures at {KENNEDY}, "
        "more than 30 flights or fewer than 1 flight in six hours, 3 times in a row",
        f"arrivi e partenze all’aeroporto {KENNEDY}, più di 30 voli o meno di 1 volo in sei ore, per 3 volte di fila",
    ),
    (
        {"high": 1, "low": 0},
        f"departures from {KENNEDY}, more than 1 flight or fewer than 0 flights in an hour",
        f"partenze dall’aeroporto {KENNEDY}, più di 1 volo o meno di 0 voli in un’ora",
    ),
    (
        {"low": None, "high_percent": 150, "low_percent": 80},
        f"departures from {KENNEDY}, more than 150 % of what is usual or less than 80 % of what is usual in an hour",
        f"partenze dall’aeroporto {KENNEDY}, "
        "sopra la soglia (150 % del solito) o sotto la soglia (80 % del solito) in un’ora",
    ),
    (
        {"window": Window.ONE_DAY, "aligned_to": AlignedTo.AIRPORT, "airport": "ZZZZ", "for_windows": 2},
        "departures from ZZZZ, fewer than 5 flights in a day by the airport's clock, 2 times in a row",
        "partenze dall’aeroporto ZZZZ, meno di 5 voli in un giorno secondo l’ora dell’aeroporto, per 2 volte di fila",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("changes", "english", "italian"), CASES)
def test_an_interest_is_described_in_words(changes: dict[str, object], english: str, italian: str) -> None:
    """Every threshold and option is in the words, with plurals; an airport that is not known is its code."""
    interest = replace(INTEREST, **changes)  # type: ignore[arg-type]
    assert describe_interest(interest, load_texts()["en"]) == english
    assert describe_interest(interest, load_texts()["it"]) == italian


@pytest.mark.parametrize("language", LANGUAGES)
def test_each_kind_of_interest_has_words_of_its_own(language: str) -> None:
    """Two interests that differ in what they watch are never described alike."""
    kinds = list(
        product(Direction, Window, AlignedTo, [("high", 7), ("low", 7), ("high_percent", 7), ("low_percent", 7)])
    )
    described = {
        describe_interest(
            replace(INTEREST, direction=direction, window=window, aligned_to=clock, **{"low": None, measure: level}),  # type: ignore[arg-type]
            load_texts()[language],
        )
        for direction, window, clock, (measure, level) in kinds
    }
    assert len(described) == len(kinds) >= 72


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
