"""Two real replicas on one real database: concurrent requests to both behave like requests to one service."""

import json
import random
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID, uuid4

import httpx
import pytest
from sqlalchemy import event, select

from chassis.db.database import Database
from tests import plain_http
from tests.mariadb_fixture import DatabaseServer, MariaDbProcess, require_installed
from tests.service_process import ServiceProcess
from tests.user_manager.conftest import Service
from tests.user_manager.process import SIGNING_KEY, StartProcess, process_starter
from tests.waiting import eventually
from towerwatch.users.v1.events_pb2 import UserChanged
from user_manager.links import LinkSigner
from user_manager.model import OUTBOX, SCHEMA, IdempotencyRecord, MailRequest, User
from user_manager.registration import Registration

CONCURRENT = 50
"""Number of concurrent requests."""


@dataclass(frozen=True, slots=True)
class RegistrationRequest:
    """A POST of a registration, which can be sent to any replica."""

    email: str
    name: str = "Ann"
    key: UUID | None = None

    def send(self, client: httpx.Client, replica: ServiceProcess) -> httpx.Response:
        """Send the request to a replica and return the response."""
        headers = {} if self.key is None else {"Idempotency-Key": f'"{self.key}"'}
        return client.post(f"{replica.base_url}/users", json={"email": self.email, "name": self.name}, headers=headers)


@dataclass(frozen=True, slots=True)
class ReplicaPair:
    """Two running replicas, and direct access to their database."""

    left: ServiceProcess
    right: ServiceProcess
    start: StartProcess
    database: Database

    def send_concurrently(self, posts: Sequence[RegistrationRequest]) -> list[httpx.Response]:
        """Send all requests at the same instant, alternating between the replicas; return the responses in order."""
        together = threading.Barrier(len(posts))

        def send_one(number: int) -> httpx.Response:
            together.wait()
            return posts[number].send(client, (self.left, self.right)[number % 2])

        with build_client(posts) as client, ThreadPoolExecutor(len(posts)) as threads:
            return list(threads.map(send_one, range(len(posts))))

    def find_user_ids(self, *emails: str) -> list[UUID]:
        """Return the ids of all users with one of these addresses."""
        with self.database.transaction() as session:
            return list(session.scalars(select(User.user_id).where(User.address_key.in_(emails))))

    def count_stored_answers(self, user_ids: Sequence[UUID]) -> int:
        """Return the number of stored answers that created these users."""
        with self.database.transaction() as session:
            records = session.scalars(select(IdempotencyRecord).where(IdempotencyRecord.user_id.in_(user_ids)))
            return len(records.all())

    def count_events(self, user_ids: Sequence[UUID]) -> int:
        """Return the number of these users' events in the outbox; without Kafka all events stay there."""
        keys = [str(user_id).encode() for user_id in user_ids]
        with self.database.transaction() as session:
            return len(session.execute(select(OUTBOX.rows.c.id).where(OUTBOX.rows.c.key.in_(keys))).all())

    def count_kinds(self, user_ids: Sequence[UUID]) -> tuple[int, int]:
        """Return how many events of these users request a mail, and how many report a deletion."""
        keys = [str(user_id).encode() for user_id in user_ids]
        with self.database.transaction() as session:
            values = session.scalars(select(OUTBOX.rows.c.value).where(OUTBOX.rows.c.key.in_(keys))).all()
        kinds = [UserChanged.FromString(value).WhichOneof("change") for value in values]
        return kinds.count("registered"), kinds.count("deleted")

    def count_users(self) -> int:
        """Return the number of users in the database."""
        with self.database.transaction() as session:
            return len(session.scalars(select(User.user_id)).all())


def build_client(posts: Sequence[RegistrationRequest]) -> httpx.Client:
    """Build a client that can send all requests at the same time."""
    return httpx.Client(verify=False, timeout=60, limits=httpx.Limits(max_connections=len(posts)), trust_env=False)


@pytest.fixture(scope="module", params=["sqlite", pytest.param("mariadb", marks=pytest.mark.mariadb)])
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ReplicaPair]:
    """Yield a pair that the tests of this module share on each kind of database; each test uses new addresses."""
    folder = tmp_path_factory.mktemp("replicas")
    with ExitStack() as stack:
        if request.param == "sqlite":
            url = f"sqlite:///{folder}/user_manager.db"
        else:
            server: DatabaseServer = request.getfixturevalue("mariadb_server")
            url = stack.enter_context(server.database())
        start = stack.enter_context(process_starter(folder, DATABASE_URL=url, REGISTRATION_LIMIT="10000/minute"))
        database = Database(url)
        stack.callback(database.close)
        pair = ReplicaPair(start(), start(), start, database)
        eventually(lambda: pair.left.is_ready() and pair.right.is_ready(), "both replicas are ready")
        yield pair


def new_address() -> str:
    """Return an address that no other test uses."""
    return f"{uuid4().hex}@tower.test"


def get_response(future: Future[httpx.Response]) -> httpx.Response | None:
    """Return the response; None if the replica was killed before it responded."""
    try:
        return future.result()
    except httpx.TransportError:
        return None


def count_statuses(answers: Sequence[httpx.Response]) -> dict[int, int]:
    """Return the number of responses by status."""
    found = [answer.status_code for answer in answers]
    return {status: found.count(status) for status in found}


def assert_problems(answers: Sequence[httpx.Response], words: str) -> None:
    """Assert that all responses are problems whose detail contains `words`."""
    for answer in answers:
        assert answer.headers["Content-Type"] == "application/problem+json"
        assert words in answer.json()["detail"]


@pytest.mark.parametrize("has_key", [True, False], ids=["one key", "no key"])
def test_concurrent_duplicates_register_once(pair: ReplicaPair, has_key: bool) -> None:
    """50 requests at the same instant create one user and one event, and get the same response, only one its token."""
    post = RegistrationRequest(new_address(), key=uuid4() if has_key else None)
    answers = pair.send_concurrently([post] * CONCURRENT)
    assert count_statuses(answers) == {201: CONCURRENT}, answers[-1].text
    tokens = [answer.json()["token"] for answer in answers]
    (token,) = {token for token in tokens if token is not None}
    assert tokens.count(token) == (CONCURRENT if has_key else 1)
    assert len({json.dumps(answer.json() | {"token": ""}) for answer in answers}) == 1
    assert len({(answer.headers["Location"], answer.headers["ETag"]) for answer in answers}) == 1
    user_ids = pair.find_user_ids(post.email)
    assert [str(user_id) for user_id in user_ids] == [answers[0].json()["user"]["user_id"]]
    assert pair.count_stored_answers(user_ids) == 1
    assert pair.count_events(user_ids) == 1
    shown = plain_http.get(f"{pair.right.base_url}/users/{post.email}", headers={"Authorization": f"Bearer {token}"})
    assert shown.json()["user"] == answers[0].json()["user"]


def test_of_concurrent_registrations_of_one_address_one_remains(pair: ReplicaPair) -> None:
    """Of 50 requests with different keys each replaces the one before; one mail is requested, one token is valid."""
    email = new_address()
    answers = pair.send_concurrently(
        [RegistrationRequest(email, f"Ann {number}", uuid4()) for number in range(CONCURRENT)]
    )
    assert count_statuses(answers) == {201: CONCURRENT}
    (user_id,) = pair.find_user_ids(email)
    assert pair.count_stored_answers([user_id]) == 1
    statuses = {
        answer.json()["user"]["user_id"]: plain_http.get(
            f"{pair.left.base_url}/users/{email}", headers={"Authorization": f"Bearer {answer.json()['token']}"}
        ).status_code
        for answer in answers
    }
    assert {found for found, status in statuses.items() if status == 200} == {str(user_id)}
    assert list(statuses.values()).count(401) == CONCURRENT - 1
    requested, deleted = pair.count_kinds([UUID(found) for found in statuses])
    assert (requested, deleted) == (1, CONCURRENT - 1)


@pytest.mark.parametrize("same_address", [True, False])
def test_of_concurrent_bodies_with_one_key_one_wins(pair: ReplicaPair, same_address: bool) -> None:
    """The others get 422, whether they are for the same address or for others, which stay free."""
    key, email = uuid4(), new_address()
    posts = [
        RegistrationRequest(email if same_address else new_address(), f"Ann {number}", key)
        for number in range(CONCURRENT)
    ]
    answers = pair.send_concurrently(posts)
    assert count_statuses(answers) == {201: 1, 422: CONCURRENT - 1}
    assert_problems([answer for answer in answers if answer.status_code == 422], "Idempotency-Key")
    (winner,) = (answer for answer in answers if answer.status_code == 201)
    user_ids = pair.find_user_ids(*(post.email for post in posts))
    assert [str(user_id) for user_id in user_ids] == [winner.json()["user"]["user_id"]]
    assert pair.count_events(user_ids) == 1


@pytest.mark.parametrize("seed", [1, 2])
def test_a_killed_replica_registers_no_user_twice(pair: ReplicaPair, seed: int) -> None:
    """All clients retry at the other replica with the same keys: each gets one account, and the same response."""
    killed_after = random.Random(seed).randrange(1, CONCURRENT)
    print(f"seed {seed}: killed after {killed_after} answers")
    posts = [RegistrationRequest(new_address(), key=uuid4()) for _ in range(CONCURRENT)]
    doomed = pair.start()
    eventually(doomed.is_ready, "the third replica is ready")
    with build_client(posts) as client, ThreadPoolExecutor(len(posts)) as threads:
        sent = {threads.submit(post.send, client, doomed): post for post in posts}
        for number, _ in enumerate(as_completed(sent), start=1):
            if number == killed_after:
                doomed.kill()
        first = {post: answer for future, post in sent.items() if (answer := get_response(future)) is not None}
        assert count_statuses(list(first.values())) == {201: len(first)}
        again = dict(zip(posts, threads.map(lambda post: post.send(client, pair.left), posts), strict=True))
    assert count_statuses(list(again.values())) == {201: CONCURRENT}
    for post, answer in first.items():
        assert again[post].content == answer.content
    user_ids = pair.find_user_ids(*(post.email for post in posts))
    assert {str(each) for each in user_ids} == {answer.json()["user"]["user_id"] for answer in again.values()}
    assert len(user_ids) == pair.count_stored_answers(user_ids) == pair.count_events(user_ids) == CONCURRENT


@pytest.mark.mariadb
def test_an_answer_committed_between_two_queries_is_found(mariadb_url: str) -> None:
    """READ COMMITTED shows each query what was committed before it: the account of a duplicate, then its answer.

    The other replica commits after the first query of this one, wherever that looks.
    """
    here, there = Database(mariadb_url), Database(mariadb_url)
    SCHEMA.create_all(here.engine)
    key = uuid4()
    others: list[Registration] = []

    def register_at_other_replica(*_: object) -> None:
        if not others:
            others.append(Service(there).register(key=key))

    event.listen(here.engine, "after_cursor_execute", register_at_other_replica)
    assert Service(here).register(key=key) == others[0]
    here.close()
    there.close()


def test_every_replica_counts_all_users(pair: ReplicaPair) -> None:
    """Each replica's gauge counts the users that any replica registered."""
    pair.send_concurrently([RegistrationRequest(new_address()) for _ in range(3)])

    def agreed() -> bool:
        return {pair.left.metric("active_users_total"), pair.right.metric("active_users_total")} == {pair.count_users()}

    eventually(agreed, "both count all")


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[MariaDbProcess]:
    """Yield a MariaDB server that the test may stop; requires an installed one, even with TOWERWATCH_MYSQL_URL."""
    require_installed()
    own = MariaDbProcess(tmp_path)
    try:
        own.start()
        yield own
    finally:
        own.kill()


@pytest.mark.mariadb
def test_a_database_restart_needs_no_restart_of_the_service(own_server: MariaDbProcess, tmp_path: Path) -> None:
    """The replica stays alive, is ready only while the database runs, responds 503 meanwhile, and logs few lines."""
    with (
        own_server.server.database() as url,
        process_starter(tmp_path, DATABASE_URL=url) as start,
        httpx.Client(verify=False) as client,
    ):
        replica = start()
        eventually(replica.is_ready, "it is ready")
        early, late = RegistrationRequest(new_address(), key=uuid4()), RegistrationRequest(new_address(), key=uuid4())
        first = early.send(client, replica)
        assert first.status_code == 201
        before = len(replica.log().splitlines())

        own_server.stop()
        eventually(lambda: replica.status("/health/ready") == 503, "it is not ready")
        for post in (early, late):
            refused = post.send(client, replica)
            assert refused.status_code == 503
            assert refused.headers["Content-Type"] == "application/problem+json"
            assert int(refused.headers["Retry-After"]) > 0
        # The background tasks retry with backoff.
        eventually(lambda: sum("periodic.failed" in line for line in replica.log().splitlines()) >= 2, "it says so")
        assert replica.status("/health/live") == 200
        assert replica.status("/health/ready") == 503
        assert replica.metric("active_users_total") is not None

        own_server.start()
        eventually(replica.is_ready, "it is ready again")
        assert early.send(client, replica).content == first.content
        assert late.send(client, replica).status_code == 201
        logged = replica.log().splitlines()
        assert "Traceback" not in replica.log(), replica.log()
        assert len(logged) - before < 40, "\n".join(logged)
        assert replica.terminate() == 0


def test_of_concurrent_uses_of_one_sign_in_link_one_wins(pair: ReplicaPair) -> None:
    """Several browsers press the button at the same instant, at both replicas: one is signed in, all others are told
    that the link was used. Its session opens the account at both replicas, and ends at both."""
    email, links = new_address(), LinkSigner(SIGNING_KEY, "https://towerwatch.example")
    answer = plain_http.post(f"{pair.left.base_url}/users", json={"email": email, "name": "Ann"}).json()
    user_id = UUID(answer["user"]["user_id"])
    confirm = links.build_confirmation_url(user_id).rpartition("/")[2]
    assert plain_http.post(f"{pair.left.base_url}/confirm/{confirm}").status_code == 200
    assert plain_http.post(f"{pair.right.base_url}/sign-in", json={"email": email}).status_code == 202
    with pair.database.transaction() as session:
        is_it = (MailRequest.email == email, MailRequest.kind == "sign_in")
        request = session.scalars(select(MailRequest).where(*is_it)).one()
        link = links.build_sign_in_url(user_id, request.mail_id, request.requested_at).rpartition("/")[2]
    browsers = 12
    together = threading.Barrier(browsers)

    def press(number: int) -> httpx.Response:
        """Press the button at the same instant as the others."""
        together.wait(timeout=60)
        replica = (pair.left, pair.right)[number % 2]
        return client.post(f"{replica.base_url}/sign-in/{link}", headers={"Sec-Fetch-Site": "same-origin"})

    limits = httpx.Limits(max_connections=browsers)
    with httpx.Client(timeout=60, limits=limits, trust_env=False) as client, ThreadPoolExecutor(browsers) as threads:
        answers = list(threads.map(press, range(browsers)))
    assert count_statuses(answers) == {200: 1, 410: browsers - 1}
    (winner,) = [each for each in answers if each.status_code == 200]
    headers = {"Cookie": winner.headers.get_list("Set-Cookie")[0].partition(";")[0], "Sec-Fetch-Site": "same-origin"}
    for replica in (pair.left, pair.right):
        assert plain_http.get(f"{replica.base_url}/session", headers=headers).json()["user"]["email"] == email
    assert plain_http.delete(f"{pair.right.base_url}/session", headers=headers).status_code == 204
    for replica in (pair.left, pair.right):
        assert plain_http.get(f"{replica.base_url}/session", headers=headers).status_code == 401
        assert link not in replica.log()
