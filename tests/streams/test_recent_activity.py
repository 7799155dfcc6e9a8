"""The recent activity: rates over whole seconds, alike alerts in one line, and never more memory."""

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
    """A clock of the machine and of the stack, moved by hand."""

    def __init__(self) -> None:
        self.at = 1000.25

    def __call__(self) -> float:
        return self.at

    def now(self):
        return BASE + timedelta(seconds=self.at)

    def real_seconds(self, duration: timedelta) -> float:
        return duration.total_seconds()


def an_activity() -> tuple[RecentActivity, Seconds]:
    seconds = Seconds()
    return RecentActivity(seconds, seconds), seconds


def an_alert(**changes) -> Alert:
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


def test_what_is_counted_in_a_second_is_told_when_the_second_is_over() -> None:
    """Half a second beside whole ones would look like a lull."""
    activity, seconds = an_activity()
    activity.record_flights("KJFK", 7)
    activity.record_flights("LICC", 3)
    assert activity.count_flights_by_second(3) == (0, 0, 0)
    seconds.at += 1
    activity.record_flights("KJFK", 1)
    assert activity.count_flights_by_second(3) == (0, 0, 10)
    seconds.at += 2
    assert activity.count_flights_by_second(3) == (10, 1, 0)


@given(st.lists(st.tuples(st.integers(0, 300), st.integers(1, 50)), max_size=40), st.integers(1, KEPT_SECONDS))
def test_the_last_seconds_are_those_of_a_count_that_forgets_nothing(steps, shown) -> None:
    """However long nothing came in between."""
    activity, seconds = an_activity()
    counted: dict[int, int] = {}
    for pause, flights in steps:
        seconds.at += pause
        activity.record_flights("KJFK", flights)
        counted[int(seconds.at)] = counted.get(int(seconds.at), 0) + flights
    now = int(seconds.at)
    assert activity.count_flights_by_second(shown) == tuple(counted.get(each, 0) for each in range(now - shown, now))


def test_alerts_that_say_the_same_of_a_window_are_one_line() -> None:
    """A hundred thousand at once must not wash away all others."""
    activity, seconds = an_activity()
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


def test_whatever_differs_but_the_interest_is_a_line_of_its_own() -> None:
    """Airport, direction, window, its start, bound, state and run."""
    activity, _ = an_activity()
    kinds = product(("KJFK", "EGLL"), Direction, Window, (BASE, BASE + timedelta(days=1)), Bound)
    for airport, direction, window, start, bound in kinds:
        alert = an_alert(airport=airport, direction=direction, window=window, window_start=start, bound=bound)
        activity.record_alert(alert)
    activity.record_alert(an_alert(state=AlertState.RESOLVED))
    activity.record_alert(an_alert(for_windows=2))
    assert len(activity.list_alert_groups()) == 2 * 3 * 3 * 2 * 2 + 2


def test_the_oldest_lines_are_forgotten() -> None:
    """A worker runs for months."""
    activity, _ = an_activity()
    for hour in range(MAX_GROUPS + 5):
        activity.record_alert(an_alert(window_start=BASE + timedelta(hours=hour)))
    kept = activity.list_alert_groups()
    assert len(kept) == MAX_GROUPS
    assert kept[0].window_start == BASE + timedelta(hours=MAX_GROUPS + 4)
    assert kept[-1].window_start == BASE + timedelta(hours=5)


def test_no_line_names_a_person_or_an_interest() -> None:
    """The pages are for operators."""
    activity, _ = an_activity()
    alert = an_alert()
    activity.record_alert(alert)
    told = repr(activity.list_alert_groups())
    assert str(alert.user_id) not in told
    assert str(alert.interest_id) not in told
