"""Aircraft and vehicles that are in no timetable: they are heard, and make no movement at any airport.

- Overflights: airliners at their cruising height, from far to far over an airport.
- Low passes: light aircraft in level flight some 1,200 to 3,000 ft above an airport.
- Vehicles at the airports where surface positions are heard: they drive along a runway, sometimes on it.
- A helicopter: from its heliport in a town near an airport, round the town, and back.

Their addresses are in a block that is given to nobody, like those of `local.opensky.icao24`.
"""

from collections.abc import Iterator, Sequence
from functools import lru_cache
from math import pi, sin
from typing import Final

from local.opensky.sky.aircraft import Aircraft, Identity, TrueState
from local.opensky.sky.airfields import FOOT_M, Airfield
from local.opensky.sky.chance import derive_seed, draw
from local.opensky.sky.geometry import Path, Point, Pose, StraightLeg, move_point, plan_circle
from local.opensky.sky.settings import SkySettings

_RESERVED_BLOCK: Final = 0xD00000
_HOUR: Final = 3_600
_OVERFLIGHTS_PER_HOUR: Final = 24
_LOW_PASSES_PER_HOUR: Final = 4
_OVERFLIGHT_M: Final = 700_000.0
"""For so long, half of it before and half of it after the airport, an overflight is heard."""
_LOW_PASS_M: Final = 60_000.0
_VEHICLES: Final = 2
"""Vehicles at each of the airports with most traffic where surface positions are heard."""
_AIRPORTS_WITH_VEHICLES: Final = 8
_VEHICLE_LAP_S: Final = 900.0
_HELICOPTERS: Final = 2
"""The first so many airports of the timetable have a heliport in a town nearby."""
_HELICOPTER_CYCLE_S: Final = 3_600
_HELICOPTER_SPEED: Final = 50.0
_HELICOPTER_HEIGHT_M: Final = 300.0
_HELICOPTER_CLIMB: Final = 5.0
_HELICOPTER_GROUND_S: Final = 240.0
"""Seconds at the heliport, before take-off and after landing, with the transponder on."""


class OtherTraffic:
    """All aircraft and vehicles of the sky that are in no timetable, near the given airports."""

    def __init__(self, airfields: Sequence[Airfield], settings: SkySettings) -> None:
        """`airfields`: in the order of their traffic; those with more of it are flown over more often."""
        self._airfields = airfields
        self._settings = settings
        self._steady: list[Aircraft] = []
        with_surface = [airfield for airfield in airfields if settings.find_floor(airfield) == 0.0]
        for airfield in with_surface[:_AIRPORTS_WITH_VEHICLES]:
            self._steady += [Vehicle(airfield, number, settings) for number in range(_VEHICLES)]
        self._steady += [Helicopter(airfield, settings) for airfield in airfields[:_HELICOPTERS]]
        self._list_passes = lru_cache(maxsize=256)(self._make_passes)

    def list_aircraft(self, time: float) -> Iterator[Aircraft]:
        """Yield the aircraft and vehicles that may be heard at an instant."""
        if self._airfields:
            yield from self._steady
            for hour in (int(time // _HOUR) - 1, int(time // _HOUR)):
                yield from self._list_passes(hour)

    def _make_passes(self, hour: int) -> list[Aircraft]:
        """Make the overflights and low passes that begin in an hour (hours since 1970)."""
        found: list[Aircraft] = []
        for number in range(_OVERFLIGHTS_PER_HOUR + _LOW_PASSES_PER_HOUR):
            seed = derive_seed("pass", self._settings.seed, hour, number)
            near = self._airfields[int(draw(seed, 0) ** 2 * len(self._airfields))]
            begin = hour * _HOUR + _HOUR * draw(seed, 1)
            found.append(PassingAircraft(near, seed, begin, self._settings, low=number >= _OVERFLIGHTS_PER_HOUR))
        return found


class PassingAircraft:
    """An aircraft in level flight over or near an airport, which neither takes off nor lands."""

    def __init__(self, near: Airfield, seed: int, begin: float, settings: SkySettings, *, low: bool) -> None:
        """`begin`: the instant at which it comes into reach."""
        self.identity = Identity(make_address(seed), _make_callsign(seed, low=low), 2 if low else 5, seed)
        self._begin, self._ground_m = begin, near.elevation_m
        self._pressure_error_m = near.find_pressure_error(settings.seed, begin, settings.pressure_error_m)
        length = _LOW_PASS_M if low else _OVERFLIGHT_M
        self._speed = 50.0 + 20.0 * draw(seed, 3) if low else 210.0 + 50.0 * draw(seed, 3)
        if low:
            self._height = (1_200.0 + 100.0 * int(18 * draw(seed, 4))) * FOOT_M
        else:
            self._height = (26_000.0 + 1_000.0 * int(15 * draw(seed, 4))) * FOOT_M
        heading = 360.0 * draw(seed, 5)
        nearest = move_point(near.centre, heading + 90.0, (draw(seed, 6) - 0.5) * (4_000.0 if low else 80_000.0))
        self._leg = StraightLeg(move_point(nearest, heading, -length / 2), move_point(nearest, heading, length / 2))

    def locate(self, time: float) -> TrueState | None:
        """Return the true state at an instant (Unix seconds); None while the aircraft is out of reach."""
        place = (time - self._begin) * self._speed
        if not 0.0 <= place <= self._leg.length:
            return None
        pose = self._leg.locate(place)
        altitude, error = self._ground_m + self._height, self._pressure_error_m
        return TrueState(*pose[:2], altitude, self._height, False, self._speed, pose.track, 0.0, 0.0, error)


class Vehicle:
    """A vehicle of an airport that drives to and fro along a runway: one beside it, the other on it."""

    def __init__(self, airfield: Airfield, number: int, settings: SkySettings) -> None:
        seed = derive_seed("vehicle", settings.seed, airfield.icao, number)
        self.identity = Identity(make_address(seed), f"OPS{number + 1}", 17 if number else 16, seed)
        end = max(airfield.ends, key=lambda each: each.length)
        aside = 0.0 if number else 180.0
        a, b = (move_point(point, end.heading + 90.0, aside) for point in (end.threshold, end.far_end))
        self._leg = StraightLeg(a, b)
        self._elevation_m, self._offset = airfield.elevation_m, _VEHICLE_LAP_S * draw(seed, 1)

    def locate(self, time: float) -> TrueState | None:
        """Return the true state at an instant (Unix seconds), never None: a vehicle is always at work."""
        turned = 2 * pi * ((time + self._offset) % _VEHICLE_LAP_S) / _VEHICLE_LAP_S
        pose = self._leg.locate(self._leg.length * (0.5 + 0.45 * sin(turned)))
        speed = 0.45 * self._leg.length * 2 * pi / _VEHICLE_LAP_S * sin(turned + pi / 2)
        track = pose.track if speed >= 0 else (pose.track + 180.0) % 360.0
        return TrueState(pose.latitude, pose.longitude, self._elevation_m, 0.0, True, abs(speed), track, 0.0, 0.0, 0.0)


class Helicopter:
    """A helicopter that leaves its heliport each hour, flies a circle over the town, and lands there again."""

    def __init__(self, near: Airfield, settings: SkySettings) -> None:
        """Place the heliport some kilometres beside the airport, off the lines of its runways."""
        seed = derive_seed("helicopter", settings.seed, near.icao)
        self.identity = Identity(make_address(seed), f"HELI{seed % 90 + 10}", 8, seed)
        heading = near.ends[0].heading + 45.0 + (90.0 if draw(seed, 1) < 0.5 else 0.0)
        self.heliport: Point = move_point(near.centre, heading, 4_500.0 + 2_000.0 * draw(seed, 2))
        away = Pose(*self.heliport, heading)
        self._path = Path([plan_circle(away, 2_500.0)])
        self._flying_s = self._path.length / _HELICOPTER_SPEED
        self._elevation_m, self._offset = near.elevation_m, int(_HELICOPTER_CYCLE_S * draw(seed, 3))
        self._near, self._settings = near, settings

    def locate(self, time: float) -> TrueState | None:
        """Return the true state at an instant (Unix seconds); None while it waits with its transponder off."""
        second = (time + self._offset) % _HELICOPTER_CYCLE_S - _HELICOPTER_GROUND_S
        if second > self._flying_s + _HELICOPTER_GROUND_S:
            return None
        inside = min(max(0.0, second), self._flying_s)
        pose = self._path.locate(inside * _HELICOPTER_SPEED)
        left = min(inside, self._flying_s - inside)
        height = min(_HELICOPTER_HEIGHT_M, left * _HELICOPTER_CLIMB)
        rate = 0.0
        if 0.0 < height < _HELICOPTER_HEIGHT_M:
            rate = _HELICOPTER_CLIMB if inside < self._flying_s / 2 else -_HELICOPTER_CLIMB
        on_ground = height == 0.0
        speed = 0.0 if on_ground else _HELICOPTER_SPEED
        altitude = self._elevation_m + height
        error = self._near.find_pressure_error(self._settings.seed, time, self._settings.pressure_error_m)
        return TrueState(*pose[:2], altitude, height, on_ground, speed, pose.track, rate, 0.0, error)


def make_address(seed: int) -> str:
    """Return an address that no state gives to an aircraft."""
    return f"{_RESERVED_BLOCK + seed % 0x100000:06x}"


def _make_callsign(seed: int, *, low: bool) -> str:
    return f"N{seed % 900 + 100}TW" if low else f"TWR{seed % 9_000 + 1_000}"
