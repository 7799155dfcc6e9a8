"""Alerts of one person put in order: by what is watched, and what belongs together as one line."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from domain.alerts import Alert, AlertState

MOST_SHOWN: Final = 36
"""Windows in a chart, at most: the latest."""

_AT_ONE_TIME: Final = {AlertState.WITHDRAWN: 0, AlertState.RESOLVED: 1, AlertState.FIRING: 2, AlertState.STILL: 3}
"""What is taken back is told before what is said in its place."""


@dataclass(frozen=True, slots=True)
class Spell:
    """Alerts of one threshold that are one story: a breach, as far as it is told, with its end; or corrections."""

    alerts: tuple[Alert, ...]
    """At least one, in order."""

    @property
    def is_correction(self) -> bool:
        return self.alerts[0].state is AlertState.WITHDRAWN

    @property
    def resolved(self) -> Alert | None:
        """The one that says that the breach is over."""
        return self.alerts[-1] if self.alerts[-1].state is AlertState.RESOLVED else None

    @property
    def breaches(self) -> tuple[Alert, ...]:
        """Those that say that it is going on; none where only the end is told."""
        return tuple(each for each in self.alerts if each.state in (AlertState.FIRING, AlertState.STILL))

    @property
    def begin(self) -> datetime:
        return self.alerts[0].window_start

    @property
    def end(self) -> datetime:
        """Where the breach ended, or the last window that is told; of an end alone, that of its window."""
        if self.resolved is not None and self.breaches:
            return self.resolved.window_start
        return _end(self.alerts[-1])


@dataclass(frozen=True, slots=True)
class Topic:
    """The alerts of one threshold of one interest, in order."""

    alerts: tuple[Alert, ...]

    @property
    def latest(self) -> Alert:
        return self.alerts[-1]

    def spells(self) -> tuple[Spell, ...]:
        """The alerts, long runs as one."""
        found: list[list[Alert]] = []
        for alert in self.alerts:
            if found and _goes_on(found[-1][-1], alert):
                found[-1].append(alert)
            else:
                found.append([alert])
        return tuple(Spell(tuple(each)) for each in found)

    def counts(self) -> dict[datetime, int]:
        """By window start all counts that the alerts tell. Counts only grow, so of two the larger is the later."""
        known: dict[datetime, int] = {}
        for alert in self.alerts:
            length = alert.window.length
            told = [(alert.window_start, alert.count)]
            for back, count in enumerate(reversed(alert.earlier), 1):
                if count is not None:
                    told.append((alert.window_start - back * length, count))
            for start, count in told:
                known[start] = max(count, known.get(start, 0))
        return known

    def course(self) -> tuple[datetime, list[int | None]]:
        """The start of the first window to be shown, and the counts from there to the last; None: not known."""
        known, length = self.counts(), self.latest.window.length
        last = max(known)
        back = min((last - min(known)) // length, MOST_SHOWN - 1)
        first = last - back * length
        return first, [known.get(first + each * length) for each in range(back + 1)]

    def counts_within(self, spell: Spell) -> list[int]:
        """The known counts of a breach."""
        return [count for start, count in self.counts().items() if spell.begin <= start < spell.end]


def topics(alerts: Iterable[Alert]) -> tuple[Topic, ...]:
    """The alerts in order, by what they are about: airport, direction, window length, bound, threshold and interest."""
    ordered = sorted(
        alerts,
        key=lambda each: (
            each.airport,
            each.direction,
            each.window.hours,
            each.bound,
            each.threshold,
            each.for_windows,
            each.interest_id,
            each.window_start,
            _AT_ONE_TIME[each.state],
            each.alert_id,
        ),
    )
    found: dict[tuple[object, ...], list[Alert]] = {}
    for alert in ordered:
        about = (
            alert.airport, alert.direction, alert.window, alert.bound, alert.threshold, alert.for_windows,
            alert.interest_id,
        )  # fmt: skip
        found.setdefault(about, []).append(alert)
    return tuple(Topic(tuple(each)) for each in found.values())


def extent(alerts: Sequence[Alert]) -> tuple[datetime, datetime]:
    """From the start of the first window to the end of the last."""
    return min(each.window_start for each in alerts), max(_end(each) for each in alerts)


def _goes_on(before: Alert, alert: Alert) -> bool:
    """Whether an alert belongs to the line of the one before it."""
    follows = alert.window_start == before.window_start + before.window.length
    match alert.state:
        case AlertState.FIRING:
            return False
        case AlertState.WITHDRAWN:
            return before.state is AlertState.WITHDRAWN and follows
        case AlertState.STILL:
            return before.state in (AlertState.FIRING, AlertState.STILL) and follows
        case AlertState.RESOLVED:
            in_breach = before.state in (AlertState.FIRING, AlertState.STILL)
            same = alert.episode_id == before.episode_id if alert.episode_id and before.episode_id else follows
            return in_breach and same


def _end(alert: Alert) -> datetime:
    return alert.window_start + alert.window.length
