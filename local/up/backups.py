"""Backup of a stack for daily use into one file, and its restoration into a data folder.

A backup holds what cannot be had again: the two databases, the secrets that links and tokens depend on, and `.env`.
Kafka's data is not in it: the collector publishes interests and flights anew to an empty log. Nor are the mailbox's
mails and the logs.
"""

import gzip
import json
import os
import re
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
from local.stack import Secrets
from local.up.env_file import read_env_file

BACKUPS: Final = ROOT / ".towerwatch" / "backups"
EXAMPLE: Final = ROOT / ".env.example"

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
    and changes nothing, if the file is no backup or is damaged, or its `.env` sets what is no setting of Towerwatch.
    """
    data.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=data.parent, prefix=".restore-") as part:
        fresh = Path(part) / "data"
        fresh.mkdir(mode=0o700)
        _extract_members(backup, fresh)
        for path in fresh.glob("*.db"):
            _require_intact(path, f"{path.name} of {backup} is damaged; take another backup")
        _require_secrets(fresh / _SECRETS, backup)
        settings = fresh / _ENV
        if settings.exists() and not env_file.exists():
            _require_known_settings(settings, backup)
        kept = None
        find_restore_mark(data).touch()
        if data.exists():
            kept = data.with_name(f"{data.name}.before-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}")
            data.rename(kept)
        if settings.exists() and not env_file.exists():
            settings.replace(env_file)
        settings.unlink(missing_ok=True)
        fresh.rename(data)
        find_restore_mark(data).unlink()
        return kept


def find_restore_mark(data: Path) -> Path:
    """Return the path of the file that is there while a restore has begun to change things, and has not ended."""
    return data.with_name(f"{data.name}.restoring")


def require_no_interrupted_restore(data: Path) -> None:
    """Raise LocalError if a restore was killed in the middle: without it, new and empty data would be made."""
    if find_restore_mark(data).exists():
        raise LocalError(
            f"a restore was interrupted: run it again, or put back the folder {data.name}.before-… and delete "
            f"{find_restore_mark(data)}"
        )


def _extract_members(backup: Path, folder: Path) -> None:
    """Write the files of a backup to a folder, each readable by its owner alone, and compare the archive's checksum.

    Raises LocalError if the archive cannot be read, is no backup of ours, or is larger than the free space.
    """
    free = shutil.disk_usage(folder).free
    found = set()
    try:
        with gzip.open(backup) as unpacked:
            with tarfile.open(fileobj=unpacked, mode="r|") as archive:
                for member in archive:
                    if member.name not in _NAMES or member.name in found or not member.isreg():
                        raise LocalError(f"{backup} is no backup of Towerwatch; `make backup` makes them")
                    found.add(member.name)
                    free -= member.size
                    if free < 0:
                        raise LocalError(f"there is not enough space for what is in {backup}: make room")
                    content = archive.extractfile(member)
                    assert content is not None, "a regular file has content"  # noqa: S101 - for mypy
                    path = folder / member.name
                    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:  # noqa: PTH123 - with its rights from the first byte on
                        shutil.copyfileobj(content, file)
            while unpacked.read(1 << 20):  # to the end, where the checksum is compared
                pass
    except FileNotFoundError:
        raise LocalError(f"there is no file {backup}") from None
    except (OSError, EOFError, zlib.error, tarfile.TarError):
        raise LocalError(f"{backup} cannot be read as a backup: it is damaged or something else") from None
    if _SECRETS not in found:
        raise LocalError(f"{backup} is no backup of Towerwatch; `make backup` makes them")


def _require_secrets(path: Path, backup: Path) -> None:
    """Raise LocalError unless a file holds the secrets of a stack."""
    try:
        Secrets(**json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError):
        raise LocalError(f"{_SECRETS} of {backup} holds no secrets of Towerwatch; take another backup") from None


def _require_known_settings(path: Path, backup: Path) -> None:
    """Raise LocalError if a `.env` sets a variable that is no setting of ours: it might run somebody's program."""
    # Here and not above: the commands that have nothing to restore need not wait for these imports.
    from collector.settings import CollectorSettings
    from notifier.settings import NotifierSettings
    from streams.settings import JoinSettings
    from user_manager.settings import UserManagerSettings

    known = set(re.findall(r"^#?([A-Z][A-Z0-9_]*)=", EXAMPLE.read_text(encoding="utf-8"), re.MULTILINE))
    for settings in (CollectorSettings, JoinSettings, NotifierSettings, UserManagerSettings):
        known |= {variable for name in settings.model_fields for variable in (name.upper(), f"{name.upper()}_FILE")}
    foreign = sorted(read_env_file(path).keys() - known)
    if foreign:
        raise LocalError(
            f"the settings in {backup} set {foreign[0]}, which is no setting of Towerwatch: if you trust the backup, "
            "write a .env of your own, and restore again"
        )
