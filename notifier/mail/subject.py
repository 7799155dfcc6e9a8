"""Subjects that say it all: airport, count, level and window can be read without opening the mail."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

from domain.alerts import Alert, AlertState
from domain.windows import Window
from notifier.mail.summary import Topic, extent
from notifier.mail.times import Clock, hours
from notifier.mail.wording import counted, level, number, story, windows

_LONGEST_LIST: Final = 70
"""Characters of a subject that tell what is so where; the others are counted."""


def subject(alert: Alert, clock: Clock) -> str:
    """An alert in one line: "KJFK: 24 departures, above 20, 00:00–01:00 UTC (19:00 local)"."""
    said = counted(alert.direction, alert.count)
    limit = level(alert.bound, alert.threshold)
    run = f" for {windows(alert.window, alert.for_windows)} in a row" if alert.for_windows > 1 else ""
    when = _when(alert.window_start, alert.window_start + alert.window.length, clock)
    match alert.state:
        case AlertState.FIRING:
            text = f"{said}, {limit}{run}, {when}"
        case AlertState.STILL:
            text = f"{said}, still {limit}, {when}"
        case AlertState.RESOLVED:
            text = f"back to normal, {said}, not {limit}, {when}"
        case AlertState.WITHDRAWN:
            before = f" (not {number(alert.withdrawn_count)})" if alert.withdrawn_count is not None else ""
            text = f"correction, {said}{before}, not {limit}, {when}"
    return f"{alert.airport}: {text}"


def subject_of_many(topics: Sequence[Topic], clock: Clock) -> str:
    """How things stand now, the levels that are passed first: "KJFK above 20, KBOS back to normal (7 alerts, …)"."""
    alerts = [alert for topic in topics for alert in topic.alerts]
    when = _when(*extent(alerts), clock)
    if len(topics) == 1 and len(spells := topics[0].spells()) == 1:
        return f"{alerts[0].airport}: {story(spells[0], topics[0])}, {when}"
    first = sorted(topics, key=lambda topic: topic.latest.state in (AlertState.RESOLVED, AlertState.WITHDRAWN))
    standing = list(dict.fromkeys(_stands(topic.latest) for topic in first))
    told = standing[:1]
    while len(told) < len(standing) and len(", ".join((*told, standing[len(told)]))) <= _LONGEST_LIST:
        told.append(standing[len(told)])
    more = f" and {len(standing) - len(told)} more" if len(told) < len(standing) else ""
    return f"{', '.join(told)}{more} ({number(len(alerts))} alerts, {when})"


def _stands(alert: Alert) -> str:
    match alert.state:
        case AlertState.FIRING | AlertState.STILL:
            return f"{alert.airport} {level(alert.bound, alert.threshold)}"
        case AlertState.RESOLVED:
            return f"{alert.airport} back to normal"
        case AlertState.WITHDRAWN:
            return f"{alert.airport} not {level(alert.bound, alert.threshold)}"


def _when(start: datetime, end: datetime, clock: Clock) -> str:
    """UTC, with the date where the hours alone could be those of another day, and the reader's clock beside it."""
    obvious = clock.is_obvious(start, end)
    told = hours(start, end) if obvious else clock.span(start, end)
    zone = clock.local(start)
    if zone is None or (end - start) % Window.ONE_DAY.length == Window.ONE_DAY.length * 0:
        return f"{told} UTC"
    begin = start.astimezone(zone)
    other_day = not obvious and begin.date() != start.astimezone(UTC).date()
    return f"{told} UTC ({f'{begin:%a} ' if other_day else ''}{begin:%H:%M} local)"
