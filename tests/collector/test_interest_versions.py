"""Former versions of interests: stored when a version ends, kept for a time, bounded, and deleted with the person."""

from datetime import timedelta

import pytest
from sqlalchemy import func, select

from collector import interest_versions, retention as retention_module
from collector.interest_versions import KEPT_FOR, InterestVersionRow
from collector.intervals import DAY
from collector.retention import FlightRetention
from domain.interests import Interest
from tests.collector.conftest import ANN, BOB, NOON, Service, wish

HOUR = timedelta(hours=1)


def count_versions(service: Service) -> int:
    """Return the number of stored former versions of all people."""
    with service.database.reading() as session:
        return session.scalar(select(func.count()).select_from(InterestVersionRow)) or 0


def test_a_version_is_kept_when_it_is_changed_or_removed(service: Service) -> None:
    """With all its values, and the time in which it was in force; what changes nothing ends no version."""
    first = service.set(wish(high=2, low=1, for_windows=3, repeat=True), ANN)
    service.set(wish("EGLL"), BOB)
    service.clock.advance(HOUR)
    service.set(wish(high=2, low=1, for_windows=3, repeat=True), ANN)
    second = service.set(wish(high=None, high_percent=150), ANN)
    service.clock.advance(HOUR)
    assert service.interests.remove_of_airport(ANN, "KJFK") == 1
    former = service.interests.list_former_versions(ANN)
    assert [(each.interest, each.since, each.until) for each in former] == [
        (first, NOON, NOON + HOUR),
        (second, NOON + HOUR, NOON + 2 * HOUR),
    ]
    assert isinstance(former[0].interest, Interest)
    assert service.interests.list_former_versions(BOB) == []


def test_they_are_deleted_with_the_person(service: Service) -> None:
    """Nothing of a deleted person is kept, neither of interests that were removed before nor of the last ones."""
    for user in (ANN, BOB):
        service.set(wish(high=2), user)
        service.set(wish(high=3), user)
        service.interests.remove_of_airport(user, "KJFK")
        service.set(wish("EGLL"), user)
    service.interests.remove_all(ANN)
    assert service.interests.list_former_versions(ANN) == []
    assert len(service.interests.list_former_versions(BOB)) == 2


def test_they_are_deleted_when_they_are_too_old_to_be_shown(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """In several transactions; one that ended later stays."""
    monkeypatch.setattr(retention_module, "CHUNK", 2)
    for high in range(6):
        service.set(wish(high=high), ANN)
    service.clock.advance(DAY)
    service.set(wish(high=9), ANN)
    service.clock.advance(KEPT_FOR - DAY)
    sweep = FlightRetention(service.database, service.clock, 40 * DAY)
    sweep.delete_expired()
    assert count_versions(service) == 6
    service.clock.advance(HOUR)
    sweep.delete_expired()
    assert [each.interest.high for each in service.interests.list_former_versions(ANN)] == [5]


def test_one_person_cannot_fill_the_table(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """The newest are kept; other people's are not touched."""
    monkeypatch.setattr(interest_versions, "MAX_VERSIONS", 3)
    service.set(wish(high=1), BOB)
    service.set(wish(high=2), BOB)
    for high in range(8):
        service.set(wish(high=high), ANN)
    assert [each.interest.high for each in service.interests.list_former_versions(ANN)] == [4, 5, 6]
    assert len(service.interests.list_former_versions(BOB)) == 1
