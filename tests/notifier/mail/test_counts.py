"""The counts that a mail shows: each line has those of its own alerts, and the chart the last one of each window."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from uuid import UUID

from hypothesis import given, strategies as st

from domain.alerts import Alert, AlertState, Bound
from notifier.mail.runs import describe_run
from notifier.mail.summary import BreachRun, ThresholdSummary, collect_live_starts, group_by_threshold
from notifier.mail.threshold_charts import render_charts
from notifier.mail.times import ReaderTimes
from tests.notifier.alerts import ALERT, ENGLISH

THRESHOLD = 10


def build_alert(number: int, state: AlertState, count: int, hour: int = 0, **changes: object) -> Alert:
    """Return an alert of this number and count about the window that begins so many hours after that of ALERT."""
    fields: dict[str, object] = {
        "alert_id": UUID(int=number),
        "state": state,
        "count": count,
        "threshold": THRESHOLD,
        "window_start": ALERT.window_start + timedelta(hours=hour),
    }
    return replace(ALERT, **(fields | changes))  # type: ignore[arg-type]


def summarize(alerts: Sequence[Alert]) -> ThresholdSummary:
    """Return the summary of alerts about one threshold."""
    (summary,) = group_by_threshold(alerts)
    return summary


def list_lines(alerts: Sequence[Alert]) -> list[str]:
    """Return the lines of a mail about these alerts of one threshold."""
    return [describe_run(ENGLISH, each) for each in summarize(alerts).split_into_runs()]


def describe_chart(alerts: Sequence[Alert]) -> str:
    """Return the words of the chart of alerts about one threshold."""
    summary = summarize(alerts)
    times = ReaderTimes(None, alerts[-1].window_end, ENGLISH)
    return render_charts([summary], times, "id")[summary].alt


def test_a_withdrawn_low_and_its_withdrawal_have_each_their_count() -> None:
    """A count that is not below the level never stands in a line that says so; the chart has the corrected one."""
    low = {"bound": Bound.LOW, "threshold": 3}
    alerts = [
        build_alert(1, AlertState.FIRING, 2, **low),
        build_alert(2, AlertState.WITHDRAWN, 3, withdrawn_count=2, **low),
    ]
    assert list_lines(alerts) == ["below 3: 2 departures", "correction: 3 departures, not 2; not below 3"]
    assert summarize(alerts).collect_chart_counts()[1] == [3]


def test_what_comes_again_with_fewer_flights_has_its_own_count() -> None:
    """High: 15, then 3, then 12. The second breach had 12, and the chart shows 12."""
    alerts = [
        build_alert(1, AlertState.FIRING, 15),
        build_alert(2, AlertState.WITHDRAWN, 3, withdrawn_count=15),
        build_alert(3, AlertState.FIRING, 12, revision=1),
    ]
    lines = list_lines(alerts)
    assert (lines[0], lines[1]) == (
        "above 10: 15 departures",
        "correction: 3 departures, not 15; not above 10",
    )
    assert "12 departures" in lines[2]
    assert summarize(alerts).collect_chart_counts()[1] == [12]


def test_an_early_count_gives_way_to_the_final_one() -> None:
    """What was said while the window was open is its count up to then; the alert that ends the breach has the rest."""
    alerts = [
        build_alert(1, AlertState.FIRING, 11, episode_id=UUID(int=1)),
        build_alert(2, AlertState.RESOLVED, 4, 2, episode_id=UUID(int=1), earlier=(2, 19, 30)),
    ]
    assert list_lines(alerts) == ["above 10 for 2 hours: 19 to 30 departures, then back to normal with 4"]
    assert summarize(alerts).collect_chart_counts()[1] == [2, 19, 30, 4]


@st.composite
def stories(draw: st.DrawFn) -> list[Alert]:
    """Return alerts about up to four windows of one threshold, each as the rule may say it, in any order.

    Each window has statements in turn, each withdrawn before the next; some of them are not in this mail. The counts
    fit the statements; those of the windows before are any.
    """
    bound = draw(st.sampled_from(Bound))
    breaches = st.integers(0, THRESHOLD - 1) if bound is Bound.LOW else st.integers(THRESHOLD + 1, 30)
    others = st.integers(THRESHOLD, 30) if bound is Bound.LOW else st.integers(0, THRESHOLD)
    found: list[Alert] = []
    for hour in range(draw(st.integers(1, 4))):
        for revision in range(draw(st.integers(0, 3))):
            is_end = draw(st.booleans())
            said, after = (others, breaches) if is_end else (breaches, others)
            count, withdrawn = draw(said), draw(after)
            state = AlertState.RESOLVED if is_end else draw(st.sampled_from([AlertState.FIRING, AlertState.STILL]))
            common = {"bound": bound, "revision": revision}
            context = {
                "earlier": tuple(draw(st.lists(st.none() | st.integers(0, 30), max_size=4))),
                "episode_id": draw(st.none() | st.integers(1, 9).map(lambda number: UUID(int=number))),
            }
            found.append(build_alert(len(found) + 1, state, count, hour, **(common | context)))
            taken_back = {"withdrawn_count": count, "withdrawn_state": state}
            found.append(
                build_alert(len(found) + 1, AlertState.WITHDRAWN, withdrawn, hour, **(common | context | taken_back))
            )
    kept = [each for each in found if draw(st.integers(0, 4))]
    return draw(st.permutations(kept or [build_alert(1, AlertState.FIRING, 11)]))


def list_said_counts(alerts: Sequence[Alert], hour: int) -> set[int]:
    """Return all counts that some alerts say of the window that begins so many hours after that of ALERT."""
    counts: set[int | None] = set()
    for each in alerts:
        back = (each.window_start - ALERT.window_start) // each.window.length - hour
        if back == 0:
            counts.add(each.count)
        elif 0 < back <= len(each.earlier):
            counts.add(each.earlier[-back])
    return {each for each in counts if each is not None}


def list_hours(run: BreachRun) -> range:
    """Return the windows of a run as hours after that of ALERT."""
    first, end = ((moment - ALERT.window_start) // timedelta(hours=1) for moment in (run.begin, run.end))
    return range(first, end)


@given(stories())
def test_no_line_contradicts_its_level_and_each_count_was_said_by_its_own_alerts(alerts: list[Alert]) -> None:
    """Each count of a breach is in breach. A window with an alert in the line has its count, unless that grew."""
    for run in summarize(alerts).split_into_runs():
        counts = [each.flights for each in run.list_breach_windows()]
        assert None not in counts
        assert bool(counts) is bool(run.breach_alerts)
        assert all(run.alerts[0].bound.is_breached(each, THRESHOLD) for each in counts)
        said = set().union(*(list_said_counts(run.alerts, hour) for hour in list_hours(run)))
        assert set(counts) <= said
        for each in run.breach_alerts:
            assert each.count in counts or (each.count == THRESHOLD + 1 and max(counts) > each.count)
        assert describe_run(ENGLISH, run)


@given(stories())
def test_the_chart_has_the_last_count_of_each_window(alerts: list[Alert]) -> None:
    """That of the alert said last, whatever was said before; an early count alone may be exceeded by a later alert."""
    first, counts = summarize(alerts).collect_chart_counts()
    for at, count in enumerate(counts):
        hour = (first - ALERT.window_start) // timedelta(hours=1) + at
        said = list_said_counts(alerts, hour)
        assert (count is None) is (not said)
        assert count is None or count in said
        own = [each for each in alerts if each.window_start == first + at * timedelta(hours=1)]
        if own:
            last = summarize(own).latest
            is_early = last.bound is Bound.HIGH and last.state.is_breach and last.count == THRESHOLD + 1
            assert count == last.count or (is_early and count is not None and count > last.count)


def test_the_chart_says_which_of_its_windows_were_seen_live() -> None:
    """As the last alert about them has it, and none whose count is not known; in words for who does not see it."""
    alerts = [
        build_alert(1, AlertState.FIRING, 12, hour=2, earlier=(4, 5), live_windows=0b111),
        build_alert(2, AlertState.RESOLVED, 7, hour=4, earlier=(12, None), live_windows=0b011),
    ]
    assert sorted(collect_live_starts(alerts)) == [ALERT.window_start + timedelta(hours=hour) for hour in (0, 1, 3, 4)]
    assert describe_chart(alerts).endswith("Seen live, and to be confirmed by the night's record: 8 Feb, 01:00, 04:00.")
    assert "Seen live, and" not in describe_chart([replace(each, live_windows=0) for each in alerts])
