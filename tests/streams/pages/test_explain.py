"""Why an interest was told something or was not: the rule's own verdicts, in words."""

import json
from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given, settings

from domain.interests import Direction
from domain.traffic import Coverage, Observation
from streams.pages.explain import (
    EXPLANATION_ADAPTER,
    WINDOWS_PER_PAGE,
    InterestExplanation,
    describe_interest,
    explain_interest,
)
from streams.pages.rendering import render_explanation
from tests.domain.logs import BASE, an_interest, compute_expected_alerts, interests, interleaved
from tests.domain.test_rule import seen
from tests.streams.events import interest_set, observed
from tests.streams.join_state_on_dicts import JoinStateOnDicts

NOW = BASE + timedelta(days=3)
HOUR = timedelta(hours=1)


def explain(log: list[Observation], wish) -> InterestExplanation:
    bench = JoinStateOnDicts()
    bench.fold(interest_set(wish, 1))
    for number, each in enumerate(log):
        bench.fold(observed("KJFK", number + 1, each))
    return explain_interest(bench.state, wish, NOW)


@given(log=interleaved(), wish=interests)
@settings(max_examples=60)
def test_what_is_said_is_what_the_brute_force_model_says(log, wish) -> None:
    """Each alert, at its window; and the chart's signs are among them."""
    told = explain(log, wish)
    said = {
        (bound.bound.value, bound.state.value, each.start)
        for each in told.windows
        for bound in each.bounds
        if bound.said
    }
    assert said == compute_expected_alerts(wish, log)
    assert told.alert_count == len(said)
    signs = {(each.bound.value, each.state.value, each.start) for each in told.series.statements}
    first = told.series.windows[0].start if told.series.windows else NOW
    assert signs == {each for each in said if each[2] >= first}
    assert list(told.windows) == sorted(told.windows, key=lambda each: each.start, reverse=True)


def why(log, hour: int, **changes) -> str:
    """What is told of the window so many hours after BASE."""
    told = explain(log, an_interest(**changes))
    (window,) = [each for each in told.windows if each.start == BASE + hour * HOUR]
    return " | ".join(f"{bound.state if bound.said else '-'}: {bound.why}" for bound in window.shown_bounds)


FULL = (0.1, 0.2, 0.3)
TWO_HOURS = [seen(0, 1, FULL), seen(1, 2, (1.1, 1.2, 1.3))]


@pytest.mark.parametrize(
    ("log", "hour", "changes", "told"),
    [
        ([seen(0, 1, FULL)], 0, {}, "FIRING: 3 is more than 2; the window before was not in breach."),
        (TWO_HOURS, 1, {}, "-: 3 is still more than 2; it was said when the breach began."),
        (TWO_HOURS, 1, {"repeat": True}, "STILL: 3 is still more than 2, and the interest wants to be told again."),
        ([*TWO_HOURS, seen(2, 3)], 2, {}, "RESOLVED: 0 is no longer more than 2."),
        ([seen(0, 1, (0.1,))], 0, {}, "-: 1 is not more than 2."),
        ([seen(0, 1, (0.1,))], 0, {"low": 1}, "-: 1 is neither more than 2 nor fewer than 1."),
        ([seen(0, 0.5, (0.1,))], 0, {}, "-: 1 so far is not more than 2."),
        ([seen(0, 1)], 0, {"high": None, "low": 1}, "FIRING: 0 is fewer than 1; the window before was not in breach."),
        (
            [seen(0, 1), seen(1, 1.5, (1.1,))], 1, {"high": None, "low": 3},
            "-: It is open; whether there are fewer than 3 is known when it closes.",
        ),
        (TWO_HOURS, 0, {"for_windows": 2}, "-: 3 is more than 2: 1 of the 2 windows in a row that it takes."),
        (TWO_HOURS, 1, {"for_windows": 2}, "FIRING: 3 is more than 2, and so were the windows before: 2 in a row."),
        (
            [seen(0, 0.5, FULL), seen(0.5, 1.5, (1.1, 1.2, 1.3), Coverage.PARTIAL)], 1, {},
            "-: 3 is more than 2; it is said as soon as the window before is closed.",
        ),
        (
            [seen(0, 1), seen(1, 1.5, (), Coverage.GAP), seen(1.5, 2, (1.7,))], 1, {},
            "-: A gap in coverage touches it: its count will never be known, so it counts as no breach.",
        ),
        (
            [seen(0, 1), seen(1, 1.5, (), Coverage.GAP), seen(1.5, 2, (1.6, 1.7, 1.8))], 1, {},
            "FIRING: A gap in coverage touches it, but the 3 flights that are known are more than 2 already.",
        ),
        ([seen(-3, 1)], -1, {}, "-: It starts before the interest is in effect, so it is not judged."),
        ([seen(0, 1)], -1, {}, "-: It starts before the first coverage, so it is not judged."),
    ],
)  # fmt: skip
def test_each_reason_has_its_sentence(log, hour, changes, told) -> None:
    """What a person may ask about a window, and where nothing is said, why not."""
    assert why(log, hour, **changes) == told


def test_what_one_threshold_has_to_say_is_not_drowned_by_the_other() -> None:
    """Both only where both have something to say."""
    log = [seen(0, 1), seen(1, 2, (1.1, 1.2, 1.3))]
    assert why(log, 0, low=1) == "FIRING: 0 is fewer than 1; the window before was not in breach."
    assert why(log, 1, low=1) == (
        "FIRING: 3 is more than 2; the window before was not in breach. | RESOLVED: 3 is no longer fewer than 1."
    )


def test_an_interest_whose_airport_is_not_covered_is_explained_too() -> None:
    """There is nothing to judge, and the page says so."""
    told = explain([], an_interest())
    assert told.windows == ()
    assert "nothing is covered" in render_explanation(told, 1, False, "w")


def test_the_page_shows_the_newest_windows_first_and_may_show_alerts_alone() -> None:
    """Forty days of hours are a thousand."""
    log = [seen(0, 1, FULL), seen(1, 60)]
    told = explain(log, an_interest())
    newest, oldest = render_explanation(told, 1, False, "w"), render_explanation(told, 2, False, "w")
    assert newest.count('<tr role="row" data-key') == WINDOWS_PER_PAGE
    assert "Sun 10 Feb 11:00–12:00</th>" in newest
    assert "Fri 8 Feb 00:00–01:00</th>" in oldest.split("Window by window")[1]
    alone = render_explanation(told, 1, True, "w")
    assert alone.count('<tr role="row" data-key') == 2
    assert "No window brought an alert." in render_explanation(explain([seen(0, 1)], an_interest()), 1, True, "w")


def test_the_interest_is_told_in_words() -> None:
    """As the person put it."""
    told = explain([], an_interest(low=1, for_windows=3, direction=Direction.BOTH))
    assert describe_interest(told) == "more than 2 or fewer than 1 arrivals and departures, 3 windows in a row"


def test_the_json_names_no_person() -> None:
    """It has every window that is remembered."""
    told = json.loads(EXPLANATION_ADAPTER.dump_json(explain([seen(0, 60, FULL)], an_interest())))
    assert len(told["windows"]) > WINDOWS_PER_PAGE
    assert str(an_interest().user_id) not in json.dumps(told)
    assert "user" not in told


def test_an_older_interest_without_flights_shares_the_airport_s_history() -> None:
    """The chart spans what is kept, the verdicts what is judged."""
    late = replace(an_interest(), effective_from=BASE + 30 * HOUR)
    told = explain([seen(0, 40, (0.1, 0.2, 0.3, 31.1, 31.2, 31.3))], late)
    assert {(each.start - BASE) / HOUR for each in told.series.statements} == {31.0, 32.0}
