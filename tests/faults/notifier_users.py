"""The users of the fault tests, their alerts, and what should become of each alert."""

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
    """The kind of a user, which determines what should become of the user's alerts."""

    READS = "reads"
    """An ordinary user: all alerts should be mailed."""
    REFUSED = "refused"
    """The mail server permanently rejects each mail."""
    BOUNCES = "bounces"
    """The mail server permanently rejects each mail because the address does not exist."""
    UNCONFIRMED = "unconfirmed"
    PAUSED = "paused"
    UNKNOWN = "unknown"
    """The account does not exist."""
    PAUSES = "pauses"
    """The account is paused during the test."""
    LEAVES = "leaves"
    """The account is deleted during the test."""


NEVER_MAILED: Final = (UserKind.UNCONFIRMED, UserKind.PAUSED, UserKind.UNKNOWN)
CHANGING: Final = (UserKind.PAUSES, UserKind.LEAVES)


@dataclass(frozen=True, slots=True)
class Refusal:
    """The server's permanent rejection of an address: in which phase, with which reply, and the reason in the dead
    letter."""

    command: str
    answer: str
    reason: str


BOUNCES: Final = (
    Refusal("RCPT", "550 5.1.1 unknown", "the server refused the recipient: 550 5.1.1"),
    Refusal("RCPT", "550", "the server refused the recipient: 550"),
)
REFUSALS: Final = (
    Refusal("RCPT", "552 5.2.2 full", "the server refused the recipient: 552 5.2.2"),
    Refusal("RCPT", "501 5.5.4 syntax", "the server refused the recipient: 501 5.5.4"),
    Refusal("DATA", "552 5.2.2 full", "the server refused the start of the mail: 552 5.2.2"),
    Refusal("CONTENT", "552 5.2.3 big", "the server refused the mail: 552 5.2.3"),
    Refusal("CONTENT", "550 5.1.1 unknown", "the server refused the mail: 550 5.1.1"),
)


@dataclass(frozen=True, slots=True, eq=False)
class SimulatedUser:
    """A user, and all alerts for the user's interests, in their order."""

    user_id: UUID
    email: str
    kind: UserKind
    refusal: Refusal | None
    alerts: tuple[Alert, ...]


@dataclass(frozen=True)
class UserGroup:
    """All users of a fault test."""

    members: tuple[SimulatedUser, ...]

    def split_into_bursts(self, count: int) -> Iterator[list[UserEvent]]:
        """Yield all alerts in `count` bursts, each with a part of every user's alerts, in their order."""
        for number in range(count):
            pieces = [
                user.alerts[len(user.alerts) * number // count : len(user.alerts) * (number + 1) // count]
                for user in self.members
            ]
            yield [to_event(alert) for piece in pieces for alert in piece]

    def of_kind(self, *kinds: UserKind) -> list[SimulatedUser]:
        """Return the users of these kinds."""
        return [user for user in self.members if user.kind in kinds]

    @cached_property
    def by_address(self) -> Mapping[str, SimulatedUser]:
        return {user.email: user for user in self.members}


def to_event(alert: Alert) -> UserEvent:
    """Return the event of an alert as the stream publishes it."""
    return UserEvent(ALERTS_RAISED, alert.user_id, encode_alert(alert, CAUSE))


def with_one_more_alert(user: SimulatedUser) -> SimulatedUser:
    """Return a copy of the user with one more alert."""
    last = user.alerts[-1]
    key = UUID(int=user.user_id.int ^ 1)
    alert = replace(
        last, alert_id=key, episode_id=key, interest_id=key, state=AlertState.FIRING, threshold=1_000, count=1_001
    )
    return replace(user, alerts=(*user.alerts, alert))


def build_users(
    chance: random.Random, alerts: int, counts: Mapping[UserKind, int], bounces: Sequence[Refusal] = BOUNCES
) -> UserGroup:
    """Return so many users of each kind, who share so many alerts. `bounces`: the server's rejections of unknown
    addresses."""
    kinds = [kind for kind, count in counts.items() for _ in range(count)]
    chance.shuffle(kinds)
    users: list[SimulatedUser] = []
    for number, kind in enumerate(kinds):
        quota = alerts * (number + 1) // len(kinds) - alerts * number // len(kinds)
        refusals = {UserKind.BOUNCES: bounces, UserKind.REFUSED: REFUSALS}.get(kind)
        refusal = refusals[len(users) % len(refusals)] if refusals else None
        user_id = _uuid(chance)
        prefix = "nobody" if kind is UserKind.BOUNCES else "u"
        email = f"{prefix}{user_id.hex[:12]}@example.net"
        users.append(SimulatedUser(user_id, email, kind, refusal, tuple(_build_alerts(chance, user_id, quota))))
    return UserGroup(tuple(users))


def _build_alerts(chance: random.Random, user_id: UUID, count: int) -> Iterator[Alert]:
    """Yield alerts of one user for one to three interests, all different, in the order of their windows."""
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
    alert_count = 0
    for hour in range(count + 1):
        for interest in interests:
            if alert_count == count:
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
            alert_count += 1


def _uuid(chance: random.Random) -> UUID:
    return UUID(int=chance.getrandbits(128), version=4)


def alerts_by_id(users: Iterable[SimulatedUser]) -> dict[UUID, Alert]:
    """Return the alerts of these users by id."""
    return {alert.alert_id: alert for user in users for alert in user.alerts}
