"""The notifier and a real mail server under faults: Postfix stops and starts, the worker is killed, each alert arrives.

TOWERWATCH_NOTIFIER_FAULT_ROUNDS (default 1) is the number of seeds.
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

pytestmark = pytest.mark.faults

ALERTS: Final = 1_000
USER_COUNTS: Final[Mapping[UserKind, int]] = {
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
"""The log line of a mail in the queue: the server has accepted the mail."""


@pytest.fixture
def postfix(monkeypatch: pytest.MonkeyPatch) -> Iterator[Postfix]:
    """Run a Postfix that also accepts mails with many pictures."""
    monkeypatch.setattr("tests.fakes.postfix.SIZE_LIMIT", 2_000_000)
    with running_postfix() as server:
        yield server


def list_accepted_queue_ids(postfix: Postfix) -> list[str]:
    """Return the queue ids of the accepted mails, in that order."""
    return list(dict.fromkeys(_LOGGED.findall(postfix.log())))


def list_accepted_mails(postfix: Postfix) -> list[tuple[str, EmailMessage]]:
    """Return the address and the mail of each acceptance, in that order.

    A mail that Postfix itself delivers twice, because it was stopped in between, was accepted once.
    """
    taken = {_queue_id(mail): mail for mail in postfix.mails()}
    order = list_accepted_queue_ids(postfix)
    assert taken.keys() <= set(order)
    return [(str(taken[each]["Delivered-To"]), taken[each]) for each in order if each in taken]


def _queue_id(mail: EmailMessage) -> str:
    """Return the queue id in a mail's Received header."""
    found = _QUEUE_ID.search(str(mail["Received"]))
    assert found is not None, mail["Received"]
    return found[1]


@pytest.mark.parametrize("seed", range(80, 80 + ROUNDS))
def test_every_alert_arrives_while_postfix_stops_and_starts(
    seed: int, kafka: Broker, postfix: Postfix, tmp_path: Path
) -> None:
    """Every alert is delivered once, or dead-lettered with Postfix's reply. Only mails that were unconfirmed at a kill
    or a stop are sent twice."""
    print(f"seed {seed}")
    chance = random.Random(seed)
    users = build_users(chance, ALERTS, USER_COUNTS, BOUNCES[:1])
    stops = 0
    with ExitStack() as stack:
        accounts = stack.enter_context(running_accounts(tmp_path, kafka.bootstrap_servers))
        accounts.open(users.members)
        workers = stack.enter_context(
            running_workers(
                tmp_path, kafka.bootstrap_servers, accounts.target, postfix.port, "only",
                STORE="rocksdb", SMTP_CA_FILE=str(postfix.ca_file), **SETTINGS,
            )
        )  # fmt: skip
        faults = ["kill", "stop", "kill", "stop", "kill"]
        for burst in users.split_into_bursts(len(faults)):
            publish(kafka.bootstrap_servers, burst)
            wanted_count = len(list_accepted_queue_ids(postfix)) + chance.randint(5, 60)
            eventually(
                lambda wanted_count=wanted_count: len(list_accepted_queue_ids(postfix)) >= wanted_count, "more mails"
            )  # type: ignore[misc]
            if faults.pop(0) == "kill":
                workers.kill("only")
                workers.start("only")
            else:
                stops += 1
                postfix.stop()
                postfix.start()
        eventually(lambda: is_quiet(kafka, accounts, workers), "the end of everything", within_s=180)
        workers.stop("only")
        wanted = {alert.alert_id for user in users.of_kind(UserKind.READS) for alert in user.alerts}
        eventually(
            lambda: (
                wanted
                <= read_outcome(
                    users, list_accepted_mails(postfix), kafka.bootstrap_servers
                ).message_ids_by_alert.keys()
            ),
            "the delivery of everything",
        )
    outcome = read_outcome(users, list_accepted_mails(postfix), kafka.bootstrap_servers)
    print(
        f"{len(outcome.mails)} mails, {outcome.duplicates.total()} of them duplicates; "
        f"{workers.kills} kills, {stops} stops"
    )
    outcome.assert_exact(())
    assert outcome.duplicates.total() <= workers.kills + stops
