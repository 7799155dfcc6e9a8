"""The dead letters of alerts.dead-letter.v1: parsing, filtering, and the alerts and notices to requeue. Pure.

A dead letter is an event's own bytes, with headers for its source, the reason and the time
(`chassis.faust.app.publish_dead_letter`). The topic also holds notes, one for each requeued dead letter: a record
without a value, in the dead letter's partition.

Nothing in a dead letter is trusted, since its event could not be processed: headers may be missing, bytes may be
anything.
"""

import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import UUID

from aiokafka.structs import ConsumerRecord

from domain.windows import EPOCH
from notifier.dead_letters.decoding import (
    SOURCES,
    decode_message,
    decode_text,
    escape_unprintable,
    extract_event_ids,
    extract_facts,
    format_utc,
)
from notifier.errors import NotRequeuable, UndecodableError
from notifier.messages import (
    RaisedAlert,
    RaisedNotice,
    ScheduledConfirmation,
    ScheduledNotice,
    decode_raised_alert,
    decode_raised_notice,
    decode_retry,
)
from towerwatch.topics import ALERTS_RAISED, FLIGHTS_OBSERVED, INTERESTS_CHANGED, NOTICES_RAISED, USERS_CHANGED

MAX_REQUEUE_AGE: Final = timedelta(days=7)
"""An older dead letter is not requeued: it is no news. The notifier must store for longer which alerts it has mailed;
otherwise an alert that was requeued and mailed before would be mailed again (`STATUS_RETENTION`)."""

_REQUEUED: Final = "requeued"
_REQUEUED_AT: Final = "requeued-at"
_MAX_REASON_LENGTH: Final = 500
_MAX_FACT_LENGTH: Final = 80
_RECORD_ID: Final = re.compile(r"(\d{1,9}):(\d{1,18})", re.ASCII)
_AGO: Final = re.compile(r"(\d{1,9})([smhd])", re.ASCII)
_UNITS: Final = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}

_NOT_REQUEUABLE: Final = {
    FLIGHTS_OBSERVED.name: "the stream folds flights in their order, by a sequence that a letter does not keep: mend "
    "the cause; `python -m streams verify` then tells which alerts it cost",
    INTERESTS_CHANGED.name: "the stream folds changes in their order, by a sequence that a letter does not keep: the "
    "next change of the interest by its owner brings all of it anew (after a removal there is none, and alerts go on)",
    USERS_CHANGED.name: "users.changed.v1 keeps each person's last change, and this one would replace a newer: the "
    "person may ask for another confirmation mail (POST /users/{email}/confirmation)",
}
"""Why events of some topics are not requeued, and what to do instead."""


@dataclass(frozen=True, slots=True, order=True)
class RecordId:
    """The id of a dead letter: partition and offset of its record, written partition:offset."""

    partition: int
    offset: int

    def __str__(self) -> str:
        return f"{self.partition}:{self.offset}"


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """One dead letter, decoded from its record: source, reason, time, facts and alert ids, without the event's bytes.

    A command holds all dead letters of the topic in memory, and events may be large.
    """

    record_id: RecordId
    dead_lettered_at: datetime
    """From its header (UTC), else the time of its record."""
    source_topic: str
    """Empty: the header is missing."""
    source_partition: int | None
    source_offset: int | None
    reason: str
    """Up to 500 characters."""
    omitted_bytes: int | None
    """The size of an event that was too large for a dead letter; None: the dead letter holds the event's bytes."""
    facts: Mapping[str, str]
    """What the event is about, as far as it can be decoded; empty if it cannot."""
    event_ids: tuple[UUID, ...] = ()
    """The ids of its alerts, or of its notice."""

    @property
    def source(self) -> str:
        """Topic, partition and offset of the event as one text for people; "unknown" for each that is missing."""
        partition, offset = (_or_unknown(each) for each in (self.source_partition, self.source_offset))
        return f"{self.source_topic or 'unknown'}, partition {partition}, offset {offset}"


@dataclass(frozen=True, slots=True)
class DeadLetterEntry:
    """A dead letter with what the rest of the topic adds: when it was requeued, and a later one with the same event."""

    dead_letter: DeadLetter
    requeued_at: datetime | None
    """None: not requeued."""
    repeated_in: RecordId | None
    """The newest dead letter that holds an alert of this one, too (its first alert that any later dead letter holds).

    The same holds for its notice. None: no later dead letter holds one of them."""


@dataclass(frozen=True, slots=True)
class DeadLetterFilter:
    """Conditions on dead letters, of which all must hold; without conditions it matches every dead letter."""

    reason: str = ""
    """A part of the reason; upper and lower case are equal."""
    topic: str | None = None
    """The source topic."""
    since: datetime | None = None
    """Dead-lettered at this time or later."""
    until: datetime | None = None
    """Dead-lettered before this time."""

    def matches(self, letter: DeadLetter) -> bool:
        """Return True if a dead letter fulfils all conditions, False if it fails one."""
        return (
            self.reason.casefold() in letter.reason.casefold()
            and (self.topic is None or self.topic == letter.source_topic)
            and (self.since is None or letter.dead_lettered_at >= self.since)
            and (self.until is None or letter.dead_lettered_at < self.until)
        )


@dataclass(slots=True)
class DeadLetterIndex:
    """The dead letters and the notes of the topic: `add` collects them, `build_entries` joins them."""

    letters: list[DeadLetter] = field(default_factory=list)
    """In the order of their adding."""
    requeued: dict[RecordId, datetime] = field(default_factory=dict)
    """When each requeued dead letter was requeued, by its id."""

    def add(self, record: ConsumerRecord) -> None:
        """Parse a record of the topic, and store it as a dead letter or as the note that a dead letter was requeued.

        Of several notes about one dead letter the note that is added last counts.
        """
        headers = _first_headers(record)
        noted = _RECORD_ID.fullmatch(decode_text(headers.get(_REQUEUED)))
        if noted is not None:
            at = _parse_time(decode_text(headers.get(_REQUEUED_AT))) or _record_time(record)
            self.requeued[RecordId(int(noted[1]), int(noted[2]))] = at
        else:
            self.letters.append(_build_dead_letter(record, headers))

    def build_entries(self) -> list[DeadLetterEntry]:
        """Return all dead letters as entries, the oldest first, those of one time by id.

        Each entry has the time of its note, and the newest later dead letter that holds one of its alerts or its
        notice.
        """
        last: dict[UUID, RecordId] = {}
        entries = []
        for letter in sorted(self.letters, key=lambda each: (each.dead_lettered_at, each.record_id), reverse=True):
            repeated_in = next((last[each] for each in letter.event_ids if each in last), None)
            entries.append(DeadLetterEntry(letter, self.requeued.get(letter.record_id), repeated_in))
            for event_id in letter.event_ids:
                last.setdefault(event_id, letter.record_id)
        return entries[::-1]


def build_note_headers(record_id: RecordId, at: datetime) -> list[tuple[str, bytes]]:
    """Return the headers of the note that a dead letter was requeued at this time."""
    return [(_REQUEUED, str(record_id).encode()), (_REQUEUED_AT, format_utc(at).encode())]


def extract_events(
    letter: DeadLetter, value: bytes | None, now: datetime, *, named: bool
) -> tuple[RaisedAlert | RaisedNotice, ...]:
    """Return the events to publish again for a dead letter: all its alerts, or its notice.

    `value`: the bytes of its record. `named`: True if the operator named its id, False if a filter matched it.

    Raises NotRequeuable if the source is another topic or unknown, if the event's bytes are omitted, missing or
    invalid, if it is a confirmation request or older than MAX_REQUEUE_AGE, and for a sealed retry (whose mail may have
    been sent) unless it is named.
    """
    if letter.source_topic in _NOT_REQUEUABLE:
        raise NotRequeuable(_NOT_REQUEUABLE[letter.source_topic])
    if letter.source_topic not in SOURCES:
        raise NotRequeuable("it does not say which of Towerwatch's topics it comes from")
    if letter.omitted_bytes is not None:
        raise NotRequeuable(
            f"its {letter.omitted_bytes:,} bytes were too many for a letter: "
            f"the event itself is at {escape_unprintable(letter.source)}, as long as that topic keeps it"
        )
    if now - letter.dead_lettered_at > MAX_REQUEUE_AGE:
        raise NotRequeuable(
            f"it is older than {MAX_REQUEUE_AGE.days} days, for about which the notifier remembers what it has mailed: "
            "the person might be told twice"
        )
    if value is None:
        raise NotRequeuable("it holds nothing: the event itself had no value")
    try:
        if letter.source_topic == ALERTS_RAISED.name:
            return (replace(decode_raised_alert(value), original=value),)
        if letter.source_topic == NOTICES_RAISED.name:
            return (replace(decode_raised_notice(value), original=value),)
        retry = decode_retry(value)
    except UndecodableError as error:
        raise NotRequeuable(f"it would be put aside again as undecodable: {error}") from None
    if isinstance(retry, ScheduledConfirmation):
        raise NotRequeuable(_NOT_REQUEUABLE[USERS_CHANGED.name])
    if retry.sealed and not named:
        raise NotRequeuable("the mail server may have taken its mail already: name its id to have it sent once more")
    return (retry.raised,) if isinstance(retry, ScheduledNotice) else retry.alerts


def parse_record_id(text: str) -> RecordId:
    """Return the id of a dead letter that an operator wrote as partition:offset. Raises ValueError for other texts."""
    found = _RECORD_ID.fullmatch(text)
    if found is None:
        raise ValueError(f"{text!r} is no letter's id: that is partition:offset, like 3:17")
    return RecordId(int(found[1]), int(found[2]))


def parse_moment(text: str, now: datetime) -> datetime:
    """Return the UTC instant that an operator wrote: an age before `now` (`90s`, `30m`, `2h`, `7d`) or ISO 8601.

    A date and time without an offset is UTC. Raises ValueError for other texts, and for a time outside of the calendar.
    """
    ago = _AGO.fullmatch(text)
    try:
        if ago is not None:
            return now - timedelta(**{_UNITS[ago[2]]: int(ago[1])})
        moment = datetime.fromisoformat(text)
        return (moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        raise ValueError(f"{text!r} is no time: take one like 2h, 30m, 7d or 2026-11-23T03:00Z") from None


def _build_dead_letter(record: ConsumerRecord, headers: Mapping[str, bytes | None]) -> DeadLetter:
    """Return the dead letter in a record: the texts and numbers of its headers, facts and alert ids of its event.

    A missing or invalid header becomes a default: empty or None, "no reason told", the record's own timestamp. Long
    texts are cut: topic 249, reason 500, facts 80 characters.
    """
    # There may be very many dead letters with the same few texts: each text is held in memory once.
    topic = sys.intern(decode_text(headers.get("source-topic"))[:249])
    message = decode_message(topic, record.value)
    facts = extract_facts(topic, record.key, message)
    return DeadLetter(
        record_id=RecordId(record.partition, record.offset),
        dead_lettered_at=_parse_time(decode_text(headers.get("dead-lettered-at"))) or _record_time(record),
        source_topic=topic,
        source_partition=_parse_number(headers.get("source-partition")),
        source_offset=_parse_number(headers.get("source-offset")),
        reason=sys.intern(decode_text(headers.get("reason"))[:_MAX_REASON_LENGTH] or "no reason told"),
        omitted_bytes=_parse_number(headers.get("left-out")),
        facts={name: sys.intern(value[:_MAX_FACT_LENGTH]) for name, value in facts if value},
        event_ids=tuple(extract_event_ids(message)),
    )


def _first_headers(record: ConsumerRecord) -> dict[str, bytes | None]:
    """Return the content of the record's headers by name; of several headers with one name the first counts."""
    return dict(reversed(tuple(record.headers)))


def _parse_number(content: bytes | None) -> int | None:
    """Return the number in a header; None if the header is missing or holds no number of up to 18 digits."""
    return int(content) if content is not None and content.isdigit() and len(content) <= 18 else None


def _or_unknown(number: int | None) -> str:
    return "unknown" if number is None else str(number)


def _parse_time(text: str) -> datetime | None:
    """Return the instant of an ISO 8601 text in UTC; None for an invalid time and for a time without an offset."""
    try:
        moment = datetime.fromisoformat(text)
        return moment.astimezone(UTC) if moment.tzinfo is not None else None
    except (ValueError, OverflowError):
        return None


def _record_time(record: ConsumerRecord) -> datetime:
    """Return the time that the record's own timestamp gives, UTC; EPOCH for a timestamp outside of the calendar."""
    try:
        return EPOCH + timedelta(milliseconds=record.timestamp)
    except OverflowError:
        return EPOCH
