"""Two real replicas on one real database: whoever is asked, whatever they meet, people see one service."""

import random
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID, uuid4

import httpx
import pytest
from sqlalchemy import event, select

from chassis.db.database import Database
from tests.mariadb_fixture import DatabaseServer, MariaDbProcess, require_installed
from tests.service_process import ServiceProcess
from tests.user_manager.conftest import Service
from tests.user_manager.process import StartProcess, process_starter
from tests.waiting import eventually
from user_manager.model import OUTBOX, SCHEMA, IdempotencyRecord, User
from user_manager.registration import Registration

AT_ONCE = 50


@dataclass(frozen=True, slots=True)
class Post:
    """A registration as it is sent."""

    email: str
    name: str = "Ann"
    key: UUID | None = None

    def to(self, client: httpx.Client, replica: ServiceProcess) -> httpx.Response:
        headers = {} if self.key is None else {"Idempotency-Key": f'"{self.key}"'}
        return client.post(f"{replica.base_url}/users", json={"email": self.email, "name": self.name}, headers=headers)


@dataclass(frozen=True, slots=True)
class Pair:
    """Two replicas, and their database as only a test sees it."""

    left: ServiceProcess
    right: ServiceProcess
    start: StartProcess
    database: Database

    def at_once(self, posts: Sequence[Post]) -> list[httpx.Response]:
        """The answers to these, each sent in a thread of its own at the same instant, to the replicas in turn."""
        together = threading.Barrier(len(posts))

        def send(number: int) -> httpx.Response:
            together.wait()
            return posts[number].to(client, (self.left, self.right)[number % 2])

        with client_for(posts) as client, ThreadPoolExecutor(len(posts)) as threads:
            return list(threads.map(send, range(len(posts))))

    def registered(self, *emails: str) -> list[UUID]:
        """The ids of all users with one of these addresses."""
        with self.database.transaction() as session:
            return list(session.scalars(select(User.user_id).where(User.address_key.in_(emails))))

    def remembered(self, user_ids: Sequence[UUID]) -> int:
        """How many answers that made these users are remembered."""
        with self.database.transaction() as session:
            records = session.scalars(select(IdempotencyRecord).where(IdempotencyRecord.user_id.in_(user_ids)))
            return len(records.all())

    def announced(self, user_ids: Sequence[UUID]) -> int:
        """How many events of these users wait in the outbox; there is no Kafka, so none has left it."""
        keys = [str(user_id).encode() for user_id in user_ids]
        with self.database.transaction() as session:
            return len(session.execute(select(OUTBOX.rows.c.id).where(OUTBOX.rows.c.key.in_(keys))).all())

    def users(self) -> int:
        with self.database.transaction() as session:
            return len(session.scalars(select(User.user_id)).all())


def client_for(posts: Sequence[Post]) -> httpx.Client:
    return httpx.Client(timeout=60, limits=httpx.Limits(max_connections=len(posts)), trust_env=False)


@pytest.fixture(scope="module", params=["sqlite", pytest.param("mariadb", marks=pytest.mark.mariadb)])
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """One for all tests of this module on the same kind of database: each uses addresses of its own."""
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
        pair = Pair(start(), start(), start, database)
        eventually(lambda: pair.left.is_ready() and pair.right.is_ready(), "both replicas are ready")
        yield pair


def address() -> str:
    """One that nobody has used."""
    return f"{uuid4().hex}@tower.test"


def answer_of(future: Future[httpx.Response]) -> httpx.Response | None:
    """What came back; None where the replica died first."""
    try:
        return future.result()
    except httpx.TransportError:
        return None


def statuses(answers: Sequence[httpx.Response]) -> dict[int, int]:
    """By status, how many there are."""
    found = [answer.status_code for answer in answers]
    return {status: found.count(status) for status in found}


def assert_problems(answers: Sequence[httpx.Response], words: str) -> None:
    for answer in answers:
        assert answer.headers["Content-Type"] == "application/problem+json"
        assert words in answer.json()["detail"]


@pytest.mark.parametrize("key", [uuid4, lambda: None], ids=["one key", "no key"])
def test_what_is_sent_many_times_is_done_once(pair: Pair, key: Callable[[], UUID | None]) -> None:
    """50 posts at the same instant: one user, one event, and 50 times the same answer, token and all."""
    post = Post(address(), key=key())
    answers = pair.at_once([post] * AT_ONCE)
    assert statuses(answers) == {201: AT_ONCE}, answers[-1].text
    assert len({answer.content for answer in answers}) == 1
    assert len({(answer.headers["Location"], answer.headers["ETag"]) for answer in answers}) == 1
    user_ids = pair.registered(post.email)
    assert [str(user_id) for user_id in user_ids] == [answers[0].json()["user"]["user_id"]]
    assert pair.remembered(user_ids) == 1
    assert pair.announced(user_ids) == 1
    shown = httpx.get(
        f"{pair.right.base_url}/users/{post.email}", headers={"Authorization": f"Bearer {answers[0].json()['token']}"}
    )
    assert shown.json()["user"] == answers[0].json()["user"]


def test_of_many_who_want_one_address_one_gets_it(pair: Pair) -> None:
    """50 keys: the others learn that it is taken, and leave nothing behind."""
    email = address()
    answers = pair.at_once([Post(email, f"Ann {number}", uuid4()) for number in range(AT_ONCE)])
    assert statuses(answers) == {201: 1, 409: AT_ONCE - 1}
    assert_problems([answer for answer in answers if answer.status_code == 409], "registered already")
    (winner,) = (answer for answer in answers if answer.status_code == 201)
    user_ids = pair.registered(email)
    assert [str(user_id) for user_id in user_ids] == [winner.json()["user"]["user_id"]]
    assert pair.remembered(user_ids) == 1
    assert pair.announced(user_ids) == 1


@pytest.mark.parametrize("same_address", [True, False])
def test_of_many_bodies_with_one_key_one_is_taken(pair: Pair, same_address: bool) -> None:
    """The others are refused (422), whether they are for the same address or for others, which stay free."""
    key, email = uuid4(), address()
    posts = [Post(email if same_address else address(), f"Ann {number}", key) for number in range(AT_ONCE)]
    answers = pair.at_once(posts)
    assert statuses(answers) == {201: 1, 422: AT_ONCE - 1}
    assert_problems([answer for answer in answers if answer.status_code == 422], "Idempotency-Key")
    (winner,) = (answer for answer in answers if answer.status_code == 201)
    user_ids = pair.registered(*(post.email for post in posts))
    assert [str(user_id) for user_id in user_ids] == [winner.json()["user"]["user_id"]]
    assert pair.announced(user_ids) == 1


@pytest.mark.parametrize("seed", [1, 2])
def test_a_replica_that_is_killed_registers_nobody_twice(pair: Pair, seed: int) -> None:
    """Whoever got no answer asks the other with the same key, and so do those who did: that one is repeated."""
    killed_after = random.Random(seed).randrange(1, AT_ONCE)
    print(f"seed {seed}: killed after {killed_after} answers")
    posts = [Post(address(), key=uuid4()) for _ in range(AT_ONCE)]
    doomed = pair.start()
    eventually(doomed.is_ready, "the third replica is ready")
    with client_for(posts) as client, ThreadPoolExecutor(len(posts)) as threads:
        sent = {threads.submit(post.to, client, doomed): post for post in posts}
        for number, _ in enumerate(as_completed(sent), start=1):
            if number == killed_after:
                doomed.kill()
        first = {post: answer for future, post in sent.items() if (answer := answer_of(future)) is not None}
        assert statuses(list(first.values())) == {201: len(first)}
        again = dict(zip(posts, threads.map(lambda post: post.to(client, pair.left), posts), strict=True))
    assert statuses(list(again.values())) == {201: AT_ONCE}
    for post, answer in first.items():
        assert again[post].content == answer.content
    user_ids = pair.registered(*(post.email for post in posts))
    assert {str(each) for each in user_ids} == {answer.json()["user"]["user_id"] for answer in again.values()}
    assert len(user_ids) == pair.remembered(user_ids) == pair.announced(user_ids) == AT_ONCE


@pytest.mark.mariadb
def test_an_answer_that_is_given_between_two_queries_is_found(mariadb_url: str) -> None:
    """READ COMMITTED shows each query what was committed before it: the account of the same request, then its answer.

    The other replica commits after the first query of this one, wherever that looks.
    """
    here, there = Database(mariadb_url), Database(mariadb_url)
    SCHEMA.create_all(here.engine)
    key = uuid4()
    others: list[Registration] = []

    def in_between(*_: object) -> None:
        if not others:
            others.append(Service(there).register(key=key))

    event.listen(here.engine, "after_cursor_execute", in_between)
    assert Service(here).register(key=key) == others[0]
    here.close()
    there.close()


def test_every_replica_counts_all_users(pair: Pair) -> None:
    """Whoever registered them."""
    pair.at_once([Post(address()) for _ in range(3)])

    def agreed() -> bool:
        return {pair.left.metric("active_users_total"), pair.right.metric("active_users_total")} == {pair.users()}

    eventually(agreed, "both count all")


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[MariaDbProcess]:
    """Where the tests are told to use a server that runs already, this still needs one to be installed."""
    require_installed()
    own = MariaDbProcess(tmp_path)
    try:
        own.start()
        yield own
    finally:
        own.kill()


@pytest.mark.mariadb
def test_a_database_that_stops_and_comes_back_needs_no_restart_of_the_service(
    own_server: MariaDbProcess, tmp_path: Path
) -> None:
    """Alive all the time, ready only while it is there; people are told to come back; few lines are logged."""
    with (
        own_server.server.database() as url,
        process_starter(tmp_path, DATABASE_URL=url) as start,
        httpx.Client() as client,
    ):
        replica = start()
        eventually(replica.is_ready, "it is ready")
        early, late = Post(address(), key=uuid4()), Post(address(), key=uuid4())
        first = early.to(client, replica)
        assert first.status_code == 201
        before = len(replica.log().splitlines())

        own_server.stop()
        eventually(lambda: replica.status("/health/ready") == 503, "it is not ready")
        for post in (early, late):
            refused = post.to(client, replica)
            assert refused.status_code == 503
            assert refused.headers["Content-Type"] == "application/problem+json"
            assert int(refused.headers["Retry-After"]) > 0
        # The background goes on looking, at growing pauses.
        eventually(lambda: sum("periodic.failed" in line for line in replica.log().splitlines()) >= 2, "it says so")
        assert replica.status("/health/live") == 200
        assert replica.status("/health/ready") == 503
        assert replica.metric("active_users_total") is not None

        own_server.start()
        eventually(replica.is_ready, "it is ready again")
        assert early.to(client, replica).content == first.content
        assert late.to(client, replica).status_code == 201
        logged = replica.log().splitlines()
        assert not any("Traceback" in line for line in logged)
        assert len(logged) - before < 40, "\n".join(logged)
        assert replica.terminate() == 0
