"""Both services with a database that is lost while Kafka is kept: they refuse to start, and `--begin-anew` helps."""

import asyncio
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import pytest

from chassis.db.log_check import read_content
from local.kafka import Broker
from tests import plain_http
from tests.collector.process import OPERATOR_TOKEN
from tests.ports import free_port
from tests.service_process import ROOT, ServiceProcess, bare_environment
from tests.waiting import eventually
from towerwatch.topics import INTERESTS_CHANGED, USERS_CHANGED
from towerwatch.users.v1.events_pb2 import UserChanged
from user_manager.links import LinkSigner

SIGNING_KEY: Final = "the-signing-key-of-tests"
INTEREST: Final = {"airport_icao": "KJFK", "direction": "departures", "window": "1h", "high_value": 20}


class AccountsAndInterests:
    """Both services on one broker, each with a file of SQLite; settings of one point to the other."""

    def __init__(self, folder: Path, bootstrap_servers: str) -> None:
        self.folder = folder
        self.bootstrap_servers = bootstrap_servers
        names = ("user_manager", "collector")
        http, grpc = ({name: free_port() for name in names} for _ in range(2))
        self.settings: Mapping[str, Mapping[str, str]] = {
            name: {
                "DATABASE_URL": f"sqlite:///{self.find_file(name)}",
                "KAFKA_BOOTSTRAP_SERVERS": bootstrap_servers,
                "HTTP_PORT": str(http[name]),
                "GRPC_PORT": str(grpc[name]),
                "COLLECTOR_GRPC_TARGET": f"127.0.0.1:{grpc['collector']}",
                "USER_MANAGER_GRPC_TARGET": f"127.0.0.1:{grpc['user_manager']}",
                "PUBLIC_URL": "https://towerwatch.example",
                "SIGNING_KEY": SIGNING_KEY,
                "OPERATOR_TOKEN": OPERATOR_TOKEN,
                "ALLOW_TEST_ADDRESSES": "true",
                "OPENSKY_URL": f"http://127.0.0.1:{free_port()}/api",
                "OPENSKY_TOKEN_URL": f"http://127.0.0.1:{free_port()}/token",
            }
            for name in names
        }
        self.running: dict[str, ServiceProcess] = {}

    def find_file(self, name: str) -> Path:
        """Return the path of a service's database."""
        return self.folder / f"{name}.db"

    def start(self, *names: str) -> None:
        """Start services, and wait until they are ready."""
        for name in names:
            log = self.folder / f"{name}-{len(list(self.folder.iterdir()))}.log"
            self.running[name] = ServiceProcess(("-m", name), self.settings[name], log)
        for name in names:
            eventually(self.running[name].is_ready, f"{name} is ready")

    def run_begin_anew(self, name: str) -> str:
        """Run the command as an operator does; return what it prints. Fails unless it succeeds."""
        done = subprocess.run(
            [sys.executable, "-m", name, "--begin-anew"],
            cwd=ROOT, env={**bare_environment(), **self.settings[name]},
            capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()[-1]

    def lose(self, name: str) -> None:
        """Stop a service and delete its database."""
        assert self.running.pop(name).terminate() == 0
        for path in self.folder.glob(f"{name}.db*"):
            path.unlink()

    def register(self, email: str) -> tuple[str, dict[str, str]]:
        """Register and confirm an account; return its id, and the header with its token."""
        accounts = self.running["user_manager"]
        made = plain_http.post(f"{accounts.base_url}/users", json={"email": email, "name": "Ann"}, timeout=60).json()
        token = {"Authorization": f"Bearer {made['token']}"}
        link = LinkSigner(SIGNING_KEY, accounts.base_url).build_confirmation_url(made["user"]["user_id"])
        assert plain_http.post(link, headers=token, timeout=60).status_code == 200
        return made["user"]["user_id"], token

    def set_interest(self, token: dict[str, str], **changes: Any) -> None:
        """Set an interest."""
        url = f"{self.running['collector'].base_url}/interests"
        answer = plain_http.post(url, json=INTEREST | changes, headers=token, timeout=60)
        assert answer.status_code == 201, answer.text

    def read_interests(self) -> set[str]:
        """Return the airports of the interests that stand in the log."""
        content = asyncio.run(read_content(self.bootstrap_servers, INTERESTS_CHANGED))
        return {key.decode().partition("/")[0] for key, logged in content.values.items() if logged.value is not None}

    def read_users(self) -> set[str]:
        """Return the ids of the accounts that the log knows, and that are not deleted by it."""
        content = asyncio.run(read_content(self.bootstrap_servers, USERS_CHANGED))
        changes = [UserChanged.FromString(logged.value or b"") for logged in content.values.values()]
        return {change.user_id for change in changes if not change.HasField("deleted")}


@pytest.fixture
def services(tmp_path: Path, kafka: Broker) -> Iterator[AccountsAndInterests]:
    """Yield both services, not started; what runs is killed at the end."""
    services = AccountsAndInterests(tmp_path, kafka.bootstrap_servers)
    yield services
    for process in services.running.values():
        process.kill()


def test_a_lost_database_is_refused_until_the_log_is_begun_anew(services: AccountsAndInterests) -> None:
    """First the collector loses its file, then user_manager; what belonged to the lost accounts ends everywhere."""
    services.start("user_manager", "collector")
    ann, token = services.register("ann@tower.test")
    services.set_interest(token)
    services.set_interest(token, airport_icao="EDDF")
    eventually(lambda: services.read_interests() == {"KJFK", "EDDF"}, "both interests are published")

    services.lose("collector")
    refused = ServiceProcess(("-m", "collector"), services.settings["collector"], services.folder / "refused.log")
    assert refused.popen.wait(timeout=120) == 2
    said = refused.log()
    assert "collector: Kafka's topic " in said
    assert "python -m collector --begin-anew" in said
    assert "Traceback" not in said
    assert services.run_begin_anew("collector").startswith("collector: 2 interests will be removed")
    services.start("collector")
    eventually(lambda: services.read_interests() == set(), "the log has no interest that nobody has")
    services.set_interest(token, airport_icao="LFPG")
    eventually(lambda: services.read_interests() == {"LFPG"}, "a new interest is published")

    services.lose("user_manager")
    refused = ServiceProcess(("-m", "user_manager"), services.settings["user_manager"], services.folder / "no.log")
    assert refused.popen.wait(timeout=120) == 2
    assert "python -m user_manager --begin-anew" in refused.log()
    assert ann in services.read_users()
    assert services.run_begin_anew("user_manager").startswith("user_manager: 1 accounts of Kafka's log ")
    services.start("user_manager")
    eventually(lambda: services.read_users() == set(), "the account is deleted in the log")
    eventually(lambda: services.read_interests() == set(), "its interests end, too")
    bob, _token = services.register("bob@tower.test")
    eventually(lambda: services.read_users() == {bob}, "a new account is published")


def test_a_damaged_database_answers_503_and_says_why(tmp_path: Path) -> None:
    """Also if only one page of one table is damaged; liveness stays, since a restart would not help."""
    services = AccountsAndInterests(tmp_path, f"127.0.0.1:{free_port()}")
    services.start("user_manager")
    for number in range(5):
        services.register(f"p{number}@tower.test")
    assert services.running.pop("user_manager").terminate() == 0
    path = services.find_file("user_manager")
    whole = path.read_bytes()
    size = int.from_bytes(whole[16:18], "big")
    page = next(at for at in range(0, len(whole), size) if b"p3@tower.test" in whole[at : at + size])
    path.write_bytes(whole[:page] + b"\xff" * size + whole[page + size :])
    settings = services.settings["user_manager"]
    process = services.running["user_manager"] = ServiceProcess(
        ("-m", "user_manager"), settings, services.folder / "damaged.log"
    )
    eventually(lambda: process.answers("/health/live"), "it lives")
    eventually(lambda: "The database is damaged" in getattr(process.get("/health/ready"), "text", ""), "it says why")
    for method, path_, body in (
        ("POST", "/users", {"email": "new@tower.test", "name": "New"}),
        ("GET", "/users/p3@tower.test", None),
        ("GET", "/users", None),
        ("DELETE", "/users/p4@tower.test", None),
    ):
        answer = plain_http.request(
            method, f"{process.base_url}{path_}", json=body, timeout=60,
            headers={"Authorization": f"Bearer {OPERATOR_TOKEN}"},
        )  # fmt: skip
        assert answer.status_code == 503, (method, path_, answer.text)
        assert "The database is damaged" in answer.text
    assert "Traceback" not in process.log()
    process.kill()
