"""Deleting people under faults: whatever stops, dies or comes at once, in the end all of them is gone or all is there.

Real replicas, a real collector and a real database. What came out is read straight from both databases.
"""

import os
import random
import signal
import threading
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import cycle
from pathlib import Path
from typing import Any, Final
from uuid import UUID, uuid4

import httpx
import pytest
from sqlalchemy import Select, select

from chassis.db.database import Database
from collector import model as interests_model
from collector.model import InterestRow
from tests.collector.process import CollectorProcess
from tests.mariadb_fixture import DatabaseServer
from tests.ports import free_port
from tests.service_process import ServiceProcess
from tests.user_manager.process import OPERATOR_TOKEN, SIGNING_KEY, StartProcess, process_starter
from tests.waiting import eventually
from towerwatch.topics import INTERESTS_CHANGED, USERS_CHANGED
from towerwatch.users.v1.events_pb2 import UserChanged
from user_manager import model as accounts_model
from user_manager.deletion.steps import DeletionStep
from user_manager.links import LinkSigner
from user_manager.model import Deletion, User

pytestmark = [pytest.mark.faults, pytest.mark.timeout(300)]

AIRPORTS: Final = ("KJFK", "LICC", "EDDF")
BELIEVED_S: Final = 5
"""Seconds for which the collector believes a token."""

# Two minutes after the account was erased its late interests are, which follows from the minute for which a collector
# may believe a token. Here it believes it for seconds, so seconds will do.
PROGRAM: Final = """
from datetime import timedelta
from user_manager.deletion import saga as deletion
from user_manager.deletion import steps
steps.STEP_DELAYS[steps.DeletionStep.DELETE_LATE_INTERESTS] = timedelta(seconds=15)
{more}
from user_manager.__main__ import main
main()
"""
SOON_CARRIED_ON: Final = "deletion.LEASE_DURATION = timedelta(seconds=8)"

Told = Mapping["Person", Sequence[int | None]]
"""By person, the status of each answer to a DELETE; None where the replica died instead."""


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody who registered, confirmed the address, and set an interest for each airport."""

    email: str
    token: str
    user_id: UUID
    interests: frozenset[tuple[Any, ...]]
    """Their rows in the collector's database."""

    @property
    def authorization(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}"}


class World:
    """Two replicas of user_manager, one collector, and their databases as only a test sees them. There is no Kafka."""

    def __init__(
        self, folder: Path, accounts_url: str, interests_url: str, start: StartProcess, client: httpx.Client
    ) -> None:
        self.accounts, self.interests = Database(accounts_url), Database(interests_url)
        self.client = client
        self._folder = folder
        self._start = start
        self._settings = {
            "HTTP_PORT": str(free_port()),
            "GRPC_PORT": str(free_port()),
            "DATABASE_URL": interests_url,
            "AUTHENTICATION_CACHE_S": str(BELIEVED_S),
        }
        self.left, self.right = self.replica(), self.replica()
        self._settings["USER_MANAGER_GRPC_TARGET"] = self.right.grpc_target
        self.start_collector()
        eventually(lambda: self.left.is_ready() and self.right.is_ready(), "both replicas are ready")
        self.wait_for_collector()

    def replica(self) -> ServiceProcess:
        """Another one, which may not be ready yet."""
        return self._start(COLLECTOR_GRPC_TARGET=f"127.0.0.1:{self._settings['GRPC_PORT']}")

    def start_collector(self) -> None:
        self.collector = CollectorProcess(self._folder, self._settings)

    def wait_for_collector(self) -> None:
        eventually(lambda: self.collector.answers("/health/ready"), "the collector is ready")

    def close(self) -> None:
        self.collector.kill()
        self.accounts.close()
        self.interests.close()

    def set_interest(self, token: str, airport: str) -> int:
        wish = {"airport_icao": airport, "direction": "departures", "window": "1h", "high_value": 5}
        return self.client.post(
            f"{self.collector.base_url}/interests", json=wish, headers={"Authorization": f"Bearer {token}"}
        ).status_code

    def person(self) -> Person:
        email = f"{uuid4().hex}@tower.test"
        registered = self.client.post(f"{self.right.base_url}/users", json={"email": email, "name": "Ann"})
        assert registered.status_code == 201, registered.text
        user_id = UUID(registered.json()["user"]["user_id"])
        confirmed = self.client.post(LinkSigner(SIGNING_KEY, self.right.base_url).build_confirmation_url(user_id))
        assert confirmed.status_code == 200, confirmed.text
        token = registered.json()["token"]
        for airport in AIRPORTS:
            assert self.set_interest(token, airport) == 201
        return Person(email, token, user_id, frozenset(self.interests_of(user_id)))

    def people(self, count: int) -> list[Person]:
        with ThreadPoolExecutor(8) as threads:
            return list(threads.map(lambda _: self.person(), range(count)))

    def delete(self, replica: ServiceProcess, person: Person, token: str | None = None) -> httpx.Response | None:
        """The answer to a DELETE, or None when the replica died meanwhile."""
        headers = {"Authorization": f"Bearer {token or person.token}"}
        try:
            return self.client.delete(f"{replica.base_url}/users/{person.email}", headers=headers)
        except httpx.TransportError:
            return None

    def delete_again(self, replica: ServiceProcess, person: Person) -> None:
        """Delete until it is done. It may be refused for a while, when the collector is not found again yet."""

        def done() -> bool:
            answer = self.delete(replica, person)
            assert answer is not None
            assert answer.status_code in (204, 503), answer.text
            return answer.status_code == 204

        eventually(done, "the deletion")

    def is_let_in(self, person: Person) -> bool:
        answer = self.client.get(f"{self.right.base_url}/users/{person.email}", headers=person.authorization)
        assert answer.status_code in (200, 401), answer.text
        return answer.status_code == 200

    def step_of(self, person: Person) -> str | None:
        """Which step of the person's deletion comes next; None when there is no deletion."""
        with self.accounts.transaction() as session:
            return session.scalar(select(Deletion.step).where(Deletion.user_id == person.user_id))

    def interests_of(self, user_id: UUID) -> list[tuple[Any, ...]]:
        with self.interests.transaction() as session:
            rows = session.execute(select(InterestRow.__table__).where(InterestRow.user_id == user_id)).all()
        return [tuple(row) for row in rows]

    def has_begun(self, person: Person, answer: Future[httpx.Response | None]) -> bool:
        return self.step_of(person) is not None or answer.done()

    def pivot_is_over(self, person: Person, answer: Future[httpx.Response | None]) -> bool:
        """Whether the collector has deleted the interests, or the replica has given up."""
        return self.interests_of(person.user_id) == [] or answer.done()

    def calls_that_failed(self) -> float:
        """How many calls of DeleteInterests the collector has ended with an error."""
        answer = self.collector.get("/metrics")
        assert answer is not None
        lines = (line for line in answer.text.splitlines() if line.startswith("grpc_server_handled_total{"))
        failed = (line for line in lines if "/DeleteInterests" in line and 'code="OK"' not in line)
        return sum(float(line.rpartition(" ")[2]) for line in failed)

    def wait_until_settled(self, people: Sequence[Person], *waits_for: DeletionStep) -> None:
        """Wait until no deletion of these people waits for one of these steps, or for one that makes them go."""
        query = select(Deletion.step).where(Deletion.user_id.in_([person.user_id for person in people]))

        def settled() -> bool:
            with self.accounts.transaction() as session:
                steps = set(session.scalars(query))
            return steps.isdisjoint({DeletionStep.DELETE_INTERESTS, DeletionStep.ERASE_ACCOUNT, *waits_for})

        eventually(settled, "the deletions", within_s=120)

    def assert_exact(self, told: Told, *, answers_lost: bool = False) -> None:
        """What the two databases have of these people is what these people were told.

        `answers_lost`: the collector may have died after it deleted interests and before it could say so.
        """
        with self.accounts.transaction() as session:
            existing = set(session.scalars(select(User.user_id)))
            rows = accounts_model.OUTBOX.rows
            values = session.scalars(select(rows.c.value).where(rows.c.topic == USERS_CHANGED.name)).all()
        events = [UserChanged.FromString(value) for value in values]
        announced = Counter(UUID(each.user_id) for each in events if each.WhichOneof("change") == "deleted")
        for person, statuses in told.items():
            has = set(self.interests_of(person.user_id))
            gone = person.user_id not in existing
            if 204 in statuses or 202 in statuses:
                assert gone
            elif None not in statuses:
                assert not gone
            assert announced[person.user_id] == int(gone)
            assert self.is_let_in(person) is not gone
            if gone:
                assert has == set()
            elif answers_lost:
                assert has in (set(), person.interests)
            else:
                assert has == person.interests
        self._assert_interests_are_as_announced()

    def _assert_interests_are_as_announced(self) -> None:
        """What the log says last of each interest is a tombstone, or the interest is there."""
        rows = interests_model.OUTBOX.rows
        with self.interests.transaction() as session:
            events = session.execute(select(rows).where(rows.c.topic == INTERESTS_CHANGED.name).order_by(rows.c.id))
            last = {row.key.decode(): row.value for row in events}
            found = session.execute(select(InterestRow.airport, InterestRow.interest_id)).all()
        assert {key for key, value in last.items() if value is not None} == {f"{row[0]}/{row[1]}" for row in found}


@contextmanager
def running_world(folder: Path, request: pytest.FixtureRequest, database: str, more: str = "") -> Iterator[World]:
    with ExitStack() as stack:
        if database == "sqlite":
            urls = [f"sqlite:///{folder}/{name}.db" for name in ("accounts", "interests")]
        else:
            server: DatabaseServer = request.getfixturevalue("mariadb_server")
            urls = [stack.enter_context(server.database()) for _ in range(2)]
        program = ("-c", PROGRAM.format(more=more))
        start = stack.enter_context(
            process_starter(folder, program, DATABASE_URL=urls[0], REGISTRATION_LIMIT="100000/minute")
        )
        client = stack.enter_context(httpx.Client(timeout=60, limits=httpx.Limits(max_connections=200)))
        world = World(folder, urls[0], urls[1], start, client)
        stack.callback(world.close)
        yield world


@pytest.fixture(scope="module")
def lasting_world(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with running_world(tmp_path_factory.mktemp("deletion"), request, "mariadb") as world:
        yield world


@pytest.fixture
def world(lasting_world: World) -> World:
    """On MariaDB; used by several tests, none of which kills a replica of user_manager."""
    if lasting_world.collector.popen.poll() is not None:
        lasting_world.start_collector()
    lasting_world.wait_for_collector()
    return lasting_world


@contextmanager
def paused(process: CollectorProcess) -> Iterator[None]:
    """It stands still, as on a machine that swaps or migrates."""
    os.kill(process.popen.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(process.popen.pid, signal.SIGCONT)


@contextmanager
def locked(database: Database, rows: Select[Any]) -> Iterator[None]:
    """Somebody else's transaction holds these rows."""
    with database.transaction() as session:
        session.execute(rows.with_for_update()).all()
        yield


def status_of(answer: httpx.Response | None) -> int | None:
    return None if answer is None else answer.status_code


def assert_says_come_back(answer: httpx.Response | None) -> None:
    assert answer is not None
    assert answer.status_code == 503, answer.text
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert int(answer.headers["Retry-After"]) > 0


@pytest.mark.mariadb
def test_a_collector_that_is_not_there(world: World) -> None:
    """Everybody is told to come back, and nothing is touched; once it is there the same request succeeds."""
    people = world.people(6)
    world.collector.kill()
    with ThreadPoolExecutor(len(people)) as threads:
        answers = list(threads.map(world.delete, cycle((world.left, world.right)), people))
    for answer in answers:
        assert_says_come_back(answer)
    world.assert_exact({person: [503] for person in people})
    assert {world.step_of(person) for person in people} == {None}
    world.start_collector()
    world.wait_for_collector()
    for person, replica in zip(people, cycle((world.left, world.right)), strict=False):
        world.delete_again(replica, person)
    world.assert_exact({person: [503, 204] for person in people})


@pytest.mark.mariadb
def test_a_collector_that_answers_after_the_deadline(world: World) -> None:
    """It wakes up with calls that nobody waits for any more: those change nothing, as the contract has it."""
    people, others = world.people(6), world.people(2)
    with paused(world.collector), ThreadPoolExecutor(len(people)) as threads:
        answers = list(threads.map(world.delete, cycle((world.left, world.right)), people))
    for answer in answers:
        assert_says_come_back(answer)
    # On the same two connections, so behind the calls that came too late.
    for person, replica in zip(others, (world.left, world.right), strict=True):
        world.delete_again(replica, person)
    world.assert_exact({person: [503] for person in people})
    for person in people:
        world.delete_again(world.left, person)
    world.assert_exact({person: [503, 204] for person in people} | {person: [204] for person in others})


@pytest.mark.mariadb
def test_a_collector_that_is_slow_past_the_deadline(world: World) -> None:
    """Somebody else's transaction holds the interests: when it has them, nobody waits for the answer any more."""
    (person,) = world.people(1)
    before = world.calls_that_failed()
    with locked(world.interests, select(InterestRow).where(InterestRow.user_id == person.user_id)):
        assert_says_come_back(world.delete(world.left, person))
    eventually(lambda: world.calls_that_failed() > before, "the end of the call")
    world.assert_exact({person: [503]})
    world.delete_again(world.left, person)
    world.assert_exact({person: [503, 204]})


@pytest.mark.mariadb
@pytest.mark.parametrize("seed", [1, 2])
def test_a_collector_that_is_killed(world: World, seed: int) -> None:
    """In the middle of many deletions: each was done or was not, and asking again does those that were not."""
    people = world.people(16)
    killed_after = random.Random(seed).randrange(1, 12)
    print(f"seed {seed}: killed after {killed_after} answers")
    told: dict[Person, list[int | None]] = {}
    with ThreadPoolExecutor(len(people)) as threads:
        sent = {
            threads.submit(world.delete, replica, person): person
            for person, replica in zip(people, cycle((world.left, world.right)), strict=False)
        }
        for number, answered in enumerate(as_completed(sent), start=1):
            told[sent[answered]] = [status_of(answered.result())]
            if number == killed_after:
                world.collector.kill()
    assert Counter(status for statuses in told.values() for status in statuses).keys() <= {204, 503}
    world.assert_exact(told, answers_lost=True)
    world.start_collector()
    world.wait_for_collector()
    for person in (person for person, statuses in told.items() if statuses == [503]):
        world.delete_again(world.left, person)
        told[person].append(204)
    world.assert_exact(told)


@pytest.mark.mariadb
def test_an_account_that_cannot_be_erased_yet(world: World) -> None:
    """Somebody else's transaction holds its row: 202 and where to look; nobody is let in; it completes by itself."""
    (person,) = world.people(1)
    with locked(world.accounts, select(User).where(User.user_id == person.user_id)):
        answer = world.delete(world.left, person)
        assert answer is not None
        assert answer.status_code == 202, answer.text
        location = f"{world.right.base_url}{answer.headers['Location']}"
        assert world.client.get(location).json()["status"] == "in_progress"
        assert not world.is_let_in(person)
    eventually(lambda: world.client.get(location).json()["status"] == "completed", "the deletion")
    world.assert_exact({person: [202]})


@pytest.mark.mariadb
def test_many_are_deleted_twice_at_once_while_they_set_interests(world: World) -> None:
    """By both replicas, with tokens that the collector still believes: what slips in is found, and all is told once."""
    people = world.people(16)
    together = threading.Barrier(3 * len(people))
    answered = {person: threading.Event() for person in people}
    told: dict[Person, list[int | None]] = {person: [] for person in people}

    def delete(replica: ServiceProcess, person: Person, token: str) -> None:
        together.wait()
        while (status := status_of(world.delete(replica, person, token))) == 503:
            pass  # on a slow machine the deadline is short
        told[person].append(status)
        answered[person].set()

    def slip_in(person: Person) -> int:
        """How many interests were set after the account was gone."""
        together.wait()
        late = 0
        for airport in cycle(("EGLL", "LFPG", *AIRPORTS)):
            gone = answered[person].wait(timeout=0.1)  # sets an airport ten times a second, and faster once it is gone
            status = world.set_interest(person.token, airport)
            assert status in (200, 201, 401, 503)
            late += gone and status == 201
            if status == 401 or late == len(AIRPORTS):
                return late
        raise AssertionError

    with ThreadPoolExecutor(3 * len(people)) as threads:
        setters = [threads.submit(slip_in, person) for person in people]
        deleters = [threads.submit(delete, world.left, person, person.token) for person in people]
        deleters += [threads.submit(delete, world.right, person, OPERATOR_TOKEN) for person in people]
        for each in deleters:
            each.result()
        assert sum(each.result() for each in setters) > 0, "no interest slipped in; the test tests nothing"
    for statuses in told.values():
        assert 204 in statuses
        assert set(statuses) <= {202, 204, 401, 404}, statuses  # whoever came second may find nobody
    world.wait_until_settled(people, DeletionStep.DELETE_LATE_INTERESTS)
    world.assert_exact(told)


@pytest.mark.parametrize("seed", [1])
@pytest.mark.parametrize("database", ["sqlite", pytest.param("mariadb", marks=pytest.mark.mariadb)])
def test_a_replica_that_is_killed(request: pytest.FixtureRequest, tmp_path: Path, database: str, seed: int) -> None:
    """In the middle of many deletions: the other one carries on with all that were begun, and with no other."""
    killed_after = random.Random(seed).randrange(1, 12)
    print(f"seed {seed}: killed after {killed_after} answers")
    with running_world(tmp_path, request, database, SOON_CARRIED_ON) as world:
        people = world.people(16)
        with ThreadPoolExecutor(len(people)) as threads:
            sent = {threads.submit(world.delete, world.left, person): person for person in people}
            for number, _ in enumerate(as_completed(sent), start=1):
                if number == killed_after:
                    world.left.kill()
        told = {person: [status_of(answer.result())] for answer, person in sent.items()}
        assert Counter(status for statuses in told.values() for status in statuses).keys() <= {204, 503, None}
        world.wait_until_settled(people)
        world.assert_exact(told)
        for person in people:
            told[person].append(status_of(world.delete(world.right, person)))
            assert told[person][1] in ((401,) if told[person][0] == 204 else (204, 401))
        world.assert_exact({person: [204] for person in people})


@pytest.mark.mariadb
def test_a_replica_that_is_killed_at_each_point(request: pytest.FixtureRequest, tmp_path: Path) -> None:
    """While it asks the collector, before it could record that this succeeded, before it could erase the account."""
    with running_world(tmp_path, request, "mariadb", SOON_CARRIED_ON) as world, ThreadPoolExecutor(1) as threads:
        people = world.people(3)
        asking, recording, erasing = people
        doomed = [world.replica() for _ in people]
        eventually(lambda: all(each.is_ready() for each in doomed), "the replicas are ready")

        with paused(world.collector):
            answer = threads.submit(world.delete, doomed[0], asking)
            eventually(lambda: world.step_of(asking) is not None, "it has begun")
            doomed[0].kill()
        assert answer.result() is None

        held = ExitStack()
        while world.interests_of(recording.user_id):  # on a slow machine the deadline may pass first: then once more
            held.close()
            with paused(world.collector):
                answer = threads.submit(world.delete, doomed[1], recording)
                eventually(partial(world.has_begun, recording, answer), "it has begun")
                held.enter_context(
                    locked(world.accounts, select(Deletion).where(Deletion.user_id == recording.user_id))
                )
            eventually(partial(world.pivot_is_over, recording, answer), "the collector goes on")
        doomed[1].kill()
        held.close()

        with locked(world.accounts, select(User).where(User.user_id == erasing.user_id)):
            answer = threads.submit(world.delete, doomed[2], erasing)
            eventually(lambda: world.step_of(erasing) == DeletionStep.ERASE_ACCOUNT, "the collector has answered")
            doomed[2].kill()

        world.wait_until_settled(people)
        world.assert_exact({person: [202] for person in people})
