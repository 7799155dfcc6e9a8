"""Logs in which gaps are filled, and what the brute-force model says from them."""

from collections.abc import Iterable
from dataclasses import replace
from random import Random
from uuid import UUID

from hypothesis import strategies as st

from domain.interests import Direction, Interest
from domain.traffic import Coverage, Observation
from domain.windows import HOUR_S, instant, seconds
from tests.domain.brute_force import Log, ModelAlert, ModelInterest, ModelTeller, judge_model_windows
from tests.domain.corrected_logs import compute_statement_id
from tests.domain.logs import BASE

QUARTER_S = 900
"""Seconds by which the model tells what is known: all times of messages are whole quarters of an hour."""
SLOT_S = HOUR_S // 2
"""All intervals of these logs begin and end at half hours."""
LONG_SLOT_S = 6 * HOUR_S
"""The same of the logs of days."""


def generate_filled_log(chance: Random, slot_s: int = SLOT_S) -> list[Observation]:
    """Generate a log of some hours of one or both directions, in no order: much that comes later lies before.

    All intervals begin and end at multiples of `slot_s` (LONG_SLOT_S: then it is a log of some days).

    COMPLETE intervals go on, jump, or lie anywhere: over gaps and parts of gaps, over what was covered, before all
    coverage, or across the watermark. GAP and PARTIAL lie anywhere, too. Each may hold flights of its interval, late
    flights, and flights that are taken back; some messages come twice.
    """
    directions = (Direction.DEPARTURES,) if chance.random() < 0.5 else Direction.BOTH.parts
    front = {part: seconds(BASE) + chance.randint(-6, 6) * slot_s for part in directions}
    seen: dict[Direction, list[tuple[int, int]]] = {part: [] for part in directions}
    log: list[Observation] = []
    for _ in range(chance.randint(3, 14)):
        direction = chance.choice(directions)
        begin = front[direction]
        if chance.random() < 0.55:
            begin += chance.choice((0, 0, 0, 0, 1, 1, 2, 5)) * slot_s
            coverage = chance.choice((Coverage.COMPLETE,) * 6 + (Coverage.GAP, Coverage.PARTIAL))
        else:
            begin -= chance.randint(1, 24) * slot_s
            coverage = chance.choice((Coverage.COMPLETE,) * 8 + (Coverage.GAP, Coverage.PARTIAL))
        end = begin + chance.choice((1, 1, 2, 2, 3, 4, 6, 8, 14)) * slot_s
        front[direction] = max(front[direction], begin if coverage is Coverage.PARTIAL else end)
        message = Observation(direction, begin, end, (), coverage)
        if coverage is Coverage.COMPLETE and chance.random() < 0.25:
            log.append(_add_flights(chance, replace(message, coverage=Coverage.PARTIAL), seen[direction]))
        log.append(_add_flights(chance, message, seen[direction]))
        if chance.random() < 0.1:
            log.append(replace(log[-1], event_times=(), fingerprints=(), retracted=()))
    return log


def _add_flights(chance: Random, message: Observation, seen: list[tuple[int, int]]) -> Observation:
    """Return a message with flights, late flights and retracted flights; the flights are added to `seen`.

    A flight is its event time and its fingerprint, which is its number among those of its direction. Flights crowd in
    the first hours of an interval, so that windows differ.
    """
    hours = max((message.end - message.begin) // HOUR_S, 1)
    times: list[int] = []
    if message.coverage is not Coverage.GAP:
        for _ in range(chance.choice((0, 0, 1, 3, 4, 6, 9))):
            hour = chance.choice((0, 0, chance.randrange(hours)))
            times.append(min(message.begin + hour * HOUR_S + chance.randrange(HOUR_S), message.end - 1))
    if chance.random() < 0.2:
        times += [message.begin - chance.randint(1, 3 * HOUR_S) for _ in range(chance.randint(1, 4))]
    flights = [(at, len(seen) + number) for number, at in enumerate(times, start=1)]
    retracted = [chance.choice(seen) for _ in range(chance.randint(1, 6))] if seen and chance.random() < 0.2 else []
    seen += flights
    return replace(
        message,
        event_times=tuple(at for at, _ in flights),
        fingerprints=tuple(fingerprint for _, fingerprint in flights),
        retracted=tuple(retracted),
    )


filled_logs = st.integers(0, 2**32).map(lambda seed: generate_filled_log(Random(seed)))
"""Logs in which gaps are filled, each from a seed."""
filled_logs_of_days = st.integers(0, 2**32).map(lambda seed: generate_filled_log(Random(seed), LONG_SLOT_S))
"""The same, of days, and now and then of more than are retained."""


def build_filled_log(log: Iterable[Observation], *, is_for_usual: bool = False) -> Log:
    """Build the model's log of one direction from its observations: what was ever COMPLETE is known, nothing else.

    `is_for_usual`: True, and what came as history is known; False, and it is never judged, if it was not known before.

    Between the earliest begin of a COMPLETE interval and the end of coverage, whatever lies in none of these intervals
    is a gap. The end of coverage never moves back: it is the latest end of COMPLETE and GAP and the latest begin of
    PARTIAL, from the first COMPLETE on.
    """
    known: set[int] = set()
    history: set[int] = set()
    end = None
    flights: list[tuple[int, int]] = []
    for event in log:
        for retracted in event.retracted:
            if retracted in flights:
                flights.remove(retracted)
        flights += zip(event.event_times, event.fingerprints, strict=True)
        told = set(range(event.begin, event.end, QUARTER_S)) if event.coverage is Coverage.COMPLETE else set[int]()
        if event.is_history:
            history |= {slot for slot in told - known if end is None or slot < end}
            continue
        known |= told
        if known:
            reached = event.begin if event.coverage is Coverage.PARTIAL else event.end
            end = reached if end is None else max(end, reached)
    times = [instant(at) for at, _ in flights]
    if end is None:
        return Log(times, None, [])
    if is_for_usual:
        known |= history
        history = set()
    slots = range(min(known), end, QUARTER_S)
    gaps, unjudged = (
        [(instant(slot), instant(slot + QUARTER_S)) for slot in each]
        for each in ((slot for slot in slots if slot not in known), sorted(history))
    )
    return Log(times, (instant(slots.start), instant(end)), gaps, unjudged)


def judge_filled_windows(interest: Interest, log: Iterable[Observation]) -> set[ModelAlert]:
    """Return what the model says of each window of an interest now, with all STILL and with UNDECIDED breaches."""
    events = list(log)
    return judge_model_windows(
        [build_filled_log(event for event in events if event.direction is part) for part in interest.direction.parts],
        ModelInterest(
            interest.window.value, interest.high, interest.low, interest.for_windows, True, interest.effective_from
        ),
    )


def tell_filled_statements(interest: Interest, log: list[Observation]) -> tuple[list[set[UUID]], set[UUID]]:
    """Return what the model says to an interest from a log in which gaps are filled, as ids.

    First the ids of each message, for an interest that is set before all of them; then those for an interest that is
    set after all.
    """
    teller = ModelTeller(interest.repeat)
    told, now = [], set[ModelAlert]()
    for number in range(1, len(log) + 1):
        now = judge_filled_windows(interest, log[:number])
        told.append({compute_statement_id(interest, each) for each in teller.tell(now)})
    return told, {compute_statement_id(interest, each) for each in teller.tell_late(now)}
