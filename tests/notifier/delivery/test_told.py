"""Nobody reads of an end whose beginning they were not told, and nothing is told twice."""

import asyncio
from dataclasses import replace
from datetime import timedelta
from random import Random
from unittest import mock
from uuid import UUID

import pytest

from domain.alerts import Alert, AlertState, compute_alert_id
from domain.interests import Direction, Interest
from domain.traffic import Observation
from domain.windows import Window
from notifier.delivery import composition as composition_module, corrections as corrections_module
from notifier.errors import TemporarilyRefused
from tests.domain.corrected_logs import generate_corrected_log
from tests.domain.logs import BASE, an_interest
from tests.domain.test_live_record import draw_provenances, raise_alerts
from tests.fakes.hurried_loop import run
from tests.notifier.alerts import ALERT, CONTACT
from tests.notifier.delivery.mailbox import Mailbox
from tests.notifier.delivery.single_user import SingleUserDelivery, run_steps
from tests.notifier.simulation import build_fake_catch_up_mail, build_fake_corrections_mail, build_fake_mail
from tests.notifier.simulation_settings import DeliverySettings, FaultRates

HOUR = timedelta(hours=1)


@pytest.fixture(autouse=True)
def _replace_mail_text(monkeypatch: pytest.MonkeyPatch) -> None:
    """Replace mails by substitutes that say what stands in them, because a real one takes long to write."""
    monkeypatch.setattr(composition_module, "compose_alerts_mail", build_fake_mail)
    monkeypatch.setattr(composition_module, "compose_catch_up_mail", build_fake_catch_up_mail)
    monkeypatch.setattr(corrections_module, "compose_alerts_mail", build_fake_mail)
    monkeypatch.setattr(corrections_module, "compose_corrections_mail", build_fake_corrections_mail)


async def sleep(duration: timedelta) -> None:
    """Wait in virtual time."""
    await asyncio.sleep(duration.total_seconds())


def raise_in_groups(interest: Interest, log: list[Observation]) -> list[list[Alert]]:
    """Return the alerts of an interest by the message that raises them, as the stream raises them."""
    groups, before = list[list[Alert]](), 0
    for number in range(1, len(log) + 1):
        alerts = raise_alerts(interest, log[:number])
        groups.append(alerts[before:])
        before = len(alerts)
    return groups


async def tell(
    chance: Random, groups: list[list[Alert]], habits: str, faults: bool, places: int | None
) -> SingleUserDelivery:
    """Publish alerts over some days while the person has these habits, and wait until all of them are handled.

    `places`: how many of the person's alerts are in memory at most; the others wait in alerts.waiting.v1, and workers
    that start anew have been away, read again what was not committed, and read some topics minutes later than others.
    None: there are places enough.
    """
    settings = DeliverySettings(group_wait=timedelta(seconds=chance.choice((0, 5))))
    rates = FaultRates()
    if places is not None:
        settings = replace(settings, max_queued_alerts=20, smallest_share=places)
        rates = FaultRates(late_readers=0.6, longest_lateness=timedelta(minutes=15))
    delivery = SingleUserDelivery(settings, rates, chance.randint(1, 1_000_000) if places is not None else 1)
    person = delivery.simulation.users[0]
    wanted = replace(CONTACT, user_id=person, without_corrections=habits == "no corrections")
    for alerts in groups:
        delivery.simulation.contact = wanted
        if habits == "pauses" and chance.random() < 0.4:
            delivery.simulation.contact = replace(wanted, paused=True)
        if faults and chance.random() < 0.3:
            delivery.simulation.script.extend([TemporarilyRefused("450")] * chance.randint(1, 20))
        for alert in alerts:
            delivery.simulation.publish_alert(replace(alert, user_id=person))
            if chance.random() < 0.1:
                delivery.simulation.publish_alert(replace(alert, user_id=person))  # a duplicate by the stream
        await sleep(chance.choice((timedelta(0), timedelta(seconds=9), 0.2 * HOUR, HOUR, 7 * HOUR, 30 * HOUR)))
        if faults and chance.random() < 0.2:
            await delivery.restart()
        if places is not None and chance.random() < 0.6:
            absence = chance.choice((timedelta(0), timedelta(minutes=10), 1.5 * HOUR, 5 * HOUR))
            await delivery.restart(absence, loses_offsets=True)
    delivery.simulation.contact = wanted
    delivery.simulation.script.clear()
    await sleep(timedelta(days=8 if places is None else 60))  # one mail of corrections a day, with few of them
    assert delivery.simulation.is_all_acknowledged
    assert delivery.dead_letters == []
    await delivery.simulation.cancel_process_tasks()
    return delivery


def read_mailbox(delivery: SingleUserDelivery) -> Mailbox:
    """Return the mailbox after all mails; a mail that came twice (in doubt) is read once."""
    mailbox, read = Mailbox(), set[frozenset[UUID]]()
    for mail in delivery.simulation.mails:
        if mail.alert_ids not in read:
            mailbox.read(mail.alert_ids, mail.statements)
        read.add(mail.alert_ids)
    return mailbox


def find_truth(groups: list[list[Alert]]) -> Mailbox:
    """Return what somebody believes who reads each alert at the moment at which it is raised."""
    mailbox = Mailbox()
    for alert in (each for group in groups for each in group):
        mailbox.read([alert.alert_id], [alert])
    return mailbox


def draw_interest(chance: Random) -> Interest:
    """Draw an interest with at least one threshold; runs and repeats are as frequent as none."""
    high, low = chance.choice(((2, None), (None, 3), (5, 2), (1, None), (4, None), (None, 1)))
    return an_interest(
        direction=chance.choice([*Direction, Direction.DEPARTURES]),
        window=chance.choice((Window.ONE_HOUR, Window.ONE_HOUR, Window.SIX_HOURS)),
        high=high,
        low=low,
        for_windows=chance.choice((1, 1, 2, 3)),
        repeat=chance.random() < 0.5,
        effective_from=BASE + chance.randint(-4, 20) * timedelta(minutes=30),
    )


def check_story(seed: int, habits: str, faults: bool, places: int | None = None) -> None:
    """Tell a random log to a person, and check their mailbox against the model."""
    chance = Random(seed)
    interest = draw_interest(chance)
    log = draw_provenances(generate_corrected_log(chance), seed)
    groups = raise_in_groups(interest, log)
    told: list[SingleUserDelivery] = []

    async def story() -> None:
        told.append(await tell(chance, groups, habits, faults, places))

    with mock.patch("random.random", Random(seed).random):
        run(story())
    mailbox, truth = read_mailbox(told[0]), find_truth(groups)
    complaints = [each for each in mailbox.complaints if places is None or each.startswith("an end without")]
    assert complaints == []
    if places is not None:
        return  # alerts of different breaches may overtake each other
    if habits == "all":
        assert mailbox.breaches == truth.breaches
        statuses = told[0].simulation.changelogs["statuses"]
        found = [statuses[str(each.alert_id).encode()] for group in groups for each in group]
        assert not any(each.startswith((b"untold", b"dead")) for each in found)


@pytest.mark.parametrize("habits", ["all", "no corrections", "pauses"])
@pytest.mark.parametrize("faults", [False, True])
@pytest.mark.parametrize("first", range(0, 40, 20))
def test_a_mailbox_has_each_beginning_before_its_end(first: int, habits: str, faults: bool) -> None:
    """For live, settled, corrected and early alerts, with repeats and runs, through pauses, restarts and catch-ups.

    Who wants all mails also believes in the end what the alerts together say.
    """
    for seed in range(first, first + 20):
        check_story(seed, habits, faults)


@pytest.mark.parametrize("habits", ["all", "no corrections", "pauses"])
@pytest.mark.parametrize("first", range(0, 20, 10))
def test_nobody_reads_an_end_first_who_has_more_alerts_than_places(first: int, habits: str) -> None:
    """One or three alerts of the person are in memory, and most others in the topics of waiting and deferred alerts.

    Workers crash, are away for hours, read again what was not committed, and read each topic some minutes late. Before,
    seed 11 read an end alone with pauses, and seed 16 with all mails.
    """
    for seed in range(first, first + 10):
        check_story(seed, habits, faults=seed % 2 == 0, places=1 if seed % 3 else 3)


def build_alert(delivery: SingleUserDelivery, hour: int, state: AlertState, **changes: object) -> Alert:
    """Return an alert of the one user about a window so many hours after that of ALERT, with the id of the stream."""
    start = ALERT.window_start + hour * HOUR
    alert = replace(ALERT, user_id=delivery.simulation.users[0], window_start=start, state=state, **changes)  # type: ignore[arg-type]
    own_id = compute_alert_id(
        alert.interest_id, alert.version, alert.bound, start, state, alert.withdrawn_state, alert.revision
    )
    return replace(alert, alert_id=own_id, episode_id=alert.episode_id or own_id)


def list_mails(delivery: SingleUserDelivery) -> list[list[str]]:
    """Return the states that each mail tells, in order."""
    return [[str(each.state) for each in mail.statements] for mail in delivery.simulation.mails]


def test_an_end_waits_for_its_beginning_in_the_mail_of_corrections() -> None:
    """The record finds a breach, and its end in hours that nobody knew: both are read in the day's mail, in order."""

    async def steps(delivery: SingleUserDelivery) -> None:
        firing = build_alert(delivery, 0, AlertState.FIRING, corrects=True)
        ended = build_alert(delivery, 2, AlertState.RESOLVED, episode_id=firing.alert_id)
        delivery.simulation.publish_alert(firing)
        await delivery.restart()
        delivery.simulation.publish_alert(ended)
        await sleep(HOUR)
        assert list_mails(delivery) == [["FIRING", "RESOLVED"]]
        still = build_alert(delivery, 5, AlertState.RESOLVED, episode_id=firing.alert_id, revision=1)
        delivery.simulation.publish_alert(still)
        await sleep(timedelta(minutes=1))
        assert list_mails(delivery)[1:] == [["RESOLVED"]], "the beginning was told: at once"

    run_steps(steps)


def test_who_wants_no_corrections_reads_no_end_of_what_they_were_not_told() -> None:
    """The end of a breach that only the record found is dropped; that of one they know of is mailed at once."""

    async def steps(delivery: SingleUserDelivery) -> None:
        delivery.simulation.contact = replace(CONTACT, without_corrections=True)
        firing = build_alert(delivery, 0, AlertState.FIRING, corrects=True)
        delivery.simulation.publish_alert(firing)
        await sleep(HOUR)
        delivery.simulation.publish_alert(build_alert(delivery, 2, AlertState.RESOLVED, episode_id=firing.alert_id))
        later = build_alert(delivery, 4, AlertState.FIRING)
        delivery.simulation.publish_alert(later)
        await sleep(HOUR)
        moved = build_alert(delivery, 3, AlertState.FIRING, corrects=True)
        delivery.simulation.publish_alert(moved)
        await sleep(HOUR)
        delivery.simulation.publish_alert(build_alert(delivery, 7, AlertState.RESOLVED, episode_id=moved.alert_id))
        await sleep(HOUR)
        assert list_mails(delivery) == [["FIRING"], ["RESOLVED"]], "the record only moved the beginning"
        assert delivery.simulation.mails[0].alert_ids == {later.alert_id}

    run_steps(steps)


def test_what_began_while_an_account_was_paused_has_no_end_afterwards() -> None:
    """Neither its end, nor that it goes on, nor that it is taken back; the next breach is mailed."""

    async def steps(delivery: SingleUserDelivery) -> None:
        delivery.simulation.contact = replace(CONTACT, paused=True)
        firing = build_alert(delivery, 0, AlertState.FIRING)
        delivery.simulation.publish_alert(firing)
        await sleep(HOUR)
        delivery.simulation.contact = CONTACT
        for hour, state in ((1, AlertState.STILL), (2, AlertState.RESOLVED)):
            delivery.simulation.publish_alert(build_alert(delivery, hour, state, episode_id=firing.alert_id))
        taken = {"withdrawn_state": AlertState.FIRING, "episode_id": firing.alert_id}
        delivery.simulation.publish_alert(build_alert(delivery, 0, AlertState.WITHDRAWN, **taken))
        await sleep(HOUR)
        assert list_mails(delivery) == []
        delivery.simulation.publish_alert(build_alert(delivery, 5, AlertState.FIRING))
        await sleep(HOUR)
        assert list_mails(delivery) == [["FIRING"]]

    run_steps(steps)


def test_a_flight_that_comes_and_goes_is_told_once() -> None:
    """Live tells a breach, the record takes it back, another source of positions has it again: nothing new is known.

    Who wants corrections has both in the day's mail, which cancel each other; who wants none keeps what they know.
    """

    async def steps(delivery: SingleUserDelivery) -> None:
        for hour, without in ((0, False), (50, True)):
            delivery.simulation.contact = replace(CONTACT, without_corrections=without)
            firing = build_alert(delivery, hour, AlertState.FIRING)
            taken = {"withdrawn_state": AlertState.FIRING, "episode_id": firing.alert_id, "corrects": True}
            delivery.simulation.publish_alert(firing)
            await sleep(HOUR)
            delivery.simulation.publish_alert(build_alert(delivery, hour, AlertState.WITHDRAWN, **taken))
            await sleep(timedelta(minutes=5) if not without else 2 * HOUR)
            delivery.simulation.publish_alert(build_alert(delivery, hour, AlertState.FIRING, revision=1))
            await sleep(2 * HOUR)
        assert list_mails(delivery) == [["FIRING"], ["FIRING"]]

    run_steps(steps)


FEW_PLACES = DeliverySettings(group_wait=timedelta(minutes=1), max_queued_alerts=20, smallest_share=2)
"""Two alerts of a person are in memory at most; further ones go to alerts.waiting.v1."""


def publish_others(delivery: SingleUserDelivery, how_many: int, *, corrects: bool) -> None:
    """Publish beginnings of other interests, as many as given, which take the person's places in memory."""
    for number in range(how_many):
        firing = build_alert(delivery, number, AlertState.FIRING, corrects=corrects, interest_id=UUID(int=900 + number))
        delivery.simulation.publish_alert(firing)


def list_mailed_ids(delivery: SingleUserDelivery) -> list[UUID]:
    """Return the ids of all mailed alerts, mail by mail, in the order in which a mail lists them."""
    return [each.alert_id for mail in delivery.simulation.mails for each in mail.statements]


@pytest.mark.parametrize("restarts", [False, True])
@pytest.mark.parametrize("corrects", [False, True], ids=["live", "correction"])
@pytest.mark.parametrize("end_kind", ["end", "corrected end", "withdrawal"])
def test_an_end_waits_for_a_beginning_that_waits_in_the_topic(end_kind: str, corrects: bool, restarts: bool) -> None:
    """A beginning above the person's share is mailed before its end, and cancelled by its withdrawal; no end is alone.

    Also after a restart: before, a new worker knew nothing of the beginning and mailed the end at once.
    """

    async def steps(delivery: SingleUserDelivery) -> None:
        publish_others(delivery, 2, corrects=corrects)
        firing = build_alert(delivery, 2, AlertState.FIRING, corrects=corrects)
        delivery.simulation.publish_alert(firing)
        await sleep(timedelta(minutes=5))
        assert len(delivery.simulation.waiting_log.records) == 1
        if restarts:
            await delivery.restart()
        changes = {"episode_id": firing.alert_id, "corrects": end_kind != "end"}
        if end_kind == "withdrawal":
            end = build_alert(delivery, 2, AlertState.WITHDRAWN, withdrawn_state=AlertState.FIRING, **changes)
        else:
            end = build_alert(delivery, 4, AlertState.RESOLVED, **changes)
        delivery.simulation.publish_alert(end)
        await sleep(timedelta(days=8))
        mailed = list_mailed_ids(delivery)
        if end_kind == "withdrawal":
            assert {firing.alert_id, end.alert_id}.isdisjoint(mailed), "they cancel each other in the day's mail"
        else:
            assert mailed.index(firing.alert_id) < mailed.index(end.alert_id)

    run_steps(steps, FEW_PLACES)


def test_corrections_that_wait_in_the_topic_hold_up_no_live_alert() -> None:
    """A live alert is mailed at once, whatever corrections of the same person leave with one mail a day.

    Before, it waited until the last of these corrections was in a mail: with five mails of them, for four days.
    """

    async def steps(delivery: SingleUserDelivery) -> None:
        publish_others(delivery, 10, corrects=True)
        await sleep(timedelta(minutes=5))
        assert len(delivery.simulation.waiting_log.records) == 8
        live = build_alert(delivery, 100, AlertState.FIRING)
        delivery.simulation.publish_alert(live)
        await sleep(timedelta(minutes=5))
        assert list_mailed_ids(delivery) == [live.alert_id]
        await sleep(timedelta(days=9))
        assert len(set(list_mailed_ids(delivery))) == 11, "no correction is lost"

    run_steps(steps, FEW_PLACES)
