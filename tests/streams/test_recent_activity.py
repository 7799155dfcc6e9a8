"""Tests of the recent activity: counts of whole seconds, groups of similar alerts, and bounded memory."""

from datetime import timedelta
from itertools import product
from uuid import UUID, uuid4

from hypothesis import given, strategies as st

from domain.alerts import Alert, AlertState, Bound
from domain.interests import Direction
from domain.windows import Window
from streams.recent_activity import KEPT_SECONDS, MAX_GROUPS, RecentActivity
from tests.domain.logs import BASE


class Seconds:
    """A fake of both clocks, the machine's and the stack's, which tests advance by hand."""

    def __init__(self) -> None:
        self.at = 1000.25

    def __call__(self) -> float:
        return self.at

    def now(self):
        return BASE + timedelta(seconds=self.at)

    def elapsed(self) -> timedelta:
        return timedelta(seconds=self.at)

    def real_seconds(self, duration: timedelta) -> float:
        return duration.total_seconds()


def make_activity() -> tuple[RecentActivity, Seconds]:
    """Return an empty activity and its clock."""
    seconds = Seconds()
    return RecentActivity(seconds, seconds), seconds


def an_alert(**changes) -> Alert:
    """Return an alert with these fields changed; its ids are new."""
    values = {
        "alert_id": uuid4(),
        "interest_id": uuid4(),
        "user_id": UUID(int=2),
        "version": 1,
        "airport": "KJFK",
        "direction": Direction.DEPARTURES,
        "window": Window.ONE_HOUR,
        "window_start": BASE,
        "bound": Bound.HIGH,
        "state": AlertState.FIRING,
        "count": 21,
        "threshold": 20,
        "for_windows": 1,
    }
    return Alert(**(values | changes))


def test_the_count_of_a_second_is_shown_once_the_second_is_over() -> None:
    """An unfinished second beside whole seconds would look like a lull."""
    activity, seconds = make_activity()
    activity.record_flights("KJFK", 7)
    activity.record_flights("LICC", 3)
    assert activity.count_flights_by_second(3) == (0, 0, 0)
    seconds.at += 1
    activity.record_flights("KJFK", 1)
    assert activity.count_flights_by_second(3) == (0, 0, 10)
    seconds.at += 2
    assert activity.count_flights_by_second(3) == (10, 1, 0)


@given(st.lists(st.tuples(st.integers(0, 300), st.integers(1, 50)), max_size=40), st.integers(1, KEPT_SECONDS))
def test_the_ring_of_seconds_equals_a_count_without_a_limit(steps, shown) -> None:
    """Pauses of any length between the batches give the right counts."""
    activity, seconds = make_activity()
    counted: dict[int, int] = {}
    for pause, flights in steps:
        seconds.at += pause
        activity.record_flights("KJFK", flights)
        counted[int(seconds.at)] = counted.get(int(seconds.at), 0) + flights
    now = int(seconds.at)
    assert activity.count_flights_by_second(shown) == tuple(counted.get(each, 0) for each in range(now - shown, now))


def test_similar_alerts_about_a_window_are_one_group() -> None:
    """A hundred thousand alerts at once must not push out all others."""
    activity, seconds = make_activity()
    activity.record_alert(an_alert(airport="LICC"))
    for number in range(1000):
        activity.record_alert(an_alert(threshold=10 + number % 7, count=11 + number % 7))
    seconds.at += 1
    newest, oldest = activity.list_alert_groups()
    assert (newest.airport, newest.alerts, newest.least_threshold, newest.most_threshold) == ("KJFK", 1000, 10, 16)
    assert newest.count == 17
    assert newest.raised_at == BASE + timedelta(seconds=1000.25)
    assert (oldest.airport, oldest.alerts) == ("LICC", 1)
    assert activity.list_alert_groups("LICC") == (oldest,)
    assert activity.count_alerts_by_second(1) == (1001,)


def test_alerts_that_differ_in_more_than_the_interest_are_separate_groups() -> None:
    """A group has one airport, direction, window, window start, bound, state and run length."""
    activity, _ = make_activity()
    kinds = product(("KJFK", "EGLL"), Direction, Window, (BASE, BASE + timedelta(days=1)), Bound)
    for airport, direction, window, start, bound in kinds:
        alert = an_alert(airport=airport, direction=direction, window=window, window_start=start, bound=bound)
        activity.record_alert(alert)
    activity.record_alert(an_alert(state=AlertState.RESOLVED))
    activity.record_alert(an_alert(for_windows=2))
    assert len(activity.list_alert_groups()) == 2 * 3 * 3 * 2 * 2 + 2


def test_the_oldest_groups_are_removed() -> None:
    """A worker runs for months with bounded memory."""
    activity, _ = make_activity()
    for hour in range(MAX_GROUPS + 5):
        activity.record_alert(an_alert(window_start=BASE + timedelta(hours=hour)))
    kept = activity.list_alert_groups()
    assert len(kept) == MAX_GROUPS
    assert kept[0].window_start == BASE + timedelta(hours=MAX_GROUPS + 4)
    assert kept[-1].window_start == BASE + timedelta(hours=5)


def test_no_group_names_a_user_or_an_interest() -> None:
    """The pages are for operators, who need neither."""
    activity, _ = make_activity()
    alert = an_alert()
    activity.record_alert(alert)
    shown = repr(activity.list_alert_groups())
    assert str(alert.user_id) not in shown
    assert str(alert.interest_id) not in shown
