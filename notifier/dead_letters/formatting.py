"""The texts that show dead letters: a line or all details for people, JSON for programs. Pure.

They are ASCII, with all other characters escaped, since a terminal executes control characters.
"""

import json

from aiokafka.structs import ConsumerRecord

from notifier.dead_letters.dead_letter import DeadLetterEntry
from notifier.dead_letters.decoding import decode_message, decode_text, escape_unprintable, format_json, format_utc


def format_line(entry: DeadLetterEntry) -> str:
    """Return an entry as one line of printable ASCII for people.

    The columns: id, time, source topic, reason and facts; then, in brackets, the size of an omitted event, when the
    dead letter was requeued, and the later dead letter with the same alert.
    """
    letter = entry.dead_letter
    about = " ".join(f"{name}={value}" for name, value in letter.facts.items()) or "nothing decoded"
    columns = [
        str(letter.record_id),
        format_utc(letter.dead_lettered_at),
        letter.source_topic or "unknown",
        letter.reason,
        about,
    ]
    if letter.omitted_bytes is not None:
        columns.append(f"[{letter.omitted_bytes:,} bytes left out]")
    if entry.requeued_at is not None:
        columns.append(f"[requeued {format_utc(entry.requeued_at)}]")
    if entry.repeated_in is not None:
        columns.append(f"[again in {entry.repeated_in}]")
    return escape_unprintable("  ".join(columns))


def format_entry_json(entry: DeadLetterEntry) -> str:
    """Return all fields of an entry as one line of JSON for programs; null for what is unknown or missing."""
    letter = entry.dead_letter
    return json.dumps(
        {
            "id": str(letter.record_id),
            "dead_lettered_at": format_utc(letter.dead_lettered_at),
            "source_topic": letter.source_topic or None,
            "source_partition": letter.source_partition,
            "source_offset": letter.source_offset,
            "reason": letter.reason,
            "left_out": letter.omitted_bytes,
            "about": dict(letter.facts),
            "alert_ids": [str(each) for each in letter.event_ids],
            "requeued_at": format_utc(entry.requeued_at) if entry.requeued_at is not None else None,
            "again_in": str(entry.repeated_in) if entry.repeated_in is not None else None,
        }
    )


def format_details(entry: DeadLetterEntry, record: ConsumerRecord) -> str:
    """Return everything about a dead letter as lines of printable ASCII for people: entry, key, headers and event.

    The event is JSON, or, if it cannot be decoded, hexadecimal with 32 bytes a line. `record`: the dead letter's own.
    """
    letter, value = entry.dead_letter, record.value
    lines = [
        f"letter   {letter.record_id}",
        f"at       {format_utc(letter.dead_lettered_at)}",
        f"source   {letter.source}",
    ]
    if entry.requeued_at is not None:
        lines.append(f"requeued {format_utc(entry.requeued_at)}")
    if entry.repeated_in is not None:
        lines.append(f"again in {entry.repeated_in}")
    lines.append(f"key      {'none' if record.key is None else decode_text(record.key)}")
    lines += [
        f"header   {name}: {'null' if content is None else decode_text(content)}" for name, content in record.headers
    ]
    message = decode_message(letter.source_topic, value)
    decoded = format_json(message) if message is not None else None
    if value is None:
        lines.append("value    none")
    elif message is not None and decoded is not None:
        lines += [f"value    {message.DESCRIPTOR.name}, {len(value):,} bytes", *decoded.splitlines()]
    else:
        lines.append(f"value    {len(value):,} bytes that cannot be decoded")
        lines += [value[begin : begin + 32].hex(" ") for begin in range(0, len(value), 32)]
    return "\n".join(escape_unprintable(line) for line in lines)
