"""Tests of the airports that are wanted live: how many people watch each, with one say for each person."""

from collections import Counter
from fractions import Fraction
from random import Random
from uuid import UUID

from collector.live.airfields import load_airfields
from collector.live.wanted import load_people, load_wanted
from domain.interests import Direction
from domain.windows import Window
from tests.collector.conftest import Service, wish

AIRPORTS = ("KJFK", "LFPG", "LICC", "RJTT", "EGLL", "EDDF")


def test_each_person_has_one_say_that_is_shared_by_their_airports(service: Service) -> None:
    """Compared with a model that gives each person, at each of their n airports, 1/n; interests do not count."""
    chance = Random(16)
    watched: dict[UUID, set[str]] = {}
    targets = set()
    for _ in range(60):
        person, airport = UUID(int=chance.randint(1, 9)), chance.choice(AIRPORTS)
        direction, window = chance.choice(list(Direction)), chance.choice(list(Window))
        service.set(wish(airport, direction, window=window), person)
        watched.setdefault(person, set()).add(airport)
        targets |= {(airport, part) for part in direction.parts}
    model: Counter[str] = Counter()
    for airports in watched.values():
        for each in airports:
            model[each] += Fraction(1, len(airports))  # type: ignore[assignment]
    with service.database.reading() as session:
        assert load_people(session) == model
        assert sum(load_people(session).values()) == len(watched)
        wanted = load_wanted(session, load_airfields())
    assert {each.icao: each.people for each in wanted.airports} == model
    assert wanted.targets == targets


def test_nobody_watches_anything(service: Service) -> None:
    """Without interests there are no airports."""
    with service.database.reading() as session:
        assert load_wanted(session, load_airfields()).airports == ()
