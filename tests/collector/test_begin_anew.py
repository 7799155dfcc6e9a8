"""`python -m collector --begin-anew`: the log of interests becomes equal to the database."""

from hypothesis import given, strategies as st

from chassis.db.log_check import LogContent, LoggedValue
from chassis.db.outbox import OutboxMessage
from collector.begin_anew import compare_interests
from towerwatch.topics import INTERESTS_CHANGED

KEYS = st.sampled_from([b"KJFK/1", b"KJFK/2", b"EDDF/1", b"EGLL/9", b"LFPG/3"])
VALUES = st.sampled_from([b"version 1", b"version 2"])


@given(logged=st.dictionaries(KEYS, st.none() | VALUES), stored=st.dictionaries(KEYS, VALUES))
def test_the_difference_makes_the_log_equal_to_the_database(
    logged: dict[bytes, bytes | None], stored: dict[bytes, bytes]
) -> None:
    """It does no more than that: what is equal is not published again, and a second time there is no difference."""

    def partition_of(key: bytes) -> int:
        return len(key) % 12

    wanted = [OutboxMessage(INTERESTS_CHANGED.name, partition_of(key), key, value) for key, value in stored.items()]
    log = {key: LoggedValue(partition_of(key), value) for key, value in logged.items()}
    difference = compare_interests(LogContent(log, 7), wanted)
    for message in (*difference.removals, *difference.sets):
        assert log.get(message.key) != LoggedValue(message.partition, message.value)
        log[message.key] = LoggedValue(message.partition, message.value)
    assert {key: value.value for key, value in log.items() if value.value is not None} == stored
    again = compare_interests(LogContent(log, 8), wanted)
    assert (again.removals, again.sets) == ((), ())
