from hypothesis import given, strategies as st

from chassis.faust.internals.offsets import OffsetTracker


def test_the_first_that_is_not_acknowledged_is_never_passed() -> None:
    """Not even when nothing was passed before, or when it is the very next one."""
    delivered, acknowledged = OffsetTracker(), {1, 2}
    for offset in range(4):
        delivered.track(offset)
    assert delivered.take_committable(acknowledged) is None
    acknowledged |= {0}
    assert delivered.take_committable(acknowledged) == 3
    assert acknowledged == set()
    delivered.track(4)
    acknowledged |= {4}
    assert delivered.take_committable(acknowledged) is None


def test_a_gap_acknowledges_nothing() -> None:
    """Offsets that compaction has taken have no event; the event after them has to be acknowledged as any other."""
    delivered = OffsetTracker()
    delivered.track(7)
    delivered.track(90)
    assert delivered.take_committable({7}) == 8
    assert delivered.take_committable({90}) == 91


def test_what_is_delivered_again_changes_nothing() -> None:
    delivered = OffsetTracker()
    for offset in (3, 4, 4, 3):
        delivered.track(offset)
    assert delivered.take_committable({3, 4}) == 5
    delivered.track(4)
    assert delivered.take_committable(set()) is None


@given(st.data())
def test_as_a_list_of_all_events_says(data: st.DataObject) -> None:
    """In any order of deliveries, acknowledgements and commits, with gaps: the first one that is open is the bound."""
    offsets = sorted(data.draw(st.sets(st.integers(0, 40), min_size=1)))
    delivered, acknowledged = OffsetTracker(), set[int]()
    known: list[int] = []
    done: set[int] = set()
    committed = -1
    upcoming = iter(offsets)
    for step in data.draw(st.lists(st.sampled_from(("deliver", "acknowledge", "commit")), max_size=80)):
        open_ones = [each for each in known if each not in done]
        if step == "deliver" and (offset := next(upcoming, None)) is not None:
            delivered.track(offset)
            known.append(offset)
        elif step == "acknowledge" and open_ones:
            offset = data.draw(st.sampled_from(open_ones))
            acknowledged.add(offset)
            done.add(offset)
        elif step == "commit":
            passed = delivered.take_committable(acknowledged)
            first_open = next((each for each in known if each not in done), None)
            before = [each for each in known if first_open is None or each < first_open]
            expected = before[-1] + 1 if before else -1
            assert (passed or committed) == max(expected, committed)
            committed = max(expected, committed)
