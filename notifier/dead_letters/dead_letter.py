"""Letters of alerts.dead-letter.v1: what each is about, which are asked for, what of one can be handled again. Pure.

A letter is an event's own bytes under headers that tell where from, why and when
(`chassis.faust.app.publish_dead_letter`).
Among the letters lie notes, one for each that was requeued: without a value, in the partition of its letter.

Letters are what nobody could use, so nothing in one is believed: headers may be missing, bytes may be anything. Text
of a letter is shown in ASCII, with all else escaped: a terminal obeys control characters.
"""

import json
import re
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import UUID

from aiokafka.structs import ConsumerRecord

from domain.windows import EPOCH
from notifier.dead_letters.decoding import SOURCES, alert_ids, as_json, facts, message_of, printable, text_of, utc
from notifier.errors import NotRequeuable, UndecodableError
from notifier.messages import RaisedAlert, decode_raised, decode_retry
from towerwatch.topics import ALERTS_RAISED, FLIGHTS_OBSERVED, INTERESTS_CHANGED, USERS_CHANGED

NEWS_FOR: Final = timedelta(days=7)
"""A letter that is older is not requeued. The notifier remembers for eight days what it has mailed: what was requeued
and mailed by then would be mailed once more."""

_REQUEUED: Final = "requeued"
_REQUEUED_AT: Final = "requeued-at"
_LONGEST_REASON: Final = 500
_LONGEST_FACT: Final = 80
_PLACE: Final = re.compile(r"(\d{1,9}):(\d{1,18})", re.ASCII)
_AGO: Final = re.compile(r"(\d{1,9})([smhd])", re.ASCII)
_UNITS: Final = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
_TRIES: Final = re.compile(r"\bafter \d+ tries\b", re.ASCII)

_ELSEWHERE: Final = {
    FLIGHTS_OBSERVED.name: "the stream folds flights in their order, by a sequence that a letter does not keep: mend "
    "the cause; `python -m streams verify` then tells which alerts it cost",
    INTERESTS_CHANGED.name: "the stream folds changes in their order, by a sequence that a letter does not keep: the "
    "next change of the interest by its owner brings all of it anew (after a removal there is none, and alerts go on)",
    USERS_CHANGED.name: "users.changed.v1 keeps each person's last change, and this one would replace a newer: the "
    "person may ask for another confirmation mail (POST /users/{email}/confirmation)",
}
"""Why events of some topics are not requeued, and what to do instead."""


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """Where a letter lies in its topic, which is its id: partition:offset."""

    partition: int
    offset: int

    def __str__(self) -> str:
        return f"{self.partition}:{self.offset}"


@dataclass(frozen=True, slots=True)
class Letter:
    """A letter without its bytes, of which there may be many."""

    place: Place
    at: datetime
    """When it was put aside (UTC); if it does not say so, when its record was written."""
    source_topic: str
    """Empty if it does not say so."""
    source_partition: int | None
    source_offset: int | None
    reason: str
    """Up to 500 characters of it."""
    left_out: int | None
    """How many bytes were too many to be put aside; None where all were."""
    facts: Mapping[str, str]
    """What it is about, as far as it can be decoded; empty where nothing can."""
    alert_ids: tuple[UUID, ...] = ()

    @property
    def source(self) -> str:
        """Where the event came from, for people."""
        partition, offset = (_or_unknown(each) for each in (self.source_partition, self.source_offset))
        return f"{self.source_topic or 'unknown'}, partition {partition}, offset {offset}"


@dataclass(frozen=True, slots=True)
class Entry:
    """A letter and what became of it."""

    letter: Letter
    requeued_at: datetime | None
    again_in: Place | None
    """The last of the later letters that hold an alert of it."""

    def line(self) -> str:
        """One line, for people."""
        letter = self.letter
        about = " ".join(f"{name}={value}" for name, value in letter.facts.items()) or "nothing decoded"
        columns = [str(letter.place), utc(letter.at), letter.source_topic or "unknown", letter.reason, about]
        if letter.left_out is not None:
            columns.append(f"[{letter.left_out:,} bytes left out]")
        if self.requeued_at is not None:
            columns.append(f"[requeued {utc(self.requeued_at)}]")
        if self.again_in is not None:
            columns.append(f"[again in {self.again_in}]")
        return printable("  ".join(columns))

    def as_json(self) -> str:
        """One line, for programs."""
        letter = self.letter
        return json.dumps(
            {
                "id": str(letter.place),
                "dead_lettered_at": utc(letter.at),
                "source_topic": letter.source_topic or None,
                "source_partition": letter.source_partition,
                "source_offset": letter.source_offset,
                "reason": letter.reason,
                "left_out": letter.left_out,
                "about": dict(letter.facts),
                "alert_ids": [str(each) for each in letter.alert_ids],
                "requeued_at": utc(self.requeued_at) if self.requeued_at is not None else None,
                "again_in": str(self.again_in) if self.again_in is not None else None,
            }
        )


@dataclass(frozen=True, slots=True)
class Filter:
    """Which letters are asked for; all by default."""

    reason: str = ""
    """Part of the reason, in whatever case."""
    topic: str | None = None
    """The source's."""
    since: datetime | None = None
    until: datetime | None = None
    """Put aside before that."""

    def takes(self, letter: Letter) -> bool:
        return (
            self.reason.casefold() in letter.reason.casefold()
            and (self.topic is None or self.topic == letter.source_topic)
            and (self.since is None or letter.at >= self.since)
            and (self.until is None or letter.at < self.until)
        )


@dataclass(slots=True)
class Letters:
    """All that lies in the topic, folded record by record."""

    letters: list[Letter] = field(default_factory=list)
    requeued: dict[Place, datetime] = field(default_factory=dict)

    def add(self, record: ConsumerRecord) -> None:
        headers = _headers(record)
        noted = _PLACE.fullmatch(text_of(headers.get(_REQUEUED)))
        if noted is not None:
            at = _time(text_of(headers.get(_REQUEUED_AT))) or _written(record)
            self.requeued[Place(int(noted[1]), int(noted[2]))] = at
        else:
            self.letters.append(_letter(record, headers))

    def entries(self) -> list[Entry]:
        """All letters, the oldest first."""
        last: dict[UUID, Place] = {}
        entries = []
        for letter in sorted(self.letters, key=lambda each: (each.at, each.place), reverse=True):
            again = next((last[each] for each in letter.alert_ids if each in last), None)
            entries.append(Entry(letter, self.requeued.get(letter.place), again))
            for alert_id in letter.alert_ids:
                last.setdefault(alert_id, letter.place)
        return entries[::-1]


def note(place: Place, at: datetime) -> list[tuple[str, bytes]]:
    """The headers of the note that a letter was requeued."""
    return [(_REQUEUED, str(place).encode()), (_REQUEUED_AT, utc(at).encode())]


def requeuable(letter: Letter, value: bytes | None, now: datetime, *, named: bool) -> tuple[RaisedAlert, ...]:
    """The alerts to be raised again for a letter with these bytes. Raises NotRequeuable.

    `named`: it was asked for by its id, and not among others.
    """
    if letter.source_topic in _ELSEWHERE:
        raise NotRequeuable(_ELSEWHERE[letter.source_topic])
    if letter.source_topic not in SOURCES:
        raise NotRequeuable("it does not say which of Towerwatch's topics it comes from")
    if letter.left_out is not None:
        raise NotRequeuable(
            f"its {letter.left_out:,} bytes were too many for a letter: "
            f"the event itself is at {printable(letter.source)}, as long as that topic keeps it"
        )
    if now - letter.at > NEWS_FOR:
        raise NotRequeuable(
            f"it is older than {NEWS_FOR.days} days, for about which the notifier remembers what it has mailed: "
            "the person might be told twice"
        )
    if value is None:
        raise NotRequeuable("it holds nothing: the event itself had no value")
    try:
        if letter.source_topic == ALERTS_RAISED.name:
            return (replace(decode_raised(value), original=value),)
        retry = decode_retry(value)
    except UndecodableError as error:
        raise NotRequeuable(f"it would be put aside again as undecodable: {error}") from None
    if retry.sealed and not named:
        raise NotRequeuable("the mail server may have taken its mail already: name its id to have it sent once more")
    return retry.raised


def shown(entry: Entry, record: ConsumerRecord) -> str:
    """Everything about a letter, for people. Its event as JSON, or in hex (32 bytes a line) if it cannot be decoded."""
    letter, value = entry.letter, record.value
    lines = [f"letter   {letter.place}", f"at       {utc(letter.at)}", f"source   {letter.source}"]
    if entry.requeued_at is not None:
        lines.append(f"requeued {utc(entry.requeued_at)}")
    if entry.again_in is not None:
        lines.append(f"again in {entry.again_in}")
    lines.append(f"key      {'none' if record.key is None else text_of(record.key)}")
    lines += [f"header   {name}: {'null' if content is None else text_of(content)}" for name, content in record.headers]
    message = message_of(letter.source_topic, value)
    decoded = as_json(message) if message is not None else None
    if value is None:
        lines.append("value    none")
    elif message is not None and decoded is not None:
        lines += [f"value    {message.DESCRIPTOR.name}, {len(value):,} bytes", *decoded.splitlines()]
    else:
        lines.append(f"value    {len(value):,} bytes that cannot be decoded")
        lines += [value[begin : begin + 32].hex(" ") for begin in range(0, len(value), 32)]
    return "\n".join(printable(line) for line in lines)


@dataclass(frozen=True, slots=True)
class Summary:
    """How many letters there are."""

    letters: int
    requeued: int
    again: int
    """Of those that were not requeued: with an alert that is in a later letter, too."""
    by_reason: Mapping[tuple[str, str], int]
    """By source topic and reason, the most frequent first."""

    def __str__(self) -> str:
        if not self.letters:
            return "no dead letters"
        lines = [f"dead letters: {self.letters:,}; requeued: {self.requeued:,}; again in a later one: {self.again:,}"]
        for (topic, reason), number in self.by_reason.items():
            lines.append(printable(f"{number:>8,}  {topic or 'unknown'}  {reason}"))
        return "\n".join(lines)

    def as_json(self) -> str:
        return json.dumps(
            {
                "letters": self.letters,
                "requeued": self.requeued,
                "again": self.again,
                "by_reason": [
                    {"source_topic": topic or None, "reason": reason, "letters": number}
                    for (topic, reason), number in self.by_reason.items()
                ],
            }
        )


def summary(entries: Sequence[Entry]) -> Summary:
    """The number of tries is no part of a reason here."""
    reasons = Counter((each.letter.source_topic, _TRIES.sub("after N tries", each.letter.reason)) for each in entries)
    return Summary(
        letters=len(entries),
        requeued=sum(each.requeued_at is not None for each in entries),
        again=sum(each.requeued_at is None and each.again_in is not None for each in entries),
        by_reason=dict(reasons.most_common()),
    )


def place_in(text: str) -> Place:
    """The id of a letter. Raises ValueError."""
    found = _PLACE.fullmatch(text)
    if found is None:
        raise ValueError(f"{text!r} is no letter's id: that is partition:offset, like 3:17")
    return Place(int(found[1]), int(found[2]))


def moment_in(text: str, now: datetime) -> datetime:
    """The instant that is meant by how long ago it was (`90s`, `30m`, `2h`, `7d`) or by its date and time, which are in
    UTC where they name no offset. Raises ValueError."""
    ago = _AGO.fullmatch(text)
    try:
        if ago is not None:
            return now - timedelta(**{_UNITS[ago[2]]: int(ago[1])})
        moment = datetime.fromisoformat(text)
        return (moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        raise ValueError(f"{text!r} is no time: take one like 2h, 30m, 7d or 2026-11-23T03:00Z") from None


def _letter(record: ConsumerRecord, headers: Mapping[str, bytes | None]) -> Letter:
    # Few texts, in letters that may be very many: each is held once.
    topic = sys.intern(text_of(headers.get("source-topic"))[:249])
    message = message_of(topic, record.value)
    return Letter(
        place=Place(record.partition, record.offset),
        at=_time(text_of(headers.get("dead-lettered-at"))) or _written(record),
        source_topic=topic,
        source_partition=_number(headers.get("source-partition")),
        source_offset=_number(headers.get("source-offset")),
        reason=sys.intern(text_of(headers.get("reason"))[:_LONGEST_REASON] or "no reason told"),
        left_out=_number(headers.get("left-out")),
        facts={name: sys.intern(value[:_LONGEST_FACT]) for name, value in facts(topic, record.key, message) if value},
        alert_ids=tuple(alert_ids(message)),
    )


def _headers(record: ConsumerRecord) -> dict[str, bytes | None]:
    """The first of each name."""
    return dict(reversed(tuple(record.headers)))


def _number(content: bytes | None) -> int | None:
    return int(content) if content is not None and content.isdigit() and len(content) <= 18 else None


def _or_unknown(number: int | None) -> str:
    return "unknown" if number is None else str(number)


def _time(text: str) -> datetime | None:
    """The instant in a header; None where there is none that names its offset."""
    try:
        moment = datetime.fromisoformat(text)
        return moment.astimezone(UTC) if moment.tzinfo is not None else None
    except (ValueError, OverflowError):
        return None


def _written(record: ConsumerRecord) -> datetime:
    try:
        return EPOCH + timedelta(milliseconds=record.timestamp)
    except OverflowError:
        return EPOCH
