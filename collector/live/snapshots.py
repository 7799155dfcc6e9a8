"""The memory of a feed as bytes and back, for the leader that takes over: compressed JSON, with a format of its own.

Nothing is lost on the way: a detector that goes on from its snapshot finds exactly what the other one would find. A
snapshot of another format, or one that cannot be read, is worth nothing.
"""

import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Final

from collector.live.airfields import Airfield, AirfieldIndex
from collector.live.live_coverage import LiveCoverage, PollSummary
from collector.live.movements import DetectorMemory
from collector.live.tracks import Approach, Fix, Phase, Track
from collector.live.wanted import Target
from collector.sources.state_vector import Position
from domain.interests import Direction

Stretch = tuple[float, float]
"""A stretch of time [begin, end) in Unix seconds."""

_LAYOUT: Final = 1
"""To be raised when the same fields come to mean something else."""
_COMPRESSION: Final = 1
"""zlib's fastest: a snapshot is made every half minute."""
_MOST_BYTES: Final = 200_000_000


class UnreadableSnapshotError(ValueError):
    """The bytes are no snapshot of this format."""


@dataclass(frozen=True, slots=True)
class FeedMemory:
    """All that a feed remembers between two polls."""

    detector: DetectorMemory
    coverages: Mapping[str, LiveCoverage] = field(default_factory=dict)
    """By the airport's ICAO code."""
    stretches: Mapping[Target, tuple[Stretch, ...]] = field(default_factory=dict)
    """What is covered and not published yet."""
    members: frozenset[str] = frozenset()
    """The sources that had a part in the last poll."""
    stated_at: float = 0.0
    """The time of the last poll, on the source's clock."""


def _name_format() -> str:
    """Return the name of the format: another one for other fields of what is stored."""
    parts = [
        *sorted(Track.__slots__),
        *Fix._fields,
        *Approach._fields,
        *Position._fields,
        *(each.name for kind in (DetectorMemory, LiveCoverage, PollSummary, FeedMemory) for each in fields(kind)),
    ]
    return f"{_LAYOUT}-{zlib.crc32(' '.join(parts).encode()):08x}"


FORMAT: Final = _name_format()


def dump_memory(memory: FeedMemory) -> bytes:
    """Encode the memory of a feed as bytes, from which `load_memory` makes it again."""
    detector = memory.detector
    value = {
        "detector": [detector.begun, detector.time, detector.poll, detector.step],
        "landed": {icao24: list(each) for icao24, each in detector.silent_landings.items()},
        "tracks": {icao24: _dump_track(track) for icao24, track in detector.tracks.items()},
        "coverages": {icao: _dump_coverage(each) for icao, each in memory.coverages.items()},
        "stretches": [[icao, part.value, list(each)] for (icao, part), each in memory.stretches.items() if each],
        "members": sorted(memory.members),
        "stated_at": memory.stated_at,
    }
    return zlib.compress(json.dumps(value, separators=(",", ":")).encode(), _COMPRESSION)


def load_memory(body: bytes, airfields: AirfieldIndex) -> FeedMemory:
    """Return the memory of a snapshot. Raises UnreadableSnapshotError.

    Aircraft at an airfield that is not known any more are forgotten.
    """
    try:
        unpacker = zlib.decompressobj()
        text = unpacker.decompress(body, _MOST_BYTES)
        if not unpacker.eof:
            raise UnreadableSnapshotError("it is cut off, or too large")
        value = json.loads(text)
        begun, time, poll, step = value["detector"]
        tracks = {icao24: _load_track(each, airfields) for icao24, each in value["tracks"].items()}
        return FeedMemory(
            DetectorMemory(
                begun,
                time,
                poll,
                step,
                {icao24: track for icao24, track in tracks.items() if track is not None},
                {icao24: (airport, float(at)) for icao24, (airport, at) in value["landed"].items()},
            ),
            {icao: _load_coverage(each) for icao, each in value["coverages"].items()},
            {
                (icao, Direction(part)): tuple((float(begin), float(end)) for begin, end in each)
                for icao, part, each in value["stretches"]
            },
            frozenset(value["members"]),
            float(value["stated_at"]),
        )
    except UnreadableSnapshotError:
        raise
    except (zlib.error, ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError) as error:
        raise UnreadableSnapshotError(f"its content is of another form ({type(error).__name__})") from None


class _UnknownAirfieldError(Exception):
    """An airfield of a snapshot is not known any more."""


_SLOTS: Final = tuple(sorted(Track.__slots__))


def _dump_track(track: Track) -> list[Any]:
    """Return a track's values in the order of their names."""
    return [_dump_value(getattr(track, name)) for name in _SLOTS]


def _dump_value(value: Any) -> Any:
    """Return a value of a track in JSON's types; airfields by their codes, runways by their place in the airfield."""
    if isinstance(value, Airfield):
        return value.icao
    if isinstance(value, Approach):
        end = next(number for number, each in enumerate(value.airfield.ends) if each is value.end)
        return [value.airfield.icao, end, *value[2:]]
    if isinstance(value, Phase):
        return int(value)
    return value  # tuples become lists


def _load_track(values: list[Any], airfields: AirfieldIndex) -> Track | None:
    """Return the track of its values; None if an airfield of it is not known any more."""
    named = dict(zip(_SLOTS, values, strict=True))
    track = Track(0.0)
    try:
        for name, value in named.items():
            setattr(track, name, _load_value(name, value, airfields))
    except _UnknownAirfieldError:
        return None
    return track


def _load_value(name: str, value: Any, airfields: AirfieldIndex) -> Any:
    """Return the value of a track's field from JSON's types. Raises _UnknownAirfieldError."""
    if name == "phase":
        return Phase(value)
    if value is None:
        return None
    match name:
        case "fix" | "first":
            return Fix(*value)
        case "outlier":
            return Position(*value)
        case "level":
            believed, when = value
            return believed, when
        case "airfield":
            return _find_airfield(value, airfields)
        case "approach" | "last_approach":
            airfield = _find_airfield(value[0], airfields)
            if value[1] >= len(airfield.ends):
                raise _UnknownAirfieldError
            return Approach(airfield, airfield.ends[value[1]], *value[2:])
        case _:
            return value


def _find_airfield(icao: str, airfields: AirfieldIndex) -> Airfield:
    """Return the airfield of a code. Raises _UnknownAirfieldError."""
    found = airfields.find_airfield(icao)
    if found is None:
        raise _UnknownAirfieldError
    return found


def _dump_coverage(coverage: LiveCoverage) -> list[Any]:
    """Return the fields of a coverage as a list, from which `_load_coverage` makes it again."""
    last, said = coverage.last, coverage.said_until
    return [
        coverage.row_since,
        None if last is None else [last.answered_at, last.stated_at, last.fresh_positions, last.low_positions],
        coverage.heard_since,
        coverage.low_at,
        None if said is None else {part.value: until for part, until in said.items()},
    ]


def _load_coverage(values: list[Any]) -> LiveCoverage:
    """Return the coverage whose fields `_dump_coverage` has listed."""
    row_since, last, heard_since, low_at, said = values
    return LiveCoverage(
        row_since,
        None if last is None else PollSummary(*last),
        heard_since,
        low_at,
        None if said is None else {Direction(part): until for part, until in said.items()},
    )
