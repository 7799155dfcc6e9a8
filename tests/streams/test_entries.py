"""Tests of the table entries: decoding gives what was encoded, and closed days move to the history table."""

from dataclasses import replace
from random import Random

from hypothesis import given, settings, strategies as st

from domain.calendar import find_calendar
from domain.hourly_counts import DAY_HOURS
from domain.interests import Direction
from domain.live_record import Provenance
from domain.traffic import Observation
from domain.usual_fold import fold_with_usual
from domain.windows import HOUR_S, seconds
from streams.entries import (
    AirportState,
    decode_airport_entry,
    decode_history_day,
    decode_interest_entry,
    encode_airport_entry,
    encode_interest_entry,
    history_key,
    read_sequence,
)
from tests.domain.corrected_logs import corrected_logs
from tests.domain.filled_logs import filled_logs, filled_logs_of_days
from tests.domain.logs import BASE, an_interest, interests, interleaved, with_late_flights
from tests.domain.test_history import marked_logs
from tests.domain.test_live_record import draw_provenances
from tests.domain.test_rule import seen
from tests.domain.test_usual import usual_logs
from tests.streams.events import build_interest_message
from towerwatch.streams.v1.state_pb2 import AirportState as AirportStateMessage, PastDay as PastDayMessage

sequences = st.integers(0, 2**63 - 1)
FIRST_DAY = seconds(BASE) // (DAY_HOURS * HOUR_S)
HISTORY_DAYS = 45


class WrittenEntries:
    """The state of one airport and its entries, written batch by batch."""

    def __init__(self) -> None:
        self.airport = AirportState()
        self.entry = encode_airport_entry(self.airport)
        self.history: dict[bytes, bytes] = {}

    def fold(self, observation: Observation, begins_anew: bool = False) -> None:
        """Fold an observation with the calendar of UTC, and write the entries as the agent does.

        `begins_anew`: nothing that was known of its direction stays known.
        """
        before = self.airport.without_direction(observation.direction) if begins_anew else self.airport
        after = fold_with_usual(before.traffic, observation, find_calendar("B000"))
        self.airport = before.after_batch(before.sequence + 1, after)
        for key in before.list_expired_keys(self.airport, "KJFK", HISTORY_DAYS, HISTORY_DAYS):
            self.history.pop(key, None)
        self.history |= dict(before.build_history_entries(self.airport, "KJFK", HISTORY_DAYS))
        self.entry = encode_airport_entry(self.airport)

    def decode(self) -> AirportState:
        """Decode the airport's state from its entries."""
        return decode_airport_entry(self.entry, lambda part, day: self.history.get(history_key("KJFK", part, day)))


@given(log=interleaved().flatmap(with_late_flights))
def test_an_airport_entry_decodes_to_the_state_that_was_encoded(log):
    """Recovered traffic equals the traffic in every detail, because later alerts depend on it."""
    entries = WrittenEntries()
    for number, observation in enumerate(log, start=1):
        entries.fold(observation)
        assert entries.decode() == entries.airport
        assert read_sequence(entries.entry) == number


@given(log=corrected_logs)
def test_an_entry_of_a_corrected_airport_decodes_to_the_state_that_was_encoded(log):
    """What is known of flights and corrections is recovered too: ids and what can be retracted depend on it."""
    entries = WrittenEntries()
    for observation in log:
        entries.fold(observation)
        assert entries.decode() == entries.airport


@settings(max_examples=25, deadline=None)
@given(log=usual_logs)
def test_what_is_usual_is_recovered(log):
    """Of all retained days, open and closed, of each direction: what was fixed once is not to be fixed otherwise."""
    entries = WrittenEntries()
    for observation in log.messages:
        entries.fold(observation)
        assert entries.decode() == entries.airport


@settings(max_examples=100, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_what_is_usual_is_recovered_after_jumps(seed):
    """However far one direction is ahead of the other, and however many days one message covers or leaves out."""
    chance, entries = Random(seed), WrittenEntries()
    front = dict.fromkeys(Direction.BOTH.parts, 0)
    for _ in range(chance.randint(3, 12)):
        direction = chance.choice(Direction.BOTH.parts)
        begin = front[direction] + chance.choice((0, 0, 0, 2, 45))
        end = front[direction] = begin + chance.choice((1, 1, 7, 30, 50))
        if chance.random() < 0.2:
            begin, end = chance.randrange(40), 41
            front[direction] = max(front[direction], end)
        times = [24 * day + chance.randrange(24) for day in range(begin, end)]
        entries.fold(seen(24 * begin, 24 * end, times, direction=direction))
        assert entries.decode() == entries.airport


def test_what_was_usual_in_both_directions_is_forgotten_with_one_of_them():
    """It is kept with the departures, and must not come back from their history when arrivals begin anew."""
    entries = WrittenEntries()
    days = [build_day(day, 8, 9) for day in range(40)]
    for day in days:
        entries.fold(replace(day, direction=Direction.ARRIVALS))
        entries.fold(day)
    assert entries.airport.traffic.usual.both
    entries.fold(replace(days[0], direction=Direction.ARRIVALS), begins_anew=True)
    assert not entries.airport.traffic.usual.both
    assert entries.decode() == entries.airport
    for day in days[1:]:
        entries.fold(replace(day, direction=Direction.ARRIVALS))
    entries.fold(build_day(40, 8))
    assert entries.decode() == entries.airport
    assert entries.airport.traffic.usual.both


def test_entries_from_before_there_was_a_usual_have_none():
    """They are read on, and windows that are reached from then on have one."""
    entries = WrittenEntries()
    for day in range(40):
        entries.fold(build_day(day, 8))
    state = AirportStateMessage.FromString(entries.entry)
    for kept in state.departures.days:
        kept.ClearField("usual")
    entries.history = {key: encode_without_usual(entry) for key, entry in entries.history.items()}
    entries.entry = state.SerializeToString()
    entries.airport = entries.decode()
    assert not entries.airport.traffic.usual.departures
    entries.fold(build_day(40, 8))
    assert list(entries.airport.traffic.usual.departures) == [FIRST_DAY + 40, FIRST_DAY + 41]


def encode_without_usual(entry: bytes) -> bytes:
    """Return a history entry as it was before there was a usual."""
    past = PastDayMessage.FromString(entry)
    past.ClearField("usual")
    return past.SerializeToString()


@given(log=marked_logs)
def test_an_entry_of_an_airport_with_history_decodes_to_the_state_that_was_encoded(log):
    """Which days are known for what is usual alone is recovered, so that they are not judged after a restart either."""
    entries = WrittenEntries()
    for observation in log:
        entries.fold(observation)
        assert entries.decode() == entries.airport


@given(log=filled_logs | filled_logs_of_days)
def test_an_entry_of_a_filled_airport_decodes_to_the_state_that_was_encoded(log):
    """What was filled, and when, is recovered, too, and the flights from before the coverage, which may be filled."""
    entries = WrittenEntries()
    for observation in log:
        entries.fold(observation)
        assert entries.decode() == entries.airport


def test_an_entry_from_before_gaps_could_be_filled_is_read_and_its_gap_can_be_filled():
    """A worker that was upgraded reads its tables; a gap of before is filled as one of today."""
    entries = WrittenEntries()
    for day in (0, 2, 3):
        entries.fold(build_day(day, 1))
    old = AirportStateMessage.FromString(entries.entry)
    assert not any(correction.filled for day in old.departures.days for correction in day.corrections)
    entries.airport = entries.decode()
    entries.fold(build_day(1, 2, 3))
    departures = entries.airport.traffic.departures
    assert (departures.gaps, departures.counts.total(0, 10**7)) == ((), 5)
    (correction,) = departures.corrections
    assert correction.filled == (((FIRST_DAY + 1) * 24 * HOUR_S, (FIRST_DAY + 2) * 24 * HOUR_S),)
    assert entries.decode() == entries.airport


@given(log=corrected_logs, seed=st.integers(0, 2**32))
def test_an_entry_of_a_live_airport_decodes_to_the_state_that_was_encoded(log, seed):
    """What was told from positions is recovered; an entry from before they were known says that nothing was."""
    entries = WrittenEntries()
    for observation in draw_provenances(log, seed):
        entries.fold(observation)
        assert entries.decode() == entries.airport
    older = AirportStateMessage.FromString(entries.entry)
    older.arrivals.ClearField("live")
    older.departures.ClearField("live")
    entries.entry = older.SerializeToString()
    traffic = entries.decode().traffic
    assert (traffic.arrivals.live, traffic.departures.live) == (None, None)


def test_a_day_that_the_record_left_out_is_recovered_and_an_older_entry_is_read_without_it():
    """The record goes on behind a day that the source never gave; entries of before do not tell of such days."""
    entries = WrittenEntries()
    for day in range(3):
        entries.fold(replace(build_day(day, 1), provenance=Provenance.LIVE))
    entries.fold(build_day(0))
    entries.fold(build_day(2))
    day_0, day_1, day_2 = ((FIRST_DAY + day) * 24 * HOUR_S for day in range(3))
    left_out = (0, day_0), (day_1, day_2)
    live = entries.airport.traffic.departures.live
    assert (live and live.left_live, entries.decode()) == (left_out, entries.airport)
    older = AirportStateMessage.FromString(entries.entry)
    older.departures.live.ClearField("left_live")
    entries.entry = older.SerializeToString()
    assert entries.decode().traffic.departures.live == replace(live, left_live=())


def test_corrections_and_flights_of_closed_days_move_to_the_history_table():
    """The airport's entry stays small; a closed day that loses its last flight loses it in the history, too."""
    entries = WrittenEntries()
    for day in range(6):
        entries.fold(with_fingerprints(build_day(day, 1)))
    taken = with_fingerprints(build_day(1, 1))
    entries.fold(replace(taken, event_times=(), fingerprints=(), retracted=((taken.event_times[0], 1),)))
    assert entries.airport.traffic.departures.counts.first_day == FIRST_DAY
    assert entries.airport.traffic.departures.counts.day(FIRST_DAY + 1) == (0,) * 24
    assert entries.decode() == entries.airport
    entries.fold(replace(taken, event_times=(), fingerprints=(), retracted=((taken.event_times[0], 1),)))
    assert len(entries.airport.traffic.departures.corrections) == 1, "it is not known any more"
    entries.fold(with_fingerprints(build_day(6, 1)))
    assert entries.airport.open_days[1] == {FIRST_DAY + 6}
    assert len(entries.entry) < 150
    assert sum(decode_history_day(entries.history[history_key("KJFK", Direction.DEPARTURES, FIRST_DAY + 1)])) == 0
    assert entries.decode() == entries.airport
    assert len(entries.decode().traffic.departures.corrections) == 1


def test_entries_from_before_flights_could_be_retracted_are_read():
    """A worker that was upgraded reads its tables; the flights of before cannot be retracted, and all else is known."""
    entries = WrittenEntries()
    for day in range(5):
        entries.fold(build_day(day, 1, 2))
    old = AirportStateMessage.FromString(entries.entry)
    assert not any(day.flights or day.corrections or day.forgotten for day in old.departures.days)
    entries.airport = entries.decode()
    entries.fold(replace(build_day(4), retracted=((seconds(BASE) + (24 * 4 + 1) * HOUR_S, 1),)))
    assert entries.airport.traffic.departures.counts.total(0, 10**7) == 10


def with_fingerprints(observation: Observation) -> Observation:
    """Return an observation whose flights can be retracted; they are numbered from 1."""
    return replace(observation, fingerprints=tuple(range(1, len(observation.event_times) + 1)))


def build_day(number: int, *flights: float):
    """Build the observation of a whole day; `flights`: hours of the day."""
    return seen(24 * number, 24 * (number + 1), [24 * number + at for at in flights])


def test_closed_days_move_to_the_history_table_so_that_the_airport_entry_stays_small():
    """After forty days of traffic a batch writes two days, and not forty."""
    entries = WrittenEntries()
    for day in range(40):
        entries.fold(build_day(day, *[hour + 0.5 for hour in range(24)] * 30))
    # The day that begins now has a usual already, in its first windows.
    assert entries.airport.open_days == (frozenset(), {FIRST_DAY + 39, FIRST_DAY + 40})
    assert len(entries.entry) < 250
    assert decode_history_day(entries.history[history_key("KJFK", Direction.DEPARTURES, FIRST_DAY + 3)]) == (30,) * 24
    assert entries.decode() == entries.airport


def test_weeks_of_history_do_not_enlarge_the_airport_entry():
    """Each day moves to the history table with the next one; else five weeks would be written with each batch."""
    entries = WrittenEntries()
    entries.fold(build_day(40, 8))
    sizes = []
    for day in range(39, 4, -1):
        flights = build_day(day, *[hour + 0.5 for hour in range(24)] * 30)
        entries.fold(replace(with_fingerprints(flights), is_history=True))
        assert entries.decode() == entries.airport
        sizes.append(len(entries.entry))
    assert max(sizes[2:]) <= sizes[2] + 200, "the days that were fixed as usual, and one day of history"
    assert decode_history_day(entries.history[history_key("KJFK", Direction.DEPARTURES, FIRST_DAY + 20)]) == (30,) * 24


def test_a_late_flight_opens_its_day_again_until_days_close_the_next_time():
    """A late flight is one table write, and a crash before the day closes again loses nothing."""
    entries = WrittenEntries()
    for day in range(5):
        entries.fold(build_day(day, 1))
    late = seen(24 * 5, 24 * 5 + 1, (24 + 1.5,))
    history = dict(entries.history)
    entries.fold(late)
    assert FIRST_DAY + 1 in entries.airport.open_days[1]
    assert entries.history == history
    assert entries.decode() == entries.airport
    entries.fold(seen(24 * 5 + 1, 24 * 6))
    assert FIRST_DAY + 1 not in entries.airport.open_days[1]
    assert sum(decode_history_day(entries.history[history_key("KJFK", Direction.DEPARTURES, FIRST_DAY + 1)])) == 2
    assert entries.decode() == entries.airport


def test_days_that_a_jump_of_the_log_drops_are_in_history():
    """Nobody watched the airport for six weeks: its last days are not judged any more, but pages can show them."""
    entries = WrittenEntries()
    for day in (0, 1, 42):
        entries.fold(build_day(day, 3, 4))
    assert entries.airport.traffic.departures.counts.first_day > FIRST_DAY + 1
    for day in (0, 1):
        assert sum(decode_history_day(entries.history[history_key("KJFK", Direction.DEPARTURES, FIRST_DAY + day)])) == 2


@settings(max_examples=30)
@given(steps=st.lists(st.integers(1, 60), min_size=1, max_size=12))
def test_history_expires_also_when_the_log_jumps(steps):
    """Days older than the setting are deleted, also by a day that comes after months without events."""
    entries, day = WrittenEntries(), 0
    for step in steps:
        entries.fold(build_day(day, 3))
        day += step
    newest = max(int(key.rsplit(b"/")[-1]) for key in entries.history) if entries.history else FIRST_DAY + day
    moving = min(entries.airport.open_days[1])
    days = {int(key.rsplit(b"/")[-1]) for key in entries.history}
    assert all(moving - HISTORY_DAYS <= each <= newest for each in days)
    assert len(days) <= HISTORY_DAYS + 1


@given(interest=st.none() | interests, sequence=sequences)
def test_an_interest_entry_decodes_to_the_interest_or_to_its_removal(interest, sequence):
    """The entry of a removed interest stays, with the sequence of its removal."""
    value = build_interest_message(interest).SerializeToString() if interest is not None else None
    entry = encode_interest_entry(sequence, value)
    assert decode_interest_entry(entry) == (sequence, interest)
    assert read_sequence(entry) == sequence


def test_a_stored_interest_that_is_invalid_today_counts_as_removed():
    """A rule that became stricter meets an interest that was stored before the change."""
    message = build_interest_message(an_interest())
    message.for_windows = 365
    assert decode_interest_entry(encode_interest_entry(3, message.SerializeToString())) == (3, None)
