"""The mails that people get: alerts, one or many, and the question whether an address is theirs."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.headerregistry import Address
from email.message import EmailMessage
from functools import lru_cache
from typing import Final
from uuid import uuid5
from zoneinfo import ZoneInfo

from domain.alerts import Alert, AlertState
from domain.windows import Window
from notifier.mail import headers, wording
from notifier.mail.alert_header import ALERT_HEADER, CAUSE_HEADER, alert_header, cause_header, told
from notifier.mail.chart import HEIGHT, WIDTH, Chart, drawn
from notifier.mail.contact import Contact, link, printable
from notifier.mail.parts import Picture, fill
from notifier.mail.subject import subject, subject_of_many
from notifier.mail.summary import Spell, Topic, extent, topics
from notifier.mail.times import Clock

_MOST_PICTURES: Final = 6
"""In one mail; the levels that are passed now come first."""

_MOST_LINES: Final = 12
"""Spells of one threshold that are told one by one, the latest; half a day of hours that are alternately past it."""


@dataclass(frozen=True, slots=True)
class Line:
    """A spell in words."""

    when: str
    local: str
    """The same on the reader's clock; empty where that is no other."""
    says: str


@dataclass(frozen=True, slots=True)
class Section:
    """All that a mail tells of one threshold."""

    latest: Alert
    watched: str
    status: str
    tone: str
    lines: tuple[Line, ...]
    left_out: int
    """Earlier spells that are not told."""
    picture: Picture | None


@dataclass(frozen=True, slots=True)
class Place:
    """An airport, and all that a mail tells of it."""

    icao: str
    name: str
    city: str
    sections: tuple[Section, ...]


def alert_mail(
    alert: Alert, contact: Contact, sender: Address, now: datetime, cause_published_at: datetime
) -> EmailMessage:
    """The mail that tells an alert. Its Message-ID is the same each time. Raises PermanentlyRefused for an
    address that no mail can be written to."""
    return alerts_mail((alert,), contact, sender, now, cause_published_at)


def alerts_mail(
    alerts: Sequence[Alert], contact: Contact, sender: Address, now: datetime, cause_published_at: datetime
) -> EmailMessage:
    """The one mail that tells some alerts to a person, in whatever order they are given.

    `alerts`: at least one, all of them this person's; one that is given twice is told once. `cause_published_at`: of
    the alert that has waited longest. The Message-ID is that of the set of alerts. Raises PermanentlyRefused as
    `alert_mail` does, and ValueError without alerts.
    """
    ordered = topics({each.alert_id: each for each in alerts}.values())
    if not ordered:
        raise ValueError("a mail tells one alert at least")
    every = [alert for topic in ordered for alert in topic.alerts]
    clock = Clock.of(contact.time_zone, now)
    unique = headers.id_of_alerts(every)
    mail = headers.addressed(contact, sender, now, headers.message_id(unique, sender))
    mail["Subject"] = subject(every[0], clock) if len(every) == 1 else subject_of_many(ordered, clock)
    headers.join_thread(mail, every, sender)
    headers.join_list(mail, every, contact, sender)
    for alert in every:
        mail[ALERT_HEADER] = alert_header(told(alert))
    mail[CAUSE_HEADER] = cause_header(cause_published_at)
    pictures = _pictures(ordered, clock, f"{unique}@{sender.domain}")
    values = _common(contact) | {"pixels": (WIDTH, HEIGHT), "zone": _zone(clock, every)}
    if len(every) == 1:
        values |= _one(every[0], clock, pictures.get(ordered[0]))
    else:
        values |= _many(ordered, clock, pictures)
    fill(mail, "alert" if len(every) == 1 else "alerts", values, tuple(pictures.values()))
    return mail


def confirmation_mail(contact: Contact, confirmation_id: str, sender: Address, now: datetime) -> EmailMessage:
    """The mail with the link that confirms an address. Raises PermanentlyRefused as `alert_mail` does."""
    unique = uuid5(contact.user_id, confirmation_id)
    mail = headers.addressed(contact, sender, now, headers.message_id(unique, sender))
    mail["Subject"] = "Confirm your address for Towerwatch"
    fill(mail, "confirmation", _common(contact) | {"confirm_url": link(contact.confirm_url)})
    return mail


def _common(contact: Contact) -> dict[str, object]:
    return {"name": printable(contact.name), "unsubscribe_url": link(contact.unsubscribe_url)}


def _zone(clock: Clock, alerts: Sequence[Alert]) -> str:
    """The reader's zone, where it is to be named."""
    zone = clock.local(extent(alerts)[0])
    return zone.key if zone is not None else ""


def _one(alert: Alert, clock: Clock, picture: Picture | None) -> dict[str, object]:
    name, city = wording.place(alert.airport)
    return {
        "alert": alert,
        "place": Place(alert.airport, name, city, ()),
        "status": wording.status(alert),
        "tone": wording.tone(alert),
        "count": wording.number(alert.count),
        "flights": wording.flights(alert.direction, alert.count),
        "comparison": wording.comparison(alert),
        "taken_back": wording.taken_back(alert) if alert.state is AlertState.WITHDRAWN else "",
        "statement": wording.statement(alert),
        "watched": wording.what_is_watched(alert),
        "times": wording.times(alert, clock),
        "background": wording.background(alert, clock.now),
        "picture": picture,
    }


def _many(ordered: Sequence[Topic], clock: Clock, pictures: dict[Topic, Picture]) -> dict[str, object]:
    by_airport: dict[str, list[Section]] = {}
    for topic in ordered:
        by_airport.setdefault(topic.latest.airport, []).append(_section(topic, clock, pictures.get(topic)))
    over = sum(_is_over(each) for each in ordered)
    alerts = [alert for topic in ordered for alert in topic.alerts]
    begin, end = extent(alerts)
    return {
        "places": [Place(icao, *wording.place(icao), tuple(sections)) for icao, sections in by_airport.items()],
        "headline": wording.standing(len(ordered) - over, over),
        "alerts": len(alerts),
        "when": f"{clock.span(begin, end)} UTC",
    }


def _is_over(topic: Topic) -> bool:
    """Whether nothing is the matter any more."""
    return topic.latest.state in (AlertState.RESOLVED, AlertState.WITHDRAWN)


def _section(topic: Topic, clock: Clock, picture: Picture | None) -> Section:
    spells = topic.spells()
    shown = spells[-_MOST_LINES:]
    return Section(
        latest=topic.latest,
        watched=wording.what_is_watched(topic.latest),
        status=wording.status(topic.latest),
        tone=wording.tone(topic.latest),
        lines=tuple(_line(spell, topic, clock) for spell in shown),
        left_out=len(spells) - len(shown),
        picture=picture,
    )


def _line(spell: Spell, topic: Topic, clock: Clock) -> Line:
    zone = clock.local(spell.begin)
    return Line(
        when=f"{clock.span(spell.begin, spell.end)} UTC",
        local=clock.local_span(spell.begin, spell.end, zone) if zone is not None else "",
        says=wording.story(spell, topic),
    )


def _pictures(ordered: Sequence[Topic], clock: Clock, unique: str) -> dict[Topic, Picture]:
    """The charts of the topics that have one: of a single count there is nothing to draw."""
    charted = [topic for topic in ordered if len(topic.counts()) > 1]
    first = sorted(charted, key=_is_over)[:_MOST_PICTURES]
    return {topic: _picture(topic, clock, f"chart{number}.{unique}") for number, topic in enumerate(first, 1)}


def _picture(topic: Topic, clock: Clock, name: str) -> Picture:
    latest = topic.latest
    first, counts = topic.course()
    zone = None if latest.window is Window.ONE_DAY else clock.local(latest.window_start)
    labels = _labels(first, latest.window, len(counts), zone)
    chart = Chart(tuple(counts), latest.threshold, latest.bound, labels, ("UTC", "local" if zone is not None else ""))
    return Picture(name, drawn(chart), wording.chart_in_words(latest, counts))


@lru_cache(maxsize=512)  # all that is told in a night is of the same windows
def _labels(first: datetime, window: Window, how_many: int, zone: ZoneInfo | None) -> tuple[tuple[str, str], ...]:
    """Of each bar its time by UTC and on the reader's clock."""
    starts = [first + each * window.length for each in range(how_many)]
    return tuple((_tick(each, window), f"{each.astimezone(zone):%H:%M}" if zone is not None else "") for each in starts)


def _tick(start: datetime, window: Window) -> str:
    """What a bar's time is called: the day where a day begins."""
    day_begins = window is Window.ONE_DAY or start.hour == 0
    return f"{start.astimezone(UTC).day} {start:%b}" if day_begins else f"{start:%H:%M}"
