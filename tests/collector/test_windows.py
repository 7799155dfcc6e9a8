"""The windows of an interest: the alerts that are shown are those that the stream raises on the published messages."""

import random
from collections import Counter
from dataclasses import replace
from datetime import timedelta

import pytest

from collector.interest_requests import InterestRequest
from collector.intervals import DAY, day_of
from collector.window_verdicts import WhyUnknown
from domain.interests import Direction
from domain.windows import AlignedTo, Window
from tests.collector.conftest import ANN, NOON, ON_SQLITE, Service, wish
from tests.collector.told_story import Story, ask, expect_ids, list_alert_ids, tell_stream

DEPARTURES = Direction.DEPARTURES
TODAY = day_of(NOON)
HOUR = timedelta(hours=1)


def draw_wish(chance: random.Random) -> InterestRequest:
    """Return any interest in flights, with thresholds near what a window has in a `Story`."""
    window = chance.choice([*Window])
    direction = chance.choice([*Direction])
    usual = window.hours * 1.3 * len(direction.parts)
    low = max(round(usual * chance.uniform(0.5, 1)), 1)
    return wish(
        direction=direction,
        window=window,
        high=low + max(round(usual * chance.uniform(0, 0.5)), 1),
        low=low,
        for_windows=chance.choice([1, 1, 2, 3]),
        repeat=chance.random() < 0.5,
        effective_from=NOON - 3 * DAY,
        aligned_to=AlignedTo.AIRPORT if window is not Window.ONE_HOUR and chance.random() < 0.4 else AlignedTo.UTC,
    )


@ON_SQLITE
@pytest.mark.parametrize("seed", range(9))
def test_the_alerts_are_those_of_the_stream(service: Service, seed: int) -> None:
    """Ids and order, whatever the record, positions, corrections and reconciliation brought, and in any window."""
    chance = random.Random(seed)
    wanted = draw_wish(chance)
    interest = service.set(wanted, ANN)
    story = Story(service, chance, is_live=seed % 3 > 0, late_share=0.1 if seed % 2 else 0)
    story.run(24 * 6)
    shown = ask(service, interest.interest_id, NOON - 5 * DAY)
    assert list_alert_ids(shown) == expect_ids(tell_stream(service.database), shown) != []


@ON_SQLITE
@pytest.mark.parametrize("seed", range(2))
def test_what_is_usual_is_what_it_was(service: Service, seed: int) -> None:
    """Percents are judged by what was usual when a window was reached, also where history came after it."""
    chance = random.Random(seed)
    story = Story(service, chance, rate=5, is_live=False, late_share=0.05, parts=(DEPARTURES,))
    story.fly_before(40)
    wanted = wish(high=None, high_percent=130, low_percent=80, effective_from=NOON - 3 * DAY, repeat=seed == 1)
    interest = service.set(wanted, ANN)
    story.run(24 * 4)
    shown = ask(service, interest.interest_id, NOON - 3 * DAY)
    assert list_alert_ids(shown) == expect_ids(tell_stream(service.database), shown) != []
    reasons = Counter(window.why_unknown for window in shown.windows)
    assert reasons[None] > 24
    assert reasons[WhyUnknown.USUAL_UNKNOWN] > 0


@ON_SQLITE
@pytest.mark.parametrize("seed", range(4))
def test_each_version_has_the_alerts_of_its_time(service: Service, seed: int) -> None:
    """A change leaves what was said; what was not said yet is said by the new version, of its own windows alone."""
    chance = random.Random(seed)
    wanted = wish(direction=DEPARTURES, high=3, low=1, repeat=seed == 1, effective_from=NOON - 2 * DAY)
    interest = service.set(wanted, ANN)
    changes = [
        (
            chance.randrange(24 * 6),
            replace(
                wanted,
                high=chance.randrange(2, 5),
                repeat=chance.random() < 0.5,
                effective_from=chance.choice([None, None, NOON - chance.randrange(3) * DAY]),
            ),
        )
        for _ in range(4)
    ]
    Story(service, chance, is_live=seed % 2 > 0, late_share=0.1).run(24 * 6, changes)
    shown = ask(service, interest.interest_id, NOON - 5 * DAY)
    alerts = tell_stream(service.database)
    assert list_alert_ids(shown) == expect_ids(alerts, shown) != []
    assert len({alert.version for alert in alerts}) > 1
    judged = {window.version for window in shown.windows if window.breached}
    assert {alert.version for window in shown.windows for alert in [each.alert for each in window.alerts]} >= judged
