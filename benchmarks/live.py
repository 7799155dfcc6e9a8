"""`python -m benchmarks.live`: what a poll of the whole world costs: 12,000 aircraft, in processor time and memory.

The aircraft are made up and seeded: a fifth stand or taxi at airports of the table, three in ten climb or descend
within 25 km of one, the rest cruise. Each poll moves them on; its JSON is parsed and folded by the detector. The clock
is the processor time of this process, which does nothing else: others on the machine do not count.
"""

import argparse
import gc
import json
import math
import random
import sys
import time
import tracemalloc
from collections.abc import Iterator
from typing import Final

from benchmarks.streams.figures import median, print_progress, report
from collector.live.airfields import AirfieldIndex, load_airfields, read_runways
from collector.live.movements import MovementDetector
from collector.sources.opensky.states import parse_states
from collector.sources.state_vector import Poll

NAME: Final = "live"
AIRCRAFT: Final = 12_000
STEP_S: Final = 86
"""A free account's credits ask for the whole world every 86.4 s."""
POLLS: Final = 12
BEGIN: Final = 1_700_000_000
_METRES_PER_DEGREE: Final = 111_195.0


def build_answers(aircraft: int, polls: int, seed: int = 17) -> Iterator[bytes]:
    """Yield the JSON of polls of `/states/all`."""
    chance = random.Random(seed)
    airports = [each for each in read_runways() if abs(each.latitude) < 70.0]
    sky = []
    for number in range(aircraft):
        airport, kind = chance.choice(airports), chance.random()
        track = chance.uniform(0.0, 360.0)
        if kind < 0.2:
            away, height, speed, rate = chance.uniform(0.0, 800.0), 0.0, chance.choice((0.0, 0.0, 8.0)), 0.0
        elif kind < 0.5:
            away = chance.uniform(1_000.0, 25_000.0)
            height, speed, rate = away * 0.06, 90.0, chance.choice((-4.0, 6.0))
        else:
            away, height, speed, rate = chance.uniform(0.0, 400_000.0), chance.uniform(8_000.0, 12_000.0), 230.0, 0.0
        bearing = math.radians(chance.uniform(0.0, 360.0))
        latitude = airport.latitude + away * math.cos(bearing) / _METRES_PER_DEGREE
        longitude = airport.longitude + away * math.sin(bearing) / _METRES_PER_DEGREE
        sky.append((f"{number:06x}", latitude, longitude, height + airport.elevation_m, speed, track, rate, kind < 0.2))
    for poll in range(polls):
        now, passed = BEGIN + poll * STEP_S, poll * STEP_S
        rows = []
        for icao24, latitude, longitude, altitude, speed, track, rate, is_on_ground in sky:
            north = speed * passed * math.cos(math.radians(track)) / _METRES_PER_DEGREE
            east = speed * passed * math.sin(math.radians(track)) / _METRES_PER_DEGREE
            place = (longitude + east + 540.0) % 360.0 - 180.0, max(-89.0, min(89.0, latitude + north))
            rows.append(
                [icao24, "TEST1   ", "Nowhere", now - 1, now, round(place[0], 4), round(place[1], 4),
                 round(altitude + rate * passed, 1), is_on_ground, speed, track, rate, None, None, None, False, 0, 3]
            )  # fmt: skip
        yield json.dumps({"time": now, "states": rows}).encode()


def main() -> int:
    """Measure the polls and the memory, and print the figures; return 0."""
    parser = argparse.ArgumentParser(prog=f"python -m benchmarks.{NAME}", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a tenth of everything, to see whether it works")
    options, _ = parser.parse_known_args()  # `make bench` gives all benchmarks the same arguments
    aircraft = AIRCRAFT // (10 if options.quick else 1)
    print_progress(f"{NAME}: {aircraft:,} aircraft")
    airfields = load_airfields()
    detector = MovementDetector(airfields)
    parsing: list[float] = []
    folding: list[float] = []
    polls: list[Poll] = []
    for answer in build_answers(aircraft, POLLS):
        begun = time.process_time()
        poll = parse_states(json.loads(answer))
        parsed = time.process_time()
        detector.observe(poll)
        folding.append(time.process_time() - parsed)
        parsing.append(parsed - begun)
        polls.append(poll)
    report(NAME, "parse a poll", median(parsing), "s of CPU", aircraft=aircraft)
    report(NAME, "fold a poll", median(folding), "s of CPU", aircraft=aircraft, longest=round(max(folding), 3))
    report(NAME, "memory of an aircraft", _weigh(airfields, polls) / aircraft, "bytes", remembered=detector.aircraft)
    return 0


def _weigh(airfields: AirfieldIndex, polls: list[Poll]) -> float:
    """Return the bytes that a detector holds after all polls."""
    gc.collect()
    tracemalloc.start()
    detector = MovementDetector(airfields)
    for poll in polls:
        detector.observe(poll)
    gc.collect()
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return float(held)


if __name__ == "__main__":
    sys.exit(main())
