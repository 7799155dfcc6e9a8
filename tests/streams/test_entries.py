"""The bytes of the tables: what is read is what was written; and closed days move out of what is written often."""

from hypothesis import given, settings, strategies as st

from domain.interests import Direction
from domain.traffic import DAY_HOURS, Observation
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
from tests.domain.logs import BASE, an_interest, interests, interleaved, with_late_flights
from tests.domain.test_rule import seen
from tests.streams.events import build_interest_message

sequences = st.integers(0, 2**63 - 1)
FIRST_DAY = seconds(BASE) // (DAY_HOURS * HOUR_S)
HISTORY_DAYS = 45


class Tables:
    """The entries of one airport, written batch by batch."""

    def __init__(self) -> None:
        self.airport = AirportState()
        self.entry = encode_airport_entry(self.airport)
        self.past: dict[bytes, bytes] = {}

    def fold(self, observation: Observation) -> None:
        before, self.airport = (
            self.airport,
            self.airport.after_batch(self.airport.sequence + 1, self.airport.traffic.fold(observation)),
        )
        for key in before.list_expired_keys(self.airport, "KJFK", HISTORY_DAYS, HISTORY_DAYS):
            self.past.pop(key, None)
        self.past |= dict(before.build_history_entries(self.airport, "KJFK", HISTORY_DAYS))
        self.entry = encode_airport_entry(self.airport)

    def read(self) -> AirportState:
        return decode_airport_entry(self.entry, lambda part, day: self.past.get(history_key("KJFK", part, day)))


@given(log=interleaved().flatmap(with_late_flights))
def test_an_airport_is_read_as_it_was_written(log):
    """Recovered traffic is the traffic, in every detail: what is said next depends on it."""
    tables = Tables()
    for number, observation in enumerate(log, start=1):
        tables.fold(observation)
        assert tables.read() == tables.airport
        assert read_sequence(tables.entry) == number


def a_day(number: int, *flights: float):
    return seen(24 * number, 24 * (number + 1), [24 * number + at for at in flights])


def test_closed_days_move_into_history_and_what_is_written_often_stays_small():
    """After forty days of traffic a batch writes two of them, and not forty."""
    tables = Tables()
    for day in range(40):
        tables.fold(a_day(day, *[hour + 0.5 for hour in range(24)] * 30))
    assert tables.airport.open_days == (frozenset(), {FIRST_DAY + 39})
    assert len(tables.entry) < 100
    assert decode_history_day(tables.past[history_key("KJFK", Direction.DEPARTURES, FIRST_DAY + 3)]) == (30,) * 24
    assert tables.read() == tables.airport


def test_a_late_flight_brings_its_day_back_until_days_move_again():
    """So it is one write, and a crash before the days move loses nothing."""
    tables = Tables()
    for day in range(5):
        tables.fold(a_day(day, 1))
    late = seen(24 * 5, 24 * 5 + 1, (24 + 1.5,))
    past = dict(tables.past)
    tables.fold(late)
    assert FIRST_DAY + 1 in tables.airport.open_days[1]
    assert tables.past == past
    assert tables.read() == tables.airport
    tables.fold(seen(24 * 5 + 1, 24 * 6))
    assert FIRST_DAY + 1 not in tables.airport.open_days[1]
    assert sum(decode_history_day(tables.past[history_key("KJFK", Direction.DEPARTURES, FIRST_DAY + 1)])) == 2
    assert tables.read() == tables.airport


def test_days_that_a_jump_makes_forget_are_in_history_all_the_same():
    """An airport that nobody watched for six weeks: its last days are no more judged, but can still be looked at."""
    tables = Tables()
    for day in (0, 1, 42):
        tables.fold(a_day(day, 3, 4))
    assert tables.airport.traffic.departures.counts.first_day > FIRST_DAY + 1
    for day in (0, 1):
        assert sum(decode_history_day(tables.past[history_key("KJFK", Direction.DEPARTURES, FIRST_DAY + day)])) == 2


@settings(max_examples=30)
@given(steps=st.lists(st.integers(1, 60), min_size=1, max_size=12))
def test_history_expires_however_the_log_jumps(steps):
    """What is older than the setting is deleted, also by a day that comes after months of silence."""
    tables, day = Tables(), 0
    for step in steps:
        tables.fold(a_day(day, 3))
        day += step
    newest = max(int(key.rsplit(b"/")[-1]) for key in tables.past) if tables.past else FIRST_DAY + day
    moving = min(tables.airport.open_days[1])
    days = {int(key.rsplit(b"/")[-1]) for key in tables.past}
    assert all(moving - HISTORY_DAYS <= each <= newest for each in days)
    assert len(days) <= HISTORY_DAYS + 1


@given(interest=st.none() | interests, sequence=sequences)
def test_an_interest_is_read_as_it_was_written_and_a_removed_one_is_remembered(interest, sequence):
    """The entry of a removed interest stays, with the sequence of its removal."""
    value = build_interest_message(interest).SerializeToString() if interest is not None else None
    entry = encode_interest_entry(sequence, value)
    assert decode_interest_entry(entry) == (sequence, interest)
    assert read_sequence(entry) == sequence


def test_an_interest_that_is_refused_today_stops_nobody():
    """A rule that became stricter meets what was written before it did."""
    message = build_interest_message(an_interest())
    message.for_windows = 365
    assert decode_interest_entry(encode_interest_entry(3, message.SerializeToString())) == (3, None)
