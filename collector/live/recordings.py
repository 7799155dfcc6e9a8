"""Reader of recorded polls: JSON lines, or one JSON document, in the form of `/states/all` or of `aircraft.json`."""

import gzip
import io
import json
import zlib
from collections.abc import Iterator, Mapping
from typing import BinaryIO, Final

from collector.sources.opensky.states import parse_states
from collector.sources.readsb.aircraft_json import parse_aircraft
from collector.sources.state_vector import Poll, UnreadablePollError

MAX_BYTES: Final = 64 * 1024 * 1024
"""A poll, or a document of several, is at most this long: a poll of the whole world has 2 MB."""

_GZIP: Final = b"\x1f\x8b"


class UnreadableRecordingError(Exception):
    """A recording cannot be read any further; the text says in one sentence where, and why."""


def parse_poll(value: object) -> Poll:
    """Parse a poll in OpenSky's form (`states`) or in that of readsb (`aircraft` or `ac`).

    Raises UnreadablePollError for any other value.
    """
    if isinstance(value, Mapping) and "states" in value:
        return parse_states(value)
    if isinstance(value, Mapping) and ("aircraft" in value or "ac" in value):
        return parse_aircraft(value)
    raise UnreadablePollError('it has neither "states" (/states/all) nor "aircraft" or "ac" (aircraft.json)')


def read_recording(stream: BinaryIO) -> Iterator[Poll]:
    """Yield the polls of a recording in its order, read as they are asked for; a gzip stream is decompressed.

    Each line is a poll; if the first line is no JSON by itself, the whole recording is one document: a poll, or a list
    of polls. Empty lines are skipped. Raises UnreadableRecordingError with the number of the line.
    """
    number = 0
    try:
        lines = _open_lines(stream)
        while line := lines.readline(MAX_BYTES + 1):
            number += 1
            if len(line) > MAX_BYTES:
                raise UnreadablePollError(f"it is longer than {MAX_BYTES:,} bytes")
            text = line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line
            if not text.strip():
                continue
            value = _load_json(text)
            if value is None and number == 1:
                value = _load_json(text + lines.read(MAX_BYTES))
            if value is None:
                raise UnreadablePollError("it is no JSON")
            for each in value if isinstance(value, list) else [value]:
                yield parse_poll(each)
    except UnreadablePollError as error:
        raise UnreadableRecordingError(f"line {number} is no poll: {error}") from error
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise UnreadableRecordingError(f"after line {number} the compressed data are damaged or cut off") from error
    except OSError as error:
        raise UnreadableRecordingError(f"after line {number}: {error.strerror or 'it cannot be read'}") from error


def _open_lines(stream: BinaryIO) -> BinaryIO:
    """Return a stream of uncompressed lines, whether the given one is compressed or not."""
    buffered = io.BufferedReader(stream) if isinstance(stream, io.RawIOBase) else stream
    beginning = buffered.read(2)
    joined = io.BufferedReader(_Joined(beginning, buffered))
    return gzip.GzipFile(fileobj=joined) if beginning == _GZIP else joined  # type: ignore[return-value]


class _Joined(io.RawIOBase):
    """A stream that gives some bytes that were read already, and then the rest of the stream they came from."""

    def __init__(self, beginning: bytes, rest: BinaryIO) -> None:
        self._beginning = beginning
        self._rest = rest

    def readable(self) -> bool:
        """Return True: it can only be read."""
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        """Fill the buffer as far as there are bytes, and return how many; 0 at the end."""
        if self._beginning:
            found = self._beginning[: len(buffer)]
            self._beginning = self._beginning[len(found) :]
        else:
            read = getattr(self._rest, "read1", self._rest.read)
            found = read(len(buffer))
        buffer[: len(found)] = found
        return len(found)


def _load_json(text: bytes) -> object:
    """Return the value of a JSON text that is not null; None if it is null, or no JSON."""
    try:
        value: object = json.loads(text)
    except (ValueError, RecursionError):  # the latter: nested deeper than Python's own limit
        return None
    return value


def resample(polls: Iterator[Poll], step_s: float) -> Iterator[Poll]:
    """Yield the first poll at or after each multiple of a step, as a source would give that is asked more seldom."""
    due = 0.0
    for poll in polls:
        if poll.time >= due:
            due = (poll.time // step_s + 1) * step_s
            yield poll
