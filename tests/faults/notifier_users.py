"""People, the alerts that are theirs, and what is to become of each of them."""

import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from functools import cached_property
from typing import Final
from uuid import UUID

from domain.alerts import Alert, AlertState
from domain.interests import Direction
from domain.windows import Window
from streams.messages import encode_alert
from tests.notifier.alerts import ALERT, CAUSE
from tests.notifier.process import UserEvent
from towerwatch.topics import ALERTS_RAISED

_AIRPORTS: Final = ("KJFK", "LICC", "EDDF", "EGLL", "KBOS", "ZBAA")
_BEGIN: Final = datetime(2013, 2, 8, tzinfo=UTC)


class UserKind(StrEnum):
    """What is the matter with a person."""

    READS = "reads"
    """Nothing: all alerts are to be mailed."""
    REFUSED = "refused"
    """The mail server refuses each mail for good."""
    BOUNCES = "bounces"
    """The same, because there is no such address."""
    UNCONFIRMED = "unconfirmed"
    PAUSED = "paused"
    UNKNOWN = "unknown"
    """There is no such account."""
    PAUSES = "pauses"
    """Later."""
    LEAVES = "leaves"
    """Later: the account is deleted."""


NEVER_MAILED: Final = (UserKind.UNCONFIRMED, UserKind.PAUSED, UserKind.UNKNOWN)
CHANGING: Final = (UserKind.PAUSES, UserKind.LEAVES)


@dataclass(frozen=True, slots=True)
class Refusal:
    """What the server says to each mail for an address, in which phase, and the dead letter's reason for it."""

    command: str
    answer: str
    reason: str


BOUNCES: Final = (
    Refusal("RCPT", "550 5.1.1 unknown", "the server refused the recipient: 550 5.1.1"),
    Refusal("RCPT", "550", "the server refused the recipient: 550"),
)
REFUSALS: Final = (
    Refusal("RCPT", "550 5.7.1 policy", "the server refused the recipient: 550 5.7.1"),
    Refusal("RCPT", "552 5.2.2 full", "the server refused the recipient: 552 5.2.2"),
    Refusal("DATA", "554 5.7.1 policy", "the server refused the start of the mail: 554 5.7.1"),
    Refusal("DATA", "552", "the server refused the start of the mail: 552"),
    Refusal("CONTENT", "552 5.3.4 big", "the server refused the mail: 552 5.3.4"),
    Refusal("CONTENT", "554", "the server refused the mail: 554"),
    Refusal("CONTENT", "554 5.6.0 bad", "the server refused the mail: 554 5.6.0"),
)


@dataclass(frozen=True, slots=True, eq=False)
class TestUser:
    """Somebody, and all alerts about whose interests there are to be, in their order."""

    user_id: UUID
    email: str
    life: UserKind
    refusal: Refusal | None
    alerts: tuple[Alert, ...]


@dataclass(frozen=True)
class UserGroup:
    """All people of a scene."""

    people: tuple[TestUser, ...]

    def bursts(self, count: int) -> Iterator[list[UserEvent]]:
        """All alerts in so many pieces, each with some of everybody's; a person's are in order."""
        for number in range(count):
            pieces = [
                person.alerts[len(person.alerts) * number // count : len(person.alerts) * (number + 1) // count]
                for person in self.people
            ]
            yield [to_event(alert) for piece in pieces for alert in piece]

    def of(self, *lives: UserKind) -> list[TestUser]:
        return [person for person in self.people if person.life in lives]

    @cached_property
    def by_address(self) -> Mapping[str, TestUser]:
        return {person.email: person for person in self.people}


def to_event(alert: Alert) -> UserEvent:
    """Its event as the stream publishes it."""
    return UserEvent(ALERTS_RAISED, alert.user_id, encode_alert(alert, CAUSE))


def with_one_more_alert(person: TestUser) -> TestUser:
    """The same person, with one more alert."""
    last = person.alerts[-1]
    key = UUID(int=person.user_id.int ^ 1)
    alert = replace(
        last, alert_id=key, episode_id=key, interest_id=key, state=AlertState.FIRING, threshold=1_000, count=1_001
    )
    return replace(person, alerts=(*person.alerts, alert))


def build_users(
    chance: random.Random, alerts: int, lives: Mapping[UserKind, int], bounces: Sequence[Refusal] = BOUNCES
) -> UserGroup:
    """So many people of each kind, and so many alerts about them all. `bounces`: what a server says to unknown ones."""
    kinds = [life for life, count in lives.items() for _ in range(count)]
    chance.shuffle(kinds)
    people: list[TestUser] = []
    for number, life in enumerate(kinds):
        quota = alerts * (number + 1) // len(kinds) - alerts * number // len(kinds)
        refusals = {UserKind.BOUNCES: bounces, UserKind.REFUSED: REFUSALS}.get(life)
        refusal = refusals[len(people) % len(refusals)] if refusals else None
        user_id = _uuid(chance)
        prefix = "nobody" if life is UserKind.BOUNCES else "u"
        email = f"{prefix}{user_id.hex[:12]}@example.net"
        people.append(TestUser(user_id, email, life, refusal, tuple(_alerts(chance, user_id, quota))))
    return UserGroup(tuple(people))


def _alerts(chance: random.Random, user_id: UUID, count: int) -> Iterator[Alert]:
    """Alerts of one person: of one to three interests, in the order of their windows, each told from all others."""
    interests = [
        replace(
            ALERT,
            user_id=user_id,
            interest_id=_uuid(chance),
            airport=chance.choice(_AIRPORTS),
            direction=chance.choice((Direction.ARRIVALS, Direction.DEPARTURES)),
            window=Window.ONE_HOUR,
            threshold=20 + number,
        )
        for number in range(chance.randint(1, 3))
    ]
    firing: dict[UUID, UUID] = {}
    told = 0
    for hour in range(count + 1):
        for interest in interests:
            if told == count:
                return
            episode, alert_id = firing.get(interest.interest_id), _uuid(chance)
            if episode is None:
                state, firing[interest.interest_id] = AlertState.FIRING, alert_id
            elif chance.random() < 0.5:
                state = AlertState.STILL
            else:
                state = AlertState.RESOLVED
                del firing[interest.interest_id]
            yield replace(
                interest,
                alert_id=alert_id,
                state=state,
                episode_id=episode or alert_id,
                count=interest.threshold + (-3 if state is AlertState.RESOLVED else 5),
                window_start=_BEGIN + timedelta(hours=hour),
            )
            told += 1


def _uuid(chance: random.Random) -> UUID:
    return UUID(int=chance.getrandbits(128), version=4)


def alerts_by_id(people: Iterable[TestUser]) -> dict[UUID, Alert]:
    """Their alerts, by id."""
    return {alert.alert_id: alert for person in people for alert in person.alerts}
