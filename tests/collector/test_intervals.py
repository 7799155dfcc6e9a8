"""Property tests of the rules for the intervals to collect."""

from datetime import UTC, datetime, timedelta

from hypothesis import given, strategies as st

from collector.intervals import (
    CORRECTION_EXPIRES_AFTER,
    DAY,
    FARTHEST_BACK,
    advance_corrected_until,
    compute_available_until,
    compute_first_begin,
    compute_next_begin,
    day_of,
    find_common_begin,
    find_due_correction,
    skip_missing_days,
    split_by_days,
)
from domain.interests import Direction

INSTANTS = st.datetimes(datetime(2000, 1, 1), datetime(2040, 1, 1), timezones=st.just(UTC))
SECONDS = INSTANTS.map(lambda instant: instant.replace(microsecond=0))
MARKED_DAYS = st.lists(st.sampled_from([True, True, False]), max_size=8)


@given(SECONDS, st.timedeltas(timedelta(days=-2), timedelta(days=40)))
def test_days_lie_end_to_end_and_fill_the_range(begin: datetime, length: timedelta) -> None:
    """The intervals have no hole and no overlap, none is empty, and none crosses midnight."""
    end = begin + length
    intervals = list(split_by_days("KJFK", Direction.DEPARTURES, begin, end))
    assert bool(intervals) == (begin < end)
    edges = [begin, *(interval.end for interval in intervals)]
    assert [interval.begin for interval in intervals] == edges[:-1]
    assert edges[-1] == max(begin, end)
    for interval in intervals:
        assert interval.begin < interval.end
        assert day_of(interval.begin) == day_of(interval.end - timedelta(microseconds=1))


def build_days(first: datetime, days: list[bool]) -> set[datetime]:
    """Return the midnights of those days from the day of `first` on that are marked."""
    return {day_of(first) + number * DAY for number, marked in enumerate(days) if marked}


@given(SECONDS, MARKED_DAYS)
def test_what_is_available_are_recorded_days_without_a_hole(next_begin: datetime, marked: list[bool]) -> None:
    """It ends at the midnight that ends the last of them; the day after is not recorded, whatever comes later."""
    recorded = build_days(next_begin, marked)
    until = compute_available_until(next_begin, recorded.__contains__)
    if until == next_begin:
        assert day_of(next_begin) not in recorded
        return
    assert until == day_of(until) > next_begin
    assert build_days(next_begin, [True] * ((until - day_of(next_begin)) // DAY)) <= recorded
    assert until not in recorded


@given(SECONDS, MARKED_DAYS, st.integers(0, 9))
def test_available_until_never_goes_back(next_begin: datetime, marked: list[bool], number: int) -> None:
    """Coverage only grows: another recorded day takes nothing away."""
    recorded = build_days(next_begin, marked)
    more = recorded | {day_of(next_begin) + number * DAY}
    before = compute_available_until(next_begin, recorded.__contains__)
    assert before <= compute_available_until(next_begin, more.__contains__)


@given(SECONDS, MARKED_DAYS)
def test_only_missing_days_are_skipped(next_begin: datetime, marked: list[bool]) -> None:
    """Collection goes on at the first instant whose day is not missing; a day that is begun is kept to its end."""
    missing = build_days(next_begin, marked)
    begin = skip_missing_days(next_begin, missing.__contains__)
    assert day_of(begin) not in missing
    assert build_days(next_begin, [True] * ((day_of(begin) - day_of(next_begin)) // DAY)) <= missing
    assert begin == next_begin or begin == day_of(begin)


@given(INSTANTS, INSTANTS)
def test_a_first_collection_begins_with_the_earliest_interest(wanted_from: datetime, now: datetime) -> None:
    """The begin is yesterday at the latest, so that a first mail can come at once, and never too early."""
    begin = compute_first_begin(wanted_from, now)
    assert begin == day_of(begin)
    assert day_of(now - FARTHEST_BACK) <= begin <= day_of(now) - DAY
    assert begin <= wanted_from or begin == day_of(now - FARTHEST_BACK)


@given(SECONDS, INSTANTS, INSTANTS)
def test_the_next_collection_begins_at_the_cursor_or_where_a_first_one_would(
    covered_until: datetime, wanted_from: datetime, now: datetime
) -> None:
    """The later of the two counts; the range between them is a gap."""
    begin = compute_next_begin(covered_until, wanted_from, now)
    assert begin == max(covered_until, compute_first_begin(wanted_from, now))
    assert compute_next_begin(None, wanted_from, now) == compute_first_begin(wanted_from, now)


@given(SECONDS, st.timedeltas(timedelta(0), FARTHEST_BACK - DAY))
def test_an_interest_from_before_an_outage_has_no_gap(covered_until: datetime, outage: timedelta) -> None:
    """After an outage of less than a month the collection continues at its cursor."""
    assert compute_next_begin(covered_until, covered_until - DAY, covered_until + outage) == covered_until


AFTER = st.timedeltas(timedelta(hours=1), timedelta(days=14))


@given(SECONDS, st.timedeltas(timedelta(0), timedelta(days=40)), INSTANTS, AFTER)
def test_a_correction_is_of_one_covered_day_that_is_old_enough(
    corrected_until: datetime, ahead: timedelta, now: datetime, after: timedelta
) -> None:
    """A correction is never of a day that is too old to matter, nor of one that was corrected."""
    due = find_due_correction(corrected_until, corrected_until + ahead, now, after)
    if due is None:
        return
    begin, end = due
    assert corrected_until <= begin < end <= corrected_until + ahead
    assert end == day_of(begin) + DAY
    assert end + after <= now
    assert end > now - after - CORRECTION_EXPIRES_AFTER


def test_without_a_delay_nothing_is_corrected() -> None:
    """A delay of 0 means that no correction is ever due."""
    begin = datetime(2013, 2, 1, tzinfo=UTC)
    assert find_due_correction(begin, begin + 3 * DAY, begin + 9 * DAY, timedelta(0)) is None


def test_days_are_corrected_one_after_the_other_until_none_is_due() -> None:
    """No day is corrected twice."""
    begin = datetime(2013, 2, 1, tzinfo=UTC)
    now, corrected, seen = begin + 6 * DAY, begin, []
    while due := find_due_correction(corrected, begin + 6 * DAY, now, 2 * DAY):
        seen.append(due)
        corrected = due[1]
    assert seen == [(begin + day * DAY, begin + (day + 1) * DAY) for day in range(4)]


def test_a_day_that_was_collected_in_parts_is_late_only_if_all_of_it_was() -> None:
    """A day whose morning was collected in time and whose evening was collected late still needs a correction."""
    morning = datetime(2013, 2, 1, tzinfo=UTC)
    noon, midnight, late = morning + DAY / 2, morning + DAY, morning + 5 * DAY
    after_morning = advance_corrected_until(morning, morning, noon, noon, 2 * DAY)
    assert after_morning == morning
    assert advance_corrected_until(after_morning, noon, midnight, late, 2 * DAY) == morning
    assert advance_corrected_until(morning, morning, midnight, late, 2 * DAY) == midnight


BACK = st.timedeltas(timedelta(0), timedelta(days=45))


@given(SECONDS, st.lists(st.tuples(BACK, BACK), min_size=1, max_size=5))
def test_nobody_waits_for_the_history_of_somebody_else(now: datetime, back: list[tuple[timedelta, timedelta]]) -> None:
    """Collection begins with no day before what a person wants, but days that another wants without a wish for history.

    And nobody loses a day that they want without such a wish; who is alone gets all.
    """
    wishes = [(now - effective_from, now - set_at) for effective_from, set_at in back]
    begin = find_common_begin(wishes, now)
    own = [compute_first_begin(effective_from, now) for effective_from, _ in wishes]
    plain = [max(first, day_of(set_at) - DAY) for first, (_, set_at) in zip(own, wishes, strict=True)]
    for first, without_history in zip(own, plain, strict=True):
        assert begin >= min(first, *plain)
        assert begin <= without_history
    assert [find_common_begin([wish], now) for wish in wishes] == own
