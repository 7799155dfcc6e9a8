"""The windows of an interest: the alerts that are shown are those that the stream raises on the published messages."""

import random
from datetime import timedelta

import pytest

from collector.intervals import DAY
from domain.interests import Direction
from domain.windows import Window
from tests.collector.conftest import ANN, NOON, ON_SQLITE, Service, wish
from tests.collector.told_story import Story, ask, expect_ids, list_alert_ids, tell_stream


@ON_SQLITE
@pytest.mark.parametrize("seed", range(12))
def test_the_alerts_are_those_of_the_stream(service: Service, seed: int) -> None:
    chance = random.Random(seed)
    direction = chance.choice([*Direction])
    high = chance.randrange(1, 4)
    wanted = wish(
        direction=direction, window=chance.choice([*Window]), high=high * 2, low=high, for_windows=chance.randrange(1, 3),
        repeat=chance.random() < 0.5, effective_from=NOON - 5 * DAY,
    )
    interest = service.set(wanted, ANN)
    story = Story(service, chance, is_live=seed % 3 > 0, late_share=0.1 if seed % 2 else 0)
    story.run(24 * 6)
    shown = ask(service, interest.interest_id, NOON - 5 * DAY)
    alerts = tell_stream(service.database)
    from collections import Counter
    print("STAT", seed, wanted.window, direction, len(list_alert_ids(shown)), Counter(a.state.value for a in alerts), Counter(w.why_unknown for w in shown.windows), sum(w.is_live for w in shown.windows))
    assert list_alert_ids(shown) == expect_ids(alerts, shown)
