"""The windows of an interest: the alerts that are shown are those that the stream raises on the published messages."""

import random
from collections import Counter
from dataclasses import replace
from datetime import timedelta

import pytest

from collector import windows
from collector.interest_requests import InterestRequest
from collector.intervals import DAY, day_of
from collector.window_verdicts import WhyUnknown
from domain.interests import Direction
from domain.windows import AlignedTo, Window
from tests.collector.conftest import ANN, BOB, NOON, ON_SQLITE, Service, wish
from tests.collector.told_story import Story, ask, expect_ids, list_alert_ids, tell_stream

DEPARTURES = Direction.DEPARTURES
TODAY = day_of(NOON)
HOUR = timedelta(hours=1)


def draw_request(chance: random.Random) -> InterestRequest:
    """Draw a request for an interest with thresholds in flights, near the count of a window in a `Story`."""
    window = chance.choice([*Window])
    direction = chance.choice([*Direction])
    usual = window.hours * 1.3 * len(direction.parts)
    low = max(round(usual * chance.uniform(0.9, 1.1)), 1)
    return wish(
        direction=direction,
        window=window,
        high=low + max(round(usual * chance.uniform(0, 0.2)), 1),
        low=low,
        for_windows=chance.choice([1, 1, 1, 2]),
        repeat=chance.random() < 0.5,
        effective_from=NOON - 3 * DAY,
        aligned_to=AlignedTo.AIRPORT if window is not Window.ONE_HOUR and chance.random() < 0.4 else AlignedTo.UTC,
    )


@ON_SQLITE
@pytest.mark.parametrize("seed", range(8))
def test_the_alerts_are_those_of_the_stream(service: Service, seed: int) -> None:
    """Ids and order, whatever the record, positions, corrections and reconciliation brought, and in any window."""
    chance = random.Random(seed)
    wanted = draw_request(chance)
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
    """A change leaves what was said; what was not said yet is said by the new version, of its own windows alone.

    By the record: of what was live it is not known to the minute what was told before a change (ADR 61).
    """
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
    Story(service, chance, is_live=False, late_share=0.1).run(24 * 6, changes)
    shown = ask(service, interest.interest_id, NOON - 5 * DAY)
    alerts = tell_stream(service.database)
    assert list_alert_ids(shown) == expect_ids(alerts, shown) != []
    assert len({alert.version for alert in alerts}) > 1
    judged = {window.version for window in shown.windows if window.breached}
    assert {alert.version for window in shown.windows for alert in [each.alert for each in window.alerts]} >= judged


@ON_SQLITE
def test_of_many_former_versions_the_latest_are_looked_at(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each costs a pass over the flights, and a person may have hundreds."""
    monkeypatch.setattr(windows, "MOST_REPLAYED", 3)
    interest = service.set(wish(direction=DEPARTURES, high=3), ANN)
    for high in range(4, 10):
        service.clock.advance(HOUR)
        service.set(wish(direction=DEPARTURES, high=high), ANN)
    service.cover(DEPARTURES, TODAY - 3 * DAY, TODAY)
    shown = ask(service, interest.interest_id, NOON - 5 * DAY)
    assert [each.interest.version for each in shown.former_versions] == [4, 5, 6]


@ON_SQLITE
def test_of_days_of_history_nothing_is_told(service: Service) -> None:
    """They came because of somebody's percents; an interest in flights that is effective on them gets none of them."""
    chance = random.Random(1)
    story = Story(service, chance, rate=5, is_live=False, late_share=0, parts=(DEPARTURES,))
    story.fly_before(40)
    interest = service.set(wish(high=5, low=4, effective_from=NOON - 3 * DAY, repeat=True), ANN)
    service.set(wish(high=None, low_percent=50), BOB)
    story.run(24 * 3)
    shown = ask(service, interest.interest_id, NOON - 3 * DAY)
    told = [alert for alert in tell_stream(service.database) if alert.interest_id == interest.interest_id]
    assert list_alert_ids(shown) == expect_ids(told, shown) != []
    history = [window for window in shown.windows if window.end <= TODAY - DAY]
    assert len(history) > 24
    assert [window for window in history if window.alerts or window.breached] == []
    assert {window.why_unknown for window in history} == {WhyUnknown.BEFORE_COVERAGE}


@ON_SQLITE
@pytest.mark.parametrize("window", [Window.SIX_HOURS, Window.ONE_DAY])
def test_what_is_usual_by_the_airports_clock_is_what_it_was(service: Service, window: Window) -> None:
    """Alerts, usual and base windows by the airport's clock are those of the stream."""
    chance = random.Random(2)
    story = Story(service, chance, rate=5, is_live=False, late_share=0.05, parts=(DEPARTURES,))
    story.fly_before(40)
    wanted = wish(
        high=None, high_percent=101, low_percent=99, window=window, aligned_to=AlignedTo.AIRPORT, repeat=True,
        effective_from=NOON - 3 * DAY,
    )  # fmt: skip
    interest = service.set(wanted, ANN)
    story.run(24 * 5)
    shown = ask(service, interest.interest_id, NOON - 3 * DAY)
    assert list_alert_ids(shown) == expect_ids(tell_stream(service.database), shown) != []
    usual = [each for each in shown.windows if each.doubled_usual is not None]
    assert usual
    for each in usual:
        assert len(each.base) >= 3
        assert all(
            (each.local_start.hour - begin.astimezone(each.local_start.tzinfo).hour) % 24 == 0 for begin, _ in each.base
        )
