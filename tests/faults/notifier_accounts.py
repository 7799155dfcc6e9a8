"""A real user_manager for the fault tests, and the accounts in its database."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

from sqlalchemy import delete, func, select, update

from chassis.db.database import Database
from tests import plain_http
from tests.faults.notifier_users import SimulatedUser, UserKind
from tests.ports import free_port
from tests.service_process import ServiceProcess
from tests.user_manager.process import StartProcess, process_starter
from tests.waiting import eventually
from user_manager import tokens
from user_manager.model import OUTBOX, User


class Accounts:
    """A user_manager that tests kill and restart at the same address, with its database."""

    def __init__(self, start: StartProcess, database: Database) -> None:
        self._start = start
        self._database = database
        self.process: ServiceProcess = start()
        eventually(self.process.is_ready, "the readiness of user_manager")

    @property
    def target(self) -> str:
        return self.process.grpc_target

    def restart(self) -> None:
        """Kill user_manager with SIGKILL and start another; it may not be ready when this returns."""
        self.process.kill()
        self.process = self._start()

    def open(self, users: Iterable[SimulatedUser]) -> None:
        """Create the accounts of all users who have one."""
        now = datetime.now(UTC) - timedelta(days=1)
        with self._database.transaction() as session:
            for user in users:
                if user.kind is UserKind.UNKNOWN:
                    continue
                confirmed = user.kind is not UserKind.UNCONFIRMED
                session.add(
                    User(
                        user_id=user.user_id,
                        email=user.email,
                        address_key=user.email,
                        name="Ann",
                        time_zone="Europe/Rome",
                        confirmed=confirmed,
                        paused=user.kind is UserKind.PAUSED,
                        created_at=now,
                        version=1,
                        token_sha256=tokens.compute_digest(tokens.generate_token()),
                        confirmation_asked_at=now,
                        confirmations_asked=1,
                        confirmed_at=now if confirmed else None,
                    )
                )

    def change(self, users: Iterable[SimulatedUser]) -> None:
        """Pause or delete the accounts of the users whose kind requires it."""
        with self._database.transaction() as session:
            for user in users:
                if user.kind is UserKind.PAUSES:
                    session.execute(update(User).where(User.user_id == user.user_id).values(paused=True))
                if user.kind is UserKind.LEAVES:
                    session.execute(delete(User).where(User.user_id == user.user_id))

    def register(self, email: str) -> UUID:
        """Register an address like a user does; the user is then to get a confirmation mail. Returns the user id."""
        eventually(self.process.is_ready, "the readiness of user_manager")
        answer = plain_http.post(f"{self.process.base_url}/users", json={"email": email, "name": "Ann"}, timeout=30)
        assert answer.status_code == 201, answer.text
        return UUID(answer.json()["user"]["user_id"])

    def has_announced_everything(self) -> bool:
        """Return True if no message waits in the outbox."""
        with self._database.reading() as session:
            return session.scalar(select(func.count()).select_from(OUTBOX.rows)) == 0

    def find_suppressed(self) -> set[UUID]:
        """Return the ids of the users whose bounces were reported."""
        with self._database.reading() as session:
            return {user.user_id for user in session.scalars(select(User)) if user.suppressed}


@contextmanager
def running_accounts(folder: Path, bootstrap_servers: str) -> Iterator[Accounts]:
    """Start a user_manager and yield it once it is ready; kill it at the end of the block."""
    database = Database(f"sqlite:///{folder}/user_manager.db")
    ports = {"HTTP_PORT": str(free_port()), "GRPC_PORT": str(free_port())}
    try:
        with process_starter(folder, KAFKA_BOOTSTRAP_SERVERS=bootstrap_servers, **ports) as start:
            yield Accounts(start, database)
    finally:
        database.close()
