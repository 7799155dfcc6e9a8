"""The cache key of what is written once for many people: what alerts say, apart from whose they are."""

from dataclasses import dataclass, field, fields
from operator import attrgetter
from typing import Final
from uuid import UUID

from domain.alerts import Alert

_IDS: Final = ("alert_id", "interest_id", "user_id", "version", "episode_id")
_get_facts: Final = attrgetter(*(each.name for each in fields(Alert) if each.name not in _IDS))


@dataclass(frozen=True, slots=True)
class AlertsContent:
    """The content of the alerts of one threshold. It is equal for two people whose mails say the same.

    Their alerts differ only in ids and in the interest's version, and are grouped into episodes in the same way.
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
