"""The parser of readsb's `aircraft.json` (wiedehopf/readsb, README-json.md), which `/v2/point` services send too. Pure.

Their lists are under `ac`, and their `now` is in milliseconds (adsb.lol), where a receiver's list is under `aircraft`.
"""

from collections.abc import Mapping
from typing import Final

from collector.sources.state_vector import (
    FieldReader,
    Poll,
    PositionSource,
    StateVector,
    UnreadablePollError,
    read_poll_time,
)

FOOT_M: Final = 0.3048
KNOT_M_S: Final = 1852.0 / 3600.0
FOOT_PER_MINUTE_M_S: Final = FOOT_M / 60.0

_MILLISECONDS_FROM: Final = 1e11
"""A `now` from here on is in milliseconds: as seconds it would be of the year 5138."""
_OLDEST_S: Final = 86_400.0
_ON_GROUND: Final = "ground"
"""Stands in `alt_baro` in place of an altitude."""
_CATEGORIES: Final = {
    **{f"A{number}": number + 1 for number in range(1, 8)},
    **{f"B{number}": number + 8 for number in range(1, 8)},
    **{f"C{number}": number + 15 for number in range(1, 6)},
}
"""OpenSky's numbers of the emitter categories of DO-260B; A0, B0, C0 and D0 to D7 say nothing."""
_SOURCE_BEGINNINGS: Final = (
    ("adsb_", PositionSource.ADS_B),
    ("adsr_", PositionSource.ADS_B),
    ("adsc", PositionSource.OTHER),
    ("mlat", PositionSource.MLAT),
    ("tisb_", PositionSource.RADAR),
)


def parse_aircraft(answer: object) -> Poll:
    """Return the poll that an answer holds, decoded from JSON.

    Rows without an ICAO address, and fields that cannot be true, are dropped and counted. Raises UnreadablePollError if
    the answer has no `now`, or no list of aircraft.
    """
    if not isinstance(answer, Mapping) or not ("aircraft" in answer or "ac" in answer):
        raise UnreadablePollError('it is no object with the members "now" and "aircraft" (or "ac")')
    name = "aircraft" if "aircraft" in answer else "ac"
    now, rows = answer.get("now"), answer[name]
    if (type(now) is float or type(now) is int) and _MILLISECONDS_FROM <= now <= _MILLISECONDS_FROM * 100:
        now = now / 1000.0
    time = read_poll_time(now, "now")
    if rows is None:
        return Poll(time, ())
    if not isinstance(rows, list):
        raise UnreadablePollError(f'its member "{name}" is no list')
    fields = FieldReader()
    found = [_parse_row(row, time, fields) for row in rows]
    return Poll(time, [each for each in found if each is not None], dict(fields.dropped))


def _parse_row(row: object, poll_time: float, fields: FieldReader) -> StateVector | None:
    """Return the state vector of a row; None, counted, for a row that is no object or has no ICAO address.

    A position without a valid age is dropped. Without `seen` the aircraft counts as heard when its position was sent,
    else at the time of the poll.
    """
    if not isinstance(row, Mapping):
        fields.dropped["row"] += 1
        return None
    get = row.get
    icao24 = fields.read_icao24(get("hex"))
    if icao24 is None:
        return None
    age = fields.read_number("seen_pos", get("seen_pos"), -1.0, _OLDEST_S)
    silence = fields.read_number("seen", get("seen"), -1.0, _OLDEST_S)
    sent = None if age is None else poll_time - max(age, 0.0)
    altitude = get("alt_baro")
    is_on_ground = altitude == _ON_GROUND
    baro = None if is_on_ground else fields.read_altitude("alt_baro", altitude, FOOT_M)
    rate = fields.read_vertical_rate(get("baro_rate"), FOOT_PER_MINUTE_M_S)
    if rate is None:
        rate = fields.read_vertical_rate(get("geom_rate"), FOOT_PER_MINUTE_M_S)
    return StateVector(
        icao24,
        fields.read_callsign(get("flight")),
        poll_time - max(silence, 0.0) if silence is not None else sent if sent is not None else poll_time,
        fields.read_position(sent, get("lat"), get("lon")),
        True if is_on_ground else None if baro is None else False,
        baro,
        fields.read_altitude("alt_geom", get("alt_geom"), FOOT_M),
        fields.read_velocity(get("gs"), KNOT_M_S),
        fields.read_track(get("track")),
        rate,
        _read_category(get("category"), fields),
        _read_source(get("type")),
    )


def _read_category(value: object, fields: FieldReader) -> int | None:
    """Return OpenSky's number of an emitter category; None for one that says nothing, or is dropped."""
    if value is None:
        return None
    if isinstance(value, str) and len(value) == 2 and value[0] in "ABCD" and value[1] in "01234567":
        return _CATEGORIES.get(value)
    fields.dropped["category"] += 1
    return None


def _read_source(value: object) -> PositionSource:
    """Return the source of a position by readsb's `type` of message; receivers that give no type decode ADS-B."""
    if value is None:
        return PositionSource.ADS_B
    if isinstance(value, str):
        for beginning, source in _SOURCE_BEGINNINGS:
            if value.startswith(beginning):
                return source
    return PositionSource.OTHER
