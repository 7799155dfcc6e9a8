"""Tests of the rule of live coverage, by example and against a model that looks at each second by itself."""

from collections.abc import Iterable, Sequence
from typing import Final

import pytest
from hypothesis import example, given, strategies as st

from collector.live.live_coverage import (
    CoverageRules,
    CoverageStatement,
    LiveCoverage,
    PollSummary,
    Verdict,
    fold_poll,
    fold_time,
)
from domain.interests import Direction

DEPARTURES, ARRIVALS = Direction.DEPARTURES, Direction.ARRIVALS
RULES: Final = CoverageRules(
    longest_pause_s=12,
    warm_up_s=10,
    turn_up_s={DEPARTURES: 5, ARRIVALS: 8},
    heard_for_s=100,
    longest_lag_s=6,
    longest_lead_s=2,
)
"""Seconds that are short, so that a model can look at each."""
Event = PollSummary | float
"""A poll, or a time at which there was none."""


def poll(at: float, lag: float = 1, fresh: int = 3, low: int = 1) -> PollSummary:
    """Return the summary of a poll that is answered at a time, and states one that is `lag` seconds earlier."""
    return PollSummary(at, at - lag, fresh, low)


def fold(events: Iterable[Event], rules: CoverageRules = RULES) -> list[CoverageStatement]:
    """Return all that is said of the events, in their order."""
    coverage, statements = LiveCoverage(), []
    for event in events:
        coverage, more = (
            fold_poll(coverage, rules, event) if isinstance(event, PollSummary) else fold_time(coverage, rules, event)
        )
        statements += more
    return statements


def join(statements: Iterable[CoverageStatement], direction: Direction) -> list[tuple[Verdict, float, float]]:
    """Return what is said of a direction, with neighbours of the same verdict joined."""
    joined: list[tuple[Verdict, float, float]] = []
    for each in statements:
        if each.direction is not direction:
            continue
        if joined and joined[-1][0] is each.verdict and joined[-1][2] == each.begin:
            joined[-1] = (each.verdict, joined[-1][1], each.end)
        else:
            joined.append((each.verdict, each.begin, each.end))
    return joined


def test_a_row_of_polls_covers_from_its_warm_up_to_where_a_movement_may_still_turn_up() -> None:
    """Each direction to its own end; the first poll states 99, the last 159."""
    said = fold([poll(at) for at in range(100, 161, 10)])
    assert join(said, DEPARTURES) == [(Verdict.COVERED, 109, 154)]
    assert join(said, ARRIVALS) == [(Verdict.COVERED, 109, 151)]


def test_a_pause_that_the_detector_bridges_is_no_gap() -> None:
    """Twelve seconds are; thirteen are not."""
    row = [poll(at) for at in range(100, 161, 10)]
    assert join(fold([*row, poll(172), poll(182)]), ARRIVALS) == [(Verdict.COVERED, 109, 173)]
    assert join(fold([*row, poll(173), poll(183)]), ARRIVALS)[:2] == [
        (Verdict.COVERED, 109, 151),
        (Verdict.GAP, 151, 182),
    ]


def test_an_outage_is_a_gap_at_once_and_grows_with_the_time() -> None:
    """From the end of what was covered: movements that had not turned up are lost. Then the row begins anew."""
    row = [poll(at) for at in range(100, 161, 10)]
    assert join(fold([*row, 172.0]), ARRIVALS) == [(Verdict.COVERED, 109, 151)]
    assert join(fold([*row, 173.0]), ARRIVALS) == [(Verdict.COVERED, 109, 151), (Verdict.GAP, 151, 173)]
    assert join(fold([*row, 173.0, 200.0]), ARRIVALS)[-1] == (Verdict.GAP, 151, 200)
    again = [poll(at) for at in range(205, 246, 10)]
    assert join(fold([*row, 173.0, 200.0, *again]), ARRIVALS) == [
        (Verdict.COVERED, 109, 151),
        (Verdict.GAP, 151, 214),
        (Verdict.COVERED, 214, 236),
    ]


LIARS: Final = {
    "empty sky": lambda at: poll(at, fresh=0, low=0),
    "positions all old": lambda at: poll(at, fresh=0, low=0),
    "time stands still": lambda at: PollSummary(at, 159, 3, 1),
    "time runs backwards": lambda at: PollSummary(at, 318 - at, 3, 1),
    "stale": lambda at: poll(at, lag=7),
    "ahead": lambda at: poll(at, lag=-3),
}


@pytest.mark.parametrize("liar", LIARS)
def test_polls_that_lie_cover_nothing(liar: str) -> None:
    """They are as good as none: after the longest pause there is a gap, although the source answers."""
    row: list[Event] = [poll(at) for at in range(100, 161, 10)]
    said = join(fold([*row, *(LIARS[liar](at) for at in range(165, 221, 5))]), ARRIVALS)
    assert said == [(Verdict.COVERED, 109, 151), (Verdict.GAP, 151, 220)]


def test_an_airport_that_is_not_heard_is_not_covered_and_no_gap_is_said() -> None:
    """Aircraft high above it prove nothing; the first position near the ground begins the coverage."""
    high = [poll(at, low=0) for at in range(100, 151, 10)]
    assert fold([*high, 170.0, 190.0]) == []
    assert join(fold([*high, *(poll(at) for at in range(160, 191, 10))]), ARRIVALS) == [(Verdict.COVERED, 159, 181)]


def test_what_was_heard_long_ago_is_not_heard_any_more() -> None:
    """The coverage ends without a gap: whoever hears nothing near the ground leaves the day to the night's record."""
    heard = [poll(100), *(poll(at, low=0) for at in range(110, 161, 10))]
    assert join(fold(heard), ARRIVALS) == [(Verdict.COVERED, 109, 151)]
    said = join(fold([*heard, *(poll(at, low=0) for at in range(170, 251, 10))]), ARRIVALS)
    assert said == [(Verdict.COVERED, 109, 191)]  # the position of 99 shows it until 199
    assert join(fold([*heard, 180.0, 260.0]), ARRIVALS) == [(Verdict.COVERED, 109, 151), (Verdict.GAP, 151, 180)]


def test_rules_that_would_cover_time_before_it_was_seen_are_refused() -> None:
    """A warm-up that is shorter than a poll may lag, and an end nearer than a poll may be ahead."""
    for changes in ({"warm_up_s": 5}, {"turn_up_s": {ARRIVALS: 1, DEPARTURES: 5}}):
        fields = {name: getattr(RULES, name) for name in CoverageRules.__dataclass_fields__}
        with pytest.raises(ValueError, match="must not be shorter"):
            CoverageRules(**(fields | changes))


def find_rows(polls: Sequence[PollSummary]) -> list[list[PollSummary]]:
    """Return the rows of polls that count and follow each other without a long pause (the model)."""
    rows: list[list[PollSummary]] = []
    latest: PollSummary | None = None
    for each in polls:
        if each.fresh_positions == 0 or not -2 <= each.answered_at - each.stated_at <= 6:
            continue
        if latest is not None and each.stated_at <= latest.stated_at:
            continue
        if (
            latest is not None
            and max(each.stated_at - latest.stated_at, each.answered_at - latest.answered_at) <= RULES.longest_pause_s
        ):
            rows[-1].append(each)
        else:
            rows.append([each])
        latest = each
    return rows


def is_covered(second: float, direction: Direction, rows: Sequence[Sequence[PollSummary]]) -> bool:
    """Return True if some row covers a second, by its own polls alone (the model, where the ground is always heard)."""
    return any(
        row[0].stated_at + RULES.warm_up_s <= second < row[-1].stated_at - RULES.turn_up_s[direction] for row in rows
    )


GAPS_S: Final = st.sampled_from([1, 3, 5, 9, 11, 12, 13, 20])
LAGS_S: Final = st.sampled_from([1, 1, 1, 0, 2, 6, 7, -2, -3, 15])
EVENTS: Final = st.lists(
    st.tuples(GAPS_S, st.booleans() | st.just(True), LAGS_S, st.sampled_from([0, 1, 3, 3, 3])), max_size=20
)


def draw_events(drawn: Sequence[tuple[int, bool, int, int]], low: int = 1) -> list[Event]:
    """Return events from drawn steps: seconds since the one before, whether it is a poll, its lag, fresh positions."""
    events: list[Event] = []
    time = 1_000.0
    for gap, is_poll, lag, fresh in drawn:
        time += gap
        events.append(poll(time, lag, fresh, min(low, fresh)) if is_poll else time)
    return events


@given(EVENTS)
@example([(1, True, 6, 3), (11, True, 0, 3), (9, True, 1, 3), (13, False, 1, 3), (1, True, 6, 3), (12, True, 6, 3)])
@example([(1, True, 1, 3), (5, True, 6, 3), (8, True, 2, 3), (9, True, 1, 3), (9, True, 1, 3)])
def test_what_is_covered_is_what_the_model_covers(drawn: list[tuple[int, bool, int, int]]) -> None:
    """Second by second; times without a poll between change when it is said, and never what is covered."""
    events = draw_events(drawn)
    polls = [each for each in events if isinstance(each, PollSummary)]
    said, rows = fold(events), find_rows(polls)
    for direction in RULES.turn_up_s:
        covered = [each for each in said if each.direction is direction and each.verdict is Verdict.COVERED]
        for second in range(985, 1_000 + sum(step[0] for step in drawn) + 10):
            expected = is_covered(second, direction, rows)
            assert any(each.begin <= second < each.end for each in covered) is expected, second
        assert [each for each in join(fold(polls), direction) if each[0] is Verdict.COVERED] == [
            each for each in join(said, direction) if each[0] is Verdict.COVERED
        ]


@given(EVENTS)
def test_statements_follow_each_other_and_none_is_about_the_future(drawn: list[tuple[int, bool, int, int]]) -> None:
    """The first is a coverage; each begins where the one before ended, and ends when it is said, or before."""
    coverage, ends = LiveCoverage(), {}
    for event in draw_events(drawn):
        now = event.answered_at if isinstance(event, PollSummary) else event
        coverage, said = (
            fold_poll(coverage, RULES, event) if isinstance(event, PollSummary) else fold_time(coverage, RULES, event)
        )
        for each in said:
            assert each.begin < each.end <= now
            if each.direction in ends:
                assert each.begin == ends[each.direction]
            else:
                assert each.verdict is Verdict.COVERED
            ends[each.direction] = each.end
        if isinstance(event, float) and ends and coverage.last and now - coverage.last.answered_at > 12:
            if coverage.said_until is None:
                ends = {}  # not heard any more
            else:
                assert set(ends.values()) == {now}


@given(EVENTS)
def test_without_a_position_near_the_ground_nothing_is_said(drawn: list[tuple[int, bool, int, int]]) -> None:
    """However many aircraft pass."""
    assert fold(draw_events(drawn, low=0)) == []
