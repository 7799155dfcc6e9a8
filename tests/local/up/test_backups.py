"""Backups of `make up`: as of one instant, whole or not at all, and nothing is lost by restoring."""

import gzip
import io
import random
import shutil
import sqlite3
import stat
import tarfile
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from local.errors import LocalError
from local.up.backups import DATABASES, create_backup, require_no_interrupted_restore, restore_backup

SECRETS = '{"signing_key": "a", "operator_token": "b"}'  # as an earlier version wrote it, too


def make_data(folder: Path) -> Path:
    """Make a data folder as `make up` leaves it, with a counter in each database and a folder of Kafka's."""
    data = folder / "data"
    (data / "kafka").mkdir(parents=True)
    (data / "kafka" / "log").write_text("records")
    (data / "secrets.json").write_text(SECRETS)
    for name in DATABASES:
        with closing(sqlite3.connect(data / name)) as connection, connection:
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("CREATE TABLE counter (value INTEGER)")
            connection.execute("INSERT INTO counter VALUES (0)")
            connection.execute("CREATE TABLE filler (bytes BLOB)")
            connection.executemany("INSERT INTO filler VALUES (?)", [(random.randbytes(1000),) for _ in range(300)])
    return data


def read_counter(path: Path) -> int:
    """Return the number that a database holds."""
    with closing(sqlite3.connect(path)) as connection:
        return int(connection.execute("SELECT value FROM counter").fetchone()[0])


def list_files(folder: Path) -> dict[str, bytes]:
    """Return the content of all files below a folder, by path."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_backup_is_restored_with_its_rights_and_the_data_of_before_is_kept(tmp_path: Path) -> None:
    """Everything but Kafka's folder comes back; nobody but the owner may read the backup or the data."""
    data, env_file, backups = make_data(tmp_path), tmp_path / ".env", tmp_path / "backups"
    env_file.write_text("PORT_BASE=8600\n")
    backup = create_backup(data, env_file, backups)
    assert stat.S_IMODE(backup.stat().st_mode) == 0o600
    assert stat.S_IMODE(backups.stat().st_mode) == 0o700
    assert list(backups.iterdir()) == [backup]
    with closing(sqlite3.connect(data / DATABASES[0])) as connection, connection:
        connection.execute("UPDATE counter SET value = 7")
    env_file.unlink()
    kept = restore_backup(backup, data, env_file)
    assert kept is not None
    assert read_counter(kept / DATABASES[0]) == 7
    assert (kept / "kafka" / "log").exists()
    assert sorted(each.name for each in data.iterdir()) == sorted((*DATABASES, "secrets.json"))
    assert [read_counter(data / name) for name in DATABASES] == [0, 0]
    assert (data / "secrets.json").read_text() == SECRETS
    assert env_file.read_text() == "PORT_BASE=8600\n"
    assert stat.S_IMODE(data.stat().st_mode) == 0o700
    assert {stat.S_IMODE(each.stat().st_mode) for each in data.iterdir()} == {0o600}


def test_settings_that_are_there_are_not_replaced(tmp_path: Path) -> None:
    """A newer `.env` counts, and an empty machine needs no data folder."""
    data, env_file = make_data(tmp_path), tmp_path / ".env"
    env_file.write_text("PORT_BASE=8600\n")
    backup = create_backup(data, env_file, tmp_path / "backups")
    shutil.rmtree(data)
    env_file.write_text("PORT_BASE=9000\n")
    assert restore_backup(backup, data, env_file) is None
    assert env_file.read_text() == "PORT_BASE=9000\n"
    assert not (data / "env").exists()


def test_both_databases_are_of_one_instant(tmp_path: Path) -> None:
    """A writer counts in one, then in the other: no backup has the second count without the first, or two apart."""
    data, backups = make_data(tmp_path), tmp_path / "backups"
    ended = threading.Event()

    def count() -> None:
        connections = [sqlite3.connect(data / name, timeout=60) for name in DATABASES]
        while not ended.is_set():
            for connection in connections:
                with connection:
                    connection.execute("UPDATE counter SET value = value + 1")
        for connection in connections:
            connection.close()

    writer = threading.Thread(target=count)
    writer.start()
    try:
        for number in range(8):
            backup = create_backup(data, tmp_path / ".env", backups / str(number))
            restore_backup(backup, tmp_path / "restored" / str(number) / "data", tmp_path / ".env")
    finally:
        ended.set()
        writer.join()
    counts = [
        tuple(read_counter(tmp_path / "restored" / str(number) / "data" / name) for name in DATABASES)
        for number in range(8)
    ]
    assert all(first - second in (0, 1) for first, second in counts), counts


def damage(path: Path) -> None:
    """Fill the second half of a file with noise."""
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2] + random.randbytes(len(content) - len(content) // 2))


@pytest.mark.parametrize("spoil", [damage, lambda path: path.write_text("<html>no database</html>" * 99)])
@pytest.mark.parametrize("name", DATABASES)
def test_no_backup_is_made_of_a_damaged_database(tmp_path: Path, name: str, spoil: Callable[[Path], None]) -> None:
    """A backup that could not be restored would only be found out when it is needed."""
    data = make_data(tmp_path)
    spoil(data / name)
    with pytest.raises(LocalError, match=f"{name} is damaged"):
        create_backup(data, tmp_path / ".env", tmp_path / "backups")
    assert list((tmp_path / "backups").iterdir()) == []


def pack(path: Path, members: dict[str, bytes | tarfile.TarInfo]) -> Path:
    """Write an archive with these members: content, or a special entry."""
    with tarfile.open(path, "w:gz") as archive:
        for name, content in members.items():
            if isinstance(content, tarfile.TarInfo):
                archive.addfile(content)
            else:
                entry = tarfile.TarInfo(name)
                entry.size = len(content)
                archive.addfile(entry, io.BytesIO(content))
    return path


def pack_pairs(path: Path, members: list[tuple[str, bytes]]) -> Path:
    """Write an archive with these members in this order; a name may come twice."""
    with tarfile.open(path, "w:gz") as archive:
        for name, content in members:
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return path


def write_bomb(path: Path) -> None:
    """Write an archive whose first member says that it is larger than any disk."""
    entry = tarfile.TarInfo("collector.db")
    entry.size = 1 << 60
    with gzip.open(path, "wb") as file:
        file.write(entry.tobuf(tarfile.GNU_FORMAT) + bytes(1 << 16))


def make_link(name: str, target: str) -> tarfile.TarInfo:
    """Return an entry of an archive that is a symbolic link."""
    entry = tarfile.TarInfo(name)
    entry.type, entry.linkname = tarfile.SYMTYPE, target
    return entry


def change_byte(content: bytes) -> bytes:
    """Return the content with one byte in its middle changed."""
    changed = bytearray(content)
    changed[random.randrange(100, len(content))] ^= 1 << random.randrange(8)
    return bytes(changed)


BAD_BACKUPS: dict[str, Callable[[Path, Path], object]] = {
    "missing": lambda _whole, bad: None,
    "a folder": lambda _whole, bad: bad.mkdir(),
    "empty": lambda _whole, bad: bad.touch(),
    "text": lambda _whole, bad: bad.write_text("towerwatch"),
    "truncated": lambda whole, bad: bad.write_bytes(whole.read_bytes()[:-400]),
    "noise in its middle": lambda whole, bad: bad.write_bytes(
        whole.read_bytes()[:2000] + random.randbytes(2000) + whole.read_bytes()[4000:]
    ),
    "one byte changed": lambda whole, bad: bad.write_bytes(change_byte(whole.read_bytes())),
    "secrets that are none": lambda _whole, bad: pack(bad, {"secrets.json": b"[]"}),
    "empty secrets": lambda _whole, bad: pack(bad, {"secrets.json": b""}),
    "a setting that is none of ours": lambda _whole, bad: pack(
        bad, {"secrets.json": SECRETS.encode(), "env": b"PORT_BASE=8600\nPYTHONWARNINGS=all:0:antigravity.x:0:0\n"}
    ),
    "a name twice": lambda _whole, bad: pack_pairs(bad, [("secrets.json", SECRETS.encode())] * 2),
    "more than there is space for": lambda _whole, bad: write_bomb(bad),
    "no secrets": lambda _whole, bad: pack(bad, {"user_manager.db": b""}),
    "a path upwards": lambda _whole, bad: pack(bad, {"secrets.json": b"{}", "../escaped": b"x"}),
    "an absolute path": lambda _whole, bad: pack(bad, {"secrets.json": b"{}", "/tmp/escaped": b"x"}),
    "a link": lambda _whole, bad: pack(bad, {"secrets.json": make_link("secrets.json", "/etc/passwd")}),
    "somebody's archive": lambda _whole, bad: pack(bad, {"secrets.json": b"{}", "README": b"hello"}),
    "no database in it": lambda _whole, bad: pack(bad, {"secrets.json": b"{}", "collector.db": b"hello" * 2000}),
}


@pytest.mark.parametrize("spoil", BAD_BACKUPS.values(), ids=BAD_BACKUPS)
def test_a_bad_backup_changes_nothing(tmp_path: Path, spoil: Callable[[Path, Path], object]) -> None:
    """It is read and checked whole before anything is touched."""
    data, env_file = make_data(tmp_path / "machine"), tmp_path / "machine" / ".env"
    whole = create_backup(data, env_file, tmp_path / "backups")
    bad = tmp_path / "bad.tar.gz"
    spoil(whole, bad)
    before = list_files(tmp_path / "machine")
    with pytest.raises(LocalError, match=r"bad\.tar\.gz"):
        restore_backup(bad, data, env_file)
    assert list_files(tmp_path / "machine") == before


def test_a_restore_that_is_killed_between_its_two_renames_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without it the next start would make new secrets and empty databases; the restore can be run again."""
    data, env_file = make_data(tmp_path), tmp_path / ".env"
    backup = create_backup(data, env_file, tmp_path / "backups")
    require_no_interrupted_restore(data)
    rename = Path.rename

    def die_at_the_second(path: Path, target: Path) -> Path:
        if path != data:
            raise KeyboardInterrupt
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", die_at_the_second)
    with pytest.raises(KeyboardInterrupt):
        restore_backup(backup, data, env_file)
    monkeypatch.undo()
    with pytest.raises(LocalError, match="a restore was interrupted: run it again"):
        require_no_interrupted_restore(data)
    restore_backup(backup, data, env_file)
    require_no_interrupted_restore(data)
    assert [read_counter(data / name) for name in DATABASES] == [0, 0]


def test_without_data_there_is_no_backup(tmp_path: Path) -> None:
    """An empty backup would look like one."""
    with pytest.raises(LocalError, match="there is no data"):
        create_backup(tmp_path / "data", tmp_path / ".env", tmp_path / "backups")
