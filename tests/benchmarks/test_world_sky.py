"""The made-up sky of `benchmarks.live_week` is one in which the detector has real work, and finds what was flown."""

import json
from collections import defaultdict

from benchmarks.week.sky import SkyFlight, WorldSky
from collector.live.airfields import load_airfields
from collector.live.movements import Movement, detect_movements
from collector.sources.opensky.states import parse_states
from domain.interests import Direction

AIRCRAFT = 400
BEGIN = 1_700_000_000
STEP_S, POLLS = 87, 60
LATER = BEGIN + STEP_S * POLLS


def get_time(flight: SkyFlight, direction: Direction) -> float:
    """Return the time of a flight's movement in a direction."""
    return flight.took_off if direction is Direction.DEPARTURES else flight.landed


def test_the_sky_has_so_many_aircraft_and_the_same_at_each_time_it_is_asked() -> None:
    """Rows are all readable, no aircraft is twice in a poll, and the sky of an instant needs none of those before."""
    sky = WorldSky(AIRCRAFT)
    poll = parse_states(json.loads(sky.encode(LATER)))
    assert not poll.dropped
    assert 0.8 * AIRCRAFT < len({each.icao24 for each in poll.states}) == len(poll.states) < 1.2 * AIRCRAFT
    assert WorldSky(AIRCRAFT).encode(LATER) == sky.encode(LATER)
    assert WorldSky(AIRCRAFT, seed=18).encode(LATER) != sky.encode(LATER)


def test_the_detector_finds_the_flights_of_the_sky() -> None:
    """Of the movements that the sky lists nearly all are found within three minutes, and hardly any other."""
    sky = WorldSky(AIRCRAFT)
    polls = (parse_states(json.loads(sky.encode(time))) for time in range(BEGIN, LATER, STEP_S))
    found: defaultdict[tuple[str, Direction, str], list[Movement]] = defaultdict(list)
    for each in detect_movements(polls, load_airfields()):
        found[each.airport, each.direction, each.icao24].append(each)
    flown = hit = 0
    for airport in sky.airports:
        for part in Direction.BOTH.parts:
            for flight in sky.list_flights(airport.icao, part, BEGIN + 300, LATER - 900):
                flown += 1
                at = get_time(flight, part)
                hit += any(
                    abs(each.event_time.timestamp() - at) <= 180 for each in found[airport.icao, part, flight.icao24]
                )
    assert flown > 100
    assert hit > 0.9 * flown
    assert sum(map(len, found.values())) < 1.5 * flown
