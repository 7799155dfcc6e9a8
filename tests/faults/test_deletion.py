"""Deletions under faults: whatever stops, crashes or runs concurrently, an account ends deleted or kept as a whole.

Real replicas, a real collector and a real database. The tests read the results directly from both databases.
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

pytestmark = pytest.mark.faults

AIRPORTS: Final = ("KJFK", "LICC", "EDDF")
TOKEN_CACHE_S: Final = 5
"""Seconds for which the collector caches that a token is valid."""

# In production late interests are deleted two minutes after the account, because a collector may cache a token for a
# minute. Here it caches a token for seconds, so seconds suffice.
PROGRAM: Final = """
from datetime import timedelta
from user_manager.deletion import saga as deletion
from user_manager.deletion import steps
steps.STEP_DELAYS[steps.DeletionStep.DELETE_LATE_INTERESTS] = timedelta(seconds=15)
{more}
from user_manager.__main__ import main
main()
"""
SHORT_LEASE: Final = "deletion.LEASE_DURATION = timedelta(seconds=8)"

DeleteStatuses = Mapping["Person", Sequence[int | None]]
"""By person, the status of each response to a DELETE; None: the replica was killed before it responded."""


@dataclass(frozen=True, slots=True)
class Person:
    """A user who has registered, confirmed the address, and set an interest for each airport."""

    email: str
    token: str
    user_id: UUID
    interests: frozenset[tuple[Any, ...]]
    """The person's rows in the collector's database."""

    @property
    def authorization(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}"}


class Deployment:
    """Two running replicas of user_manager, one collector, and direct access to their databases. There is no Kafka."""

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
            "AUTHENTICATION_CACHE_S": str(TOKEN_CACHE_S),
            "WRITES_PER_MINUTE": "100000",  # the people write all the time, until they are deleted
        }
        self.left, self.right = self.start_replica(), self.start_replica()
        self._settings["USER_MANAGER_GRPC_TARGET"] = self.right.grpc_target
        self.start_collector()
        eventually(lambda: self.left.is_ready() and self.right.is_ready(), "both replicas are ready")
        self.wait_for_collector()

    def start_replica(self) -> ServiceProcess:
        """Start another replica of user_manager; it may not be ready when this returns."""
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
        """Request an interest in an airport; return the status of the response."""
        interest = {"airport_icao": airport, "direction": "departures", "window": "1h", "high_value": 5}
        return self.client.post(
            f"{self.collector.base_url}/interests", json=interest, headers={"Authorization": f"Bearer {token}"}
        ).status_code

    def register_person(self) -> Person:
        """Register a person, confirm the address, and set the interests."""
        email = f"{uuid4().hex}@tower.test"
        registered = self.client.post(f"{self.right.base_url}/users", json={"email": email, "name": "Ann"})
        assert registered.status_code == 201, registered.text
        user_id = UUID(registered.json()["user"]["user_id"])
        link = LinkSigner(SIGNING_KEY, self.right.base_url).build_confirmation_url(user_id)
        confirmed = self.client.post(link, headers={"Authorization": f"Bearer {registered.json()['token']}"})
        assert confirmed.status_code == 200, confirmed.text
        token = registered.json()["token"]
        for airport in AIRPORTS:
            assert self.set_interest(token, airport) == 201
        return Person(email, token, user_id, frozenset(self.load_interests(user_id)))

    def register_people(self, count: int) -> list[Person]:
        with ThreadPoolExecutor(8) as threads:
            return list(threads.map(lambda _: self.register_person(), range(count)))

    def delete(self, replica: ServiceProcess, person: Person, token: str | None = None) -> httpx.Response | None:
        """Send a DELETE; return the response, or None if the replica was killed meanwhile."""
        headers = {"Authorization": f"Bearer {token or person.token}"}
        try:
            return self.client.delete(f"{replica.base_url}/users/{person.email}", headers=headers)
        except httpx.TransportError:
            return None

    def delete_again(self, replica: ServiceProcess, person: Person) -> None:
        """Repeat the DELETE until it succeeds. It gets 503 while the replica has not reconnected to the collector."""

        def done() -> bool:
            answer = self.delete(replica, person)
            assert answer is not None
            assert answer.status_code in (204, 503), answer.text
            return answer.status_code == 204

        eventually(done, "the deletion")

    def has_access(self, person: Person) -> bool:
        """Return True if the person's token gives access to the account, False if the token is unknown."""
        answer = self.client.get(f"{self.right.base_url}/users/{person.email}", headers=person.authorization)
        assert answer.status_code in (200, 401), answer.text
        return answer.status_code == 200

    def load_next_step(self, person: Person) -> str | None:
        """Return the next step of the person's deletion; None if no deletion is recorded."""
        with self.accounts.transaction() as session:
            return session.scalar(select(Deletion.step).where(Deletion.user_id == person.user_id))

    def load_interests(self, user_id: UUID) -> list[tuple[Any, ...]]:
        """Return the user's rows in the collector's database."""
        with self.interests.transaction() as session:
            rows = session.execute(select(InterestRow.__table__).where(InterestRow.user_id == user_id)).all()
        return [tuple(row) for row in rows]

    def has_begun(self, person: Person, answer: Future[httpx.Response | None]) -> bool:
        """Return True if the deletion is recorded or its request is answered."""
        return self.load_next_step(person) is not None or answer.done()

    def has_passed_pivot(self, person: Person, answer: Future[httpx.Response | None]) -> bool:
        """Return True if the collector has deleted the interests or the request is answered."""
        return self.load_interests(person.user_id) == [] or answer.done()

    def count_failed_calls(self) -> float:
        """Return the number of calls of DeleteInterests that the collector has ended with an error."""
        answer = self.collector.get("/metrics")
        assert answer is not None
        lines = (line for line in answer.text.splitlines() if line.startswith("grpc_server_handled_total{"))
        failed = (line for line in lines if "/DeleteInterests" in line and 'code="OK"' not in line)
        return sum(float(line.rpartition(" ")[2]) for line in failed)

    def wait_until_erased(self, people: Sequence[Person], *steps: DeletionStep) -> None:
        """Wait until all recorded deletions of these people have passed the account's erasure and the given steps."""
        query = select(Deletion.step).where(Deletion.user_id.in_([person.user_id for person in people]))

        def are_passed() -> bool:
            with self.accounts.transaction() as session:
                next_steps = set(session.scalars(query))
            return next_steps.isdisjoint({DeletionStep.DELETE_INTERESTS, DeletionStep.ERASE_ACCOUNT, *steps})

        eventually(are_passed, "the deletions", within_s=120)

    def assert_databases_match(self, responses: DeleteStatuses, *, answers_lost: bool = False) -> None:
        """Assert that both databases match the responses that these people got.

        `answers_lost`: the collector may have been killed after it deleted interests and before it responded.
        """
        with self.accounts.transaction() as session:
            existing = set(session.scalars(select(User.user_id)))
            rows = accounts_model.OUTBOX.rows
            values = session.scalars(select(rows.c.value).where(rows.c.topic == USERS_CHANGED.name)).all()
        events = [UserChanged.FromString(value) for value in values]
        announced = Counter(UUID(each.user_id) for each in events if each.WhichOneof("change") == "deleted")
        for person, statuses in responses.items():
            has = set(self.load_interests(person.user_id))
            gone = person.user_id not in existing
            if 204 in statuses or 202 in statuses:
                assert gone
            elif None not in statuses:
                assert not gone
            assert announced[person.user_id] == int(gone)
            assert self.has_access(person) is not gone
            if gone:
                assert has == set()
            elif answers_lost:
                assert has in (set(), person.interests)
            else:
                assert has == person.interests
        self._assert_interests_match_events()

    def _assert_interests_match_events(self) -> None:
        """Assert that the last event of each interest is a tombstone exactly if the interest does not exist."""
        rows = interests_model.OUTBOX.rows
        with self.interests.transaction() as session:
            events = session.execute(select(rows).where(rows.c.topic == INTERESTS_CHANGED.name).order_by(rows.c.id))
            last = {row.key.decode(): row.value for row in events}
            found = session.execute(select(InterestRow.airport, InterestRow.interest_id)).all()
        assert {key for key, value in last.items() if value is not None} == {f"{row[0]}/{row[1]}" for row in found}


@contextmanager
def running_deployment(
    folder: Path, request: pytest.FixtureRequest, database: str, more: str = ""
) -> Iterator[Deployment]:
    """Run a deployment on `database` ("sqlite" or "mariadb"); `more` is Python that the replicas execute first."""
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
        client = stack.enter_context(httpx.Client(verify=False, timeout=60, limits=httpx.Limits(max_connections=200)))
        deployment = Deployment(folder, urls[0], urls[1], start, client)
        stack.callback(deployment.close)
        yield deployment


@pytest.fixture(scope="module")
def shared_deployment(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    with running_deployment(tmp_path_factory.mktemp("deletion"), request, "mariadb") as deployment:
        yield deployment


@pytest.fixture
def deployment(shared_deployment: Deployment) -> Deployment:
    """Return the deployment on MariaDB that several tests share; none of them kills a replica of user_manager."""
    if shared_deployment.collector.popen.poll() is not None:
        shared_deployment.start_collector()
    shared_deployment.wait_for_collector()
    return shared_deployment


@contextmanager
def paused(process: CollectorProcess) -> Iterator[None]:
    """Stop the process with SIGSTOP during the block, like a machine that swaps or migrates."""
    os.kill(process.popen.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(process.popen.pid, signal.SIGCONT)


@contextmanager
def locked(database: Database, rows: Select[Any]) -> Iterator[None]:
    """Lock these rows by another transaction during the block."""
    with database.transaction() as session:
        session.execute(rows.with_for_update()).all()
        yield


def status_of(answer: httpx.Response | None) -> int | None:
    return None if answer is None else answer.status_code


def assert_unavailable(answer: httpx.Response | None) -> None:
    """Assert that the response is a 503 problem with a Retry-After header."""
    assert answer is not None
    assert answer.status_code == 503, answer.text
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert int(answer.headers["Retry-After"]) > 0


@pytest.mark.mariadb
def test_deletions_while_the_collector_is_down(deployment: Deployment) -> None:
    """All requests get 503 and nothing changes; once the collector runs again the same requests succeed."""
    people = deployment.register_people(6)
    deployment.collector.kill()
    with ThreadPoolExecutor(len(people)) as threads:
        answers = list(threads.map(deployment.delete, cycle((deployment.left, deployment.right)), people))
    for answer in answers:
        assert_unavailable(answer)
    deployment.assert_databases_match({person: [503] for person in people})
    assert {deployment.load_next_step(person) for person in people} == {None}
    deployment.start_collector()
    deployment.wait_for_collector()
    for person, replica in zip(people, cycle((deployment.left, deployment.right)), strict=False):
        deployment.delete_again(replica, person)
    deployment.assert_databases_match({person: [503, 204] for person in people})


@pytest.mark.mariadb
def test_a_collector_that_answers_after_the_deadline(deployment: Deployment) -> None:
    """A resumed collector gets calls whose deadline has passed: by the contract those change nothing."""
    people, others = deployment.register_people(6), deployment.register_people(2)
    with paused(deployment.collector), ThreadPoolExecutor(len(people)) as threads:
        answers = list(threads.map(deployment.delete, cycle((deployment.left, deployment.right)), people))
    for answer in answers:
        assert_unavailable(answer)
    # On the same two connections, so behind the calls that came too late.
    for person, replica in zip(others, (deployment.left, deployment.right), strict=True):
        deployment.delete_again(replica, person)
    deployment.assert_databases_match({person: [503] for person in people})
    for person in people:
        deployment.delete_again(deployment.left, person)
    deployment.assert_databases_match({person: [503, 204] for person in people} | {person: [204] for person in others})


@pytest.mark.mariadb
def test_a_collector_that_is_slow_past_the_deadline(deployment: Deployment) -> None:
    """Another transaction locks the interests until the deadline has passed: the late call changes nothing."""
    (person,) = deployment.register_people(1)
    before = deployment.count_failed_calls()
    with locked(deployment.interests, select(InterestRow).where(InterestRow.user_id == person.user_id)):
        assert_unavailable(deployment.delete(deployment.left, person))
    eventually(lambda: deployment.count_failed_calls() > before, "the end of the call")
    deployment.assert_databases_match({person: [503]})
    deployment.delete_again(deployment.left, person)
    deployment.assert_databases_match({person: [503, 204]})


@pytest.mark.mariadb
@pytest.mark.parametrize("seed", [1, 2])
def test_a_collector_that_is_killed(deployment: Deployment, seed: int) -> None:
    """A kill in the middle of many deletions leaves each done or not done, and repeated requests do the rest."""
    people = deployment.register_people(16)
    killed_after = random.Random(seed).randrange(1, 12)
    print(f"seed {seed}: killed after {killed_after} answers")
    responses: dict[Person, list[int | None]] = {}
    with ThreadPoolExecutor(len(people)) as threads:
        sent = {
            threads.submit(deployment.delete, replica, person): person
            for person, replica in zip(people, cycle((deployment.left, deployment.right)), strict=False)
        }
        for number, answered in enumerate(as_completed(sent), start=1):
            responses[sent[answered]] = [status_of(answered.result())]
            if number == killed_after:
                deployment.collector.kill()
    assert Counter(status for statuses in responses.values() for status in statuses).keys() <= {204, 503}
    deployment.assert_databases_match(responses, answers_lost=True)
    deployment.start_collector()
    deployment.wait_for_collector()
    for person in (person for person, statuses in responses.items() if statuses == [503]):
        deployment.delete_again(deployment.left, person)
        responses[person].append(204)
    deployment.assert_databases_match(responses)


@pytest.mark.mariadb
def test_an_account_that_cannot_be_erased_yet(deployment: Deployment) -> None:
    """While another transaction locks the row: 202, no access to the account, and the deletion completes later."""
    (person,) = deployment.register_people(1)
    with locked(deployment.accounts, select(User).where(User.user_id == person.user_id)):
        answer = deployment.delete(deployment.left, person)
        assert answer is not None
        assert answer.status_code == 202, answer.text
        location = f"{deployment.right.base_url}{answer.headers['Location']}"
        assert deployment.client.get(location).json()["status"] == "in_progress"
        assert not deployment.has_access(person)
    eventually(lambda: deployment.client.get(location).json()["status"] == "completed", "the deletion")
    deployment.assert_databases_match({person: [202]})


@pytest.mark.mariadb
def test_many_are_deleted_twice_at_once_while_they_set_interests(deployment: Deployment) -> None:
    """Both replicas delete while the collector still accepts the tokens: no interest and no second event remains."""
    people = deployment.register_people(16)
    together = threading.Barrier(3 * len(people))
    answered = {person: threading.Event() for person in people}
    responses: dict[Person, list[int | None]] = {person: [] for person in people}

    def delete(replica: ServiceProcess, person: Person, token: str) -> None:
        together.wait()
        while (status := status_of(deployment.delete(replica, person, token))) == 503:
            pass  # on a slow machine the deadline is short
        responses[person].append(status)
        answered[person].set()

    def set_late_interests(person: Person) -> int:
        """Set interests until the token is rejected; return how many were set after the account was deleted."""
        together.wait()
        late = 0
        for airport in cycle(("EGLL", "LFPG", *AIRPORTS)):
            gone = answered[person].wait(timeout=0.1)  # sets an airport ten times a second, and faster once it is gone
            status = deployment.set_interest(person.token, airport)
            assert status in (200, 201, 401, 503)
            late += gone and status == 201
            if status == 401 or late == len(AIRPORTS):
                return late
        raise AssertionError

    with ThreadPoolExecutor(3 * len(people)) as threads:
        setters = [threads.submit(set_late_interests, person) for person in people]
        deleters = [threads.submit(delete, deployment.left, person, person.token) for person in people]
        deleters += [threads.submit(delete, deployment.right, person, OPERATOR_TOKEN) for person in people]
        for each in deleters:
            each.result()
        assert sum(each.result() for each in setters) > 0, "no interest was set late; the test tests nothing"
    for statuses in responses.values():
        assert 204 in statuses
        assert set(statuses) <= {202, 204, 401, 404}, statuses  # the second request may find no account
    deployment.wait_until_erased(people, DeletionStep.DELETE_LATE_INTERESTS)
    deployment.assert_databases_match(responses)


@pytest.mark.parametrize("seed", [1])
@pytest.mark.parametrize("database", ["sqlite", pytest.param("mariadb", marks=pytest.mark.mariadb)])
def test_a_replica_that_is_killed(request: pytest.FixtureRequest, tmp_path: Path, database: str, seed: int) -> None:
    """The other replica completes all deletions that the killed one has recorded, and no others."""
    killed_after = random.Random(seed).randrange(1, 12)
    print(f"seed {seed}: killed after {killed_after} answers")
    with running_deployment(tmp_path, request, database, SHORT_LEASE) as deployment:
        people = deployment.register_people(16)
        with ThreadPoolExecutor(len(people)) as threads:
            sent = {threads.submit(deployment.delete, deployment.left, person): person for person in people}
            for number, _ in enumerate(as_completed(sent), start=1):
                if number == killed_after:
                    deployment.left.kill()
        responses = {person: [status_of(answer.result())] for answer, person in sent.items()}
        assert Counter(status for statuses in responses.values() for status in statuses).keys() <= {204, 503, None}
        deployment.wait_until_erased(people)
        deployment.assert_databases_match(responses)
        for person in people:
            responses[person].append(status_of(deployment.delete(deployment.right, person)))
            assert responses[person][1] in ((401,) if responses[person][0] == 204 else (204, 401))
        deployment.assert_databases_match({person: [204] for person in people})


@pytest.mark.mariadb
def test_a_replica_that_is_killed_at_each_point(request: pytest.FixtureRequest, tmp_path: Path) -> None:
    """A deletion completes after a kill during the call, before the pivot is recorded, or before the erasure."""
    with running_deployment(tmp_path, request, "mariadb", SHORT_LEASE) as deployment, ThreadPoolExecutor(1) as threads:
        people = deployment.register_people(3)
        asking, recording, erasing = people
        doomed = [deployment.start_replica() for _ in people]
        eventually(lambda: all(each.is_ready() for each in doomed), "the replicas are ready")

        with paused(deployment.collector):
            answer = threads.submit(deployment.delete, doomed[0], asking)
            eventually(lambda: deployment.load_next_step(asking) is not None, "the deletion has begun")
            doomed[0].kill()
        assert answer.result() is None

        held = ExitStack()
        while deployment.load_interests(
            recording.user_id
        ):  # on a slow machine the deadline may pass first: then once more
            held.close()
            with paused(deployment.collector):
                answer = threads.submit(deployment.delete, doomed[1], recording)
                eventually(partial(deployment.has_begun, recording, answer), "the deletion has begun")
                held.enter_context(
                    locked(deployment.accounts, select(Deletion).where(Deletion.user_id == recording.user_id))
                )
            eventually(partial(deployment.has_passed_pivot, recording, answer), "the collector goes on")
        doomed[1].kill()
        held.close()

        with locked(deployment.accounts, select(User).where(User.user_id == erasing.user_id)):
            answer = threads.submit(deployment.delete, doomed[2], erasing)
            eventually(
                lambda: deployment.load_next_step(erasing) == DeletionStep.ERASE_ACCOUNT, "the collector has answered"
            )
            doomed[2].kill()

        deployment.wait_until_erased(people)
        deployment.assert_databases_match({person: [202] for person in people})
