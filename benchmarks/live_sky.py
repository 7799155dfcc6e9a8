"""How many movements the detector finds in an independent sky, by the floor of reception and the polls' interval.

    python -m benchmarks.live_sky [SEED...]

The sky is the replay's (`local/opensky/sky`): flights between New York and nine other airports, and back, with wrong
pressure, dropouts, stale positions and incomplete reports; it knows its own movements. For each seed (default 1) and
each floor of reception it prints the recall of departures and arrivals, and how many movements were false. A sky takes
a minute or two to make.
"""

import os
import sys
from collections.abc import Iterable, Sequence
from typing import Final

from benchmarks.live_accuracy import Event, compare, detect
from collector.live.airfields import load_airfields
from collector.sources.opensky.states import parse_states
from collector.sources.state_vector import Poll
from local.opensky import nycflights
from local.opensky.flights import Timetable, TimetableFlight
from local.opensky.sky.settings import SkySettings
from local.opensky.sky.sky import Sky
from local.opensky.sky.truth import list_movements
from local.opensky.state_encoding import encode_states

BEGIN: Final = 1_360_782_000
"""2013-02-13 19:00 UTC."""
SECONDS: Final = 7_200
FLOORS_FT: Final = (0, 500, 1_000, 1_500)
STEPS_S: Final = (10, 30, 60, 90)
AIRPORTS: Final = ("KBOS", "KORD", "KATL", "KDCA", "KPHL", "KBUF", "KCLE", "KFLL", "KDEN")

_UNDECIDED_S: Final = (300, 900)
"""Movements in the first and the last seconds are not counted: they may have no beginning or end that is heard."""


def list_flights() -> list[TimetableFlight]:
    """Return the flights from New York to the airports around that time, and for each one that flies back meanwhile."""
    found = [
        flight
        for flight in nycflights.load(nycflights.find_cache_directory(os.environ))
        if flight.arrival_airport in AIRPORTS
        and BEGIN - 40_000 < flight.first_seen < BEGIN + SECONDS + 3_600
        and flight.last_seen > BEGIN - 3_600
    ]
    back = [
        TimetableFlight(
            each.first_seen, each.last_seen, f"b{each.icao24[1:]}", each.callsign,
            each.arrival_airport or "", each.departure_airport,
        )
        for each in found
    ]  # fmt: skip
    return [*found, *back]


def make_sky(flights: Sequence[TimetableFlight], seed: int, floor_ft: int) -> tuple[list[Poll], list[Event]]:
    """Return the polls of a sky, one in the shortest step, and the movements that are in it."""
    airports = {each.departure_airport or "" for each in flights} | {each.arrival_airport or "" for each in flights}
    floors = dict.fromkeys(airports, floor_ft * 0.3048)
    sky = Sky(Timetable(flights), SkySettings(seed=seed, floors_m=floors, go_around_share=0.05))
    times = range(BEGIN, BEGIN + SECONDS, STEPS_S[0])
    polls = [parse_states(encode_states(time, sky.list_reports(time), extended=True)) for time in times]
    truth = [
        Event(each.direction[:3], each.icao24, each.airport, each.time)
        for each in list_movements(sky, BEGIN - 300, BEGIN + SECONDS + 300)
    ]
    return polls, truth


def is_counted(event: Event) -> bool:
    """Return True if a movement is far enough from the beginning and the end of the polls."""
    return BEGIN + _UNDECIDED_S[0] <= event.time < BEGIN + SECONDS - _UNDECIDED_S[1]


def count(events: Iterable[Event]) -> int:
    """Return how many movements are counted."""
    return sum(map(is_counted, events))


def main(seeds: Sequence[int]) -> None:
    """Print the table."""
    flights, airfields = list_flights(), load_airfields()
    print("| seed | floor | polls every | departures: recall, false | arrivals: recall, false |\n|---|---|---|---|---|")
    for seed in seeds:
        for floor_ft in FLOORS_FT:
            polls, truth = make_sky(flights, seed, floor_ft)
            for step in STEPS_S:
                found = list(detect(polls[:: step // STEPS_S[0]], airfields))
                cells = []
                for direction in ("dep", "arr"):
                    score = compare(found, truth, direction)
                    of = count(each for each in truth if each.direction == direction)
                    cells.append(f"{1 - count(score.missed) / max(of, 1):.3f} of {of}, {count(score.false)}")
                print(f"| {seed} | {floor_ft} ft | {step} s | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main([int(each) for each in sys.argv[1:]] or [1])
