"""The windows of a preview's chart have the usual by which thresholds in percent are judged."""

from datetime import timedelta
from random import Random

import pytest

from domain.calendar import Calendar
from domain.changes import NO_TRAFFIC
from domain.grids import LOCAL_WINDOWS
from domain.interests import Direction
from domain.past_windows import list_past_windows
from domain.usual_fold import fold_with_usual
from domain.windows import AlignedTo, Window
from tests.domain.filled_logs import build_filled_log
from tests.domain.logs import an_interest
from tests.domain.test_percents import AIRPORTS
from tests.domain.usual_logs import ModelUsual, generate_usual_log


@pytest.mark.parametrize("aligned_to", AlignedTo)
@pytest.mark.parametrize("window", LOCAL_WINDOWS)
def test_each_window_has_the_usual_that_was_fixed_when_it_was_reached(window: Window, aligned_to: AlignedTo) -> None:
    """By UTC and by the airport's clock, in any zone; a window without a usual, or not reached yet, has none."""
    found = 0
    for seed in range(6):
        log = generate_usual_log(Random(seed))
        since, until = log.begin - timedelta(days=4), log.begin + timedelta(days=3)
        model = ModelUsual(log.zone, window.value, since, is_local=aligned_to is AlignedTo.AIRPORT)
        traffic = NO_TRAFFIC
        for number, message in enumerate(log.messages, 1):
            traffic = fold_with_usual(traffic, message, Calendar(log.zone))
            told = [each for each in log.messages[:number] if each.direction is Direction.DEPARTURES]
            model.fix_reached([build_filled_log(told)])
        interest = an_interest(
            airport=AIRPORTS[log.zone], direction=Direction.DEPARTURES, window=window, aligned_to=aligned_to
        )
        windows = list_past_windows(interest, traffic, since, until)
        expected = {start: usual and 2 * usual for start, usual in model.fixed.items()}
        assert {each.start: each.doubled_usual for each in windows} == {
            each.start: expected.get(each.start) for each in windows
        }
        assert len(windows) >= 7 * 24 // window.hours - 2
        found += sum(each.doubled_usual is not None for each in windows)
    assert found >= 10
