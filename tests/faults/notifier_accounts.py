"""People's accounts, in the database of a real user_manager."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import httpx
from sqlalchemy import delete, func, select, update

from chassis.db.database import Database
from tests.faults.notifier_people import Life, Person
from tests.ports import free_port
from tests.service_process import ServiceProcess
from tests.user_manager.process import StartProcess, process_starter
from tests.waiting import eventually
from user_manager import tokens
from user_manager.model import OUTBOX, User


class Accounts:
    """A user_manager that can be killed and begun again under the same address, and its database."""

    def __init__(self, start: StartProcess, database: Database) -> None:
        self._start = start
        self._database = database
        self.process: ServiceProcess = start()
        eventually(self.process.is_ready, "the readiness of user_manager")

    @property
    def target(self) -> str:
        return self.process.grpc_target

    def restart(self) -> None:
        """kill -9; the next one may not be ready when this returns."""
        self.process.kill()
        self.process = self._start()

    def open(self, people: Iterable[Person]) -> None:
        """Make the accounts of all who have one."""
        now = datetime.now(UTC) - timedelta(days=1)
        with self._database.transaction() as session:
            for person in people:
                if person.life is Life.UNKNOWN:
                    continue
                confirmed = person.life is not Life.UNCONFIRMED
                session.add(
                    User(
                        user_id=person.user_id,
                        email=person.email,
                        address_key=person.email,
                        name="Ann",
                        time_zone="Europe/Rome",
                        confirmed=confirmed,
                        paused=person.life is Life.PAUSED,
                        created_at=now,
                        version=1,
                        token_sha256=tokens.compute_digest(tokens.generate_token()),
                        confirmation_asked_at=now,
                        confirmations_asked=1,
                        confirmed_at=now if confirmed else None,
                    )
                )

    def change(self, people: Iterable[Person]) -> None:
        """Pause, or delete, those who are to be."""
        with self._database.transaction() as session:
            for person in people:
                if person.life is Life.PAUSES:
                    session.execute(update(User).where(User.user_id == person.user_id).values(paused=True))
                if person.life is Life.LEAVES:
                    session.execute(delete(User).where(User.user_id == person.user_id))

    def register(self, email: str) -> UUID:
        """As a person does it, who is then to get a confirmation mail."""
        eventually(self.process.is_ready, "the readiness of user_manager")
        answer = httpx.post(f"{self.process.base_url}/users", json={"email": email, "name": "Ann"}, timeout=30)
        assert answer.status_code == 201, answer.text
        return UUID(answer.json()["user"]["user_id"])

    def has_announced_everything(self) -> bool:
        """Whether nothing waits in its outbox."""
        with self._database.reading() as session:
            return session.scalar(select(func.count()).select_from(OUTBOX.rows)) == 0

    def suppressed(self) -> set[UUID]:
        """Whose mail came back, as it knows."""
        with self._database.reading() as session:
            return {user.user_id for user in session.scalars(select(User)) if user.suppressed}


@contextmanager
def running_accounts(folder: Path, bootstrap_servers: str) -> Iterator[Accounts]:
    """A user_manager that is ready; killed at the end of the block."""
    database = Database(f"sqlite:///{folder}/user_manager.db")
    ports = {"HTTP_PORT": str(free_port()), "GRPC_PORT": str(free_port())}
    try:
        with process_starter(folder, KAFKA_BOOTSTRAP_SERVERS=bootstrap_servers, **ports) as start:
            yield Accounts(start, database)
    finally:
        database.close()
