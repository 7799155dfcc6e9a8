"""Recovery from a changelog in which records of a worker that was replaced came late."""

from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, strategies as st

from streams.app import create_app
from streams.settings import StreamsSettings
from streams.state import encode_interest
from streams.tables import SequencedTable


def a_table() -> SequencedTable:
    """The table of interests; its entries are small."""
    settings = StreamsSettings(kafka_bootstrap_servers="127.0.0.1:1", web_port=1, data_dir=Path("unused"))
    app = create_app(settings)
    app.finalize()
    table = app.tables["interests"]
    assert isinstance(table, SequencedTable)
    return table


def records(*pairs: tuple[bytes, int]) -> list[Any]:
    found = []
    for offset, (key, sequence) in enumerate(pairs):
        entry = encode_interest(sequence, None)
        message = SimpleNamespace(key=key, value=entry, partition=0, offset=offset)
        found.append(SimpleNamespace(message=message, key=key, value=entry))
    return found


def test_what_was_deleted_is_not_recovered() -> None:
    """A tombstone has no sequence, and is taken all the same."""
    table = a_table()
    events = records((b"a", 1), (b"b", 2), (b"a", 3))
    events[2].message.value = events[2].value = None
    table.apply_changelog_batch(events)
    assert set(table.data) == {b"b"}
    table.apply_changelog_batch(records((b"a", 4)))
    assert set(table.data) == {b"a", b"b"}


@given(
    log=st.lists(st.tuples(st.sampled_from([b"a", b"b"]), st.integers(1, 9)), max_size=20),
    cuts=st.lists(st.integers(0, 20), max_size=3),
)
def test_the_highest_sequence_is_recovered_wherever_it_lies_in_the_changelog(log, cuts) -> None:
    """However Faust cuts the changelog into batches."""
    table = a_table()
    events = records(*log)
    bounds = [0, *sorted(cuts), len(events)]
    for begin, end in pairwise(bounds):
        table.apply_changelog_batch(events[begin:end])
    highest = {key: max(sequence for other, sequence in log if other == key) for key, _ in log}
    assert dict(table.data) == {key: encode_interest(sequence, None) for key, sequence in highest.items()}


def test_the_last_write_of_each_partition_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """An event is acknowledged only once the broker has it."""
    table = a_table()
    sent: list[Any] = []
    monkeypatch.setattr(
        type(table).__mro__[1], "send_changelog", lambda *_args, **_options: sent.append(1) or len(sent)
    )
    assert table.last_write(3) is None
    table.send_changelog(3, b"a", b"1")
    table.send_changelog(4, b"b", b"1")
    table.send_changelog(3, b"a", b"2")
    assert (table.last_write(3), table.last_write(4)) == (3, 2)
