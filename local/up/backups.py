"""Backup of a stack for daily use into one file, and its restoration into a data folder.

A backup holds what cannot be had again: the two databases, the secrets that links and tokens depend on, and `.env`.
Kafka's data is not in it: the collector publishes interests and flights anew to an empty log. Nor are the mailbox's
mails and the logs.
"""

import gzip
import io
import os
import shutil
import sqlite3
import tarfile
import tempfile
import time
import zlib
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final

from local.errors import LocalError
from local.processes import ROOT

BACKUPS: Final = ROOT / ".towerwatch" / "backups"

DATABASES: Final = ("collector.db", "user_manager.db")
_SECRETS: Final = "secrets.json"
_ENV: Final = "env"
_NAMES: Final = (*DATABASES, _SECRETS, _ENV)
_LOCK_WITHIN_S: Final = 60.0


def create_backup(data: Path, env_file: Path, folder: Path = BACKUPS) -> Path:
    """Write a backup of the data folder, also while the stack runs, and return its path; only its owner may read it.

    Both databases are copied as of one instant: as long as that takes, which is seconds, no service writes. Raises
    LocalError if there is no data, a database is damaged or stays locked, or the backup cannot be written; then no file
    of that name exists.
    """
    if not (data / _SECRETS).exists():
        raise LocalError(f"there is no data in {data} to back up")
    name = time.strftime("towerwatch-%Y%m%dT%H%M%SZ.tar.gz", time.gmtime())
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with tempfile.TemporaryDirectory(dir=folder, prefix=".part-") as part:
            copies = Path(part)
            _copy_databases(data, copies)
            shutil.copyfile(data / _SECRETS, copies / _SECRETS)
            if env_file.exists():
                shutil.copyfile(env_file, copies / _ENV)
            packed = copies / name
            with open(os.open(packed, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:  # noqa: PTH123 - with its rights from the first byte on
                with tarfile.open(fileobj=file, mode="w:gz") as archive:
                    for member in _NAMES:
                        if (copies / member).exists():
                            archive.add(copies / member, member)
                file.flush()
                os.fsync(file.fileno())
            return packed.replace(folder / name)
    except OSError as error:
        raise LocalError(f"the backup cannot be written to {folder} ({error.strerror})") from None


def _copy_databases(data: Path, copies: Path) -> None:
    """Copy both databases, as they are at one instant in which no service is in the middle of a write.

    A database that was never made is left out. Raises LocalError if one is damaged or stays locked.
    """
    paths = [data / name for name in DATABASES if (data / name).exists()]
    with _hold_write_locks(paths):
        for path in paths:
            with closing(sqlite3.connect(path)) as source, closing(sqlite3.connect(copies / path.name)) as copy:
                try:
                    source.backup(copy)
                except sqlite3.DatabaseError:
                    raise LocalError(_describe_damage(path)) from None
            _require_intact(copies / path.name, _describe_damage(path))


@contextmanager
def _hold_write_locks(paths: list[Path]) -> Iterator[None]:
    """Hold the write locks of SQLite files for the block; readers are not hindered.

    Raises LocalError if a service holds one for longer than a minute, or a file is damaged.
    """
    connections = []
    try:
        for path in paths:
            connection = sqlite3.connect(path, timeout=_LOCK_WITHIN_S, isolation_level=None)
            connections.append(connection)
            try:
                connection.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError:
                raise LocalError(f"{path.name} stays locked by another program: end it, and try again") from None
            except sqlite3.DatabaseError:
                raise LocalError(_describe_damage(path)) from None
        yield
    finally:
        for connection in connections:
            connection.close()


def _describe_damage(path: Path) -> str:
    """Return the sentence about a database of the stack that is damaged."""
    return f"{path.name} is damaged, and no backup is made of it: `make down`, then `make restore` from an earlier one"


def _require_intact(path: Path, sentence: str) -> None:
    """Read each page of an SQLite file. Raises LocalError with the sentence if it is none, or damaged."""
    try:
        with closing(sqlite3.connect(path)) as connection:
            verdict = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
    except sqlite3.DatabaseError:
        verdict = "no database"
    if verdict != "ok":
        raise LocalError(sentence)


def restore_backup(backup: Path, data: Path, env_file: Path) -> Path | None:
    """Make the data folder anew from a backup; the folder as it was is kept beside it, and its path is returned.

    Returns None if there was none. `.env` is restored only if there is none. The stack must not run. Raises LocalError,
    and changes nothing, if the file is no backup or is damaged.
    """
    data.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=data.parent, prefix=".restore-") as part:
        fresh = Path(part) / "data"
        fresh.mkdir(mode=0o700)
        for name, content in _read_members(backup).items():
            with open(os.open(fresh / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:  # noqa: PTH123 - with its rights from the first byte on
                file.write(content)
        for path in fresh.glob("*.db"):
            _require_intact(path, f"{path.name} of {backup} is damaged; take another backup")
        if (fresh / _ENV).exists():
            if env_file.exists():
                (fresh / _ENV).unlink()
            else:
                (fresh / _ENV).replace(env_file)
        kept = None
        if data.exists():
            kept = data.with_name(f"{data.name}.before-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}")
            data.rename(kept)
        fresh.rename(data)
        return kept


def _read_members(backup: Path) -> dict[str, bytes]:
    """Return the files of a backup by name. Raises LocalError if it cannot be read, or is no backup of ours."""
    try:
        with gzip.open(backup) as packed:
            content = io.BytesIO(packed.read())  # to its end, where its checksum is compared
        with tarfile.open(fileobj=content) as archive:
            members = {member.name: member for member in archive.getmembers()}
            if not {_SECRETS} <= members.keys() <= {*_NAMES} or not all(each.isreg() for each in members.values()):
                raise LocalError(f"{backup} is no backup of Towerwatch; `make backup` makes them")
            return {name: (archive.extractfile(each) or io.BytesIO()).read() for name, each in members.items()}
    except FileNotFoundError:
        raise LocalError(f"there is no file {backup}") from None
    except (OSError, EOFError, zlib.error, tarfile.TarError):
        raise LocalError(f"{backup} cannot be read as a backup: it is damaged or something else") from None
