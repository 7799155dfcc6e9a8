"""The notifier under faults: whatever the mail server does, and whoever dies, each alert has the fate that is its own.

How often the story is told, each time with another seed, says TOWERWATCH_NOTIFIER_FAULT_ROUNDS (default 1).
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
from tests.faults.notifier_account import account_of
from tests.faults.notifier_accounts import Accounts, running_accounts
from tests.faults.notifier_history import history
from tests.faults.notifier_people import CHANGING, NEVER_MAILED, Cast, Life, a_cast, one_more, raised
from tests.faults.notifier_storm import LOGIN, StormyServer
from tests.notifier.crew import Crew, a_crew
from tests.notifier.process import everything_acknowledged, publish
from tests.waiting import eventually

pytestmark = [pytest.mark.faults, pytest.mark.timeout(600)]

ROUNDS = int(os.environ.get("TOWERWATCH_NOTIFIER_FAULT_ROUNDS", "1"))

ALERTS: Final = 5_000
BURSTS: Final = 10
LIVES: Final[Mapping[Life, int]] = {
    Life.READS: 330,
    Life.REFUSED: 35,
    Life.BOUNCES: 16,
    Life.UNCONFIRMED: 15,
    Life.PAUSED: 15,
    Life.UNKNOWN: 9,
    Life.PAUSES: 20,
    Life.LEAVES: 20,
}
NEWCOMERS: Final = 12
"""People who register meanwhile."""
SETTINGS: Final = {
    "SMTP_SECURITY": "starttls",
    "SMTP_USERNAME": LOGIN[0],
    "SMTP_PASSWORD": LOGIN[1],
    "SMTP_CONNECTIONS": "4",
    "SMTP_MAILS_PER_CONNECTION": "5",
    "GROUP_WAIT_S": "0.5",
    "RETRY_BASE_S": "0.2",
}


def killed(crew: Crew, _accounts: Accounts, name: str) -> None:
    """kill -9 of a worker, which is begun again."""
    crew.kill(name)
    crew.begin(name)


def authority_killed(_crew: Crew, accounts: Accounts, _name: str) -> None:
    """kill -9 of user_manager, which is begun again."""
    accounts.restart()


def gone_and_come(crew: Crew, _accounts: Accounts, name: str) -> None:
    """SIGTERM, and a new worker in its place."""
    crew.let_go(name)
    crew.begin(name)


def joined(crew: Crew, _accounts: Accounts, _name: str) -> None:
    """One worker more."""
    crew.begin("third")


Fault = Callable[[Crew, Accounts, str], None]
FAULTS: Final[tuple[Fault, ...]] = (
    killed, killed, killed, killed, authority_killed, authority_killed, gone_and_come, joined,
)  # fmt: skip


def is_quiet(kafka: Broker, accounts: Accounts, crew: Crew) -> bool:
    """Whether everything is done that there was to do."""
    crew.assert_alive()
    return accounts.has_announced_everything() and everything_acknowledged(kafka.bootstrap_servers)


@pytest.mark.parametrize("seed", range(60, 60 + ROUNDS))
def test_every_alert_of_a_storm(seed: int, kafka: Broker, tmp_path: Path) -> None:
    """Is mailed once, or put aside for the right reason, or dropped because its person wants, or may have, no mail.

    Twice is mailed only what a worker that was killed, or a server that hung up, left in doubt, under the same
    Message-ID; and no end of a breach before its beginning.
    """
    print(f"seed {seed}")
    chance = random.Random(seed)
    cast = a_cast(chance, ALERTS, LIVES)
    refusals = {person.email: person.refusal for person in cast.people if person.refusal is not None}
    storm = StormyServer(tmp_path, chance, refusals)
    storm.begin_storm(person.email for person in cast.people if person.life not in NEVER_MAILED)
    newcomers: dict[str, UUID] = {}
    began = time.monotonic()
    with (
        storm.running(),
        running_accounts(tmp_path, kafka.bootstrap_servers) as accounts,
        a_crew(
            tmp_path, kafka.bootstrap_servers, accounts.target, storm.port, "left", "right",
            SMTP_CA_FILE=str(storm.ca_file), **SETTINGS,
        ) as crew,
    ):  # fmt: skip
        accounts.open(cast.people)
        too_late = publish_under_faults(chance, cast, kafka, storm, accounts, crew, newcomers)
        published = time.monotonic()
        came = storm.end_storm()
        eventually(lambda: is_quiet(kafka, accounts, crew), "the end of everything", within_s=240)
        quiet = time.monotonic()
        # Nobody may have been there to be told of a bounce: then the next mail finds it out once more.
        cast = replace(cast, people=tuple(one_more(p) if p.life is Life.BOUNCES else p for p in cast.people))
        publish(kafka.bootstrap_servers, [raised(person.alerts[-1]) for person in cast.of(Life.BOUNCES)])
        eventually(lambda: is_quiet(kafka, accounts, crew), "the end of everything", within_s=60)
        for name in tuple(crew.running):
            crew.let_go(name)
        assert accounts.suppressed() == {person.user_id for person in cast.of(Life.BOUNCES)}
    recipients = [rcpt.partition("<")[2].partition(">")[0] for _, rcpt in storm.envelopes]
    account = account_of(cast, list(zip(recipients, storm.mails, strict=True)), kafka.bootstrap_servers)
    print(
        f"{len(account.mails)} mails, {account.repeats.total()} of them again; {crew.kills} workers killed, "
        f"{storm.lost_after_data.total()} connections lost after the mail; {len(account.dead)} alerts put aside; "
        f"{storm.connections} connections; {published - began:.0f} s of storm, {quiet - published:.0f} s until all was "
        f"quiet; came of the faults: { ({phase: f'{share:.0%}' for phase, share in came.items()}) }"
    )
    if account.told_twice:
        print(history(kafka.bootstrap_servers, account.told_twice, account.mails, storm.accepted_at))
    account.assert_exact(too_late)
    assert (account.repeats - storm.lost_after_data).total() <= crew.kills, "one mail was in doubt at a time"
    assert {to for to, _ in account.others} == set(newcomers), "each newcomer's confirmation mail, and no other"
    assert len(set(account.others)) == len(newcomers)
    assert storm.lost_after_data.total() > 0
    assert min(came.values()) > 0.2, "too little of the storm came"
    assert len(account.mails) > len(cast.people)


def publish_under_faults(
    chance: random.Random,
    cast: Cast,
    kafka: Broker,
    storm: StormyServer,
    accounts: Accounts,
    crew: Crew,
    newcomers: dict[str, UUID],
) -> list[UUID]:
    """Publish all alerts in bursts, with a fault at a random moment after each.

    Returns the alerts that were published after their people had paused or left.
    """
    faults = list(FAULTS)
    chance.shuffle(faults)
    change_before = chance.randint(3, BURSTS - 3)
    too_late: list[UUID] = []
    changing = {person.user_id for person in cast.of(*CHANGING)}
    position: dict[UUID, int] = {}
    for number, burst in enumerate(cast.bursts(BURSTS)):
        if number == change_before:
            accounts.change(cast.of(*CHANGING))
            too_late = [
                alert.alert_id
                for person in cast.of(*CHANGING)
                for alert in person.alerts[position.get(person.user_id, 0) :]
            ]
        publish(kafka.bootstrap_servers, burst)
        for event in burst:
            if event.user_id in changing:
                position[event.user_id] = position.get(event.user_id, 0) + 1
        if faults:
            if chance.random() < 0.5:
                eventually(crew.is_at_work, "the workers' readiness")
            some = len(storm.mails) + chance.randint(5, 150)
            eventually(lambda some=some: len(storm.mails) >= some, "more mails", within_s=90)  # type: ignore[misc]
            crew.assert_alive()
            faults.pop()(crew, accounts, chance.choice(("left", "right")))
            email = f"new{number}@tower.test"
            newcomers[email] = accounts.register(email)
    return too_late
