"""What the alerts of one threshold say, apart from whose they are: the key of what is written once for many people."""

from dataclasses import dataclass, field, fields
from operator import attrgetter
from typing import Final
from uuid import UUID

from domain.alerts import Alert

_IDS: Final = ("alert_id", "interest_id", "user_id", "version", "episode_id")
_get_facts: Final = attrgetter(*(each.name for each in fields(Alert) if each.name not in _IDS))


@dataclass(frozen=True, slots=True)
class AlertsContent:
    """What alerts of one threshold say; equal for alerts of which mails say the same.

    Such alerts differ in their ids and the interest's version alone, and the same of them belong to one episode.
    """

    facts: tuple[object, ...]
    alerts: tuple[Alert, ...] = field(compare=False, repr=False)

    @classmethod
    def of(cls, alerts: tuple[Alert, ...]) -> "AlertsContent":
        """Return the content of some alerts of one interest, in their order."""
        numbers: dict[UUID | None, int] = {None: 0}
        facts: list[object] = []
        for each in alerts:
            facts.append(_get_facts(each))
            facts.append(numbers.setdefault(each.alert_id, len(numbers)))
            facts.append(numbers.setdefault(each.episode_id, len(numbers)))
        return cls(tuple(facts), alerts)
