"""Alerts that became too old to be mailed singly: one catch-up mail lists them, once, and nothing of it comes again."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from unittest import mock
from uuid import UUID

import pytest
from hypothesis import given, strategies as st

from domain.alerts import Alert, AlertState, Bound
from notifier.delivery import catch_up as catch_up_module, composition as composition_module
from notifier.delivery.alert_batch import AlertBatch
from notifier.delivery.catch_up import cancel_withdrawn, select_catch_up_batches
from notifier.errors import PermanentlyRefused, TemporarilyRefused, UserManagerUnavailable
from notifier.mail import Contact
from notifier.messages import RaisedAlert, Retry, decode_raised_alert, decode_retry, encode_retry
from streams.messages import encode_alert
from tests.fakes.hurried_loop import BEGIN, run
from tests.notifier.alerts import ALERT, CONTACT
from tests.notifier.delivery.single_user import SingleUserDelivery, run_steps
from tests.notifier.simulated_services import LogRecord, Simulation
from tests.notifier.simulation import SimulatedWorker, build_fake_catch_up_mail, build_fake_mail
from tests.notifier.simulation_settings import DeliverySettings, FaultRates

DAY = timedelta(days=1)


@pytest.fixture(autouse=True)
def _replace_mail_text(monkeypatch: pytest.MonkeyPatch) -> None:
    """Replace the composition of mails, which takes long."""
    monkeypatch.setattr(composition_module, "compose_alerts_mail", build_fake_mail)
    monkeypatch.setattr(composition_module, "compose_catch_up_mail", build_fake_catch_up_mail)


async def be_away(delivery: SingleUserDelivery, duration: timedelta) -> None:
    """Kill the worker, and start another one so much later."""
    delivery.worker.crash()
    await delivery.simulation.cancel_process_tasks()
    await asyncio.sleep(duration.total_seconds())
    delivery.worker = SimulatedWorker(delivery.simulation)
    delivery.worker.start()


async def publish_while_away(delivery: SingleUserDelivery, days: int) -> None:
    """Kill the worker, publish one alert a day for so many days, numbered from 1, and start another worker."""
    delivery.worker.crash()
    await delivery.simulation.cancel_process_tasks()
    for number in range(1, days + 1):
        delivery.publish_alerts(number)
        await asyncio.sleep(DAY.total_seconds())
    delivery.worker = SimulatedWorker(delivery.simulation)
    delivery.worker.start()


def list_catch_ups(delivery: SingleUserDelivery) -> list[bool]:
    """Return for each mail, in order, True if it is a catch-up mail."""
    return [each.is_catch_up for each in delivery.simulation.mails]


@pytest.mark.parametrize("days", [8, 40])
@pytest.mark.parametrize("group_wait", [timedelta(0), timedelta(seconds=5)])
def test_one_mail_lists_what_became_too_old_while_the_notifier_was_away(days: int, group_wait: timedelta) -> None:
    """What is younger than a day comes as usual, after it. No alert is dead-lettered, and none comes again."""

    async def steps(delivery: SingleUserDelivery) -> None:
        await publish_while_away(delivery, days)
        delivery.publish_alerts(days + 1)
        await asyncio.sleep(60)
        assert delivery.mailed_alert_numbers == [set(range(1, days + 1)), {days + 1}]
        assert list_catch_ups(delivery) == [True, False]
        delivery.publish_alerts(*range(1, days + 1))  # the stream repeats them
        await delivery.restart()
        await asyncio.sleep(600)
        assert len(delivery.mailed_alert_numbers) == 2
        assert delivery.dead_letters == []

    run_steps(steps, DeliverySettings(group_wait=group_wait))


def test_alerts_that_waited_for_a_retry_before_the_absence_are_in_the_mail() -> None:
    """All of Towerwatch was away: the retry records are as old as the alerts. Nothing is given up untried."""

    async def steps(delivery: SingleUserDelivery) -> None:
        delivery.simulation.script.append(TemporarilyRefused("450"))
        delivery.publish_alerts(1, 2)
        await asyncio.sleep(5.5)
        delivery.publish_alerts(3)
        await be_away(delivery, 8 * DAY)
        await asyncio.sleep(60)
        assert delivery.mailed_alert_numbers == [{1, 2, 3}]
        assert (list_catch_ups(delivery), delivery.dead_letters) == ([True], [])

    run_steps(steps)


def test_a_second_absence_gives_no_catch_up_mail_up() -> None:
    """Its age counts for nothing, only how often it was tried."""

    async def steps(delivery: SingleUserDelivery) -> None:
        await publish_while_away(delivery, 3)
        delivery.simulation.script.extend([TemporarilyRefused("450"), UserManagerUnavailable("UNAVAILABLE")])
        await asyncio.sleep(40)
        await be_away(delivery, 40 * DAY)
        await asyncio.sleep(120)
        assert delivery.mailed_alert_numbers == [{1, 2, 3}]
        assert (list_catch_ups(delivery), delivery.dead_letters) == ([True], [])

    run_steps(steps)


def test_a_mail_in_doubt_before_the_absence_has_the_same_alerts_after_it() -> None:
    """The server may have it: it comes again with the same alerts, and so the same Message-ID, before all others."""

    async def steps(delivery: SingleUserDelivery) -> None:
        delivery.simulation.script.append("never answers")
        delivery.publish_alerts(1, 2)
        await asyncio.sleep(6)
        delivery.publish_alerts(3)
        await be_away(delivery, 8 * DAY)
        await asyncio.sleep(120)
        assert delivery.mailed_alert_numbers == [{1, 2}, {1, 2}, {3}]
        assert delivery.dead_letters == []

    run_steps(steps)


@pytest.mark.parametrize(
    "contact",
    [None, replace(CONTACT, paused=True), replace(CONTACT, suppressed=True), replace(CONTACT, confirmed=False)],
    ids=["deleted", "paused", "suppressed", "unconfirmed"],
)
def test_who_may_have_no_mail_gets_no_catch_up_mail(contact: Contact | None) -> None:
    """The alerts are dropped, as single ones are."""

    async def steps(delivery: SingleUserDelivery) -> None:
        delivery.simulation.contact = contact
        await publish_while_away(delivery, 8)
        await asyncio.sleep(120)
        assert (delivery.mailed_alert_numbers, delivery.dead_letters) == ([], [])

    run_steps(steps)


def test_a_catch_up_mail_that_is_refused_for_good_is_dead_lettered() -> None:
    """Each of its alerts can then be requeued, and comes singly."""

    async def steps(delivery: SingleUserDelivery) -> None:
        delivery.simulation.script.append(PermanentlyRefused("the server refused the mail: 554"))
        await publish_while_away(delivery, 3)
        await asyncio.sleep(60)
        assert delivery.dead_letters == [(each, "the server refused the mail: 554") for each in (1, 2, 3)]
        delivery.publish_alerts(2, requeued=True)
        await asyncio.sleep(10)
        assert delivery.mailed_alert_numbers == [{2}]

    run_steps(steps)


@pytest.mark.parametrize("days", [2, 30, 89, 400])
def test_a_clock_that_is_days_ahead_at_a_restart_gives_nothing_up(days: int) -> None:
    """All that waits seems to be too old: it is mailed, once, after a moment; nothing is dead-lettered."""

    async def steps(delivery: SingleUserDelivery) -> None:
        delivery.simulation.script.append(TemporarilyRefused("450"))
        delivery.publish_alerts(1, 2)
        await asyncio.sleep(5.5)
        delivery.simulation.clock.set_ahead(days * DAY)
        await delivery.restart()
        delivery.publish_alerts(3)
        await asyncio.sleep(60)
        delivery.simulation.clock.set_ahead(timedelta(0))
        await delivery.restart()
        delivery.publish_alerts(4)
        await asyncio.sleep(60)
        assert Counter(each for mail in delivery.mailed_alert_numbers for each in mail) == dict.fromkeys(
            (1, 2, 3, 4), 1
        )
        assert delivery.dead_letters == []

    run_steps(steps)


def test_the_hourly_limit_holds_for_catch_up_mails() -> None:
    """A second one within the hour waits for its end."""

    async def steps(delivery: SingleUserDelivery) -> None:
        delivery.publish_alerts(9)
        await asyncio.sleep(10)
        old = delivery.simulation.clock.now() - 3 * DAY
        for number in (1, 2):
            alert = delivery.build_alert(number)
            delivery.simulation.alerts[alert.alert_id] = alert
            value = encode_alert(alert, old)
            delivery.simulation.raised_log.add(LogRecord(str(alert.user_id).encode(), value, old, {}))
        await asyncio.sleep(300)
        assert delivery.mailed_alert_numbers == [{9}]
        await asyncio.sleep(3600)
        assert delivery.mailed_alert_numbers == [{9}, {1, 2}]

    run_steps(steps, DeliverySettings(mails_per_hour=1))


def count_steps(crash_at: int | None) -> Simulation:
    """Run a story of an absence of 8 days in which the worker is killed at one step (None: at none) after it."""
    simulations = []

    async def story() -> None:
        simulation = Simulation(7, FaultRates(), DeliverySettings(), 2)
        simulations.append(simulation)
        for number in range(1, 9):
            user = simulation.users[number % 2]
            window_start = ALERT.window_start + timedelta(hours=number)
            alert = replace(ALERT, alert_id=UUID(int=number), user_id=user, window_start=window_start)
            if number > 6:  # each user's last alert of one window withdraws the one before
                state, before = AlertState.WITHDRAWN, window_start - timedelta(hours=2)
                alert = replace(alert, state=state, window_start=before)
            simulation.publish_alert(alert)
        await asyncio.sleep((8 * DAY).total_seconds())
        simulation.crash_at_steps = set() if crash_at is None else {crash_at}
        worker = SimulatedWorker(simulation)
        worker.start()
        killed = asyncio.create_task(simulation.killed.wait())
        simulation.outer_tasks.add(killed)
        await asyncio.wait([killed], timeout=200)
        if simulation.killed.is_set():
            worker.crash()
            await simulation.cancel_process_tasks()
            simulation.lose_uncommitted_offsets()
            worker = SimulatedWorker(simulation)
            worker.start()
            await asyncio.sleep(200)
        killed.cancel()
        assert simulation.is_all_acknowledged
        worker.crash()
        await simulation.cancel_process_tasks()

    run(story())
    return simulations[0]


def test_killed_at_any_step_each_user_gets_the_same_mail() -> None:
    """A mail that comes twice has the same alerts, and so the same Message-ID; nothing is mailed otherwise."""
    undisturbed = count_steps(None)
    expected = {(each.user_id, each.alert_ids) for each in undisturbed.mails}
    assert len(expected) == len(undisturbed.mails) == 2
    assert all(each.is_catch_up for each in undisturbed.mails)
    for step in range(1, undisturbed.steps + 1):
        simulation = count_steps(step)
        assert {(each.user_id, each.alert_ids) for each in simulation.mails} == expected, step
        assert len(simulation.mails) <= 3, step
        assert not simulation.dead_letters.records, step


def build_alert(number: int, state: AlertState, hour: int, **changes: object) -> Alert:
    """Return an alert of this number about a window that starts so many hours after that of ALERT."""
    at = ALERT.window_start + timedelta(hours=hour)
    fields: dict[str, object] = {"alert_id": UUID(int=number), "state": state, "window_start": at} | changes
    return replace(ALERT, **fields)  # type: ignore[arg-type]


def test_a_withdrawal_cancels_an_alert_that_nobody_was_told_of() -> None:
    """If nothing else is left, no mail is sent, and none comes later; a withdrawal alone is mailed."""
    firing = build_alert(1, AlertState.FIRING, 0, episode_id=UUID(int=1))
    ended = build_alert(2, AlertState.RESOLVED, 1, episode_id=UUID(int=1))
    withdrawn = build_alert(3, AlertState.WITHDRAWN, 0)
    alone = build_alert(4, AlertState.WITHDRAWN, 5)

    async def steps(delivery: SingleUserDelivery) -> None:
        user = delivery.simulation.users[0]
        for each in (firing, ended):
            delivery.simulation.publish_alert(replace(each, user_id=user))
        await be_away(delivery, timedelta(hours=30))
        delivery.simulation.publish_alert(replace(withdrawn, user_id=user))
        await asyncio.sleep(120)
        assert delivery.mailed_alert_numbers == []
        for each in (firing, ended, withdrawn):
            delivery.simulation.publish_alert(replace(each, user_id=user))  # the stream repeats them
        await asyncio.sleep(120)
        assert delivery.mailed_alert_numbers == []
        delivery.simulation.publish_alert(replace(alone, user_id=user))
        await be_away(delivery, 2 * DAY)
        await asyncio.sleep(120)
        assert delivery.mailed_alert_numbers == [{4}]

    run_steps(steps)


def test_what_comes_again_after_a_withdrawal_is_listed() -> None:
    """It is another statement, of another revision; and the withdrawal of an end leaves its beginning."""
    firing = build_alert(1, AlertState.FIRING, 0, episode_id=UUID(int=1))
    ended = build_alert(2, AlertState.RESOLVED, 1, episode_id=UUID(int=1))
    goes_on = build_alert(3, AlertState.WITHDRAWN, 1, withdrawn_state=AlertState.RESOLVED)
    untrue = build_alert(4, AlertState.WITHDRAWN, 0, withdrawn_state=AlertState.FIRING)
    again = build_alert(5, AlertState.FIRING, 0, episode_id=UUID(int=5), revision=1)
    assert cancel_withdrawn([firing, ended, goes_on]) == (firing,)
    assert cancel_withdrawn([firing, untrue, again]) == (again,)
    assert cancel_withdrawn([firing, ended, goes_on, untrue]) == ()
    assert cancel_withdrawn([goes_on, untrue]) == (goes_on, untrue)


def test_a_withdrawal_stays_if_what_it_names_was_mailed_before() -> None:
    """With `repeat` one window may have both FIRING and STILL, and one withdrawal takes back both.

    FIRING was mailed, then an earlier hour's breach made the window STILL, and that is in the catch-up mail, when the
    window turns out to be none. Whoever had FIRING must learn that; STILL is told to nobody.
    """
    firing, still = (build_alert(n, state, 0) for n, state in enumerate((AlertState.FIRING, AlertState.STILL), 1))
    of_firing, of_still, of_either = (
        build_alert(n, AlertState.WITHDRAWN, 0, withdrawn_state=state)
        for n, state in enumerate((AlertState.FIRING, AlertState.STILL, None), 3)
    )
    assert cancel_withdrawn([still, of_firing]) == (of_firing,)
    assert cancel_withdrawn([firing, of_still]) == (of_still,)
    assert cancel_withdrawn([still, of_still]) == cancel_withdrawn([firing, of_firing]) == ()
    assert cancel_withdrawn([firing, still, of_firing]) == cancel_withdrawn([firing, still, of_still]) == ()
    assert cancel_withdrawn([still, of_either]) == cancel_withdrawn([firing, of_either]) == ()


def test_an_end_that_comes_again_is_listed_once() -> None:
    """The first one lapsed with its breach, which came again: both would make two lines that say the same."""
    first = build_alert(1, AlertState.RESOLVED, 1, episode_id=UUID(int=9))
    untrue = build_alert(2, AlertState.WITHDRAWN, 0, withdrawn_state=AlertState.FIRING)
    again = build_alert(3, AlertState.FIRING, 0, episode_id=UUID(int=3), revision=1)
    last = build_alert(4, AlertState.RESOLVED, 1, episode_id=UUID(int=3), revision=1)
    other = build_alert(5, AlertState.RESOLVED, 1, bound=Bound.LOW)
    assert cancel_withdrawn([first, untrue, again, last, other]) == (untrue, again, last, other)
    assert cancel_withdrawn([first, untrue]) == (first, untrue)


@st.composite
def alert_lists(draw: st.DrawFn) -> list[Alert]:
    """Return alerts of a few windows of two thresholds, in any order, with any states and episodes."""
    found = []
    for number in range(1, draw(st.integers(1, 9))):
        state, hour = draw(st.sampled_from(AlertState)), draw(st.integers(0, 3))
        bound, episode = draw(st.sampled_from(Bound)), draw(st.none() | st.integers(1, 9))
        if state is AlertState.FIRING:
            episode = number
        episode_id = None if episode is None else UUID(int=episode)
        withdrawn_state = draw(st.none() | st.sampled_from([AlertState.FIRING, AlertState.STILL, AlertState.RESOLVED]))
        changes = {
            "bound": bound,
            "episode_id": episode_id,
            "withdrawn_state": withdrawn_state if state is AlertState.WITHDRAWN else None,
            "revision": draw(st.integers(0, 2)),
        }
        found.append(build_alert(number, state, hour, **changes))
    return found


def cancel_by_brute_force(alerts: Sequence[Alert]) -> list[Alert]:
    """Return what `cancel_withdrawn` must keep, by comparing each alert with each other one."""

    def withdraws(one: Alert, other: Alert) -> bool:
        """Return True if the first withdraws the second, which says the same of the same window for the same time."""
        if one.state is not AlertState.WITHDRAWN or other.state is AlertState.WITHDRAWN:
            return False
        is_same_kind = (one.withdrawn_state is AlertState.RESOLVED) == (other.state is AlertState.RESOLVED)
        of_one_window = (one.bound, one.window_start) == (other.bound, other.window_start)
        return is_same_kind and of_one_window and one.revision == other.revision

    def is_cancelled(alert: Alert) -> bool:
        """Return True if an alert is withdrawn in this list, or withdraws one in it of the state that it names."""
        return any(
            withdraws(each, alert)
            or (withdraws(alert, each) and (alert.withdrawn_state is None or each.state is alert.withdrawn_state))
            for each in alerts
        )

    def comes_again(alert: Alert) -> bool:
        """Return True if the list has a later RESOLVED about the window of a RESOLVED."""
        return any(
            each.state is AlertState.RESOLVED and each.revision > alert.revision
            for each in alerts
            if (each.bound, each.window_start) == (alert.bound, alert.window_start)
        )

    kept = []
    for alert in alerts:
        if is_cancelled(alert):
            continue
        if alert.state is AlertState.RESOLVED:
            beginning = [each for each in alerts if each.alert_id == alert.episode_id and is_cancelled(each)]
            beginning = [each for each in beginning if each.state is AlertState.FIRING]
            breaches = [
                each
                for each in alerts
                if each.state in (AlertState.FIRING, AlertState.STILL) and each.bound is alert.bound
                if not is_cancelled(each) and beginning
                if beginning[0].window_start <= each.window_start < alert.window_start
            ]
            if comes_again(alert) or (beginning and not breaches):
                continue
        kept.append(alert)
    return kept


@given(alert_lists())
def test_what_is_listed_is_what_a_comparison_of_all_pairs_leaves(alerts: list[Alert]) -> None:
    """Also: the order stays, and what is listed does not change if it is cancelled once more."""
    listed = cancel_withdrawn(alerts)
    assert list(listed) == cancel_by_brute_force(alerts)
    assert cancel_withdrawn(listed) == listed


def build_batch(alerts: Sequence[Alert], catch_up: bool) -> AlertBatch:
    """Return a batch with these alerts."""
    raised = tuple(RaisedAlert(each, BEGIN, b"") for each in alerts)
    return AlertBatch(raised, object(), BEGIN, catch_up=catch_up)


@given(alert_lists(), st.lists(st.booleans(), min_size=9, max_size=9), st.integers(1, 9))
def test_a_catch_up_mail_has_the_first_batches(alerts: list[Alert], too_old: list[bool], most: int) -> None:
    """It holds nothing if none is too old; else a beginning of the queue, up to the limit or beyond all that is too
    old, and nothing that cancels what it lists comes after it, unless the limit divides them."""
    batches = sorted(
        (build_batch([alert], is_old) for alert, is_old in zip(alerts, too_old, strict=False)),
        key=lambda each: each.sort_key,
    )
    with mock.patch.object(catch_up_module, "MAX_ALERTS_PER_CATCH_UP", most):
        selected = select_catch_up_batches(batches)
    assert list(selected) == batches[: len(selected)]
    assert bool(selected) is any(each.catch_up for each in batches)
    assert len(selected) <= most
    rest = batches[len(selected) :]
    if selected and len(selected) < most:
        assert not any(each.catch_up for each in rest)
        inside = [each.alerts[0].alert for each in selected]
        outside = [each.alerts[0].alert for each in rest]
        all_in = cancel_withdrawn([*inside, *outside])
        assert [each for each in cancel_withdrawn(inside) if each not in all_in] == []


def test_a_retry_record_keeps_that_its_alerts_became_too_old() -> None:
    """So after a restart they are in a catch-up mail again, whatever the clock shows."""
    raised = decode_raised_alert(encode_alert(ALERT, BEGIN))
    retry = Retry((raised,), 3, BEGIN, BEGIN, catch_up=True)
    assert decode_retry(encode_retry(retry)) == retry
