"""The notifier and a real mail server under faults: Postfix stops and starts, the worker dies, and each alert arrives.

How often the story is told, each time with another seed, says TOWERWATCH_NOTIFIER_FAULT_ROUNDS (default 1).
"""

import random
import re
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from email.message import EmailMessage
from pathlib import Path
from typing import Final

import pytest

from local.kafka import Broker
from tests.fakes.postfix import Postfix, running_postfix
from tests.faults.notifier_accounts import running_accounts
from tests.faults.notifier_outcomes import read_outcome
from tests.faults.notifier_users import BOUNCES, UserKind, build_users
from tests.faults.test_notifier import ROUNDS, is_quiet
from tests.notifier.process import publish
from tests.notifier.worker_group import running_workers
from tests.waiting import eventually

pytestmark = [pytest.mark.faults, pytest.mark.timeout(600)]

ALERTS: Final = 1_000
LIVES: Final[Mapping[UserKind, int]] = {
    UserKind.READS: 150,
    UserKind.BOUNCES: 8,
    UserKind.PAUSED: 6,
    UserKind.UNKNOWN: 3,
}
SETTINGS: Final = {
    "SMTP_SECURITY": "starttls",
    "SMTP_CONNECTIONS": "4",
    "GROUP_WAIT_S": "0.5",
    "RETRY_BASE_S": "0.2",
}

_QUEUE_ID: Final = re.compile(r"with ESMTPS? id ([0-9A-Za-z]+)")
_LOGGED: Final = re.compile(r"qmgr\[\d+\]: ([0-9A-Za-z]+): from=")
"""A mail is in the queue: the server has taken it."""


@pytest.fixture
def postfix(monkeypatch: pytest.MonkeyPatch) -> Iterator[Postfix]:
    """It takes mails with many pictures, too."""
    monkeypatch.setattr("tests.fakes.postfix.SIZE_LIMIT", 2_000_000)
    with running_postfix() as server:
        yield server


def accepted(postfix: Postfix) -> list[str]:
    """The queue ids of the mails that it took, in that order."""
    return list(dict.fromkeys(_LOGGED.findall(postfix.log())))


def as_accepted(postfix: Postfix) -> list[tuple[str, EmailMessage]]:
    """The mails, each once for each time that it was taken, in that order; with the addresses that they went to.

    What Postfix itself delivers twice, for it was stopped in between, was taken once.
    """
    taken = {_queue_id(mail): mail for mail in postfix.mails()}
    order = accepted(postfix)
    assert taken.keys() <= set(order)
    return [(str(taken[each]["Delivered-To"]), taken[each]) for each in order if each in taken]


def _queue_id(mail: EmailMessage) -> str:
    found = _QUEUE_ID.search(str(mail["Received"]))
    assert found is not None, mail["Received"]
    return found[1]


@pytest.mark.parametrize("seed", range(80, 80 + ROUNDS))
def test_postfix_comes_and_goes(seed: int, kafka: Broker, postfix: Postfix, tmp_path: Path) -> None:
    """Each alert is delivered once, or put aside with what Postfix said; twice only what a kill, or a stop in the
    midst of a mail, left in doubt."""
    print(f"seed {seed}")
    chance = random.Random(seed)
    cast = build_users(chance, ALERTS, LIVES, BOUNCES[:1])
    stops = 0
    with ExitStack() as stack:
        accounts = stack.enter_context(running_accounts(tmp_path, kafka.bootstrap_servers))
        accounts.open(cast.people)
        crew = stack.enter_context(
            running_workers(
                tmp_path, kafka.bootstrap_servers, accounts.target, postfix.port, "only",
                STORE="rocksdb", SMTP_CA_FILE=str(postfix.ca_file), **SETTINGS,
            )
        )  # fmt: skip
        faults = ["kill", "stop", "kill", "stop", "kill"]
        for burst in cast.bursts(len(faults)):
            publish(kafka.bootstrap_servers, burst)
            some = len(accepted(postfix)) + chance.randint(5, 60)
            eventually(lambda some=some: len(accepted(postfix)) >= some, "more mails")  # type: ignore[misc]
            if faults.pop(0) == "kill":
                crew.kill("only")
                crew.begin("only")
            else:
                stops += 1
                postfix.stop()
                postfix.start()
        eventually(lambda: is_quiet(kafka, accounts, crew), "the end of everything", within_s=180)
        crew.let_go("only")
        wanted = {alert.alert_id for person in cast.of(UserKind.READS) for alert in person.alerts}
        eventually(
            lambda: wanted <= read_outcome(cast, as_accepted(postfix), kafka.bootstrap_servers).mailed.keys(),
            "the delivery of everything",
        )
    account = read_outcome(cast, as_accepted(postfix), kafka.bootstrap_servers)
    print(f"{len(account.mails)} mails, {account.repeats.total()} of them again; {crew.kills} kills, {stops} stops")
    account.assert_exact(())
    assert account.repeats.total() <= crew.kills + stops
