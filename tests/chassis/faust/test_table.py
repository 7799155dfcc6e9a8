"""The deletion of expired entries from a worker's copy of a table."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from rocksdict import WriteBatch

from chassis.faust.app import create_stream_app
from chassis.faust.settings import StreamSettings
from chassis.faust.table import DirectTable, add_table

ENTRIES = {b"%04d" % number: b"old" if number % 3 else b"new" for number in range(900)}


@pytest.mark.parametrize("store", ["memory", "rocksdb"])
def test_expired_entries_are_deleted_only_from_the_local_copy(store: str, tmp_path: Path) -> None:
    """All assigned partitions are purged, and the stored offset of a partition is kept.

    Nothing is published to the changelog: its own retention deletes the records, and tombstones would be as many
    records again.
    """

    async def scenario() -> None:
        settings = StreamSettings(kafka_bootstrap_servers="127.0.0.1:1", web_port=1, data_dir=tmp_path, store=store)
        app = create_stream_app("purging", settings, 3)
        table = add_table(app, DirectTable, "entries", 3, "Old and new ones")
        app.finalize()
        published: list[bytes] = []
        table.on_key_del = published.append  # type: ignore[method-assign, assignment]
        fill(table)
        assert await table.purge(lambda value: value == b"old") == 600
        assert read_entries(table) == {key: value for key, value in ENTRIES.items() if value == b"new"}
        assert await table.purge(lambda value: value == b"old") == 0
        assert published == []
        if store == "rocksdb":
            data: Any = table.data
            assert [data._db_for_partition(number).get(data.offset_key) for number in range(3)] == [b"old"] * 3
            await data.stop()

    def fill(table: DirectTable) -> None:
        data: Any = table.data
        if store == "memory":
            data.data.update(ENTRIES)
            return
        for partition in range(3):
            batch = WriteBatch(raw_mode=True)
            for number, (key, value) in enumerate(ENTRIES.items()):
                if number % 3 == partition:
                    batch.put(key, value)
            batch.put(data.offset_key, b"old")
            data._db_for_partition(partition).write(batch)

    def read_entries(table: DirectTable) -> dict[bytes, bytes]:
        data: Any = table.data
        if store == "memory":
            return dict(data.data)
        return {key: value for db in data.list_open_databases() for key, value in data.iter_entries(db)}

    asyncio.run(scenario())
