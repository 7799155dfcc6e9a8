"""Verified TLS to a real MariaDB: nothing is sent to a server that is not the one that was meant."""

import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import make_url, text

from chassis.db.database import Database, DatabaseSettings
from chassis.errors import DatabaseUnavailableError, SettingsError
from chassis.settings import load_settings
from tests.fakes.tls import server_context
from tests.mariadb_fixture import DatabaseServer, MariaDbProcess, require_installed
from tests.ports import HOST

pytestmark = pytest.mark.mariadb


class SecuredServer:
    """A MariaDB server with a certificate for an address, and the file of the certificate that signs it."""

    def __init__(self, folder: Path, address: str = HOST) -> None:
        (folder / "mariadb").mkdir(parents=True)
        _, self.authority = server_context(folder, address)
        self._process = MariaDbProcess(
            folder / "mariadb",
            f"--ssl-cert={self.authority}",
            f"--ssl-key={folder / 'key.pem'}",
            f"--ssl-ca={self.authority}",
        )
        self._process.start()
        self.url = strip_options(self._process.server)

    def stop(self) -> None:
        """Kill the server."""
        self._process.kill()


def strip_options(server: DatabaseServer) -> str:
    """Return the URL of a database on the server that is always there, without any option."""
    return make_url(server.url).set(database="mysql", query={}).render_as_string(hide_password=False)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecuredServer]:
    """Yield a server whose certificate is for the address that it listens on."""
    require_installed()
    server = SecuredServer(tmp_path_factory.mktemp("tls"))
    yield server
    server.stop()


def load_database(monkeypatch: pytest.MonkeyPatch, url: str, **values: str) -> Database:
    """Return the database that these variables describe, as a service builds it."""
    for name, value in {"KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:9", "DATABASE_URL": url, **values}.items():
        monkeypatch.setenv(name, value)
    return load_settings(DatabaseSettings).build_database()


def read_cipher(database: Database) -> str:
    """Return the cipher of the connection, as the server knows it; empty without TLS."""
    with database.reading() as session:
        return str(session.execute(text("SHOW STATUS LIKE 'Ssl_cipher'")).one()[1])


def test_the_connection_is_encrypted_where_the_server_is_verified(
    server: SecuredServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The authority is read from a file; changes of the schema, which connect anew, are encrypted, too."""
    trust = {"DATABASE_TLS": "verify", "DATABASE_CA_FILE": str(server.authority)}
    database = load_database(monkeypatch, server.url, **trust)
    assert read_cipher(database).startswith("TLS_")
    with database.ddl_connection() as connection:
        assert connection.execute(text("SHOW STATUS LIKE 'Ssl_cipher'")).one()[1]
    database.close()


def test_a_server_of_another_authority_is_refused(server: SecuredServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """The system's authorities have not signed its certificate."""
    database = load_database(monkeypatch, server.url, DATABASE_TLS="verify")
    with pytest.raises(DatabaseUnavailableError):
        read_cipher(database)
    database.close()


def test_a_certificate_for_another_address_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its authority is trusted, but it is not the server that was meant."""
    require_installed()
    other = SecuredServer(tmp_path / "other", "192.0.2.7")
    database = load_database(monkeypatch, other.url, DATABASE_TLS="verify", DATABASE_CA_FILE=str(other.authority))
    with pytest.raises(DatabaseUnavailableError):
        read_cipher(database)
    database.close()
    other.stop()


def test_a_server_that_says_it_has_no_tls_is_refused(
    server: SecuredServer, mariadb_server: DatabaseServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The driver alone would go on without encryption, and so would somebody between read along."""
    plain = strip_options(mariadb_server)
    trusting = Database(plain)
    assert read_cipher(trusting) == ""
    trusting.close()
    database = load_database(monkeypatch, plain, DATABASE_TLS="verify", DATABASE_CA_FILE=str(server.authority))
    with pytest.raises(DatabaseUnavailableError):
        read_cipher(database)
    assert not database.is_answering()
    database.close()


@pytest.mark.parametrize(
    ("values", "fault"),
    [
        ({"DATABASE_TLS": "on"}, "DATABASE_TLS"),
        ({"DATABASE_TLS": "verify", "DATABASE_CA": "hunter2"}, "DATABASE_CA: holds no certificate"),
        ({"DATABASE_CA": ssl.DER_cert_to_PEM_cert(b"0")}, "DATABASE_CA: is not used without DATABASE_TLS=verify"),
        (
            {"DATABASE_TLS": "verify", "DATABASE_CA_FILE": "/nowhere.pem"},
            "DATABASE_CA_FILE: names a file that",
        ),
    ],
    ids=str,
)
def test_settings_that_would_not_be_used_are_refused(
    monkeypatch: pytest.MonkeyPatch, values: dict[str, str], fault: str
) -> None:
    """Each fault is one sentence without the value."""
    with pytest.raises(SettingsError) as refused:
        load_database(monkeypatch, "mysql+pymysql://user@db/name", **values)
    assert fault in str(refused.value)
    assert "hunter2" not in str(refused.value)
