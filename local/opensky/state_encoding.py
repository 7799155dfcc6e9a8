"""Reports of the sky as OpenSky's state vectors, and as readsb's `aircraft.json`. Pure.

Sources: "State Vectors" of OpenSky's REST documentation (July 2026); README-json.md of readsb.
"""

from collections.abc import Iterable, Sequence
from typing import Final

from local.opensky.sky.reception import Report

Json = dict[str, object]

_FOOT_M: Final = 0.3048
_KNOT: Final = 1_852 / 3_600
_FEET_PER_MINUTE: Final = 0.3048 / 60
_UNITED_STATES: Final = ("a0", "ae")
"""Prefixes of the first and behind the last addresses of aircraft of the United States (a00001 to adf7c7)."""
_READSB_CATEGORIES: Final = {
    2: "A1", 3: "A2", 4: "A3", 5: "A4", 6: "A5", 7: "A6", 8: "A7",
    9: "B1", 10: "B2", 11: "B3", 12: "B4", 14: "B6", 15: "B7", 16: "C1", 17: "C2",
}  # fmt: skip
"""By OpenSky's number of a category, the letters of ADS-B; the others have none."""


def encode_states(time: int, reports: Sequence[Report], *, extended: bool, sensors: list[int] | None = None) -> Json:
    """Encode the answer of `/states/all`: rows of 17 fields, with `extended` of 18; no report at all is null.

    `sensors`: the receivers that the request has named; None: it has named none.
    """
    rows = [_encode_row(report, sensors, extended=extended) for report in reports]
    return {"time": time, "states": rows or None}


def encode_aircraft(time: float, reports: Iterable[Report]) -> Json:
    """Encode `aircraft.json` of a receiver at an instant; what is not known is missing."""
    return {"now": time, "messages": int(time) * 40, "aircraft": [_encode_aircraft(time, each) for each in reports]}


def _encode_row(report: Report, sensors: list[int] | None, *, extended: bool) -> list[object]:
    """Encode a state vector; the order of the fields is part of the contract."""
    row: list[object] = [
        report.icao24,
        None if report.callsign is None else f"{report.callsign:<8}",
        "United States" if _UNITED_STATES[0] <= report.icao24 < _UNITED_STATES[1] else "Unknown",
        report.time_position,
        report.last_contact,
        None if report.longitude is None else round(report.longitude, 4),
        None if report.latitude is None else round(report.latitude, 4),
        report.baro_altitude,
        report.on_ground,
        report.velocity,
        report.true_track,
        report.vertical_rate,
        sensors,
        report.geo_altitude,
        report.squawk,
        False,
        report.position_source,
    ]
    return [*row, report.category] if extended else row


def _encode_aircraft(time: float, report: Report) -> Json:
    """Encode one aircraft of `aircraft.json`, in feet, knots and feet a minute; ages are in seconds."""
    found: Json = {"hex": report.icao24, "type": "mlat" if report.position_source == 2 else "adsb_icao"}
    if report.callsign is not None:
        found["flight"] = f"{report.callsign:<8}"
    if report.on_ground:
        found["alt_baro"] = "ground"
    elif report.baro_altitude is not None:
        found["alt_baro"] = round(report.baro_altitude / _FOOT_M)
    if report.geo_altitude is not None:
        found["alt_geom"] = round(report.geo_altitude / _FOOT_M)
    if report.velocity is not None:
        found["gs"] = round(report.velocity / _KNOT, 1)
    if report.true_track is not None:
        found["track"] = report.true_track
    if report.vertical_rate is not None:
        found["baro_rate"] = round(report.vertical_rate / _FEET_PER_MINUTE)
    if report.squawk is not None:
        found["squawk"] = report.squawk
    if report.category in _READSB_CATEGORIES:
        found["category"] = _READSB_CATEGORIES[report.category]
    if report.latitude is not None and report.longitude is not None and report.time_position is not None:
        found |= {"lat": round(report.latitude, 6), "lon": round(report.longitude, 6)}
        found["seen_pos"] = round(time - report.time_position, 1)
    return found | {"seen": round(time - report.last_contact, 1), "mlat": [], "tisb": [], "rssi": -20.0}
