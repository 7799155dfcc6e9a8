"""Tables on disk: what a restart finds, whose a directory is, and what becomes of files that cannot be read."""

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
from local.kafka import Broker
from tests.chassis.faust.example_app import ExampleSettings, begun, counted, create_app, publish, recovered, running
from tests.waiting import eventually

ON_DISK = {"STORE": "rocksdb"}


def test_a_directory_has_one_worker(tmp_path: Path) -> None:
    """As long as that lives. Workers whose tables are in memory may share one, with nobody who keeps tables there."""
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


def test_a_directory_belongs_to_one_service_of_one_cluster(tmp_path: Path) -> None:
    """The offsets in it are of that one's changelogs; those of another have the same names."""
    directory = DataDir.claim(tmp_path, shared=False)
    directory.require_origin("streams", "cluster1")
    directory.require_origin("streams", "cluster1")
    for app, cluster in (("streams", "cluster2"), ("replay", "cluster1")):
        with pytest.raises(ForeignDataDirError, match="delete this one"):
            directory.require_origin(app, cluster)
    (tmp_path / "origin").unlink()
    (tmp_path / "origin").mkdir()
    with pytest.raises(DataDirError, match="cannot read"):
        directory.require_origin("streams", "cluster1")


@pytest.fixture
def store(tmp_path: Path) -> TableStore:
    """A table's store with 20,000 entries in partition 0 and one in partition 1, all in files."""
    return filled(tmp_path)


def filled(tmp_path: Path) -> TableStore:
    settings = ExampleSettings(
        kafka_bootstrap_servers="a:1", web_port=1, data_dir=tmp_path, store="rocksdb", service="example"
    )

    async def make() -> TableStore:
        app = create_app(settings)
        app.finalize()
        return app.tables["counts"].data  # type: ignore[return-value]

    store = asyncio.run(make())
    batch = WriteBatch(raw_mode=True)
    for number in range(20_000):
        batch.put(b"%06d" % number, b"x" * 50)
    store._db_for_partition(0).write(batch)
    store._db_for_partition(1).put(b"other", b"1")
    return store


def closed(store: TableStore) -> None:
    """As at a stop, with all that is in memory written to files."""
    for db in store._dbs.values():
        db.flush()
    asyncio.run(store.stop())


class Ended(Exception):
    """In place of the end of the process."""


@pytest.fixture
def ends(monkeypatch) -> None:
    def end(code: int) -> None:
        raise Ended(code)

    monkeypatch.setattr(stream_store.os, "_exit", end)


def test_memory_is_bounded_for_all_tables_together(store: TableStore) -> None:
    """Faust would give each partition of each table 2 GiB to cache blocks, and 192 MiB to write."""
    assert stream_store._block_cache() is stream_store._block_cache()
    assert stream_store._write_buffers().get_buffer_size() == stream_store.WRITE_BUFFERS
    assert stream_store._write_buffers().get_usage() > 1 << 20, "the store's databases take from it"
    for db in store._dbs.values():
        db.flush()
    assert all(db.property_int_value("rocksdb.block-cache-capacity") == BLOCK_CACHE for db in store._dbs.values())
    assert len(list(store._visible_items(store._dbs[0]))) == 20_000
    assert 0 < stream_store._block_cache().get_usage() <= BLOCK_CACHE


def overwritten(pattern: str) -> Callable[[Path], None]:
    def overwrite(path: Path) -> None:
        (found, *_) = path.glob(pattern)
        found.write_bytes(b"\x00" * found.stat().st_size)

    return overwrite


def removed(pattern: str) -> Callable[[Path], None]:
    def remove(path: Path) -> None:
        (found, *_) = path.glob(pattern)
        found.unlink()

    return remove


@pytest.mark.parametrize(
    "harm",
    [overwritten("CURRENT"), overwritten("MANIFEST*"), overwritten("*.sst"), removed("MANIFEST*"), removed("*.sst")],
)
def test_a_database_that_cannot_be_opened_is_made_anew(store: TableStore, harm: Callable[[Path], None]) -> None:
    """Empty, so that it is recovered from the changelog; the other partitions are left as they are."""
    store.set_persisted_offset(tp(0), 99)
    store.set_persisted_offset(tp(1), 7)
    closed(store)
    harm(store.partition_path(0))
    assert store.persisted_offset(tp(0)) is None
    assert list(store._visible_items(store._db_for_partition(0))) == []
    assert store.persisted_offset(tp(1)) == 7
    assert list(store._visible_items(store._db_for_partition(1))) == [(b"other", b"1")]


def tp(partition: int) -> TP:
    return TP("example-counts-changelog", partition)


def spoil(path: Path) -> None:
    """Spoil a block in the middle of a file, which nobody notices before it is read."""
    (found,) = path.glob("*.sst")
    content = bytearray(found.read_bytes())
    middle = len(content) // 3
    content[middle : middle + 4096] = bytes(4096)
    found.write_bytes(content)


def test_what_is_found_corrupt_later_ends_the_process(store: TableStore, ends: None) -> None:
    """RocksDB tells of fewer entries than there are, as if that were all, and an error about one would be taken for
    the fault of the event at hand. The next process makes the partition anew, and only that."""
    closed(store)
    spoil(store.partition_path(0))
    store._db_for_partition(1)
    assert len(list(store._db_for_partition(0).items())) < 20_000
    for read in (
        lambda: list(store._visible_items(store._db_for_partition(0))),
        lambda: list(store._visible_keys(store._db_for_partition(0))),
        lambda: list(store._visible_values(store._db_for_partition(0))),
        lambda: [store._get(b"%06d" % number) for number in range(20_000)],
    ):
        with pytest.raises(Ended):
            read()
    assert [each.name for each in store.path.parent.rglob("*.corrupt")] == ["counts-0.db.corrupt"]
    closed(store)
    assert list(store._visible_items(store._db_for_partition(0))) == []
    assert list(store._visible_items(store._db_for_partition(1))) == [(b"other", b"1")]
    closed(store)
    assert not list(store.path.parent.rglob("*.corrupt")), "once is enough"


def test_other_errors_stay_errors(store: TableStore, monkeypatch) -> None:
    """A disk that is full is no reason to delete anything."""

    def full(_path: Path, **_options: object) -> None:
        raise Exception("IO error: No space left on device: While open a file for appending")

    closed(store)
    store.rocksdb_options.open = full  # type: ignore[assignment]
    with pytest.raises(Exception, match="No space"):
        store._db_for_partition(0)
    assert store.partition_path(0).is_dir()


@pytest.mark.timeout(180)
def test_a_restart_reads_only_what_the_directory_does_not_have(kafka: Broker, tmp_path: Path) -> None:
    """After kill -9, and after a file was spoilt. Nothing is missing, and nobody else had any business there."""
    servers = kafka.bootstrap_servers
    with running(tmp_path, servers, "disk", **ON_DISK) as worker:
        publish(servers, "disk", 600, keys=300)
        eventually(lambda: sum(counted(worker).values()) == 600)
        with begun(tmp_path, servers, "disk", **ON_DISK) as second:
            assert second.process.wait(30) == 2
            assert second.log().startswith(f"disk: another worker keeps its tables in {tmp_path / 'data'}: give each ")
        worker.kill()
    with begun(tmp_path, servers, "other", **ON_DISK) as foreign:
        assert foreign.process.wait(30) == 2
        assert foreign.log().startswith(f"other: the tables in {tmp_path / 'data'} are of 'disk ")

    # Faust begins with the last record of a partition that the directory has; one partition has 200 of the 600.
    data = tmp_path / "data"
    for harm, where, read in ((None, data, 3), (overwritten("CURRENT"), data / "v1/tables/counts-1.db", 202)):
        if harm is not None:
            harm(where)
        with running(tmp_path, servers, "disk", **ON_DISK) as worker:
            assert recovered(worker) <= read
            counts = counted(worker)
            assert (len(counts), set(counts.values())) == (300, {2})
            assert worker.terminate() == 0
