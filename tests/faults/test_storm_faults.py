"""The schedule of a storm's faults: what is in each, and that no fault hides what another one is to show."""

from itertools import pairwise
from random import Random

from hypothesis import given, strategies as st

from local.opensky.state_faults import parse_state_faults
from tests.faults.live_storm import DAY, draw_disturbances, draw_state_faults
from tests.faults.storm.faults import FaultKind, draw_schedule
from tests.faults.storm.stack import REPLICAS


@given(st.integers(0, 10**9), st.integers(11, 40), st.booleans())
def test_a_circuit_that_opened_by_a_stopped_clock_is_mended_by_no_restart(
    seed: int, count: int, on_mariadb: bool
) -> None:
    """The mail server is away at the begin of the last part, after the clock of the notifier was stopped.

    Nothing after that restarts, freezes or corrects that notifier: a circuit that waited by the clock would stay open.
    """
    faults = draw_schedule(Random(seed), count, on_mariadb)
    assert len(faults) == count
    away = next(each for each in faults if each.kind is FaultKind.AWAY)
    number = faults.index(away)
    assert (away.part, away.at, away.target) == (2, 0.0, "sink")
    assert away.detail in REPLICAS
    assert any((each.kind, each.target) == (FaultKind.CLOCK_STOPPED, away.detail) for each in faults[:number])
    assert not any(each.target in (away.detail, "notifier") for each in faults[number + 1 :])


@given(st.integers(0, 10**9))
def test_a_live_storm_has_lies_of_positions_in_busy_hours(seed: int) -> None:
    """Each plan is one that the demo's option takes; processes are disturbed in their order, within the day."""
    spells = parse_state_faults(draw_state_faults(seed)).spells
    begin = DAY.timestamp()
    assert any(11 * 3_600 < each.begin - begin < 23 * 3_600 for each in spells)
    assert all(one.end < other.begin for one, other in pairwise(spells))
    hours = [each.hour for each in draw_disturbances(seed)]
    assert hours == sorted(hours)
    assert all(0 < each < 24 for each in hours)
