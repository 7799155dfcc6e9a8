"""What is received of an aircraft: which of its seconds are heard, and what its reports then say.

A report is made of the last messages: of the last position, which may be old while altitude and velocity go on, and of
the last message of any kind. The oddities are those that were measured in real positions: dropouts, positions that are
repeated, velocities on the ground that stay as they were in the air or are missing, `on_ground` that flickers or is
late, altitudes thousands of feet off, fields that are null.
"""

from typing import Final, NamedTuple, Protocol

from local.opensky.sky.aircraft import Aircraft, TrueState
from local.opensky.sky.airfields import FOOT_M
from local.opensky.sky.chance import draw
from local.opensky.sky.settings import SkySettings

ALTITUDE_STEP_M: Final = 25 * FOOT_M
"""Altitudes are reported in steps of 25 ft."""
OLDEST_S: Final = 15
"""Seconds after which an aircraft that sends nothing is left out, as OpenSky's documentation has it."""
OLDEST_REPEATED_S: Final = 90
"""A position older than this is not repeated any more."""
_DROPOUT_BLOCK_S: Final = 600
_LONGEST_DROPOUT_S: Final = 90
_STALE_BLOCK_S: Final = 120
_LONGEST_STALE_S: Final = 80
_SHORTEST_STALE_S: Final = 30
_FAINT_M: Final = 60.0
"""So far above the floor, some of an aircraft's seconds are not heard."""
_FAINT_SHARE: Final = 0.6
_NEAR_GROUND_M: Final = 60.0
_GEOID_M: Final = -32.0
"""The height of the mean sea level above the ellipsoid, as around New York; the world has -105 to +85."""
_POSITION_NOISE_DEG: Final = 0.00012
_MLAT_NOISE_DEG: Final = 0.0012
_MLAT_SHARE: Final = 0.03
_NO_GEOMETRY_SHARE: Final = 0.15
_GROUND_VELOCITY_NULL_SHARE: Final = 0.75
_GROUND_ALTITUDE_SHARE: Final = 0.08
_STALE_GROUND_VELOCITY: Final = 52.99
_LARGEST_SPIKE_M: Final = 8_000.0

# Numbers that keep the draws of one aircraft apart; each is added to a second or the number of a block.
(_MESSAGE, _POSITION, _DROPOUT, _STALE, _FAINT, _NOISE, _FLAG, _SPIKE, _NULL, _GROUND) = (n << 40 for n in range(1, 11))
_OF_THE_AIRCRAFT: Final = 11 << 40


class Report(NamedTuple):
    """The report of a source on an aircraft at an instant: the fields of OpenSky's state vector, in its units."""

    icao24: str
    callsign: str | None
    time_position: int | None
    last_contact: int
    longitude: float | None
    latitude: float | None
    baro_altitude: float | None
    on_ground: bool
    velocity: float | None
    true_track: float | None
    vertical_rate: float | None
    geo_altitude: float | None
    squawk: str | None
    position_source: int
    category: int


class Listener(Protocol):
    """A source of reports: a network of receivers, or one receiver."""

    @property
    def salt(self) -> int:
        """A number that changes all draws, so that two listeners miss other messages of one aircraft."""
        ...

    @property
    def oldest_s(self) -> int:
        """Seconds after which an aircraft is left out."""
        ...

    def hears(self, state: TrueState) -> bool:
        """Return True if an aircraft in this state can be heard, False if it is too low or too far away."""
        ...

    def is_faint(self, state: TrueState) -> bool:
        """Return True if an aircraft that can be heard is heard only in some of its seconds."""
        ...

    def is_far(self, state: TrueState) -> bool:
        """Return True if nothing can have been heard of an aircraft in the last minute either; False: perhaps."""
        ...


class Network:
    """OpenSky's receivers: everything is heard but what is below the floor of the airport that it is at."""

    salt = 0
    oldest_s = OLDEST_S

    def hears(self, state: TrueState) -> bool:
        """Return True from the floor on; on the ground, only where the floor is 0."""
        return state.floor_m == 0.0 or (not state.on_ground and state.height_m >= state.floor_m)

    def is_faint(self, state: TrueState) -> bool:
        """Return True in the lowest metres above a floor that is not the ground."""
        return state.floor_m > 0.0 and state.height_m < state.floor_m + _FAINT_M

    def is_far(self, state: TrueState) -> bool:
        """Return False: whoever is too low may have been higher before."""
        return False


NETWORK: Final = Network()


def can_hear(aircraft: Aircraft, listener: Listener, second: int, state: TrueState) -> bool:
    """Return True if the listener hears an aircraft in this state at this second, dropouts aside; else False."""
    if not listener.hears(state):
        return False
    return not listener.is_faint(state) or draw(aircraft.identity.seed ^ listener.salt, _FAINT + second) < _FAINT_SHARE


def find_position(aircraft: Aircraft, listener: Listener, time: int, settings: SkySettings) -> int | None:
    """Return the last second, at most OLDEST_REPEATED_S before `time`, of which a position was received; None: none."""
    second = time
    while second >= time - OLDEST_REPEATED_S:
        begin = _find_silence(aircraft, listener, second, settings)
        if begin is not None:
            second = begin - 1
            continue
        if _receive_position(aircraft, listener, second, settings) is not None:
            return second
        second -= 1
    return None


def find_state_of_position(
    aircraft: Aircraft, listener: Listener, second: int, settings: SkySettings
) -> TrueState | None:
    """Return the true state at a second of which a position was received; None if none was."""
    if _find_silence(aircraft, listener, second, settings) is not None:
        return None
    return _receive_position(aircraft, listener, second, settings)


def _find_silence(aircraft: Aircraft, listener: Listener, second: int, settings: SkySettings) -> int | None:
    """Return the first second of the dropout or time without positions in which a second lies; None: in none."""
    seed = aircraft.identity.seed ^ listener.salt
    begin = _find_stretch(seed, second, settings.dropout_share, _DROPOUT)
    return _find_stretch(seed, second, settings.stale_share, _STALE) if begin is None else begin


def _receive_position(aircraft: Aircraft, listener: Listener, second: int, settings: SkySettings) -> TrueState | None:
    """Return the true state at a second if a position of it was received, else None; `second` lies in no silence."""
    if draw(aircraft.identity.seed ^ listener.salt, _POSITION + second) >= settings.position_share:
        return None
    state = aircraft.locate(second)
    return state if state is not None and can_hear(aircraft, listener, second, state) else None


def find_contact(
    aircraft: Aircraft, listener: Listener, time: int, settings: SkySettings
) -> tuple[int, TrueState] | None:
    """Return the last second, at most the listener's `oldest_s` before `time`, of which anything was received.

    The state of that second comes with it; None: nothing was received.
    """
    seed, second = aircraft.identity.seed ^ listener.salt, time
    while second >= time - listener.oldest_s:
        begin = _find_stretch(seed, second, settings.dropout_share, _DROPOUT)
        if begin is not None:
            second = begin - 1
            continue
        # A position is a message, too: no position may be newer than the last contact.
        if (
            draw(seed, _MESSAGE + second) < settings.message_share
            or draw(seed, _POSITION + second) < settings.position_share
        ):
            state = aircraft.locate(second)
            if state is not None:
                if can_hear(aircraft, listener, second, state):
                    return second, state
                if listener.is_far(state):
                    return None
        second -= 1
    return None


def make_report(aircraft: Aircraft, listener: Listener, time: int, settings: SkySettings) -> Report | None:
    """Return what the listener reports of an aircraft at an instant; None if it does not hear it."""
    contact = find_contact(aircraft, listener, time, settings)
    if contact is None:
        return None
    heard_at, state = contact
    identity = aircraft.identity
    seed = identity.seed ^ listener.salt
    position_at, latitude, longitude = _find_reported_position(aircraft, listener, time, heard_at, state, settings)
    baro, velocity, track, rate = _describe_movement(identity.seed, seed, heard_at, state, settings)
    geo = None
    if not state.on_ground and draw(identity.seed, _OF_THE_AIRCRAFT + 1) >= _NO_GEOMETRY_SHARE:
        geo = _round_altitude(state.altitude_m + _GEOID_M)
    squawk = int(draw(identity.seed, _OF_THE_AIRCRAFT + 2) * 4_096)
    return Report(
        identity.icao24,
        None if draw(identity.seed, _OF_THE_AIRCRAFT + 3) < 0.02 else identity.callsign,
        position_at,
        heard_at,
        longitude,
        latitude,
        baro,
        _report_ground_flag(aircraft, seed, heard_at, state, settings),
        velocity,
        track,
        rate,
        geo,
        None if squawk < 300 else f"{squawk:04o}",
        2 if _is_mlat(identity.seed, state) else 0,
        identity.category,
    )


def _find_reported_position(
    aircraft: Aircraft, listener: Listener, time: int, heard_at: int, state: TrueState, settings: SkySettings
) -> tuple[int | None, float | None, float | None]:
    """Return the second of the last position with its latitude and longitude; None for each if there is none.

    A position older than OLDEST_S is repeated or null: chance decides for the whole stretch.
    """
    position_at = find_position(aircraft, listener, time, settings)
    if position_at is None:
        return None, None, None
    seed = aircraft.identity.seed ^ listener.salt
    if time - position_at > OLDEST_S and draw(seed, _STALE - 1 - position_at) >= settings.repeated_share:
        return None, None, None
    there = state if position_at == heard_at else aircraft.locate(position_at)
    assert there is not None  # noqa: S101 - a position was received of this second
    latitude, longitude = there.latitude, there.longitude
    if settings.noise:
        size = _MLAT_NOISE_DEG if _is_mlat(aircraft.identity.seed, there) else _POSITION_NOISE_DEG
        latitude += size * (draw(seed, _NOISE + 2 * position_at) - 0.5)
        longitude += size * (draw(seed, _NOISE + 2 * position_at + 1) - 0.5)
    return position_at, latitude, (longitude + 180.0) % 360.0 - 180.0


def _describe_movement(
    own: int, seed: int, second: int, state: TrueState, settings: SkySettings
) -> tuple[float | None, float | None, float | None, float | None]:
    """Return barometric altitude, velocity, track and vertical rate as they are reported.

    On the ground altitude is mostly null, and velocity null or one that was true long ago. `own`: the aircraft's seed.
    """
    if settings.noise and state.on_ground:
        chance = draw(seed, _GROUND + second)
        altitude = None
        if chance < _GROUND_ALTITUDE_SHARE:
            altitude = _report_altitude(seed, second, state, settings)
        if draw(seed, _NULL + second) < _GROUND_VELOCITY_NULL_SHARE:
            return altitude, None, None, None
        stale = _STALE_GROUND_VELOCITY + 12.0 * (draw(own, _OF_THE_AIRCRAFT + 4) - 0.5)
        return altitude, round(stale, 2), round(state.track, 2), None
    nulls = draw(seed, _NULL + second)
    altitude = None if nulls < settings.null_share else _report_altitude(seed, second, state, settings)
    if settings.null_share <= nulls < 2 * settings.null_share:
        return altitude, None, None, None
    rate = round(state.vertical_rate / 0.32512) * 0.32512  # 64 ft/min
    return altitude, round(state.speed, 2), round(state.track, 2), round(rate, 2)


def _report_altitude(seed: int, second: int, state: TrueState, settings: SkySettings) -> float:
    """Return the barometric altitude that is reported, sometimes far off."""
    altitude = state.altitude_m + state.pressure_error_m
    if draw(seed, _SPIKE + second) < settings.spike_share:
        altitude += _LARGEST_SPIKE_M * (draw(seed, _SPIKE + _SPIKE + second) - 0.3)
    return _round_altitude(altitude)


def _report_ground_flag(aircraft: Aircraft, seed: int, second: int, state: TrueState, settings: SkySettings) -> bool:
    """Return `on_ground` as it is reported: near the ground it is some seconds late, and sometimes wrong."""
    if state.height_m >= _NEAR_GROUND_M or not settings.flicker_share:
        return state.on_ground
    if aircraft.identity.category < 16 and draw(seed, _FLAG + second) < settings.flicker_share:
        return not state.on_ground
    late = int(7 * draw(aircraft.identity.seed, _OF_THE_AIRCRAFT + 5))
    before = aircraft.locate(second - late)
    return state.on_ground if before is None else before.on_ground


def _is_mlat(seed: int, state: TrueState) -> bool:
    """Return True if the aircraft sends no positions, so that they are computed from several receivers, else False."""
    return not state.on_ground and draw(seed, _OF_THE_AIRCRAFT + 6) < _MLAT_SHARE


def _find_stretch(seed: int, second: int, share: float, purpose: int) -> int | None:
    """Return the first second of the silence of one kind (`purpose`) in which a second lies; None: in none.

    Time is divided into blocks; a `share` of them has one silence each, which begins and ends inside its block.
    """
    if purpose == _DROPOUT:
        block_s, shortest, longest = _DROPOUT_BLOCK_S, 5, _LONGEST_DROPOUT_S
    else:
        block_s, shortest, longest = _STALE_BLOCK_S, _SHORTEST_STALE_S, _LONGEST_STALE_S
    number, inside = divmod(second, block_s)
    if draw(seed, purpose + 3 * number) >= share:
        return None
    length = shortest + int((longest - shortest) * draw(seed, purpose + 3 * number + 1))
    begin = int((block_s - length) * draw(seed, purpose + 3 * number + 2))
    return second - inside + begin if begin <= inside < begin + length else None


def _round_altitude(altitude: float) -> float:
    return round(round(altitude / ALTITUDE_STEP_M) * ALTITUDE_STEP_M, 2)
