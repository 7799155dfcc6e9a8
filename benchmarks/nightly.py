"""`python -m benchmarks.nightly`: the whole notifier on a night's alerts, from Kafka to the mail server.

10,000 people have five alerts each, of three airports, in the topic when one worker, `python -m notifier`, is begun:
real Kafka, contacts by gRPC from a process of its own, a sink that takes every mail over STARTTLS with a login. From
the first mail that was taken to the last, by the worker's own count:

- as it is deployed: each person gets one mail about all five; one mail at a time is in doubt (SMTP_MAILS_IN_DOUBT=1);
- with 16 in doubt, and as many connections;
- with a mail for each alert (GROUP_WAIT_S=0).

With a sink that replies at once, and with one that waits 5 ms before each reply, as a server does that is not on the
same machine. Beside it the original's shape on the same sink: for each alert one connection with STARTTLS and a login,
one after the other. Worker, broker, sink and contacts share the machine.
"""

import argparse
import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import count
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Final
from uuid import UUID

from benchmarks.mail_sink import HOST, MailSink, running_sink
from benchmarks.mails import LOGIN, SinkTarget
from benchmarks.streams.figures import print_progress, report
from benchmarks.streams.kafka import BenchmarkBroker
from benchmarks.streams.traffic import Record
from domain.alerts import Alert, AlertState, Bound
from domain.interests import Direction
from domain.windows import Window
from local.kafka import running_broker
from streams.messages import encode_alert
from tests.fakes.tls import server_context
from tests.fakes.user_service import FakeUserService
from tests.ports import free_port
from towerwatch.topics import ALERTS_RAISED, partition_of
from towerwatch.users.v1.user_service_pb2 import Contact

NAME: Final = "nightly"
ROOT: Final = Path(__file__).parents[1]
PEOPLE: Final = 10_000
ALERTS_EACH: Final = 5
_AIRPORTS: Final = ("KJFK", "LICC", "EGLL")
_NIGHTS: Final = count()
_SIXTEEN: Final = {"SMTP_MAILS_IN_DOUBT": "16", "SMTP_CONNECTIONS": "16"}
_SCENARIOS: Final[dict[int, dict[str, tuple[int, dict[str, str]]]]] = {
    0: {
        "a mail for each person": (1, {}),
        "a mail for each person, 16 in doubt": (5, _SIXTEEN),
        "a mail for each alert": (20, {"GROUP_WAIT_S": "0"}),
    },
    5: {
        "a mail for each person": (20, {}),
        "a mail for each person, 16 in doubt": (20, _SIXTEEN),
    },
}
"""The scenarios by milliseconds before each reply: the divisor of the number of people, and the settings."""
_TIMEOUT_S: Final = 300.0


def main() -> int:
    """Start a broker, a mail sink and a fake user_manager, measure all scenarios, and report the rates; return 0."""
    parser = argparse.ArgumentParser(prog=f"python -m benchmarks.{NAME}", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a tenth of everything, to see whether it works")
    options, _ = parser.parse_known_args()  # `make bench` gives all benchmarks the same arguments
    people = PEOPLE // 10 if options.quick else PEOPLE
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _, trusted = server_context(folder)
        with (
            running_broker(folder / "kafka") as broker,
            running_sink(folder) as sink,
            _running_user_manager(people) as user_manager,
        ):
            cluster = BenchmarkBroker(broker.bootstrap_servers)
            _measure_and_report(cluster, folder, sink, trusted, user_manager, people)
    return 0


def _measure_and_report(
    cluster: BenchmarkBroker, folder: Path, sink: MailSink, trusted: Path, user_manager: str, people: int
) -> None:
    """Measure all scenarios, and report alerts per second in comparison with the original's shape on the same sink.

    Each scenario gets a topic with the alerts of a new night and a worker of its own. The original's shape is measured
    first, once per delay of replies.
    """
    for reply_ms, scenarios in _SCENARIOS.items():
        where = f"{reply_ms} ms before each reply" if reply_ms else "replies at once"
        target = SinkTarget(sink, "starttls", reply_ms, trusted)
        original = (f"{where}: a connection for each alert", target.send_one_by_one(60 if reply_ms else 600).per_s)
        report(NAME, original[0], original[1], "alerts/s")
        for what, (share, settings) in scenarios.items():
            cluster.delete_records(ALERTS_RAISED.name)
            user_count = people // share
            records = list(build_alert_records(user_count))
            cluster.fill(ALERTS_RAISED.name, records)
            print_progress(f"{where}: {what}: {len(records):,} alerts are in the topic")
            mails = len(records) if "GROUP_WAIT_S" in settings else user_count
            environment = {
                "KAFKA_BOOTSTRAP_SERVERS": cluster.bootstrap_servers,
                "USER_MANAGER_GRPC_TARGET": user_manager,
                "SMTP_PORT": str(sink.ports[True, reply_ms]),
                "SMTP_CA_FILE": str(trusted),
                **settings,
            }
            took = _measure_seconds(Path(tempfile.mkdtemp(dir=folder)), environment, mails)
            circumstances = {"alerts": len(records), "mails": mails, "mails_per_s": round(mails / took)}
            report(NAME, f"{where}: {what}", len(records) / took, "alerts/s", original, **circumstances)
            if share == 1:
                report(NAME, f"{where}: the time for {user_count:,} people's alerts of one night", took, "s")


def build_alert_records(people: int) -> Iterator[Record]:
    """Yield the records of one night's alerts, ALERTS_EACH for each of `people` people, person by person.

    Each call is another night, with other alert ids.
    """
    night = next(_NIGHTS)
    end = datetime(2026, 11, 1, tzinfo=UTC) + timedelta(days=night)
    cause = datetime.now(UTC)
    for person in range(people):
        user_id = _get_user_id(person)
        partition = partition_of(str(user_id), ALERTS_RAISED)
        for number in range(ALERTS_EACH):
            level = 10 + person % 7
            alert = Alert(
                alert_id=UUID(int=(night << 100) + (person << 8) + number + 1),
                interest_id=UUID(int=(person << 8) + number % 3 + 1),
                user_id=user_id,
                version=1,
                airport=_AIRPORTS[number % 3],
                direction=Direction.DEPARTURES,
                window=Window.ONE_HOUR,
                window_start=end - timedelta(hours=ALERTS_EACH - number),
                bound=Bound.HIGH,
                state=AlertState.FIRING,
                count=level + 1 + number,
                threshold=level,
                for_windows=1,
                earlier=tuple((person % 7 + hour * 5) % level for hour in range(12)),
            )
            alert = replace(alert, episode_id=alert.alert_id)
            yield Record(partition, str(user_id).encode(), encode_alert(alert, cause), number + 1)


def _get_user_id(person: int) -> UUID:
    """Return the user id of the person with this number, the same in all processes."""
    return UUID(int=(7 << 64) + person)


@contextmanager
def _running_user_manager(people: int) -> Iterator[str]:
    """Run a fake user_manager with the contacts of all people, in a process of its own; yield its gRPC target.

    The process is killed at the end of the block.
    """
    parent, child = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(
        target=_serve_user_manager, args=(child, people), daemon=True
    )
    process.start()
    try:
        yield str(parent.recv())
    finally:
        process.kill()
        process.join()


def _serve_user_manager(connection: Connection, people: int) -> None:
    """Run the fake user_manager with the contacts of all people, and send its target over the connection.

    Does not return: the parent process kills this one.
    """
    with FakeUserService().running() as service:
        for person in range(people):
            service.add(
                Contact(
                    user_id=str(_get_user_id(person)),
                    email=f"u{person}@example.net",
                    name=f"Ada {person}",
                    time_zone="America/New_York",
                    confirmed=True,
                    unsubscribe_url=f"https://towerwatch.example/unsubscribe?u={person}",
                )
            )
        connection.send(service.target)
        signal.pause()


def _measure_seconds(folder: Path, environment: dict[str, str], mails: int) -> float:
    """Run a notifier until it has sent `mails` mails, and return the seconds from the first mail to the last.

    The worker's counter is read four times per second; the time of the mails before the first reading is extrapolated.
    Exits the benchmark, with the end of the worker's log, if the worker ends or takes more than 300 s. At the end the
    worker is stopped.
    """
    web_port = free_port()
    log = folder / "notifier.log"
    username, password = LOGIN
    settings = {
        "SMTP_HOST": HOST,
        "SMTP_USERNAME": username,
        "SMTP_PASSWORD": password,
        "MAIL_FROM": "Towerwatch <alerts@example.org>",
        "PERSON_MAILS_PER_HOUR": "0",
        "WEB_PORT": str(web_port),
        "DATA_DIR": str(folder / "data"),
    }
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "notifier"],
            cwd=ROOT,
            env=os.environ | settings | environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
    try:
        began, before, deadline = 0.0, 0, time.monotonic() + _TIMEOUT_S
        while True:
            taken = _count_sent_mails(web_port)
            now = time.monotonic()
            if process.poll() is not None or now > deadline:
                raise SystemExit(f"{taken} of {mails} mails were taken:\n{log.read_text()[-8000:]}")
            if taken and not began:
                began, before = now, taken
            if taken >= mails:
                return (now - began) * mails / max(mails - before, 1)
            time.sleep(0.25)
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _count_sent_mails(web_port: int) -> int:
    """Return the number of mails that the worker has sent successfully, by its metrics; 0 while it does not answer."""
    try:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(
            f"http://{HOST}:{web_port}/metrics", timeout=5
        ) as answer:
            lines = answer.read().decode().splitlines()
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return 0
    wanted = [line for line in lines if line.startswith("emails_sent_total{") and 'status="success"' in line]
    return sum(int(float(line.rpartition(" ")[2])) for line in wanted)


if __name__ == "__main__":
    sys.exit(main())
