"""The nightly record, against a model that lets the records appear one after the other."""

from collections import Counter
from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given, strategies as st

from local.opensky.flights import TimetableFlight
from local.opensky.nightly_record import NIGHTLY, RecordSchedule, is_in_second_part

DAY = 86_400
FIRST = date(2013, 2, 8)
BEGIN = int(datetime(2013, 2, 8, tzinfo=UTC).timestamp())
DAYS = [FIRST + timedelta(days=n) for n in range(4)]
AIRPORTS = ["KJFK", "KLGA", "KBOS"]

minutes = st.integers(0, 24 * 60 - 1).map(lambda number: timedelta(minutes=number))
some_days = st.frozensets(st.sampled_from(DAYS))


@st.composite
def flights(draw: st.DrawFn) -> TimetableFlight:
    """A strategy for flights of four days, many of them over midnight; some never arrive."""
    first_seen = BEGIN + draw(st.integers(0, 3 * DAY - 1) | st.integers(1, 3).map(lambda n: n * DAY - 600))
    return TimetableFlight(
        first_seen,
        last_seen=first_seen + draw(st.integers(0, 30 * 3_600)),
        icao24=draw(st.sampled_from(["a00001", "a00002", "a00003"])),
        callsign="JBU1",
        departure_airport=draw(st.sampled_from(AIRPORTS)),
        arrival_airport=draw(st.none() | st.sampled_from(AIRPORTS)),
    )


schedules = st.builds(
    RecordSchedule,
    record_after=minutes,
    second_part_after=st.none() | minutes.filter(bool),
    late_days=some_days,
    missing_days=some_days,
    unheard_airports=st.frozensets(st.sampled_from(AIRPORTS)),
    departures_live=st.booleans(),
    first_day=st.none() | st.sampled_from(DAYS[:2]),
    last_day=st.none() | st.sampled_from(DAYS[2:]),
)


class ModelSource:
    """A source that goes through its publications until an instant, and remembers what each of them tells."""

    def __init__(self, rows: list[TimetableFlight], schedule: RecordSchedule, now: int) -> None:
        first, last = schedule.first_day or date.min, schedule.last_day or date.max
        self._schedule = schedule
        self.departures: dict[TimetableFlight, tuple[int, str | None]] = {}
        """By flight, what is known of a departure: when the flight was last seen, and where it arrived."""
        self.ended: set[TimetableFlight] = set()
        """The flights of which the record of their last day is there."""
        if schedule.departures_live:
            for row in rows:
                if row.first_seen <= now and first <= datetime.fromtimestamp(row.first_seen, UTC).date() <= last:
                    landed = row.last_seen <= now
                    self.departures[row] = (row.last_seen, row.arrival_airport) if landed else (now, None)
        for at, begins, midnight, part in sorted(self._list_publications()):
            if at > now:
                break
            of_day = [row for row in rows if midnight - DAY <= row.first_seen < midnight]
            if begins:
                for row in of_day:
                    self.departures.pop(row, None)
            for row in self._select_part(of_day, part):
                self.departures[row] = (
                    (row.last_seen, row.arrival_airport) if row.last_seen < midnight else (midnight - 1, None)
                )
            self.ended |= set(self._select_part([r for r in rows if midnight - DAY <= r.last_seen < midnight], part))
        for row in self.ended & self.departures.keys():
            if self._was_recorded(row, now):
                self.departures[row] = (row.last_seen, row.arrival_airport)

    def _list_publications(self) -> list[tuple[int, bool, int, int | None]]:
        """List instant, whether the record begins with it, the midnight that ends the day, and the part (None: all)."""
        found: list[tuple[int, bool, int, int | None]] = []
        for number in range(6):
            day, midnight = FIRST + timedelta(days=number), BEGIN + (number + 1) * DAY
            if day in self._schedule.missing_days or (self._schedule.first_day and day < self._schedule.first_day):
                continue
            if self._schedule.last_day and day > self._schedule.last_day:
                break
            at = midnight + int(self._schedule.record_after.total_seconds())
            at += DAY if day in self._schedule.late_days else 0
            if self._schedule.second_part_after is None:
                found.append((at, True, midnight, None))
            else:
                later = at + int(self._schedule.second_part_after.total_seconds())
                found += [(at, True, midnight, 0), (later, False, midnight, 1)]
        return found

    def _select_part(self, rows: list[TimetableFlight], part: int | None) -> list[TimetableFlight]:
        return [row for row in rows if part is None or is_in_second_part(row) == bool(part)]

    def _was_recorded(self, row: TimetableFlight, now: int) -> bool:
        """Return True if a record, and not only the live source, tells the departure."""
        return any(
            at <= now and midnight - DAY <= row.first_seen < midnight and self._select_part([row], part)
            for at, _, midnight, part in self._list_publications()
        )


@given(st.lists(flights(), max_size=12, unique=True), schedules, st.integers(BEGIN, BEGIN + 7 * DAY))
def test_the_rule_agrees_with_publications_one_after_the_other(
    rows: list[TimetableFlight], schedule: RecordSchedule, now: int
) -> None:
    """Departures, arrivals and flights are known as the model's publications have told them, and not otherwise."""
    model = ModelSource(rows, schedule, now)
    unheard = schedule.unheard_airports

    def hear(airport: str | None) -> str | None:
        return None if airport in unheard else airport

    for row in rows:
        told = model.departures.get(row) if row.departure_airport not in unheard else None
        departure = schedule.describe_departure(row, now)
        expected = told and row._replace(last_seen=told[0], arrival_airport=hear(told[1]))
        assert departure == expected
        whole = row._replace(departure_airport=hear(row.departure_airport), arrival_airport=hear(row.arrival_airport))
        heard = whole.departure_airport is not None or whole.arrival_airport is not None
        assert schedule.describe_flight(row, now) == (whole if row in model.ended and heard else None)
        arrives = row in model.ended and whole.arrival_airport is not None
        assert schedule.describe_arrival(row, now) == (whole if arrives else None)


@given(flights(), schedules, st.integers(BEGIN, BEGIN + 7 * DAY), st.integers(0, 3 * DAY))
def test_the_record_only_grows(row: TimetableFlight, schedule: RecordSchedule, now: int, later: int) -> None:
    """What the record has once, it has for ever; only live departures may vanish for a while."""
    if schedule.is_recorded(row, row.first_seen, now):
        assert schedule.is_recorded(row, row.first_seen, now + later)
    if schedule.describe_arrival(row, now) is not None:
        assert schedule.describe_arrival(row, now + later) == schedule.describe_arrival(row, now)


@given(flights(), schedules, st.integers(BEGIN, BEGIN + 7 * DAY))
def test_nothing_of_an_unfinished_day_is_known_unless_departures_are_live(
    row: TimetableFlight, schedule: RecordSchedule, now: int
) -> None:
    """No arrival is known before the midnight that ends its day, and no departure unless the source gives it live."""
    midnight = now - now % DAY
    if row.last_seen >= midnight:
        assert schedule.describe_arrival(row, now) is None
    if row.first_seen >= midnight and not schedule.departures_live:
        assert schedule.describe_departure(row, now) is None
    departure = schedule.describe_departure(row, now)
    assert departure is None or departure.first_seen <= departure.last_seen <= now


@given(schedules, st.sampled_from(DAYS), flights())
def test_a_record_is_whole_at_its_completion_time(schedule: RecordSchedule, day: date, row: TimetableFlight) -> None:
    """From then on it has every flight of the day; a second before it lacks those of the second part."""
    completed_at = schedule.find_completion_time(day)
    if completed_at is None:
        before, after = schedule.first_day or day, schedule.last_day or day
        assert day in schedule.missing_days or not before <= day <= after
        return
    instant = int(datetime(day.year, day.month, day.day, 12, tzinfo=UTC).timestamp())
    assert schedule.is_recorded(row, instant, completed_at)
    is_last = schedule.second_part_after is None or is_in_second_part(row)
    assert schedule.is_recorded(row, instant, completed_at - 1) is not is_last


def test_by_default_the_record_of_a_day_appears_at_twenty_to_three() -> None:
    """The record appears as a whole at 02:40 of the next day (UTC)."""
    assert NIGHTLY.find_first_part_time(FIRST) == NIGHTLY.find_completion_time(FIRST) == BEGIN + DAY + 9_600


def test_both_parts_have_flights_of_every_hour_and_airport(all_flights: list[TimetableFlight]) -> None:
    """The parts are drawn per flight, half and half, not by time, direction or airport."""
    of_days = [f for f in all_flights if BEGIN <= f.first_seen < BEGIN + 30 * DAY]
    parts = Counter((f.departure_airport, f.first_seen // 3_600 % 24, is_in_second_part(f)) for f in of_days)
    for (airport, hour, _), _count in list(parts.items()):
        first, second = parts[airport, hour, False], parts[airport, hour, True]
        assert first + second < 50 or 0.35 < first / (first + second) < 0.65


@pytest.fixture(scope="module")
def all_flights(flights: list[TimetableFlight]) -> list[TimetableFlight]:
    """All flights of the data set (this module's strategy has the fixture's name)."""
    return flights
