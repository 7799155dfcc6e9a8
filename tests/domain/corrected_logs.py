"""Logs with corrections, and what the brute-force model says from them."""

from dataclasses import replace
from random import Random
from uuid import UUID

from hypothesis import strategies as st

from domain.alerts import AlertState, Bound, compute_alert_id
from domain.interests import Direction, Interest
from domain.traffic import Coverage, Observation
from domain.windows import HOUR_S, seconds
from tests.domain.brute_force import ModelStatement, ModelTeller
from tests.domain.logs import BASE, compute_expected_alerts

HALF_HOUR_S = HOUR_S // 2


def generate_corrected_log(chance: Random) -> list[Observation]:
    """Generate a log of some hours of one or both directions, with corrections; much cheaper than a strategy.

    There are late flights, gaps, skipped time, and messages about intervals that were covered. Retracted are flights
    that were seen before, some of them retracted already, and some that never were seen. Flights are seen again, too.
    """
    directions = (Direction.DEPARTURES,) if chance.random() < 0.6 else Direction.BOTH.parts
    watermark = dict.fromkeys(directions, seconds(BASE))
    seen: dict[Direction, list[tuple[int, int]]] = {part: [] for part in directions}
    log: list[Observation] = []
    for _ in range(chance.randint(3, 9)):
        direction = chance.choice(directions)
        begin = watermark[direction] + (chance.randint(1, 4) * HALF_HOUR_S if chance.random() < 0.1 else 0)
        end = watermark[direction] = begin + chance.randint(1, 8) * HALF_HOUR_S
        coverage = Coverage.GAP if chance.random() < 0.1 else Coverage.COMPLETE
        covered = [each for each in log if each.coverage is Coverage.COMPLETE]
        messages = []
        if covered and chance.random() < 0.6:
            messages.append(replace(chance.choice(covered), event_times=(), fingerprints=(), retracted=()))
        if coverage is Coverage.COMPLETE and chance.random() < 0.3:
            messages.append(Observation(direction, begin, end, (), Coverage.PARTIAL))
        messages.append(Observation(direction, begin, end, (), coverage))
        for message in messages:
            is_new = message not in messages[:-2] and message.begin == begin and coverage is Coverage.COMPLETE
            log.append(_add_flights(chance, message, seen[message.direction], chance.randint(0, 8) if is_new else 0))
    return log


def _add_flights(chance: Random, message: Observation, seen: list[tuple[int, int]], new_flights: int) -> Observation:
    """Return a message with new, late and retracted flights; the flights are added to `seen`.

    A flight is its event time and its fingerprint, which is its number among those of its direction.
    """
    times = [chance.randrange(message.begin, message.end) for _ in range(new_flights)]
    is_late = chance.random() < 0.5
    if is_late:
        times += [message.begin - chance.randint(1, 16) * HALF_HOUR_S for _ in range(chance.randint(0, 3))]
    flights = [(at, len(seen) + number) for number, at in enumerate(times, start=1)]
    earlier = [flight for flight in seen if flight[0] < message.end]
    if is_late and earlier and chance.random() < 0.4:
        flights.append(chance.choice(earlier))
    seen += flights
    retracted = [chance.choice(seen) for _ in range(chance.randint(0, 5))] if seen and chance.random() < 0.6 else []
    if chance.random() < 0.1:
        retracted.append((message.begin, 0))
    return replace(
        message,
        event_times=tuple(at for at, _ in flights),
        fingerprints=tuple(fingerprint for _, fingerprint in flights),
        retracted=tuple(retracted),
    )


corrected_logs = st.integers(0, 2**32).map(lambda seed: generate_corrected_log(Random(seed)))
"""Logs with corrections, each from a seed."""


def compute_statement_id(interest: Interest, statement: ModelStatement) -> UUID:
    """Return the id of a statement of the model about an interest."""
    state, _, withdrawn = statement.state.partition(" ")
    return compute_alert_id(
        interest.interest_id,
        interest.version,
        Bound(statement.bound),
        statement.start,
        AlertState(state),
        {"": None, "a breach": AlertState.FIRING, "an end": AlertState.RESOLVED}[withdrawn],
        statement.time,
    )


def tell_statements(interest: Interest, log: list[Observation]) -> tuple[list[set[UUID]], set[UUID]]:
    """Return what the model says to an interest from a log with corrections, as ids.

    First the ids of each message, for an interest that is set before all of them; then those for an interest that is
    set after all.
    """
    teller = ModelTeller(interest.repeat)
    everything = replace(interest, repeat=True)
    told, now = [], set()
    for number in range(1, len(log) + 1):
        now = compute_expected_alerts(everything, log[:number])
        told.append({compute_statement_id(interest, each) for each in teller.tell(now)})
    return told, {
        compute_statement_id(interest, teller.describe(alert))
        for alert in now
        if alert[1] != "STILL" or interest.repeat
    }
