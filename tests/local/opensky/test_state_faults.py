"""The plan of faults of a source of positions."""

from datetime import UTC, datetime
from typing import Final

import pytest
from hypothesis import given, strategies as st

from local.opensky.state_faults import FaultSpell, StateFault, StateFaultPlan, parse_state_faults

START: Final = int(datetime(2013, 2, 8, 14, tzinfo=UTC).timestamp())


@given(st.integers(0, 2**31), st.integers(0, 2**31), st.floats(0.0, 1.0))
def test_a_seeded_plan_says_the_same_whatever_was_asked_before(now: int, seed: int, rate: float) -> None:
    """The fault of an instant lasts one to twenty minutes within an hour, and is met in all of them and in no other."""
    plan = StateFaultPlan(seed=seed, rate=rate)
    spell = plan.find_spell(now)
    assert StateFaultPlan(seed=seed, rate=rate).find_spell(now) == spell
    if spell is not None:
        assert spell.begin <= now < spell.end
        assert 60 <= spell.end - spell.begin <= 1_200
        assert spell.begin // 3_600 == (spell.end - 1) // 3_600
        assert plan.find_spell(spell.begin) == plan.find_spell(spell.end - 1) == spell
        assert plan.find_spell(spell.end) != spell
        assert plan.find_spell(spell.begin - 1) != spell


def test_the_rate_is_the_share_of_hours_with_a_fault() -> None:
    """None at 0, all at 1, and all kinds come."""
    hours = range(0, 400 * 3_600, 3_600)
    for rate, least, most in ((0.0, 0, 0), (0.2, 50, 110), (1.0, 400, 400)):
        plan = StateFaultPlan(seed=5, rate=rate)
        spells = [[plan.find_spell(hour + minute * 60) for minute in range(60)] for hour in hours]
        found = [each for each in ({spell for spell in hour if spell} for hour in spells) if each]
        assert least <= len(found) <= most
        assert all(len(each) == 1 for each in found)
    assert {spell.fault for each in found for spell in each} == set(StateFault)


def test_faults_of_a_list_are_met_in_their_minutes() -> None:
    """Of two that overlap, the first counts."""
    plan = parse_state_faults("outage@2013-02-08T14:00Z+15,frozen@2013-02-08T15:10+01:00+10")
    assert plan.spells[0] == FaultSpell(StateFault.OUTAGE, START, START + 900)
    assert plan.spells[1] == FaultSpell(StateFault.FROZEN, START + 600, START + 1_200)
    faults = [spell and spell.fault for spell in map(plan.find_spell, (START - 1, START, START + 899, START + 900))]
    assert faults == [None, StateFault.OUTAGE, StateFault.OUTAGE, StateFault.FROZEN]


@pytest.mark.parametrize(("text", "plan"), [("7", StateFaultPlan(seed=7)), ("7:0.5", StateFaultPlan(seed=7, rate=0.5))])
def test_a_seed_may_have_a_rate(text: str, plan: StateFaultPlan) -> None:
    """Without one it is the default."""
    assert parse_state_faults(text) == plan


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("often", "SEED"),
        ("1:2", "rate"),
        ("1:", "SEED"),
        ("earthquake@2013-02-08T14:00Z+15", "frozen"),
        ("outage@noon+15", "instant"),
        ("outage@2013-02-08T14:00+15", "offset"),
        ("outage@2013-02-08T14:00Z", "outage@2013-02-08T14:00Z+15"),
        ("outage@2013-02-08T14:00Z+x", "write it as"),
    ],
)
def test_another_text_is_refused_with_a_sentence(text: str, word: str) -> None:
    """The sentence says what is wanted."""
    with pytest.raises(ValueError) as refused:
        parse_state_faults(text)
    assert word in str(refused.value)
