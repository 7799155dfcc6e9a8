"""Tables on disk: RocksDB as this house runs it, and the directory that it lies in.

What is on disk is a copy: the changelogs have it all. So a copy that cannot be read is thrown away and made anew.
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

log = structlog.get_logger()

P = ParamSpec("P")
T = TypeVar("T")

STORE_URL: Final = "rocksdict://"
"""The `store` of a Faust app whose tables are on disk."""

BLOCK_CACHE: Final = 64 << 20
"""Bytes for blocks that were read, of all tables of a worker together. Faust would give 2 GiB to each partition."""

WRITE_BUFFERS: Final = 64 << 20
"""Bytes for what is not on disk yet, of all together. Faust would give 3 × 64 MiB to each partition."""

_WRITE_BUFFER: Final = 4 << 20
"""Bytes of one buffer: a partition that is written more moves on to the next, and this one goes to disk."""

_OPEN_FILES: Final = 64
"""Of one partition. Faust would have nine tenths of what the process may open, for each."""

_CORRUPTION_TEXTS: Final = ("Corruption:", "No such file or directory")
"""How RocksDB says that its files are not as it left them. Its binding raises plain `Exception`s."""


class DataDirError(ChassisError):
    """The directory for a worker's tables cannot be used."""


class DataDirTakenError(DataDirError):
    """Another worker keeps its tables there."""


class ForeignDataDirError(DataDirError):
    """The tables there are recovered up to offsets of other changelogs: of another service or another cluster."""


class DataDir:
    """The directory of a worker's tables, for as long as the process lives."""

    def __init__(self, path: Path, lock: IO[str]) -> None:
        self._path = path
        self._lock = lock  # released when the process ends, however it ends

    @classmethod
    def claim(cls, path: Path, shared: bool) -> "DataDir":
        """The directory, made where it is missing; a `shared` one may be used by others too, as none keep tables there.

        Raises DataDirError when it cannot be written to, DataDirTakenError when another worker has it.
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

    def require_origin(self, app: str, cluster: str) -> None:
        """Write down, or compare, whose tables these are. Raises ForeignDataDirError when they are another's, and
        DataDirError when that cannot be told.

        A table knows no more than the offset up to which it is recovered: of whatever topic has that name.
        """
        origin, path = f"{app} {cluster}\n", self._path / "origin"
        try:
            found = path.read_text(encoding="utf-8")
        except FileNotFoundError:
            found = origin
        except OSError as error:
            raise DataDirError(f"cannot read {path}: {error.strerror}") from None
        if found != origin:
            raise ForeignDataDirError(
                f"the tables in {self._path} are of {found.strip()!r} (service, cluster), not of {origin.strip()!r}: "
                "name another DATA_DIR, or delete this one and have them recovered"
            )
        try:
            path.write_text(origin, encoding="utf-8")
        except OSError as error:
            raise DataDirError(f"cannot write to {self._path}: {error.strerror}") from None


class TableStore(rocksdb.Store):
    """Faust's store of tables on disk, with its memory bounded and its corruption noticed."""

    logger = FAUST_LOG

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.use_rocksdict = True
        self.rocksdb_options = _RocksDBOptions()

    def _open_for_partition(self, partition: int) -> Rdict:
        """A copy that cannot be read is deleted, and recovered from the changelog from its beginning."""
        path: Path = self.partition_path(partition)
        mark = _get_corruption_marker(path)
        reason = "found while it was read" if mark.exists() else ""
        if not reason:
            try:
                return self._open_database(partition)
            except Exception as error:  # RocksDB's binding raises no other kind; what is no corruption goes on up
                if not _is_corruption(error):
                    raise
                reason = str(error)
        log.error("table.corrupt", table=self.table_name, partition=partition, reason=reason, done="recovering it anew")
        shutil.rmtree(path, ignore_errors=True)
        mark.unlink(missing_ok=True)
        return self._open_database(partition)

    def _open_database(self, partition: int) -> Rdict:
        return cast(Rdict, super()._open_for_partition(partition))

    def persisted_offset(self, tp: TP) -> int | None:
        return self._exit_if_corrupt(super().persisted_offset, tp)

    def apply_changelog_batch(
        self, batch: Iterable[EventT[Any]], to_key: Callable[[Any], Any], to_value: Callable[[Any], Any]
    ) -> None:
        self._exit_if_corrupt(super().apply_changelog_batch, batch, to_key, to_value)

    def _get(self, key: bytes) -> bytes | None:
        return self._exit_if_corrupt(super()._get, key)

    def _contains(self, key: bytes) -> bool:
        return self._exit_if_corrupt(super()._contains, key)

    def list_open_databases(self) -> list[Rdict]:
        """Those of the partitions that are open."""
        return list(self._dbs.values())

    def iter_entries(self, db: Rdict) -> Iterator[tuple[bytes, bytes]]:
        """All entries of one of them."""
        return self._visible_items(db)

    def _visible_items(self, db: Rdict) -> Iterator[tuple[bytes, bytes]]:
        """All entries of a partition. RocksDB's iterator ends before a corrupt block as if there were no more."""
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
        try:
            return read(*args, **kwargs)
        except Exception as error:  # as above
            if not _is_corruption(error):
                raise
            self._exit_as_corrupt(str(error))

    def _exit_as_corrupt(self, reason: str) -> NoReturn:
        """End the process at once, before anything is made of what could not be read; the next one recovers it.

        Whoever raised an error here instead would have the event at hand put aside for it, and not for a fault of its
        own. `reason` names the file, and so the partition; all of them are marked where it does not.
        """
        log.critical("table.corrupt", table=self.table_name, reason=reason, done="ending")
        paths: list[Path] = [self.partition_path(each) for each in self._dbs]
        for path in [each for each in paths if f"{each}/" in reason] or paths:
            _get_corruption_marker(path).touch()
        os._exit(1)


class _RocksDBOptions(rocksdb.RocksDBOptions):
    """For many small databases in one process: each table has one for each partition."""

    def as_options(self) -> Options:
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
        options.set_keep_log_file_num(2)  # of its own log; a thousand by default
        options.set_max_log_file_size(1 << 20)
        return options


@cache
def _get_block_cache() -> Cache:
    return Cache(BLOCK_CACHE)


@cache
def _get_write_buffer_manager() -> WriteBufferManager:
    return WriteBufferManager(WRITE_BUFFERS, False)


def _get_corruption_marker(path: Path) -> Path:
    """What stands beside a database that was found to be corrupt."""
    return path.with_name(f"{path.name}.corrupt")


def _is_corruption(error: Exception) -> bool:
    return any(each in str(error) for each in _CORRUPTION_TEXTS)


def _find_last_key(db: Rdict) -> bytes | None:
    """The greatest key; raises what its block's corruption raises."""
    at = db.iter()
    at.seek_to_last()
    at.status()
    return at.key() if at.valid() else None


STORES.aliases["rocksdict"] = f"{__name__}:{TableStore.__name__}"
