"""The track of one flight of the timetable: it lifts off when the timetable says, and touches down when it says.

A flight without arrival airport flies away in some direction, and sinks out of everybody's hearing below 10,000 ft; one
without departure airport comes from somewhere in the same way. A small share of the arrivals goes around once before it
lands.
"""

from typing import Final

from local.opensky.flights import TimetableFlight
from local.opensky.sky.aircraft import Identity, TrueState
from local.opensky.sky.airfields import FOOT_M, UNHEARD_FLOOR_M, Airfield, find_airfield
from local.opensky.sky.chance import derive_seed, draw
from local.opensky.sky.geometry import Leg, Path, Pose, StraightLeg, move_point, plan_circuit, plan_turns
from local.opensky.sky.ground import ON_GROUND_S, LandingRun, TakeOffRun
from local.opensky.sky.profile import GLIDE_SLOPE, FlightProfile, GoAround, ImpossibleFlightError
from local.opensky.sky.settings import SkySettings

_CATEGORIES: Final = (4, 4, 4, 4, 5, 6, 3, 0, 1)
_TURN_RADIUS_M: Final = 3_500.0
_CIRCUIT_RADIUS_M: Final = 2_300.0
_AWAY_SPEED: Final = 200.0
"""Average speed of flights of which only one airport is known: it says how far they go."""
_SHORTEST_AWAY_M: Final = 150_000.0


class FlightTrack:
    """A flight of the timetable in the sky."""

    def __init__(self, flight: TimetableFlight, settings: SkySettings) -> None:
        """Plan the track. Raises ImpossibleFlightError for a flight with too little time, or with unknown airports."""
        seed = derive_seed("flight", settings.seed, flight.icao24, flight.first_seen)
        category = _CATEGORIES[int(draw(seed, 4) * len(_CATEGORIES))]
        self.identity = Identity(flight.icao24, flight.callsign, category, seed)
        self.flight = flight
        self._seed = seed
        origin = _find_airfield(flight.departure_airport)
        target = _find_airfield(flight.arrival_airport)
        if origin is None and target is None:
            raise ImpossibleFlightError
        self._take_off = self._landing = None
        self.goes_around = False
        duration = float(flight.last_seen - flight.first_seen)
        away_m = max(_SHORTEST_AWAY_M, _AWAY_SPEED * duration * 0.9)
        heading = 360.0 * draw(seed, 5)
        if origin is not None:
            self.take_off_end = origin.choose_end(settings.seed, flight.first_seen, seed)
            self._take_off = TakeOffRun(origin, self.take_off_end, seed)
        if target is not None:
            self.landing_end = target.choose_end(settings.seed, flight.last_seen, seed)
            self._landing = LandingRun(target, self.landing_end, seed)
        low, high = self._find_ends(away_m, heading)
        at_ends = tuple(0.0 if each is None else each.elevation_m for each in (origin, target))
        self._elevations = (at_ends[0], at_ends[1])
        self._profile = self._plan(low, high, duration, settings)
        self._floors = (_find_floor(origin, settings), _find_floor(target, settings))
        self._pressure_errors = tuple(
            0.0 if field is None else field.find_pressure_error(settings.seed, time, settings.pressure_error_m)
            for field, time in ((origin, flight.first_seen), (target, flight.last_seen))
        )

    @property
    def takes_off(self) -> bool:
        """True if the sky has the flight's take-off, False if it comes from an airport that is not known."""
        return self._take_off is not None

    @property
    def lands(self) -> bool:
        """True if the sky has the flight's landing, False if it flies to an airport that is not known."""
        return self._landing is not None

    @property
    def start(self) -> float:
        """The first instant (Unix seconds) at which the transponder is on."""
        return self.flight.first_seen - (ON_GROUND_S if self._take_off else 0.0)

    @property
    def end(self) -> float:
        """The last instant (Unix seconds) at which the transponder is on."""
        return self.flight.last_seen + (ON_GROUND_S if self._landing else 0.0)

    def locate(self, time: float) -> TrueState | None:
        """Return the true state at an instant, in the air or on the ground; None before `start` and after `end`."""
        flight = self.flight
        if time < flight.first_seen:
            on_ground = self._take_off.locate(time - flight.first_seen) if self._take_off else None
            return None if on_ground is None else self._describe_ground(0, *on_ground)
        if time > flight.last_seen:
            on_ground = self._landing.locate(time - flight.last_seen) if self._landing else None
            return None if on_ground is None else self._describe_ground(1, *on_ground)
        pose, altitude, speed, rate, share = self._profile.locate(time - flight.first_seen)
        near = 0 if share < 0.5 else 1
        error = self._pressure_errors[0] + share * (self._pressure_errors[1] - self._pressure_errors[0])
        height = altitude - self._elevations[near]
        return TrueState(*pose[:2], altitude, height, False, speed, pose.track, rate, self._floors[near], error)

    def _describe_ground(self, near: int, pose: Pose, speed: float) -> TrueState:
        """Return the true state on the ground of the departure airport (0) or of the arrival airport (1)."""
        elevation, error, floor = self._elevations[near], self._pressure_errors[near], self._floors[near]
        return TrueState(pose.latitude, pose.longitude, elevation, 0.0, True, speed, pose.track, 0.0, floor, error)

    def _find_ends(self, away_m: float, heading: float) -> tuple[Pose, Pose]:
        """Return where the flight lifts off, and where it touches down; an unknown end is far away."""
        if self._take_off is None:
            assert self._landing is not None  # noqa: S101 - for the type checker
            there = move_point(self._landing.touch_down.point, heading, away_m)
            return Pose(*there, heading + 180.0), self._landing.touch_down
        here = self._take_off.lift_off
        if self._landing is None:
            return here, Pose(*move_point(here.point, heading, away_m), heading)
        return here, self._landing.touch_down

    def _plan(self, here: Pose, there: Pose, duration: float, settings: SkySettings) -> FlightProfile:
        """Plan the profile, with a go-around if chance wants one and there is time for it.

        Raises ImpossibleFlightError.
        """
        wanted = self._landing is not None and draw(self._seed, 6) < settings.go_around_share
        for go_around in (True, False) if wanted else (False,):
            legs, around = self._plan_path(here, there, go_around=go_around)
            path = Path(legs)
            highest = min(9_500.0, 2_500.0 + 0.015 * path.length) + 2_400.0 * draw(self._seed, 7)
            cruise = round(highest / (1_000 * FOOT_M)) * 1_000 * FOOT_M + max(self._elevations)
            try:
                profile = FlightProfile(path, duration, cruise, self._elevations, around)
            except ImpossibleFlightError:
                if not go_around:
                    raise
                continue
            self.goes_around = go_around
            return profile
        raise AssertionError

    def _plan_path(self, here: Pose, there: Pose, *, go_around: bool) -> tuple[list[Leg], GoAround | None]:
        """Return the legs from lift-off to touch-down, and the go-around on them."""
        out_m = 4_000.0 + 3_000.0 * draw(self._seed, 8)
        final_m = 12_000.0 + 6_000.0 * draw(self._seed, 9)
        legs: list[Leg] = []
        if self._take_off is not None:
            begin = here
            here = Pose(*move_point(here.point, here.track, out_m), here.track)
            legs.append(StraightLeg(begin.point, here.point))
        if self._landing is None:
            return [*legs, *plan_turns(here, there, _TURN_RADIUS_M, 100.0)], None
        fix = Pose(*move_point(there.point, there.track, -final_m), there.track)
        legs += plan_turns(here, fix, _TURN_RADIUS_M, _TURN_RADIUS_M)
        if not go_around:
            return [*legs, StraightLeg(fix.point, there.point)], None
        low_m = (60.0 + 90.0 * draw(self._seed, 10)) / GLIDE_SLOPE
        low = Pose(*move_point(there.point, there.track, -low_m), there.track)
        sign = 1.0 if draw(self._seed, 11) < 0.5 else -1.0
        circuit = plan_circuit(low, low_m + 6_000.0, final_m - low_m, _CIRCUIT_RADIUS_M, sign)
        legs += [StraightLeg(fix.point, low.point), *circuit, StraightLeg(fix.point, there.point)]
        return legs, GoAround(low_m, sum(leg.length for leg in circuit), final_m)


def _find_airfield(icao: str | None) -> Airfield | None:
    return None if icao is None else find_airfield(icao)


def _find_floor(airfield: Airfield | None, settings: SkySettings) -> float:
    """Return the floor of reception at an airport; no airport: at the unknown end of a flight nobody hears it low."""
    return UNHEARD_FLOOR_M if airfield is None else settings.find_floor(airfield)
