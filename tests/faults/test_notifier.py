"""The notifier under faults: the mail server fails, workers are killed, and each alert still has the right outcome.

TOWERWATCH_NOTIFIER_FAULT_ROUNDS (default 1) is the number of seeds.
"""

import os
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final
from uuid import UUID

import pytest

from local.kafka import Broker
from tests.faults.notifier_accounts import Accounts, running_accounts
from tests.faults.notifier_history import describe_history
from tests.faults.notifier_outcomes import read_outcome
from tests.faults.notifier_storm import LOGIN, StormyServer
from tests.faults.notifier_users import (
    CHANGING,
    NEVER_MAILED,
    UserGroup,
    UserKind,
    build_users,
    to_event,
    with_one_more_alert,
)
from tests.notifier.process import is_everything_acknowledged, publish
from tests.notifier.worker_group import WorkerGroup, running_workers
from tests.waiting import eventually

pytestmark = pytest.mark.faults

ROUNDS = int(os.environ.get("TOWERWATCH_NOTIFIER_FAULT_ROUNDS", "1"))

ALERTS: Final = 5_000
BURSTS: Final = 10
USER_COUNTS: Final[Mapping[UserKind, int]] = {
    UserKind.READS: 330,
    UserKind.REFUSED: 35,
    UserKind.BOUNCES: 16,
    UserKind.UNCONFIRMED: 15,
    UserKind.PAUSED: 15,
    UserKind.UNKNOWN: 9,
    UserKind.PAUSES: 20,
    UserKind.LEAVES: 20,
}
NEWCOMERS: Final = 12
"""The number of users who register during the test."""
SETTINGS: Final = {
    "SMTP_SECURITY": "starttls",
    "SMTP_USERNAME": LOGIN[0],
    "SMTP_PASSWORD": LOGIN[1],
    "SMTP_CONNECTIONS": "4",
    "SMTP_MAILS_PER_CONNECTION": "5",
    "GROUP_WAIT_S": "0.5",
    "RETRY_BASE_S": "0.2",
}


def kill_worker(workers: WorkerGroup, _accounts: Accounts, name: str) -> None:
    """Kill a worker with SIGKILL and start it again."""
    workers.kill(name)
    workers.start(name)


def kill_user_manager(_workers: WorkerGroup, accounts: Accounts, _name: str) -> None:
    """Kill user_manager with SIGKILL and start it again."""
    accounts.restart()


def replace_worker(workers: WorkerGroup, _accounts: Accounts, name: str) -> None:
    """Stop a worker with SIGTERM and start a new one in its place."""
    workers.stop(name)
    workers.start(name)


def add_worker(workers: WorkerGroup, _accounts: Accounts, _name: str) -> None:
    """Start one more worker."""
    workers.start("third")


Fault = Callable[[WorkerGroup, Accounts, str], None]
FAULTS: Final[tuple[Fault, ...]] = (
    kill_worker, kill_worker, kill_worker, kill_worker, kill_user_manager, kill_user_manager, replace_worker,
    add_worker,
)  # fmt: skip


def is_quiet(kafka: Broker, accounts: Accounts, workers: WorkerGroup) -> bool:
    """Return True if every event is published and acknowledged."""
    workers.assert_alive()
    return accounts.has_announced_everything() and is_everything_acknowledged(kafka.bootstrap_servers)


@pytest.mark.parametrize("seed", range(60, 60 + ROUNDS))
def test_every_alert_has_the_right_outcome_after_a_storm_of_faults(seed: int, kafka: Broker, tmp_path: Path) -> None:
    """Every alert is mailed once, or dead-lettered for the right reason, or dropped because its user may have no mail.

    Only mails that were unconfirmed when a worker was killed or the server hung up are sent twice, with the same
    Message-ID. No end of a breach is mailed before its beginning.
    """
    print(f"seed {seed}")
    chance = random.Random(seed)
    users = build_users(chance, ALERTS, USER_COUNTS)
    refusals = {user.email: user.refusal for user in users.members if user.refusal is not None}
    storm = StormyServer(tmp_path, chance, refusals)
    storm.begin_storm(user.email for user in users.members if user.kind not in NEVER_MAILED)
    newcomers: dict[str, UUID] = {}
    began = time.monotonic()
    with (
        storm.running(),
        running_accounts(tmp_path, kafka.bootstrap_servers) as accounts,
        running_workers(
            tmp_path, kafka.bootstrap_servers, accounts.target, storm.port, "left", "right",
            SMTP_CA_FILE=str(storm.ca_file), **SETTINGS,
        ) as workers,
    ):  # fmt: skip
        accounts.open(users.members)
        too_late_ids = publish_under_faults(chance, users, kafka, storm, accounts, workers, newcomers)
        published = time.monotonic()
        came = storm.end_storm()
        eventually(lambda: is_quiet(kafka, accounts, workers), "the end of everything", within_s=240)
        quiet = time.monotonic()
        # A bounce may not have been reported: then the next mail finds it out once more.
        users = replace(
            users, members=tuple(with_one_more_alert(p) if p.kind is UserKind.BOUNCES else p for p in users.members)
        )
        publish(kafka.bootstrap_servers, [to_event(user.alerts[-1]) for user in users.of_kind(UserKind.BOUNCES)])
        eventually(lambda: is_quiet(kafka, accounts, workers), "the end of everything", within_s=60)
        for name in tuple(workers.running):
            workers.stop(name)
        assert accounts.find_suppressed() == {user.user_id for user in users.of_kind(UserKind.BOUNCES)}
    recipients = [rcpt.partition("<")[2].partition(">")[0] for _, rcpt in storm.envelopes]
    outcome = read_outcome(users, list(zip(recipients, storm.mails, strict=True)), kafka.bootstrap_servers)
    print(
        f"{len(outcome.mails)} mails, {outcome.duplicates.total()} of them duplicates; {workers.kills} workers killed, "
        f"{storm.lost_after_data.total()} connections lost after the mail; "
        f"{len(outcome.dead_letter_reasons)} alerts dead-lettered; "
        f"{storm.connections} connections; {published - began:.0f} s of storm, {quiet - published:.0f} s until all was "
        f"quiet; came of the faults: { ({phase: f'{share:.0%}' for phase, share in came.items()}) }"
    )
    if outcome.users_mailed_twice:
        print(describe_history(kafka.bootstrap_servers, outcome.users_mailed_twice, outcome.mails, storm.accepted_at))
    outcome.assert_exact(too_late_ids)
    assert (outcome.duplicates - storm.lost_after_data).total() <= workers.kills, "one mail was unconfirmed at a time"
    assert {to for to, _ in outcome.confirmation_mails} == set(newcomers), (
        "each newcomer's confirmation mail, and no other"
    )
    assert len(set(outcome.confirmation_mails)) == len(newcomers)
    assert storm.lost_after_data.total() > 0
    assert min(came.values()) > 0.2, "too little of the storm came"
    assert len(outcome.mails) > len(users.members)


def publish_under_faults(
    chance: random.Random,
    users: UserGroup,
    kafka: Broker,
    storm: StormyServer,
    accounts: Accounts,
    workers: WorkerGroup,
    newcomers: dict[str, UUID],
) -> list[UUID]:
    """Publish all alerts in bursts, with a fault at a random moment after each.

    Returns the ids of the alerts that were published after their users had paused or deleted their accounts.
    """
    faults = list(FAULTS)
    chance.shuffle(faults)
    change_before = chance.randint(3, BURSTS - 3)
    too_late_ids: list[UUID] = []
    changing = {user.user_id for user in users.of_kind(*CHANGING)}
    position: dict[UUID, int] = {}
    for number, burst in enumerate(users.split_into_bursts(BURSTS)):
        if number == change_before:
            accounts.change(users.of_kind(*CHANGING))
            too_late_ids = [
                alert.alert_id
                for user in users.of_kind(*CHANGING)
                for alert in user.alerts[position.get(user.user_id, 0) :]
            ]
        publish(kafka.bootstrap_servers, burst)
        for event in burst:
            if event.user_id in changing:
                position[event.user_id] = position.get(event.user_id, 0) + 1
        if faults:
            if chance.random() < 0.5:
                eventually(workers.are_ready, "the workers' readiness")
            wanted = len(storm.mails) + chance.randint(5, 150)
            eventually(lambda wanted=wanted: len(storm.mails) >= wanted, "more mails", within_s=90)  # type: ignore[misc]
            workers.assert_alive()
            faults.pop()(workers, accounts, chance.choice(("left", "right")))
            email = f"new{number}@tower.test"
            newcomers[email] = accounts.register(email)
    return too_late_ids
