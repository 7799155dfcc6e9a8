"""Generated traffic at made-up airports, for tests with real workers: the same seed gives the same traffic."""

import random
import string
from dataclasses import dataclass, replace
from datetime import timedelta
from uuid import UUID, uuid4

from domain.calendar import find_calendar
from domain.interests import Direction, Interest
from domain.traffic import Coverage, Observation
from domain.windows import HOUR_S, AlignedTo, Window, seconds
from tests.domain.logs import BASE, an_interest, expected_ids
from tests.domain.percent_model import compute_expected_ids
from tests.streams.events import Event, interest_set, observed


@dataclass(frozen=True, slots=True)
class GeneratedTraffic:
    """Events in an order of publishing, and the ids of the alerts that the stream must raise."""

    airports: tuple[str, ...]
    events: tuple[Event, ...]
    expected: dict[UUID, set[UUID]]
    """By interest, the ids of its alerts."""

    @property
    def interest_ids(self) -> set[UUID]:
        """Ids of all interests."""
        return set(self.expected)

    @property
    def alert_ids(self) -> set[UUID]:
        """Ids of all alerts."""
        return set().union(*self.expected.values())


def generate_traffic(seed: int, airports: int = 8, hours: int = 100, weeks_before: int = 0) -> GeneratedTraffic:
    """Generate `hours` hours of flights in both directions, with interests of all kinds set before, amid and after.

    A batch has one hour or half an hour. The airports have random names, so that the traffic of two tests does not mix
    in a broker. Some events come twice, as from a relay that crashed. `weeks_before`: weeks that are told before these
    hours, in batches of a week; then there are also interests with thresholds in percent.
    """
    chance = random.Random(seed)
    names, events, expected = [], [], {}
    for _ in range(airports):
        airport = "".join(random.choices(string.ascii_uppercase + string.digits, k=4))
        names.append(airport)
        log = generate_observations(chance, hours, weeks_before)
        queue = [observed(airport, number + 1, seen) for number, seen in enumerate(log)]
        for number in range(6):
            interest = _generate_interest(chance, airport)
            expected[interest.interest_id] = expected_ids(interest, log)
            queue.insert(chance.randrange(len(queue)), interest_set(interest, number + 1))
        for number in range(6, 9 if weeks_before else 6):
            interest = _generate_percents(chance, airport)
            zone = find_calendar(airport).time_zone
            expected[interest.interest_id] = compute_expected_ids(zone, interest, log)
            queue.insert(chance.randrange(len(queue)), interest_set(interest, number + 1))
        for _ in range(5):
            begin = chance.randrange(len(queue))
            length = chance.randrange(10)
            queue[begin + length : begin + length] = queue[begin : begin + length]
        events.append(queue)
    return GeneratedTraffic(tuple(names), tuple(_merge_randomly(chance, events)), expected)


def _merge_randomly(chance: random.Random, queues: list[list[Event]]) -> list[Event]:
    """Merge the queues at random; the events of one queue stay in their order."""
    turns = [number for number, queue in enumerate(queues) for _ in queue]
    chance.shuffle(turns)
    iterators = [iter(queue) for queue in queues]
    return [next(iterators[turn]) for turn in turns]


def generate_observations(chance: random.Random, hours: int, weeks_before: int) -> list[Observation]:
    """Generate the observations of both directions, with a gap now and then, and before them those of some weeks."""
    log = []
    for direction in (Direction.ARRIVALS, Direction.DEPARTURES):
        for week in range(-weeks_before, 0):
            begin = seconds(BASE) + week * 7 * 24 * HOUR_S
            counts = (chance.choice((4, 5, 6, 9)) if hour % 24 in range(5, 20) else 0 for hour in range(7 * 24))
            times = tuple(begin + hour * HOUR_S + n for hour, count in enumerate(counts) for n in range(count))
            log.append(Observation(direction, begin, begin + 7 * 24 * HOUR_S, times, Coverage.COMPLETE))
        at = seconds(BASE)
        while at < seconds(BASE) + hours * HOUR_S:
            end = at + chance.choice((HOUR_S, HOUR_S // 2))
            coverage = Coverage.GAP if chance.random() < 0.03 else Coverage.COMPLETE
            flights = 0 if coverage is Coverage.GAP else chance.choice((0, 1, 2, 5, 9))
            log.append(
                Observation(direction, at, end, tuple(chance.randrange(at, end) for _ in range(flights)), coverage)
            )
            at = end
    return log


def _generate_percents(chance: random.Random, airport: str) -> Interest:
    """Generate an interest with a threshold in percent, or with one of each measure."""
    thresholds = chance.choice(({"low_percent": 50}, {"high_percent": 120}, {"high_percent": 150, "low": 3}))
    interest = _generate_interest(chance, airport)
    unset = {"high": None, "low": None, "high_percent": None, "low_percent": None}
    return replace(interest, **unset | thresholds)


def _generate_interest(chance: random.Random, airport: str) -> Interest:
    """Generate an interest with a high threshold, a low one, or both."""
    high = chance.choice((None, 2, 6, 20))
    low = chance.choice((1, 3)) if high is None else chance.choice((None, 1))
    interest = an_interest(
        interest_id=uuid4(),
        user_id=uuid4(),
        airport=airport,
        direction=chance.choice(list(Direction)),
        window=chance.choice((Window.ONE_HOUR, Window.ONE_HOUR, Window.SIX_HOURS, Window.ONE_DAY)),
        high=high,
        low=low,
        for_windows=chance.choice((1, 1, 2, 3)),
        repeat=chance.random() < 0.3,
        effective_from=BASE + timedelta(hours=chance.randrange(30)),
    )
    # The clock of an airport that is in no list is UTC: the same windows, found by the clock.
    is_local = interest.window is not Window.ONE_HOUR and interest.for_windows == 1
    return replace(interest, aligned_to=AlignedTo.AIRPORT) if is_local else interest
