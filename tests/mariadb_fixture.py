"""Fixtures of empty databases: `database_url` runs a test twice, on SQLite and on a real MariaDB server.

`tests/conftest.py` names this module among its `pytest_plugins`. The server is started once for all tests, on a free
port and in a folder of its own; or it is the one that `TOWERWATCH_MYSQL_URL` names, as `mysql+pymysql://user@host/`,
whose user must be allowed to create databases. Without either, the tests that need a server are skipped; or they fail,
if `TOWERWATCH_REQUIRE_MARIADB` is set.
"""

import os
import shutil
import signal
import subprocess
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest
from sqlalchemy import URL, NullPool, create_engine, make_url, text
from sqlalchemy.exc import OperationalError

from tests.ports import HOST, free_port
from tests.service_process import kill_with_parent
from tests.skips import skip_unless_required
from tests.waiting import eventually

MISSING: Final = "no MariaDB server is installed: `apt-get install mariadb-server`, or set TOWERWATCH_MYSQL_URL"

# No data of this server outlives the tests: it need not wait for the disk, nor hold much data.
_SMALL: Final = ("--innodb-buffer-pool-size=32M", "--innodb-log-file-size=8M", "--innodb-flush-method=nosync")
_NOT_DURABLE: Final = (
    "--innodb-flush-log-at-trx-commit=0", "--innodb-doublewrite=0", "--skip-log-bin", "--performance-schema=0",
    "--debug-no-sync",  # three times as fast: creating a table waits for the disk otherwise
)  # fmt: skip


class DatabaseServer:
    """A MariaDB or MySQL server on which tests create and drop databases."""

    def __init__(self, url: URL) -> None:
        self.url = url
        self._engine = create_engine(url, isolation_level="AUTOCOMMIT", poolclass=NullPool)

    def is_available(self) -> bool:
        """Return True if the server executes a query, False if it refuses or fails."""
        try:
            self.execute("SELECT 1")
        except OperationalError:
            return False
        return True

    def execute(self, statement: str) -> None:
        with self._engine.connect() as connection:
            connection.execute(text(statement))

    @contextmanager
    def database(self) -> Iterator[str]:
        """Create an empty database, yield its URL, and drop the database at the end of the block.

        Its collation is a server's usual one, for which é equals e: our tables must not inherit that.
        """
        name = f"test_{uuid.uuid4().hex}"
        self.execute(f"CREATE DATABASE {name} CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci")
        try:
            yield self.url.set(database=name).render_as_string(hide_password=False)
        finally:
            self.execute(f"DROP DATABASE {name}")


@pytest.fixture(scope="session")
def mariadb_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DatabaseServer]:
    """Yield the server; a server that the tests started is killed with the test process, even if that crashes."""
    if given := os.environ.get("TOWERWATCH_MYSQL_URL"):
        yield DatabaseServer(make_url(given))
        return
    require_installed()
    folder = tmp_path_factory.mktemp("mariadb")
    own = MariaDbProcess(folder)
    try:
        own.start()
        yield own.server
    finally:
        own.kill()  # its data goes too
        shutil.rmtree(folder, ignore_errors=True)


def require_installed() -> None:
    """Skip the test if no MariaDB server is installed; fail it if `TOWERWATCH_REQUIRE_MARIADB` is set."""
    if INSTALLED is None:
        skip_unless_required("MARIADB", MISSING)


@pytest.fixture
def mariadb_url(mariadb_server: DatabaseServer) -> Iterator[str]:
    """Yield the URL of an empty database on MariaDB. A test that uses the fixture must have the mark `mariadb`."""
    with mariadb_server.database() as url:
        yield url


@pytest.fixture(params=["sqlite", pytest.param("mariadb", marks=pytest.mark.mariadb)])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Return the URL of an empty database: the test runs twice, once on SQLite and once on MariaDB."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/service.db"
    url: str = request.getfixturevalue("mariadb_url")
    return url


class MariaDbProcess:
    """A MariaDB server with a data folder of its own, which can be stopped and started again on the same data."""

    def __init__(self, folder: Path, *options: str) -> None:
        """Create the data folder. Requires that a server is installed. `options`: more options of the server."""
        assert INSTALLED is not None
        install, serve = INSTALLED
        port = free_port()
        # A tmpdir of its own: a server that starts removes all temporary tables there, those of other servers, too.
        common = ["--no-defaults", f"--datadir={folder}/data", f"--tmpdir={folder}", "--skip-name-resolve", *_SMALL]
        if os.geteuid() == 0:
            common.append("--user=root")
        self.folder = folder
        self._log = folder / "log"
        with self._log.open("wb") as log:
            made = subprocess.run(
                [install, *common, "--skip-test-db", "--auth-root-authentication-method=normal"],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, timeout=120, check=False,
            )  # fmt: skip
        assert made.returncode == 0, self._read_log()
        self._command = [
            serve, *common, *_NOT_DURABLE, f"--port={port}", f"--bind-address={HOST}", "--socket=socket",
            "--pid-file=pid",  # both in the data folder: the path of a socket must be short
            *options,
        ]  # fmt: skip
        self._process: subprocess.Popen[bytes] | None = None
        # Without TLS, for which the driver spends 25 ms of computing on each connection.
        self.server = DatabaseServer(make_url(f"mysql+pymysql://root@{HOST}:{port}/?ssl_disabled=true"))

    @property
    def pid(self) -> int:
        """The server's process id. It must have been started."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Start the server and wait until it is available."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
                preexec_fn=kill_with_parent,
            )  # fmt: skip
        eventually(self._is_available, "the start of MariaDB")

    def stop(self) -> None:
        """Stop the server in order, as for an upgrade: the server closes every connection and its port."""
        assert self._process is not None
        self._process.terminate()
        self._process.wait(timeout=60)

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the server and all its processes, if it runs."""
        if self._process is not None and self._process.poll() is None:
            os.killpg(self._process.pid, number)

    def kill(self) -> None:
        """Kill the server and all its processes, if it still runs."""
        if self._process is not None and self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def _is_available(self) -> bool:
        """Return True if the server executes queries. Fails if its process has ended."""
        assert self._process is not None
        assert self._process.poll() is None, self._read_log()
        return self.server.is_available()

    def _read_log(self) -> str:
        return self._log.read_text(errors="replace")


def _find_programs() -> tuple[str, str] | None:
    """Return the paths of mariadb-install-db and mariadbd; None if one is missing. Also searches /usr/sbin."""
    path = f"{os.environ.get('PATH', '')}{os.pathsep}/usr/sbin"
    install, serve = shutil.which("mariadb-install-db", path=path), shutil.which("mariadbd", path=path)
    return (install, serve) if install and serve else None


INSTALLED: Final = _find_programs()
"""Paths of the programs that create a data folder and that serve it; None: no server is installed."""
