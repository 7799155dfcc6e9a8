"""The tracker of a partition's offsets: which offset may be committed."""

from hypothesis import given, strategies as st

from chassis.faust.internals.offsets import OffsetTracker


def test_no_offset_is_committable_past_an_unacknowledged_event() -> None:
    """The event may be the very first one, or the next one after the committed offset."""
    tracker, acknowledged = OffsetTracker(), {1, 2}
    for offset in range(4):
        tracker.track(offset)
    assert tracker.take_committable(acknowledged) is None
    acknowledged |= {0}
    assert tracker.take_committable(acknowledged) == 3
    assert acknowledged == set()
    tracker.track(4)
    acknowledged |= {4}
    assert tracker.take_committable(acknowledged) is None


def test_the_event_after_a_gap_must_be_acknowledged() -> None:
    """Compaction leaves gaps of offsets without an event."""
    tracker = OffsetTracker()
    tracker.track(7)
    tracker.track(90)
    assert tracker.take_committable({7}) == 8
    assert tracker.take_committable({90}) == 91


def test_an_offset_that_is_tracked_again_changes_nothing() -> None:
    """Faust may build the message of a record more than once."""
    tracker = OffsetTracker()
    for offset in (3, 4, 4, 3):
        tracker.track(offset)
    assert tracker.take_committable({3, 4}) == 5
    tracker.track(4)
    assert tracker.take_committable(set()) is None


@given(st.data())
def test_the_committable_offset_is_that_of_a_simple_model(data: st.DataObject) -> None:
    """The model is a list of all events: everything before the first unacknowledged event is committable.

    Deliveries, acknowledgements and commits come in any order, with gaps between the offsets.
    """
    offsets = sorted(data.draw(st.sets(st.integers(0, 40), min_size=1)))
    tracker, acknowledged = OffsetTracker(), set[int]()
    known: list[int] = []
    done: set[int] = set()
    committed = -1
    upcoming = iter(offsets)
    for step in data.draw(st.lists(st.sampled_from(("deliver", "acknowledge", "commit")), max_size=80)):
        unacknowledged = [each for each in known if each not in done]
        if step == "deliver" and (offset := next(upcoming, None)) is not None:
            tracker.track(offset)
            known.append(offset)
        elif step == "acknowledge" and unacknowledged:
            offset = data.draw(st.sampled_from(unacknowledged))
            acknowledged.add(offset)
            done.add(offset)
        elif step == "commit":
            committable = tracker.take_committable(acknowledged)
            first_open = next((each for each in known if each not in done), None)
            before = [each for each in known if first_open is None or each < first_open]
            expected = before[-1] + 1 if before else -1
            assert (committable or committed) == max(expected, committed)
            committed = max(expected, committed)
