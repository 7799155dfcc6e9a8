"""Whatever positions do, no alert says of a busy hour that it was quiet, and after the night all alerts are right.

The stories are of a day at Kennedy and Boston, in simulated time: see `tests.faults.live_story`.
"""

from pathlib import Path

import pytest

from domain.alerts import Bound
from local.opensky import nycflights
from local.opensky.flights import Timetable
from local.opensky.state_faults import StateFault, StateFaultPlan, parse_state_faults
from tests.faults.live_story import BEGIN, MIDNIGHT, TARGETS, tell_story

pytestmark = pytest.mark.faults

OUTAGES = parse_state_faults(
    "outage@2013-02-13T12:20Z+2,outage@2013-02-13T13:40Z+5,outage@2013-02-13T15:10Z+15,outage@2013-02-13T20:01Z+60,"
    "outage@2013-02-13T21:50Z+15,outage@2013-02-13T22:58Z+5"
)
"""Outages of 2, 5, 15 and 60 minutes, within busy hours and over their ends; the longest takes the busiest hour."""
LIES = parse_state_faults(
    "frozen@2013-02-13T12:55Z+70,empty@2013-02-13T14:30Z+65,null@2013-02-13T16:10Z+70,html@2013-02-13T18:00Z+30,"
    "old@2013-02-13T19:55Z+75,frozen@2013-02-13T21:30Z+20,empty@2013-02-13T22:05Z+60"
)
"""A source that lies: its time stands still, its positions are old, or its sky is empty."""


@pytest.fixture(scope="module")
def timetable(flights_cache: Path) -> Timetable:
    """The timetable of the real flights."""
    return Timetable(nycflights.load(flights_cache))


@pytest.mark.parametrize(
    ("faults", "seed"),
    [
        pytest.param(OUTAGES, 1, id="outages"),
        pytest.param(LIES, 2, id="lies"),
        *(pytest.param(OUTAGES, seed, id=f"outages {seed}", marks=pytest.mark.long) for seed in range(3, 6)),
        *(pytest.param(LIES, seed, id=f"lies {seed}", marks=pytest.mark.long) for seed in range(3, 6)),
        *(
            pytest.param(StateFaultPlan(seed=seed, rate=0.4), seed, id=f"drawn {seed}", marks=pytest.mark.long)
            for seed in range(3, 8)
        ),
    ],
)
def test_no_low_is_said_of_a_busy_hour_and_after_the_night_all_alerts_are_right(
    faults: StateFaultPlan, seed: int, timetable: Timetable, tmp_path: Path
) -> None:
    """Leaders are killed meanwhile, and follow each other after a second, or after twenty minutes.

    The flights in force are the record's, the alerts in force are the rule's of those flights, and no low was ever said
    that the truth contradicts by more than live may miss. There is something to judge: of the time some is covered
    live, and quiet hours are told before the record comes.
    """
    story = tell_story(tmp_path, timetable, faults, seed)
    assert story.list_faults() == []
    assert story.log.measure_live_share(TARGETS, BEGIN, MIDNIGHT) > 0.2
    assert story.count_live(Bound.LOW) > 0


def test_outages_of_each_length_are_among_the_faults() -> None:
    """2, 5, 15 and 60 minutes, and each kind of lie."""
    assert {(each.end - each.begin) // 60 for each in OUTAGES.spells} == {2, 5, 15, 60}
    assert {each.fault for each in LIES.spells} >= {
        StateFault.FROZEN,
        StateFault.EMPTY,
        StateFault.NULL,
        StateFault.OLD,
    }
