"""A log that is lost and written anew raises exactly the alerts that it would have raised."""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from uuid import UUID

from hypothesis import given, settings, strategies as st

from chassis.db.outbox import OutboxMessage
from collector.event_log.republication import encode_told, encode_untold
from collector.event_log.retained import HistoryStretch, RetainedCoverage, RetainedFlight
from collector.intervals import DAY, Interval
from collector.messages import (
    encode_flights_observed,
    encode_interest_removal,
    encode_interest_set,
    encode_partial_flights,
)
from collector.sources.flight import Flight
from domain.interests import Direction, Interest
from domain.traffic import DirectionTraffic
from domain.windows import Window
from tests.domain.logs import BASE, an_interest, interests
from tests.streams.events import Event
from tests.streams.join_state_on_dicts import JoinStateOnDicts
from towerwatch.topics import FLIGHTS_OBSERVED, INTERESTS_CHANGED

AIRPORT = "KJFK"


@dataclass
class Log:
    """A log and the stream that folds it: the messages get the next sequences, and their alerts are collected."""

    sequence: int = 0
    stream: JoinStateOnDicts = field(default_factory=JoinStateOnDicts)

    def publish(self, messages: Iterable[OutboxMessage]) -> list[UUID]:
        """Publish messages, and return the ids of the alerts that the stream raises."""
        raised = []
        for message in messages:
            self.sequence += 1
            topic = FLIGHTS_OBSERVED if message.topic == FLIGHTS_OBSERVED.name else INTERESTS_CHANGED
            event = Event(topic, AIRPORT, message.key, message.value, self.sequence)
            raised += [alert.alert_id for alert in self.stream.fold(event)]
        return raised


@dataclass
class Collector:
    """The database of a collector, as far as flights of one airport and interests go, and what is noted as told."""

    covered_until: dict[Direction, datetime] = field(default_factory=dict)
    flights: list[tuple[Direction, Flight]] = field(default_factory=list)
    interests: dict[UUID, Interest] = field(default_factory=dict)
    history: dict[Direction, list[HistoryStretch]] = field(default_factory=lambda: {part: [] for part in Direction})
    """The newest first."""
    told_until: dict[Direction, datetime] = field(default_factory=dict)
    told_flights: int = 0
    told_interests: dict[UUID, int] = field(default_factory=dict)

    def note_told(self) -> None:
        """Note that everything so far was told."""
        self.told_until, self.told_flights = dict(self.covered_until), len(self.flights)
        self.told_interests = {each.interest_id: each.version for each in self.interests.values()}

    def fly(self, direction: Direction, times: Iterable[datetime]) -> list[Flight]:
        """Store flights with these event times, and return them."""
        flights = []
        for at in times:
            first = at if direction is Direction.DEPARTURES else at - timedelta(hours=1)
            flight = Flight.model_construct(
                icao24=f"{len(self.flights):06x}",
                callsign="",
                first_seen=first,
                last_seen=first + timedelta(hours=1),
                departure_airport="",
                arrival_airport="",
            )
            flights.append(flight)
            self.flights.append((direction, flight))
        return flights

    def encode_told(self) -> list[OutboxMessage]:
        """Return what is published again before the barrier."""
        messages = [each for target in self._list_targets() for each in encode_told(*target)]
        for each in self.interests.values():
            told = self.told_interests.get(each.interest_id) == each.version
            messages.append(encode_interest_set(each, past=True) if told else encode_interest_removal(each))
        return messages

    def encode_untold(self) -> list[OutboxMessage]:
        """Return what is published again behind the barrier."""
        messages = [each for target in self._list_targets() for each in encode_untold(*target)]
        return messages + [
            encode_interest_set(each)
            for each in self.interests.values()
            if self.told_interests.get(each.interest_id) != each.version
        ]

    def _list_targets(self) -> list[tuple[RetainedCoverage, list[RetainedFlight]]]:
        """Return the targets with their flights, as the database gives them."""
        return [
            (
                RetainedCoverage(
                    AIRPORT,
                    direction,
                    BASE - len(self.history[direction]) * DAY,
                    until,
                    self.told_until.get(direction),
                    history=tuple(reversed(self.history[direction])),
                ),
                sorted(
                    (
                        RetainedFlight(flight, flight.event_time(direction), number < self.told_flights)
                        for number, (part, flight) in enumerate(self.flights)
                        if part is direction
                    ),
                    key=lambda each: each.event_time,
                ),
            )
            for direction, until in self.covered_until.items()
        ]


Step = tuple[str, Direction, int, tuple[int, ...]]
"""A step of a story: a day is covered, flights of today come early, flights come late, a day before all others comes as
history, or an interest is set; with its direction, a number that chooses a day or an interest, and the minutes of the
day at which there are flights."""

steps = st.tuples(
    st.sampled_from(["day", "day", "day", "early", "history", "interest", "interest"]),
    st.sampled_from(Direction.BOTH.parts),
    st.integers(0, 7),
    st.lists(st.integers(0, 24 * 60 - 1), max_size=12).map(tuple),
)
late_steps = st.tuples(
    st.just("late"),
    st.sampled_from(Direction.BOTH.parts),
    st.integers(0, 7),
    st.lists(st.integers(0, 24 * 60 - 1), min_size=1, max_size=4).map(tuple),
)


def act(collector: Collector, step: Step, wanted: list[Interest]) -> list[OutboxMessage]:
    """Store what a step changes, and return the events that the collector publishes of it."""
    kind, direction, number, minutes = step
    until = collector.covered_until.setdefault(direction, BASE)
    if kind == "interest":
        chosen = wanted[number % len(wanted)]
        known = collector.interests.get(chosen.interest_id)
        if known is not None:
            return [encode_interest_set(known)]
        collector.interests[chosen.interest_id] = chosen
        return [encode_interest_set(chosen)]
    if kind == "late":
        days = (until - BASE) // DAY
        if not days:
            return []
        begin = BASE + (number % days) * DAY
        flights = collector.fly(direction, [begin + timedelta(minutes=each) for each in minutes])
        return [*encode_flights_observed(AIRPORT, direction, begin, begin + DAY, flights, False, BASE)]
    if kind == "history":
        if until == BASE:
            return []
        begin = BASE - (len(collector.history[direction]) + 1) * DAY
        flights = collector.fly(direction, [begin + timedelta(minutes=each) for each in minutes])
        collector.history[direction].append(HistoryStretch(begin, begin + DAY, until))
        return [
            *encode_flights_observed(AIRPORT, direction, begin, begin + DAY, flights, covered_from=begin, history=True)
        ]
    flights = collector.fly(direction, [until + timedelta(minutes=each) for each in minutes])
    if kind == "early":
        return [*encode_partial_flights(Interval(AIRPORT, direction, until, until + DAY), flights)]
    collector.covered_until[direction] = until + DAY
    return [*encode_flights_observed(AIRPORT, direction, until, until + DAY, flights, False, BASE)]


@settings(max_examples=150)
@given(
    st.lists(steps | late_steps, max_size=14),
    st.lists(late_steps, max_size=2),
    st.lists(steps, max_size=8),
    st.lists(steps, max_size=8),
    st.lists(interests, min_size=1, max_size=4),
    st.sampled_from(["nothing", "everything", "an older state"]),
    st.booleans(),
)
def test_a_lost_log_raises_what_it_would_have_raised(told, late, untold, after, found, survives, is_told_noted) -> None:
    """Alerts of a story with a loss are those of the story without: what was told is silent, the rest is raised.

    Whatever of the stream's tables survived the loss. What came after the note and before the loss was perhaps raised
    before, and is raised once more; nothing else is. (Late flights come before the days that are not told: whether an
    alert follows from a late flight or from the day after it depends on their order, ADR 14.)
    """
    wanted = [
        replace(each, interest_id=UUID(int=number + 1), user_id=UUID(int=number + 1))
        for number, each in enumerate(found)
    ]
    collector, log, undisturbed = Collector(), Log(), Log()
    for step in told:
        messages = act(collector, step, wanted)
        assert log.publish(messages) == undisturbed.publish(messages)
    if is_told_noted:
        collector.note_told()
    older = JoinStateOnDicts()
    older.airports, older.interests = dict(log.stream.airports), dict(log.stream.interests)
    older.state = older.new_state()
    expected: set[UUID] = set()
    for step in (*late, *untold):
        messages = act(collector, step, wanted)
        log.publish(messages)
        expected.update(undisturbed.publish(messages))
    # The log is lost here.
    anew = Log(log.sequence, {"nothing": JoinStateOnDicts(), "everything": log.stream}.get(survives, older))
    assert anew.publish(collector.encode_told()) == []
    raised = set(anew.publish(collector.encode_untold()))
    if is_told_noted:
        assert raised == expected
    for step in after:
        messages = act(collector, step, wanted)
        assert set(anew.publish(messages)) == set(undisturbed.publish(messages))
    assert read_state(anew.stream) == read_state(undisturbed.stream)


def test_history_comes_again_where_it_came_so_that_no_end_comes_without_its_beginning() -> None:
    """A window that had no usual when it was reached has none in the new log: its breach was told to nobody.

    Five weeks of history come when a day of five flights is covered: it is not judged by percent, nor is the hour that
    begins where it ends. If the history came first, the quiet first day would be a breach, and the next one its end.
    """
    interest = replace(
        an_interest(), airport=AIRPORT, window=Window.ONE_DAY, high=None, low_percent=50, effective_from=BASE - 40 * DAY
    )
    collector, log, undisturbed = Collector(), Log(), Log()
    wanted, departures = [interest], Direction.DEPARTURES
    quiet, busy = (1, 2), tuple(range(0, 1200, 60))
    told: list[Step] = [("interest", departures, 0, ()), ("day", departures, 0, quiet), ("day", departures, 0, quiet)]
    told += [("history", departures, 0, busy)] * 36
    for step in told:
        messages = act(collector, step, wanted)
        assert log.publish(messages) == undisturbed.publish(messages) == []
    collector.note_told()
    anew = Log(log.sequence)
    assert anew.publish(collector.encode_told()) == anew.publish(collector.encode_untold()) == []
    assert read_state(anew.stream) == read_state(undisturbed.stream)
    numbers = []
    for minutes in (busy, quiet, busy):
        messages = act(collector, ("day", departures, 0, minutes), wanted)
        raised = anew.publish(messages)
        assert raised == undisturbed.publish(messages)
        numbers.append(len(raised))
    assert numbers == [0, 1, 1]


def read_state(stream: JoinStateOnDicts) -> tuple[object, object]:
    """Return the traffic that a stream reads from its tables after a restart, and the thresholds of its interests.

    Flights are known in the order in which they came, which is another in the new log: they are sorted. The records of
    corrections, by which revisions are computed, begin anew with the log (ADR 37): they are left out.
    """
    state = stream.new_state()
    traffic = state.read_traffic(AIRPORT)[1]
    traffic = replace(traffic, arrivals=_normalize(traffic.arrivals), departures=_normalize(traffic.departures))
    return traffic, state.find_thresholds(AIRPORT).list_in_force()


def _normalize(flow: DirectionTraffic) -> DirectionTraffic:
    """Return one direction's traffic with its known flights sorted, and without records of corrections."""
    known = {
        day: b"".join(sorted(flights[at : at + 4] for at in range(0, len(flights), 4)))
        for day, flights in flow.known.items()
    }
    return replace(flow, known=known, corrections=(), forgotten={})
