"""Tables on disk: recovery after a restart, the lock and origin of the directory, and corrupt files."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest
from faust.types import TP
from rocksdict import WriteBatch

from chassis.faust import store as stream_store
from chassis.faust.store import (
    BLOCK_CACHE,
    DataDir,
    DataDirError,
    DataDirTakenError,
    ForeignDataDirError,
    TableStore,
)
from chassis.log_identity import LogIdentity
from local.kafka import Broker
from tests.chassis.faust.example_app import (
    ExampleSettings,
    create_app,
    publish,
    read_counts,
    read_recovered_count,
    run_ready_worker,
    start_worker,
)
from tests.waiting import eventually

ON_DISK = {"STORE": "rocksdb"}


def test_only_one_worker_may_use_a_data_directory(tmp_path: Path) -> None:
    """The lock lasts as long as the worker. Workers with tables in memory may share a directory among themselves."""
    path = tmp_path / "deep" / "data"
    first = DataDir.claim(path, shared=False)
    for shared in (False, True):
        with pytest.raises(DataDirTakenError):
            DataDir.claim(path, shared)
    first._lock.close()
    together = [DataDir.claim(path, shared=True), DataDir.claim(path, shared=True)]
    with pytest.raises(DataDirTakenError, match=f"another worker keeps its tables in {path}"):
        DataDir.claim(path, shared=False)
    assert together


def test_a_data_directory_belongs_to_one_service(tmp_path: Path) -> None:
    """Another service's changelogs have other names, and its files are not deleted."""
    directory = DataDir.claim(tmp_path, shared=False)
    identity = LogIdentity("cluster1", {"a-changelog": "id1"})
    directory.claim_for("streams", identity)
    with pytest.raises(ForeignDataDirError, match="delete this one"):
        directory.claim_for("replay", identity)
    (tmp_path / "origin").unlink()
    (tmp_path / "origin").mkdir()
    with pytest.raises(DataDirError, match="cannot read"):
        directory.claim_for("streams", identity)


@pytest.mark.parametrize(
    ("now", "stays"),
    [
        (LogIdentity("cluster1", {"a-changelog": "id1", "new": "id9"}), True),
        (LogIdentity("cluster2", {"a-changelog": "id1"}), False),
        (LogIdentity("cluster1", {"a-changelog": "id2"}), False),
    ],
    ids=["the same log", "another cluster", "a topic made anew"],
)
@pytest.mark.parametrize("has_topics", [True, False], ids=["", "of an earlier version"])
def test_tables_of_another_log_are_deleted(tmp_path: Path, now: LogIdentity, stays: bool, has_topics: bool) -> None:
    """Their offsets mean nothing in a log that was lost and made anew, although its topics have the same names."""
    directory = DataDir.claim(tmp_path, shared=False)
    if has_topics:
        directory.claim_for("streams", LogIdentity("cluster1", {"a-changelog": "id1"}))
    else:
        (tmp_path / "origin").write_text("streams cluster1\n", encoding="utf-8")
    table = tmp_path / "v1" / "tables" / "airports-0.db"
    table.mkdir(parents=True)
    (table / "CURRENT").touch()
    directory.claim_for("streams", now)
    assert table.exists() == (stays or (now.cluster == "cluster1" and not has_topics))
    if not has_topics:
        return
    table.mkdir(parents=True, exist_ok=True)
    directory.claim_for("streams", now)
    assert table.exists(), "the log is known from now on"


@pytest.fixture
def store(tmp_path: Path) -> TableStore:
    """Return a table's store with 20,000 entries in partition 0 and one in partition 1, all in files."""
    return create_filled_store(tmp_path)


def create_filled_store(tmp_path: Path) -> TableStore:
    """Create a store with 20,000 entries in partition 0 and one in partition 1."""
    settings = ExampleSettings(
        kafka_bootstrap_servers="a:1", web_port=1, data_dir=tmp_path, store="rocksdb", service="example"
    )

    async def create() -> TableStore:
        app = create_app(settings)
        app.finalize()
        return app.tables["counts"].data  # type: ignore[return-value]

    store = asyncio.run(create())
    batch = WriteBatch(raw_mode=True)
    for number in range(20_000):
        batch.put(b"%06d" % number, b"x" * 50)
    store._db_for_partition(0).write(batch)
    store._db_for_partition(1).put(b"other", b"1")
    return store


def close(store: TableStore) -> None:
    """Write all buffers to files and close the store, as at a stop."""
    for db in store._dbs.values():
        db.flush()
    asyncio.run(store.stop())


class ProcessExitError(Exception):
    """Raised in place of the exit of the process."""


@pytest.fixture
def exit_raises(monkeypatch) -> None:
    """Make `os._exit` raise ProcessExitError."""

    def exit_process(code: int) -> None:
        raise ProcessExitError(code)

    monkeypatch.setattr(stream_store.os, "_exit", exit_process)


def test_memory_is_bounded_for_all_tables_together(store: TableStore) -> None:
    """Faust would give each partition of each table a block cache of 2 GiB and write buffers of 192 MiB."""
    assert stream_store._get_block_cache() is stream_store._get_block_cache()
    assert stream_store._get_write_buffer_manager().get_buffer_size() == stream_store.WRITE_BUFFERS
    assert stream_store._get_write_buffer_manager().get_usage() > 1 << 20, "the store's databases take from it"
    for db in store._dbs.values():
        db.flush()
    assert all(db.property_int_value("rocksdb.block-cache-capacity") == BLOCK_CACHE for db in store._dbs.values())
    assert len(list(store._visible_items(store._dbs[0]))) == 20_000
    assert 0 < stream_store._get_block_cache().get_usage() <= BLOCK_CACHE


def overwrite_file(pattern: str) -> Callable[[Path], None]:
    """Return a function that overwrites one matching file of a database with zeros."""

    def overwrite(path: Path) -> None:
        (found, *_) = path.glob(pattern)
        found.write_bytes(b"\x00" * found.stat().st_size)

    return overwrite


def remove_file(pattern: str) -> Callable[[Path], None]:
    """Return a function that removes one matching file of a database."""

    def remove(path: Path) -> None:
        (found, *_) = path.glob(pattern)
        found.unlink()

    return remove


@pytest.mark.parametrize(
    "harm",
    [
        overwrite_file("CURRENT"),
        overwrite_file("MANIFEST*"),
        overwrite_file("*.sst"),
        remove_file("MANIFEST*"),
        remove_file("*.sst"),
    ],
)
def test_a_corrupt_database_is_replaced_by_an_empty_one(store: TableStore, harm: Callable[[Path], None]) -> None:
    """The empty database is then recovered from the changelog; other partitions are not changed."""
    store.set_persisted_offset(tp(0), 99)
    store.set_persisted_offset(tp(1), 7)
    close(store)
    harm(store.partition_path(0))
    assert store.persisted_offset(tp(0)) is None
    assert list(store._visible_items(store._db_for_partition(0))) == []
    assert store.persisted_offset(tp(1)) == 7
    assert list(store._visible_items(store._db_for_partition(1))) == [(b"other", b"1")]


def tp(partition: int) -> TP:
    return TP("example-counts-changelog", partition)


def spoil(path: Path) -> None:
    """Overwrite a block in the middle of a file, which RocksDB detects only when it reads the block."""
    (found,) = path.glob("*.sst")
    content = bytearray(found.read_bytes())
    middle = len(content) // 3
    content[middle : middle + 4096] = bytes(4096)
    found.write_bytes(content)


def test_corruption_that_is_found_by_a_read_ends_the_process(store: TableStore, exit_raises: None) -> None:
    """The next process recovers the corrupt partition, and only this one.

    RocksDB returns fewer entries without an error; and an error would be taken for a fault of the event in progress.
    """
    close(store)
    spoil(store.partition_path(0))
    store._db_for_partition(1)
    assert len(list(store._db_for_partition(0).items())) < 20_000
    for read in (
        lambda: list(store._visible_items(store._db_for_partition(0))),
        lambda: list(store._visible_keys(store._db_for_partition(0))),
        lambda: list(store._visible_values(store._db_for_partition(0))),
        lambda: [store._get(b"%06d" % number) for number in range(20_000)],
    ):
        with pytest.raises(ProcessExitError):
            read()
    assert [each.name for each in store.path.parent.rglob("*.corrupt")] == ["counts-0.db.corrupt"]
    close(store)
    assert list(store._visible_items(store._db_for_partition(0))) == []
    assert list(store._visible_items(store._db_for_partition(1))) == [(b"other", b"1")]
    close(store)
    assert not list(store.path.parent.rglob("*.corrupt")), "the marker is removed"


def test_other_errors_are_raised(store: TableStore, monkeypatch) -> None:
    """A full disk does not make the store delete a database."""

    def full(_path: Path, **_options: object) -> None:
        raise Exception("IO error: No space left on device: While open a file for appending")

    close(store)
    store.rocksdb_options.open = full  # type: ignore[assignment]
    with pytest.raises(Exception, match="No space"):
        store._db_for_partition(0)
    assert store.partition_path(0).is_dir()


def test_a_restart_recovers_only_what_is_not_on_disk(kafka: Broker, tmp_path: Path) -> None:
    """This holds after kill -9 and after the corruption of a file; no count is lost, and no other worker may start."""
    servers = kafka.bootstrap_servers
    with run_ready_worker(tmp_path, servers, "disk", **ON_DISK) as worker:
        publish(servers, "disk", 600, keys=300)
        eventually(lambda: sum(read_counts(worker).values()) == 600)
        with start_worker(tmp_path, servers, "disk", **ON_DISK) as second:
            assert second.process.wait(120) == 2
            assert second.log().startswith(f"disk: another worker keeps its tables in {tmp_path / 'data'}: give each ")
        worker.kill()
    with start_worker(tmp_path, servers, "other", **ON_DISK) as foreign:
        assert foreign.process.wait(120) == 2
        assert foreign.log().startswith(f"other: the tables in {tmp_path / 'data'} are of the service 'disk', not")

    # Faust begins with the last record of a partition that is on disk; one partition has 200 of the 600 records.
    data = tmp_path / "data"
    for harm, where, most in ((None, data, 3), (overwrite_file("CURRENT"), data / "v1/tables/counts-1.db", 202)):
        if harm is not None:
            harm(where)
        with run_ready_worker(tmp_path, servers, "disk", **ON_DISK) as worker:
            assert read_recovered_count(worker) <= most
            counts = read_counts(worker)
            assert (len(counts), set(counts.values())) == (300, {2})
            assert worker.terminate() == 0
