"""Letting go of old entries of a table's own copy."""

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
def test_what_is_over_is_deleted_here_and_nowhere_else(store: str, tmp_path: Path) -> None:
    """Of each partition that is here. The changelog hears nothing of it: it forgets by itself, and a tombstone for each
    entry would be as much as was ever written. Where a partition goes on is not an entry, and stays."""

    async def doing() -> None:
        settings = StreamSettings(kafka_bootstrap_servers="127.0.0.1:1", web_port=1, data_dir=tmp_path, store=store)
        app = create_stream_app("purging", settings, 3)
        table = add_table(app, DirectTable, "entries", 3, "Old and new ones")
        app.finalize()
        published: list[bytes] = []
        table.on_key_del = published.append  # type: ignore[method-assign, assignment]
        fill(table)
        assert await table.purge(lambda value: value == b"old") == 600
        assert left(table) == {key: value for key, value in ENTRIES.items() if value == b"new"}
        assert await table.purge(lambda value: value == b"old") == 0
        assert published == []
        if store == "rocksdb":
            data: Any = table.data
            assert [data._db_for_partition(each).get(data.offset_key) for each in range(3)] == [b"old"] * 3
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

    def left(table: DirectTable) -> dict[bytes, bytes]:
        data: Any = table.data
        if store == "memory":
            return dict(data.data)
        return {key: value for db in data.list_open_databases() for key, value in data.iter_entries(db)}

    asyncio.run(doing())
