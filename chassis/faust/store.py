"""Tables on disk: the RocksDB store of Faust tables, and the directory of its files.

The files are a copy of the changelogs. Therefore a copy that cannot be read is deleted and recovered.
"""

import fcntl
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import IO, Any, Final, NoReturn, ParamSpec, TypeVar, cast

import structlog
from faust.stores import STORES, rocksdb
from faust.types import TP, EventT
from rocksdict import BlockBasedOptions, Cache, Options, Rdict, WriteBufferManager

from chassis.errors import ChassisError
from chassis.faust.settings import FAUST_LOG
from chassis.log_identity import LogIdentity

log = structlog.get_logger()

P = ParamSpec("P")
T = TypeVar("T")

STORE_URL: Final = "rocksdict://"
"""The value of Faust's `store` setting for tables on disk."""

BLOCK_CACHE: Final = 64 << 20
"""Bytes of the block cache of all tables of a worker together. Faust would give 2 GiB to each partition."""

WRITE_BUFFERS: Final = 64 << 20
"""Bytes of the write buffers of all tables of a worker together. Faust would give 3 × 64 MiB to each partition."""

_WRITE_BUFFER: Final = 4 << 20
"""Bytes of one write buffer; a full buffer is flushed to disk while the partition fills the next one."""

_OPEN_FILES: Final = 64
"""Open files of one partition. Faust would allow each partition nine tenths of what the process may open."""

_CORRUPTION_TEXTS: Final = ("Corruption:", "No such file or directory")
"""Texts in RocksDB's errors about corrupt or missing files; its binding raises plain `Exception`s."""


class DataDirError(ChassisError):
    """The directory for a worker's tables cannot be used."""


class DataDirTakenError(DataDirError):
    """The directory holds the tables of another running worker."""


class ForeignDataDirError(DataDirError):
    """The directory holds tables of another service, so their offsets are of other changelogs."""


class DataDir:
    """The directory of a worker's tables, locked from `claim` until the process ends."""

    def __init__(self, path: Path, lock: IO[str]) -> None:
        self._path = path
        self._lock = lock  # released when the process ends, however it ends

    @classmethod
    def claim(cls, path: Path, shared: bool) -> "DataDir":
        """Lock the directory for this process, creating it if it is missing.

        A `shared` lock is for workers that keep their tables in memory: several of them may use the directory together.
        An exclusive lock is for one worker alone. The lock ends with the process. Raises DataDirError if the directory
        is not writable, DataDirTakenError if another worker's lock prevents this one.
        """
        try:
            path.mkdir(parents=True, exist_ok=True)
            lock = (path / "worker.lock").open("a", encoding="utf-8")
        except OSError as error:
            raise DataDirError(f"cannot write to {path}: {error.strerror}; DATA_DIR names it") from None
        try:
            fcntl.flock(lock, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except OSError:
            lock.close()
            raise DataDirTakenError(
                f"another worker keeps its tables in {path}: give each worker a DATA_DIR of its own"
            ) from None
        return cls(path, lock)

    def claim_for(self, app: str, identity: LogIdentity) -> None:
        """Make the tables those of this service and log, as recorded in the file `origin`; delete those of another log.

        A table on disk stores only the offset up to which it is recovered, without the identity of its changelog. In a
        log that was lost and made anew, or in another cluster, that offset means nothing, and the entries are of events
        that the log does not have: they are deleted, and the tables recovered from what the log has. `identity`: the
        cluster's id, and the ids of the topics that the worker uses. Raises ForeignDataDirError if the tables belong to
        another service, DataDirError if the directory cannot be read or written.
        """
        path = self._path / "origin"
        origin = [f"{app} {identity.cluster}", *(f"{name} {each}" for name, each in sorted(identity.topics.items()))]
        try:
            found = path.read_text(encoding="utf-8").splitlines() or origin
        except FileNotFoundError:
            found = origin
        except OSError as error:
            raise DataDirError(f"cannot read {path}: {error.strerror}") from None
        if found[0].partition(" ")[0] != app:
            raise ForeignDataDirError(
                f"the tables in {self._path} are of the service {found[0].partition(' ')[0]!r}, not of {app!r}: "
                "name another DATA_DIR, or delete this one and have them recovered"
            )
        before = LogIdentity(found[0].partition(" ")[2], dict(_split_pair(line) for line in found[1:]))
        try:
            if (reason := before.find_loss(identity)) is not None:
                log.error("tables.of_another_log", reason=reason, done="deleting them and recovering them anew")
                for tables in self._path.glob("v*/tables/*"):
                    shutil.rmtree(tables) if tables.is_dir() else tables.unlink()
            path.write_text("".join(f"{line}\n" for line in origin), encoding="utf-8")
        except OSError as error:
            raise DataDirError(f"cannot write to {self._path}: {error.strerror}") from None


def _split_pair(line: str) -> tuple[str, str]:
    """Split a line of the file `origin` into a topic's name and its id."""
    name, _, topic_id = line.partition(" ")
    return name, topic_id


class TableStore(rocksdb.Store):
    """Faust's RocksDB store with bounded memory, which detects corrupt files and recovers them from the changelog.

    Faust creates one for each table; it has a database (a directory) per partition. A corrupt database is deleted when
    it is opened. If the corruption is found later, the process marks the database and exits; the next process deletes
    the database.
    """

    logger = FAUST_LOG

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.use_rocksdict = True
        self.rocksdb_options = _RocksDBOptions()

    def _open_for_partition(self, partition: int) -> Rdict:
        """Open the database of a partition; delete a corrupt one first, so that it is recovered from the changelog.

        A database is corrupt if it cannot be opened, or if an earlier process has marked it; this is logged. Other
        errors pass through. Faust calls this.
        """
        path: Path = self.partition_path(partition)
        marker = _get_corruption_marker(path)
        reason = "found while it was read" if marker.exists() else ""
        if not reason:
            try:
                return self._open_database(partition)
            except Exception as error:  # RocksDB's binding raises no other class; other errors are raised again
                if not _is_corruption(error):
                    raise
                reason = str(error)
        log.error("table.corrupt", table=self.table_name, partition=partition, reason=reason, done="recovering it anew")
        shutil.rmtree(path, ignore_errors=True)
        marker.unlink(missing_ok=True)
        return self._open_database(partition)

    def _open_database(self, partition: int) -> Rdict:
        """Open the database of a partition as Faust does; raises the binding's error if its files are corrupt."""
        return cast(Rdict, super()._open_for_partition(partition))

    def persisted_offset(self, tp: TP) -> int | None:
        """Return the changelog offset up to which a partition is stored, or None if nothing is stored.

        Ends the process if the files are corrupt.
        """
        return self._exit_if_corrupt(super().persisted_offset, tp)

    def apply_changelog_batch(
        self, batch: Iterable[EventT[Any]], to_key: Callable[[Any], Any], to_value: Callable[[Any], Any]
    ) -> None:
        """Write changelog records, and their offsets, to the partitions' databases; Faust calls this during a recovery.

        Ends the process if the files are corrupt.
        """
        self._exit_if_corrupt(super().apply_changelog_batch, batch, to_key, to_value)

    def _get(self, key: bytes) -> bytes | None:
        return self._exit_if_corrupt(super()._get, key)

    def _contains(self, key: bytes) -> bool:
        return self._exit_if_corrupt(super()._contains, key)

    def list_open_databases(self) -> list[Rdict]:
        """Return the databases of the partitions that are open."""
        return list(self._dbs.values())

    def iter_entries(self, db: Rdict) -> Iterator[tuple[bytes, bytes]]:
        """Yield all entries (key, value) of one of the open databases; end the process if some cannot be read."""
        return self._visible_items(db)

    def _visible_items(self, db: Rdict) -> Iterator[tuple[bytes, bytes]]:
        """Yield all entries of a partition in the order of their keys; end the process if some cannot be read.

        Faust's own entry, the offset, is left out. The last entry must be that of the greatest key, because RocksDB's
        iterator ends before a corrupt block as if there were no more entries.
        """
        last = self._exit_if_corrupt(_find_last_key, db)
        key = None
        for key, value in cast(Iterable[tuple[bytes, bytes]], db.items()):
            if key != self.offset_key:
                yield key, value
        if key != last:
            self._exit_as_corrupt(f"the entries of {db.path()}/ end early")

    def _visible_keys(self, db: Rdict) -> Iterator[bytes]:
        return (key for key, _ in self._visible_items(db))

    def _visible_values(self, db: Rdict) -> Iterator[bytes]:
        return (value for _, value in self._visible_items(db))

    def _exit_if_corrupt(self, read: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call `read` and return its result; mark the partition and end the process if `read` reports corrupt files.

        Other errors pass through.
        """
        try:
            return read(*args, **kwargs)
        except Exception as error:  # the binding's only class; other errors are raised again
            if not _is_corruption(error):
                raise
            self._exit_as_corrupt(str(error))

    def _exit_as_corrupt(self, reason: str) -> NoReturn:
        """Log and mark the corrupt partition, and exit the process at once with code 1; the next process recovers it.

        An error raised here instead would make the agent dead-letter the event in progress, which is not at fault.
        `reason` contains the file's path, and so the partition; if not, all open partitions are marked.
        """
        log.critical("table.corrupt", table=self.table_name, reason=reason, done="ending")
        paths: list[Path] = [self.partition_path(partition) for partition in self._dbs]
        for path in [path for path in paths if f"{path}/" in reason] or paths:
            _get_corruption_marker(path).touch()
        os._exit(1)


class _RocksDBOptions(rocksdb.RocksDBOptions):
    """RocksDB options for many small databases in one process: each table has one database per partition."""

    def as_options(self) -> Options:
        """Return the options in the form of the RocksDB binding; Faust calls this.

        All databases share one block cache and one manager of write buffers, and each may open 64 files.
        """
        blocks = BlockBasedOptions()
        blocks.set_bloom_filter(10, block_based=False)
        blocks.set_block_cache(_get_block_cache())
        options = Options(raw_mode=True)
        options.create_if_missing(True)
        options.set_block_based_table_factory(blocks)
        options.set_write_buffer_manager(_get_write_buffer_manager())
        options.set_write_buffer_size(_WRITE_BUFFER)
        options.set_max_write_buffer_number(2)
        options.set_target_file_size_base(_WRITE_BUFFER * 4)
        options.set_max_open_files(_OPEN_FILES)
        options.set_keep_log_file_num(2)  # files of RocksDB's own log; 1,000 by default
        options.set_max_log_file_size(1 << 20)
        return options


@cache
def _get_block_cache() -> Cache:
    """Return the block cache that all databases of the process share."""
    return Cache(BLOCK_CACHE)


@cache
def _get_write_buffer_manager() -> WriteBufferManager:
    """Return the manager that bounds the write buffers of all databases of the process together."""
    return WriteBufferManager(WRITE_BUFFERS, False)


def _get_corruption_marker(path: Path) -> Path:
    """Return the path of the file that marks a database as corrupt, beside the database's directory."""
    return path.with_name(f"{path.name}.corrupt")


def _is_corruption(error: Exception) -> bool:
    """Return True if an error of RocksDB means that its files are corrupt or missing, False for other errors."""
    return any(text in str(error) for text in _CORRUPTION_TEXTS)


def _find_last_key(db: Rdict) -> bytes | None:
    """Return the greatest key, or None if the database is empty. Raises the binding's error if its block is corrupt."""
    cursor = db.iter()
    cursor.seek_to_last()
    cursor.status()
    return cursor.key() if cursor.valid() else None


STORES.aliases["rocksdict"] = f"{__name__}:{TableStore.__name__}"
