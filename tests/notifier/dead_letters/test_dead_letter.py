"""Dead letters: what each is about, which are asked for, what can be handled again; and that none does any harm."""

import json
import re
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest
from hypothesis import example, given, strategies as st

from domain.alerts import AlertState
from notifier.dead_letters.dead_letter import (
    NEWS_FOR,
    Entry,
    Filter,
    Letters,
    Place,
    moment_in,
    note,
    place_in,
    requeuable,
    shown,
    summary,
)
from notifier.dead_letters.decoding import SOURCES
from notifier.delivery.store import STATUS_RETENTION
from notifier.errors import NotRequeuable
from notifier.messages import RaisedAlert
from streams.messages import encode_alert
from tests.notifier.alerts import ALERT, CAUSE, NOW, new_alert
from tests.notifier.dead_letter_records import (
    DeadLetteredEvent,
    build_plain_record,
    build_record,
    dead_lettered_alert,
    dead_lettered_retry,
)
from towerwatch.alerts.v1.events_pb2 import AlertRaised
from towerwatch.flights.v1.events_pb2 import DIRECTION_ARRIVALS, Flight, FlightsObserved
from towerwatch.interests.v1.events_pb2 import InterestSet
from towerwatch.topics import ALERTS_RAISED, ALERTS_RETRY, FLIGHTS_OBSERVED, INTERESTS_CHANGED, USERS_CHANGED, Topic
from towerwatch.users.v1.events_pb2 import UserChanged, UserRegistered

BATCH = FlightsObserved(airport="LICC", direction=DIRECTION_ARRIVALS, flights=[Flight(icao24="abc123")] * 2)
BATCH.begin.FromDatetime(datetime(2013, 2, 8, tzinfo=UTC))
BATCH.end.FromDatetime(datetime(2013, 2, 9, tzinfo=UTC))
REGISTERED = UserChanged(user_id=str(ALERT.user_id), registered=UserRegistered(confirmation_id="c1"))
INTEREST_KEY = f"KJFK/{ALERT.interest_id}".encode()
WELL_FORMED = (
    dead_lettered_alert(ALERT),
    dead_lettered_retry(ALERT, new_alert(user_id=ALERT.user_id), sealed=True),
    DeadLetteredEvent(FLIGHTS_OBSERVED, b"LICC", BATCH.SerializeToString()),
    DeadLetteredEvent(INTERESTS_CHANGED, INTEREST_KEY, InterestSet(airport="KJFK").SerializeToString()),
    DeadLetteredEvent(USERS_CHANGED, b"u", REGISTERED.SerializeToString()),
)
ON_A_TERMINAL = re.compile(r"[ -~]*")


def entries(*records) -> list[Entry]:
    letters = Letters()
    for each in records:
        letters.add(each)
    return letters.entries()


def requeued(
    aside: DeadLetteredEvent, at: datetime = NOW, named: bool = False, **headers: bytes
) -> tuple[RaisedAlert, ...]:
    letter = build_record(aside, at=at)
    letter.headers = (*letter.headers, *((name.replace("_", "-"), value) for name, value in headers.items()))
    return requeuable(entries(letter)[0].letter, letter.value, NOW, named=named)


@pytest.mark.parametrize(
    ("aside", "about"),
    [
        (
            WELL_FORMED[0],
            "airport=KJFK direction=departures window_start=2013-02-08T00:00:00Z bound=high state=FIRING "
            "alert=5b2f3f0e-58a5-5f0b-9d4f-2a1f6f5d8c11",
        ),
        (
            WELL_FORMED[1],
            "airport=KJFK direction=departures window_start=2013-02-08T00:00:00Z bound=high state=FIRING "
            "alert=5b2f3f0e-58a5-5f0b-9d4f-2a1f6f5d8c11 others=1 sealed=yes",
        ),
        (
            WELL_FORMED[2],
            "airport=LICC direction=arrivals begin=2013-02-08T00:00:00Z end=2013-02-09T00:00:00Z flights=2",
        ),
        (WELL_FORMED[3], f"interest=KJFK/{ALERT.interest_id}"),
        (DeadLetteredEvent(INTERESTS_CHANGED, INTEREST_KEY, None), f"interest=KJFK/{ALERT.interest_id}"),
        (WELL_FORMED[4], f"change=registered user={ALERT.user_id}"),
        (DeadLetteredEvent(ALERTS_RAISED, b"u", b"\xff"), "nothing decoded"),
        (DeadLetteredEvent(ALERTS_RAISED, b"u", None), "nothing decoded"),
        (
            DeadLetteredEvent(ALERTS_RAISED, b"u", AlertRaised(airport="KJFK", state=9).SerializeToString()),
            "airport=KJFK state=9",
        ),
    ],
)
def test_a_line_tells_what_when_and_why(aside: DeadLetteredEvent, about: str) -> None:
    """Also of events that contradict themselves, as far as they can be read."""
    (entry,) = entries(build_record(aside, offset=17))
    assert entry.line() == f"3:17  2026-11-23T05:00:00Z  {aside.topic.name}  {aside.reason}  {about}"


def test_the_whole_of_a_letter_is_shown() -> None:
    """Its headers, and its event as JSON; or, when it cannot be decoded, all its bytes."""
    letter = build_record(dead_lettered_alert(ALERT), offset=17)
    text = shown(entries(letter)[0], letter)
    assert "source   alerts.raised.v1, partition 5, offset 77\n" in text
    for name, value in letter.headers:
        assert f"header   {name}: {value.decode()}\n" in text
    found = json.loads(text[text.index("{") :])
    assert found["alert_id"] == str(ALERT.alert_id)
    assert found["window_start"] == "2013-02-08T00:00:00Z"
    garbage = build_record(DeadLetteredEvent(ALERTS_RAISED, None, bytes(range(200, 256))))
    text = shown(entries(garbage)[0], garbage)
    assert "key      none\n" in text
    assert "56 bytes that cannot be decoded\n" in text
    assert bytes.fromhex("".join(text.splitlines()[-2:])) == garbage.value
    empty = build_record(DeadLetteredEvent(ALERTS_RAISED, None, None))
    assert shown(entries(empty)[0], empty).endswith("value    none")


headers = st.lists(
    st.tuples(
        st.sampled_from(
            ["source-topic", "source-partition", "source-offset", "reason", "dead-lettered-at", "left-out", "requeued"]
        )
        | st.text(max_size=5),
        st.none()
        | st.binary(max_size=30)
        | st.text(max_size=30).map(str.encode)
        | st.sampled_from([*(each.encode() for each in SOURCES), b"9" * 18, b"-1", b"0001-01-01T00:00+14:00", b"3:1"]),
    ),
    max_size=8,
)


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """An event of which one byte is another."""
    value = bytearray(draw(st.sampled_from([each.value for each in WELL_FORMED])) or b"")
    value[draw(st.integers(0, len(value) - 1))] = draw(st.integers(0, 255))
    return bytes(value)


@given(
    st.none() | st.binary(max_size=20),
    st.none() | st.binary(max_size=60) | damaged(),
    headers,
    st.sampled_from(SOURCES),
    st.integers(-(2**63), 2**63 - 1),
    st.booleans(),
)
@example(None, b"\x42\x0a\x08\xff\xff\xff\xff\xff\xff\xff\xff\x7f", [], ALERTS_RAISED.name, 0, True)
def test_whatever_a_letter_holds_it_can_be_listed_shown_and_asked_for(key, value, pairs, topic, at, named) -> None:
    """And nothing in it reaches the terminal but printable ASCII; each is one line."""
    letter = build_plain_record(key, value, [*pairs, ("source-topic", topic.encode())], 1, at)
    found = entries(letter)
    for entry in found:
        assert ON_A_TERMINAL.fullmatch(entry.line())
        assert ON_A_TERMINAL.fullmatch(entry.as_json())
        json.loads(entry.as_json())
        for line in (*shown(entry, letter).split("\n"), *str(summary(found)).split("\n")):
            assert ON_A_TERMINAL.fullmatch(line)
        json.loads(summary(found).as_json())
        Filter("x", topic, NOW, NOW).takes(entry.letter)
        with suppress(NotRequeuable):
            assert requeuable(entry.letter, value, NOW, named=named)


def test_a_letter_cannot_give_orders_to_a_terminal() -> None:
    """Colours, titles, other lines, text from right to left: all of it is shown, and none of it done."""
    reason = "\x1b]0;owned\x07\x1b[2Jfine\r\nrequeued 5\u202e\x9b31m\x7f"
    letter = build_record(
        DeadLetteredEvent(ALERTS_RAISED, b"\x1b[31m", AlertRaised(airport="\x1b[8m").SerializeToString(), reason)
    )
    (entry,) = entries(letter)
    escaped = r"\x1b]0;owned\x07\x1b[2Jfine\r\nrequeued 5\u202e\x9b31m\x7f"
    assert f"  {escaped}  " in entry.line()
    assert r"airport=\x1b[8m" in entry.line()
    assert escaped in str(summary([entry]))
    assert r"key      \x1b[31m" in shown(entry, letter)
    assert not re.search("[^ -~\n]", shown(entry, letter) + str(summary([entry])) + entry.line() + entry.as_json())


def test_a_huge_text_takes_no_whole_screen_and_no_memory() -> None:
    """The beginning of it tells enough."""
    (entry,) = entries(
        build_record(
            DeadLetteredEvent(ALERTS_RAISED, b"u", AlertRaised(airport="A" * 9_000).SerializeToString(), "r" * 9_000)
        )
    )
    assert len(entry.line()) < 700


def test_headers_that_are_missing_are_made_up_for() -> None:
    """The record's own time stands for the letter's."""
    (entry,) = entries(build_record(dead_lettered_alert(ALERT), headers=[]))
    assert entry.line().startswith("3:0  2026-11-23T05:00:00Z  unknown  no reason told  ")
    assert entry.letter.source == "unknown, partition unknown, offset unknown"
    with pytest.raises(NotRequeuable, match="does not say which"):
        requeuable(entry.letter, encode_alert(ALERT, CAUSE), NOW, named=True)


def test_the_oldest_come_first_and_later_letters_of_the_same_alert_are_named() -> None:
    """Whatever partition they are in; and so is what was requeued, while notes are no letters."""
    second, other = new_alert(), new_alert()
    at = [NOW + timedelta(seconds=each) for each in range(9)]
    found = entries(
        build_record(dead_lettered_alert(ALERT), 0, at[1]),
        build_record(dead_lettered_retry(second, other), 1, at[3]),
        build_plain_record(b"u", b"", note(Place(3, 0), at[4]), 2, at[4]),
        build_record(dead_lettered_alert(ALERT), 3, at[5]),
        build_record(dead_lettered_alert(other), 0, at[0], partition=7),
        build_record(dead_lettered_alert(ALERT), 4, at[6]),
    )
    assert [str(each.letter.place) for each in found] == ["7:0", "3:0", "3:1", "3:3", "3:4"]
    assert [str(each.again_in or "") for each in found] == ["3:1", "3:4", "", "3:4", ""]
    assert [each.requeued_at for each in found] == [None, at[4], None, None, None]
    assert found[1].line().endswith("  [requeued 2026-11-23T05:00:04Z]  [again in 3:4]")
    assert json.loads(found[1].as_json())["again_in"] == "3:4"
    counted = summary(found)
    assert (counted.letters, counted.requeued, counted.again) == (5, 1, 2)


def test_the_summary_counts_by_topic_and_reason_whatever_the_number_of_tries() -> None:
    """Else an outage would be hundreds of reasons."""
    reasons = [f"gave up after {each} tries: no answer, 421" for each in range(300, 312)]
    found = entries(
        *(
            build_record(dead_lettered_retry(new_alert(), reason=reason), offset)
            for offset, reason in enumerate(reasons)
        ),
        build_record(dead_lettered_alert(ALERT, reasons[0]), 50),
    )
    assert str(summary(found)).splitlines() == [
        "dead letters: 13; requeued: 0; again in a later one: 0",
        "      12  alerts.retry.v1  gave up after N tries: no answer, 421",
        "       1  alerts.raised.v1  gave up after N tries: no answer, 421",
    ]
    assert json.loads(summary(found).as_json())["by_reason"][0] == {
        "source_topic": "alerts.retry.v1",
        "reason": "gave up after N tries: no answer, 421",
        "letters": 12,
    }
    assert str(summary([])) == "no dead letters"


def test_a_filter_takes_what_all_its_parts_take() -> None:
    """`since` belongs to it, `until` does not; the case of a reason does not matter."""
    (entry,) = entries(build_record(dead_lettered_alert(ALERT)))
    instant = timedelta(seconds=1)
    for taken in (
        Filter(),
        Filter("REFUSED the"),
        Filter(topic=ALERTS_RAISED.name),
        Filter(since=NOW, until=NOW + instant),
    ):
        assert taken.takes(entry.letter)
    for left in (
        Filter("accepted"),
        Filter(topic=ALERTS_RETRY.name),
        Filter(since=NOW + instant),
        Filter(until=NOW),
        Filter("refused", ALERTS_RETRY.name),
    ):
        assert not left.takes(entry.letter)


def test_an_alert_is_requeued_byte_by_byte() -> None:
    """Also with fields of a later version, wherever they stand."""
    unknown_first = b"\xa2\x06\x01x" + encode_alert(ALERT, CAUSE)
    (found,) = requeued(DeadLetteredEvent(ALERTS_RAISED, b"u", unknown_first))
    assert found.original == unknown_first
    assert found.alert == ALERT


def test_all_alerts_of_a_mail_that_was_given_up_are_requeued() -> None:
    """Each by itself."""
    alerts = [new_alert(user_id=ALERT.user_id, state=state) for state in AlertState]
    found = requeued(dead_lettered_retry(*alerts))
    assert [each.original for each in found] == [encode_alert(each, CAUSE) for each in alerts]


def test_a_mail_that_the_server_may_have_is_requeued_only_by_name() -> None:
    """It may be read twice, and that is for a person to decide."""
    with pytest.raises(NotRequeuable, match="may have taken its mail already"):
        requeued(dead_lettered_retry(ALERT, sealed=True))
    assert len(requeued(dead_lettered_retry(ALERT, sealed=True), named=True)) == 1


def test_an_old_letter_is_not_requeued() -> None:
    """While the notifier remembers what it mailed to whom, to repeat a command is harmless; later it would not be."""
    assert NEWS_FOR < STATUS_RETENTION
    assert requeued(dead_lettered_alert(ALERT), at=NOW - NEWS_FOR)
    with pytest.raises(NotRequeuable, match="older than 7 days"):
        requeued(dead_lettered_alert(ALERT), at=NOW - NEWS_FOR - timedelta(seconds=1), named=True)


@pytest.mark.parametrize(
    ("aside", "says"),
    [
        (DeadLetteredEvent(FLIGHTS_OBSERVED, b"LICC", BATCH.SerializeToString()), "streams verify"),
        (DeadLetteredEvent(INTERESTS_CHANGED, INTEREST_KEY, None), "next change of the interest by its owner"),
        (
            DeadLetteredEvent(USERS_CHANGED, b"u", REGISTERED.SerializeToString()),
            "may ask for another confirmation mail",
        ),
        (DeadLetteredEvent(Topic("weather.v1", 1), b"u", b"x"), "does not say which of Towerwatch's topics"),
        (DeadLetteredEvent(ALERTS_RAISED, b"u", None), "the event itself had no value"),
        (DeadLetteredEvent(ALERTS_RAISED, b"u", b"\xff"), "put aside again as undecodable: no AlertRaised"),
        (DeadLetteredEvent(ALERTS_RETRY, b"u", b"\xff"), "put aside again as undecodable: no AlertRetry"),
        (
            DeadLetteredEvent(ALERTS_RAISED, b"u", AlertRaised(airport="KJFK").SerializeToString()),
            "undecodable: AlertRaised without",
        ),
    ],
)
def test_what_cannot_be_requeued_says_why(aside: DeadLetteredEvent, says: str) -> None:
    """Named or not."""
    for named in (True, False):
        with pytest.raises(NotRequeuable, match=re.escape(says)):
            requeued(aside, named=named)


def test_a_letter_without_its_bytes_says_where_they_are() -> None:
    """They were too many."""
    with pytest.raises(NotRequeuable, match=r"1,000,003 bytes .* at alerts.raised.v1, partition 5, offset 77,"):
        requeued(DeadLetteredEvent(ALERTS_RAISED, None, b""), left_out=b"1000003")
    letter = build_record(DeadLetteredEvent(ALERTS_RAISED, None, b""))
    letter.headers = (*letter.headers, ("left-out", b"1000003"))
    assert entries(letter)[0].line().endswith("[1,000,003 bytes left out]")


@given(st.integers(0, 10**9 - 1), st.integers(0, 10**18 - 1))
def test_an_id_is_read_as_it_is_written(partition: int, offset: int) -> None:
    """And sorts by partition and offset."""
    assert place_in(str(Place(partition, offset))) == Place(partition, offset)


@pytest.mark.parametrize(
    "text", ["", "3", "3:", ":3", "3:1:1", "-3:1", "3:-1", "3: 1", "३:1", "3:1\n", "1" * 10 + ":1"]
)
def test_what_is_no_id_is_told(text: str) -> None:
    """With an example of one that is."""
    with pytest.raises(ValueError, match="like 3:17"):
        place_in(text)


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("90s", NOW - timedelta(seconds=90)),
        ("30m", NOW - timedelta(minutes=30)),
        ("2h", NOW - timedelta(hours=2)),
        ("7d", NOW - timedelta(days=7)),
        ("2026-11-22", datetime(2026, 11, 22, tzinfo=UTC)),
        ("2026-11-22 03:00", datetime(2026, 11, 22, 3, tzinfo=UTC)),
        ("2026-11-22T03:00+01:00", datetime(2026, 11, 22, 2, tzinfo=UTC)),
        ("2026-11-22T03:00Z", datetime(2026, 11, 22, 3, tzinfo=UTC)),
    ],
)
def test_a_time_is_how_long_ago_or_when(text: str, moment: datetime) -> None:
    """In UTC, unless it says otherwise."""
    assert moment_in(text, NOW) == moment


@pytest.mark.parametrize(
    "text", ["", "h", "2", "2w", "-2h", "yesterday", "2026-13-01", "999999999d", "0001-01-01T00:00+14:00"]
)
def test_what_is_no_time_is_told(text: str) -> None:
    """With examples of some that are."""
    with pytest.raises(ValueError, match="like 2h, 30m, 7d or 2026"):
        moment_in(text, NOW)


def test_json_holds_the_ids_of_all_alerts() -> None:
    """By which a program finds them in the notifier's log."""
    alerts = [new_alert(user_id=ALERT.user_id) for _ in range(3)]
    (entry,) = entries(build_record(dead_lettered_retry(*alerts), offset=17))
    found = json.loads(entry.as_json())
    assert [UUID(each) for each in found["alert_ids"]] == [each.alert_id for each in alerts]
    assert found | {"about": {}, "alert_ids": []} == {
        "id": "3:17",
        "dead_lettered_at": "2026-11-23T05:00:00Z",
        "source_topic": "alerts.retry.v1",
        "source_partition": 5,
        "source_offset": 77,
        "reason": "gave up after 361 tries: no answer",
        "left_out": None,
        "about": {},
        "alert_ids": [],
        "requeued_at": None,
        "again_in": None,
    }


def test_a_repeated_header_does_not_hide_the_first() -> None:
    """What a service wrote comes first."""
    letter = build_record(dead_lettered_alert(ALERT))
    letter.headers = (*letter.headers, ("reason", b"another"), ("source-topic", str(uuid4()).encode()))
    (entry,) = entries(letter)
    assert "another" not in entry.line()
    assert entry.letter.source_topic == ALERTS_RAISED.name
