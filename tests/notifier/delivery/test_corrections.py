"""Corrections: one mail a user and day lists their outcomes, once, and holds up no other alert."""

import asyncio
from dataclasses import replace
from datetime import timedelta
from itertools import groupby, pairwise
from random import Random
from typing import Any
from unittest import mock
from uuid import UUID

import pytest
from hypothesis import given, settings, strategies as st

from domain.alerts import Alert, AlertState, Bound
from notifier.delivery import composition as composition_module, corrections as corrections_module
from notifier.delivery.corrections import select_outcomes
from notifier.delivery.policy import CorrectionPolicy
from notifier.errors import PermanentlyRefused, TemporarilyRefused, UserManagerUnavailable
from notifier.messages import REQUEUED_FROM
from tests.fakes.hurried_loop import BEGIN, run
from tests.notifier.alerts import ALERT, CONTACT
from tests.notifier.delivery.single_user import SingleUserDelivery, run_steps
from tests.notifier.simulated_services import Simulation
from tests.notifier.simulation import (
    SimulatedWorker,
    build_fake_corrections_mail,
    build_fake_mail,
    run_simulation,
)
from tests.notifier.simulation_settings import DeliverySettings, FaultRates

MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)


@pytest.fixture(autouse=True)
def _replace_mail_text(monkeypatch: pytest.MonkeyPatch) -> None:
    """Replace the composition of mails, which takes long."""
    monkeypatch.setattr(composition_module, "compose_alerts_mail", build_fake_mail)
    monkeypatch.setattr(corrections_module, "compose_corrections_mail", build_fake_corrections_mail)


async def sleep(duration: timedelta) -> None:
    """Wait in virtual time."""
    await asyncio.sleep(duration.total_seconds())


def publish_corrections(delivery: SingleUserDelivery, *numbers: int, **changes: Any) -> None:
    """Publish corrections with these numbers; a number names the id, and a higher one a later window."""
    for number in numbers:
        delivery.simulation.publish_alert(replace(delivery.build_alert(number), corrects=True, **changes))


def count_dropped(delivery: SingleUserDelivery, reason: str) -> float:
    """Return how many alerts were dropped for a reason."""
    name = "alerts_dropped_total"
    return sum(
        sample.value
        for family in delivery.worker.registry.collect()
        for sample in family.samples
        if sample.name == name and sample.labels["reason"] == reason
    )


def test_corrections_wait_until_none_comes_any_more_and_are_one_mail() -> None:
    """Half an hour after the last one; what is no correction comes at once, although corrections wait."""

    async def steps(delivery: SingleUserDelivery) -> None:
        publish_corrections(delivery, 1, 2)
        await sleep(25 * MINUTE)
        publish_corrections(delivery, 3)
        delivery.publish_alerts(4)
        await sleep(25 * MINUTE)
        assert delivery.mailed_alert_numbers == [{4}]
        await sleep(10 * MINUTE)
        assert delivery.mailed_alert_numbers == [{4}, {1, 2, 3}]
        sent = delivery.simulation.mails[1].at - BEGIN
        assert 55 * MINUTE <= sent < 56 * MINUTE
        assert delivery.dead_letters == []

    run_steps(steps)


def test_corrections_that_keep_coming_do_not_put_their_mail_off_for_ever() -> None:
    """Six hours after the first one it is sent; what comes later that day waits for the next day's mail."""

    async def steps(delivery: SingleUserDelivery) -> None:
        for number in range(1, 31):
            publish_corrections(delivery, number)
            await sleep(20 * MINUTE)
        await sleep(30 * HOUR)
        first, second = delivery.simulation.mails
        assert 6 * HOUR <= first.at - BEGIN < 6 * HOUR + 5 * MINUTE
        assert second.at - first.at >= 20 * HOUR
        assert first.alert_ids.isdisjoint(second.alert_ids)
        assert first.alert_ids | second.alert_ids == {UUID(int=number) for number in range(1, 31)}

    run_steps(steps)


def test_a_restart_while_corrections_wait_changes_nothing() -> None:
    """They are in the retry topic; duplicates by the stream, before and after the mail, are not mailed."""

    async def steps(delivery: SingleUserDelivery) -> None:
        publish_corrections(delivery, 1, 2)
        await sleep(10 * MINUTE)
        await delivery.restart()
        publish_corrections(delivery, 1)
        await sleep(10 * MINUTE)
        await delivery.worker.rebalance()
        await sleep(45 * MINUTE)
        assert delivery.mailed_alert_numbers == [{1, 2}]
        publish_corrections(delivery, 1, 2)
        await delivery.restart()
        await sleep(2 * DAY)
        assert delivery.mailed_alert_numbers == [{1, 2}]
        assert delivery.dead_letters == []

    run_steps(steps)


def test_a_mail_in_doubt_comes_again_with_the_same_corrections() -> None:
    """A worker that is killed while the server has the mail repeats it, under the same Message-ID, and no other."""

    async def steps(delivery: SingleUserDelivery) -> None:
        publish_corrections(delivery, 1, 2)
        await sleep(29 * MINUTE)
        delivery.simulation.script.append("never answers")
        await sleep(2 * MINUTE)
        publish_corrections(delivery, 3)
        await delivery.restart()
        await sleep(2 * DAY)
        assert delivery.mailed_alert_numbers == [{1, 2}, {1, 2}, {3}]
        assert delivery.dead_letters == []

    run_steps(steps)


def test_a_mail_server_that_is_away_loses_no_correction() -> None:
    """Failures for now are retried, also for longer than other alerts live; a refusal for good is a dead letter."""

    async def steps(delivery: SingleUserDelivery) -> None:
        script = [TemporarilyRefused("450"), UserManagerUnavailable("UNAVAILABLE")] * 5
        delivery.simulation.script.extend(script)
        publish_corrections(delivery, 1, 2)
        await sleep(3 * HOUR)
        assert delivery.mailed_alert_numbers == [{1, 2}]
        delivery.simulation.script.append(PermanentlyRefused("554"))
        publish_corrections(delivery, 3)
        await sleep(2 * DAY)
        assert delivery.mailed_alert_numbers == [{1, 2}]
        assert [number for number, _ in delivery.dead_letters] == [3]
        delivery.simulation.publish_alert(replace(delivery.build_alert(3), corrects=True), {REQUEUED_FROM: b"3:1"})
        await sleep(2 * DAY)
        assert delivery.mailed_alert_numbers == [{1, 2}, {3}]

    run_steps(steps)


def test_after_an_absence_of_weeks_the_corrections_are_one_mail() -> None:
    """They are not too old, for they are listed in one mail anyway."""

    async def steps(delivery: SingleUserDelivery) -> None:
        publish_corrections(delivery, 1)
        await sleep(10 * MINUTE)
        delivery.worker.crash()
        await delivery.simulation.cancel_process_tasks()
        await sleep(20 * DAY)
        publish_corrections(delivery, 2)
        delivery.worker = SimulatedWorker(delivery.simulation)
        delivery.worker.start()
        await sleep(HOUR)
        assert delivery.mailed_alert_numbers == [{1, 2}]
        assert delivery.dead_letters == []

    run_steps(steps)


@pytest.mark.parametrize("ahead", [timedelta(days=3), timedelta(days=-3)])
def test_a_clock_that_was_wrong_puts_no_mail_off_for_days(ahead: timedelta) -> None:
    """What a wrong clock wrote into the retry topic is limited by the time that corrections wait."""

    async def steps(delivery: SingleUserDelivery) -> None:
        delivery.simulation.clock.set_ahead(ahead)
        delivery.simulation.publishers_clock = delivery.simulation.clock
        await delivery.restart()
        publish_corrections(delivery, 1)
        await sleep(10 * MINUTE)
        delivery.simulation.clock.set_ahead(timedelta(0))
        await delivery.restart()
        await sleep(90 * MINUTE)
        assert delivery.mailed_alert_numbers == [{1}]

    run_steps(steps)


def test_who_wants_no_corrections_gets_none_and_all_other_alerts() -> None:
    """They are acknowledged and counted; what the account says when the mail is due decides."""

    async def steps(delivery: SingleUserDelivery) -> None:
        publish_corrections(delivery, 1, 2)
        delivery.publish_alerts(3)
        await sleep(10 * MINUTE)
        delivery.simulation.contact = replace(CONTACT, user_id=CONTACT.user_id, without_corrections=True)
        delivery.publish_alerts(4)
        await sleep(HOUR)
        assert delivery.mailed_alert_numbers == [{3}, {4}]
        assert count_dropped(delivery, "not_wanted") == 2

    run_steps(steps)


def test_corrections_come_after_the_alerts_that_they_correct() -> None:
    """While an earlier alert of the user waits for its mail server, the corrections wait, too."""

    async def steps(delivery: SingleUserDelivery) -> None:
        delivery.simulation.script.extend([TemporarilyRefused("450")] * 14)
        delivery.publish_alerts(1)
        await sleep(MINUTE)
        publish_corrections(delivery, 2)
        await sleep(3 * HOUR)
        assert delivery.mailed_alert_numbers == [{1}, {2}]

    run_steps(steps)


def test_corrections_that_cancel_each_other_are_no_mail() -> None:
    """A level that the record's first part passed and its second did not is nothing to tell; the day's mail is free."""

    async def steps(delivery: SingleUserDelivery) -> None:
        publish_corrections(delivery, 1)
        withdrawal = {"state": AlertState.WITHDRAWN, "withdrawn_state": AlertState.FIRING}
        start = delivery.build_alert(1).window_start
        publish_corrections(delivery, 2, window_start=start, **withdrawal)
        await sleep(HOUR)
        assert delivery.simulation.mails == []
        assert count_dropped(delivery, "withdrawn") == 2
        publish_corrections(delivery, 3)
        await sleep(HOUR)
        assert delivery.mailed_alert_numbers == [{3}]

    run_steps(steps)


# Of random faults.


def build_corrections(chance: Random, users: list[UUID], how_many: int) -> list[tuple[float, Alert]]:
    """Return alerts, some of them corrections, each with the second at which it is raised, in that order."""
    found = []
    for number in range(how_many):
        alert = replace(
            ALERT,
            alert_id=UUID(int=number * 10 + 1),
            interest_id=UUID(int=number << 64 | 7),
            user_id=chance.choice(users),
            corrects=chance.random() < 0.7,
        )
        found.append((chance.choice((0.0, 1.0, chance.uniform(0, 600), chance.uniform(0, 9_000))), alert))
    return sorted(found, key=lambda each: (each[0], each[1].alert_id))


@pytest.mark.parametrize("seed", range(12))
def test_under_faults_each_correction_is_mailed_once_and_one_mail_a_day(seed: int) -> None:
    """Crashes, rebalances and failures lose no correction and mail none in two mails; `run_simulation` checks that."""
    chance = Random(seed)
    faults = chance.random() < 0.7
    rates = FaultRates(
        storm=timedelta(seconds=chance.choice((200, 4_000))) if faults else timedelta(0),
        temporary=0.2,
        server_unavailable=0.1,
        circuit_open=0.1,
        lost_after_acceptance=0.1,
        lost_before_acceptance=0.1,
        user_manager_unavailable=0.1,
        crashes=chance.choice((0, 1, 3)) if faults else 0,
        rebalances=chance.choice((0, 1, 2)) if faults else 0,
    )
    times = CorrectionPolicy(chance.choice((MINUTE, 30 * MINUTE)), chance.choice((HOUR, 6 * HOUR)), 20 * HOUR)
    delivery_settings = DeliverySettings(
        group_wait=timedelta(seconds=chance.choice((0, 5))), corrections=times, max_in_flight=chance.choice((1, 3))
    )

    simulations = []

    async def story() -> None:
        simulation = Simulation(seed, rates, delivery_settings, chance.choice((1, 3)))
        simulations.append(simulation)
        await run_simulation(simulation, build_corrections(chance, simulation.users, chance.choice((3, 20))), False)

    with mock.patch("random.random", Random(seed).random):
        run(story())
    [simulation] = simulations
    corrections = {each.alert_id for each in simulation.alerts.values() if each.corrects}
    mails = [mail for mail in simulation.mails if mail.listed_ids is not None]
    assert all(mail.alert_ids <= corrections for mail in mails)
    assert not any(mail.alert_ids & corrections for mail in simulation.mails if mail.listed_ids is None)
    if not simulation.crashes + simulation.rebalances + simulation.lost_after_data:
        for _, of_user in groupby(sorted(mails, key=lambda mail: (mail.user_id, mail.at)), lambda mail: mail.user_id):
            at = [mail.at for mail in of_user]
            assert all(later - one >= times.pause - MINUTE for one, later in pairwise(at))


# Of what remains to be told.


def build_alert(number: int, state: AlertState, hour: int = 0, **changes: Any) -> Alert:
    """Return a correction about a window so many hours after that of ALERT."""
    withdrawn = AlertState.FIRING if state is AlertState.WITHDRAWN else None
    values = {"withdrawn_state": withdrawn, "corrects": True} | changes
    start = ALERT.window_start + hour * HOUR
    return replace(ALERT, alert_id=UUID(int=number), state=state, window_start=start, **values)  # type: ignore[arg-type]


def list_numbers(alerts: list[Alert]) -> list[int]:
    """Return the numbers of what remains to be told."""
    return [each.alert_id.int for each in select_outcomes(alerts)]


def test_a_correction_that_was_superseded_is_told_as_its_outcome() -> None:
    """Neither a level that was passed for a moment, nor one that was taken back for a moment, is told."""
    fired, taken = build_alert(1, AlertState.FIRING), build_alert(2, AlertState.WITHDRAWN)
    again = build_alert(3, AlertState.FIRING, revision=1, episode_id=UUID(int=3))
    assert list_numbers([fired]) == [1]
    assert list_numbers([fired, taken]) == []
    assert list_numbers([taken]) == [2], "what it withdraws was told live"
    assert list_numbers([taken, again]) == [], "the user knows the level as passed"
    assert list_numbers([fired, taken, again]) == [3]
    once_more = build_alert(4, AlertState.WITHDRAWN, revision=1)
    assert list_numbers([taken, again, once_more]) == [2]
    other = build_alert(5, AlertState.FIRING, bound=Bound.LOW)
    assert list_numbers([taken, other]) == [2, 5]


def test_an_end_that_comes_again_with_its_breach_is_not_told_twice() -> None:
    """The user was told live of the breach and of its end, and both stand."""
    taken = build_alert(1, AlertState.WITHDRAWN)
    again = build_alert(2, AlertState.FIRING, revision=1, episode_id=UUID(int=2))
    ended = build_alert(3, AlertState.RESOLVED, 1, revision=1, episode_id=UUID(int=2))
    assert list_numbers([taken, again, ended]) == []


def apply_to(told: set[str], alert: Alert) -> set[str]:
    """Return what a user believes of one window after an alert: "breach", "end", both, or nothing."""
    subject = "end" if alert.is_about_end else "breach"
    return told - {subject} if alert.state is AlertState.WITHDRAWN else told | {subject}


@st.composite
def histories(draw: st.DrawFn) -> tuple[set[str], list[Alert]]:
    """Draw what a user was told live of one window, and what the record then says and takes back, in order.

    Breaches and their ends are said and withdrawn in turns, each with the revision that the stream would give it.
    """
    live = draw(st.sets(st.sampled_from(("breach", "end")), max_size=1))
    told, withdrawn, alerts = set(live), {"breach": 0, "end": 0}, list[Alert]()
    for number in range(1, draw(st.integers(0, 8)) + 1):
        if told:
            [subject] = told
            state = AlertState.RESOLVED if subject == "end" else AlertState.FIRING
            change = {"withdrawn_state": state, "revision": withdrawn[subject]}
            alerts.append(build_alert(number, AlertState.WITHDRAWN, **change))
            withdrawn[subject] += 1
        else:
            subject = draw(st.sampled_from(("breach", "end")))
            state = AlertState.RESOLVED if subject == "end" else AlertState.FIRING
            episode = UUID(int=number if subject == "breach" else 1000)
            alerts.append(build_alert(number, state, revision=withdrawn[subject], episode_id=episode))
        told = apply_to(told, alerts[-1])
    return live, alerts


@settings(max_examples=300, deadline=None)
@given(history=histories())
def test_the_outcomes_leave_a_user_with_the_same_knowledge_as_all_corrections(
    history: tuple[set[str], list[Alert]],
) -> None:
    """Who reads only the outcomes knows the same of the window, and nothing is told that changes nothing."""
    live, alerts = history
    expected, told = set(live), set(live)
    for alert in alerts:
        expected = apply_to(expected, alert)
    for alert in select_outcomes(alerts):
        changed = apply_to(told, alert)
        assert changed != told, "a correction that changes nothing"
        told = changed
    assert told == expected
