"""The parser of OpenSky's `/states/all` and `/states/own` (openskynetwork/opensky-api, docs/free/rest.rst). Pure."""

from collections.abc import Mapping
from typing import Final

from collector.sources.state_vector import (
    FieldReader,
    Poll,
    PositionSource,
    StateVector,
    UnreadablePollError,
    bound_time,
    read_poll_time,
)

_FEWEST_FIELDS: Final = 9
"""A row as short as this still has an address, a position, an altitude and `on_ground`; the rest is unknown."""
_ALL_FIELDS: Final = 18
_EARLIEST_S: Final = 0.0
_HIGHEST_CATEGORY: Final = 20
_SOURCES: Final = (PositionSource.ADS_B, PositionSource.RADAR, PositionSource.MLAT, PositionSource.FLARM)
"""By the number in the field `position_source`; 1 is ASTERIX, the format of radars."""


def parse_states(answer: object) -> Poll:
    """Return the poll that an answer holds, decoded from JSON; `"states": null` is a poll without aircraft.

    Rows without an address, and fields that cannot be true, are dropped and counted. Raises UnreadablePollError if the
    answer has no time, or no list of states.
    """
    if not isinstance(answer, Mapping) or "states" not in answer:
        raise UnreadablePollError('it is no object with the members "time" and "states"')
    time = read_poll_time(answer.get("time"), "time")
    rows = answer["states"]
    if rows is None:
        return Poll(time, ())
    if not isinstance(rows, list):
        raise UnreadablePollError('its member "states" is neither a list nor null')
    fields = FieldReader()
    found = [_parse_row(row, time, fields) for row in rows]
    return Poll(time, [each for each in found if each is not None], dict(fields.dropped))


def _parse_row(row: object, poll_time: float, fields: FieldReader) -> StateVector | None:
    """Return the state vector of a row; None, counted, for a row that is no list or has no address.

    A row without a valid `last_contact` counts as heard when its position was sent, else at the time of the poll.
    """
    if not isinstance(row, list) or len(row) < _FEWEST_FIELDS:
        fields.dropped["row"] += 1
        return None
    icao24 = fields.read_icao24(row[0])
    if icao24 is None:
        return None
    padded: list[object] = [*row, *[None] * (_ALL_FIELDS - len(row))]
    _, callsign, _, position_time, last_contact, longitude, latitude, baro, ground, velocity, track, rate = padded[:12]
    geo, source, category = padded[13], padded[16], padded[17]
    sent = fields.read_number("position_time", position_time, _EARLIEST_S, poll_time + 86_400.0)
    sent = bound_time(sent, poll_time, fields.dropped, "position_time")
    heard = fields.read_number("last_contact", last_contact, _EARLIEST_S, poll_time + 86_400.0)
    heard = bound_time(heard, poll_time, fields.dropped, "last_contact")
    if ground is not None and not isinstance(ground, bool):
        fields.dropped["on_ground"] += 1
    number = fields.read_number("category", category, 0, _HIGHEST_CATEGORY)
    return StateVector(
        icao24,
        fields.read_callsign(callsign),
        heard if heard is not None else sent if sent is not None else poll_time,
        fields.read_position(sent, latitude, longitude),
        ground if isinstance(ground, bool) else None,
        fields.read_altitude("baro_altitude", baro),
        fields.read_altitude("geo_altitude", geo),
        fields.read_velocity(velocity),
        fields.read_track(track),
        fields.read_vertical_rate(rate),
        None if number is None else int(number),
        _read_source(source, fields),
    )


def _read_source(value: object, fields: FieldReader) -> PositionSource:
    """Return the source of a position by its number; `OTHER`, counted, for a number that OpenSky does not document."""
    if type(value) is int and 0 <= value < len(_SOURCES):
        return _SOURCES[value]
    if value is not None:
        fields.dropped["position_source"] += 1
    return PositionSource.OTHER
