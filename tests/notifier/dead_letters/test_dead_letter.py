"""Dead letters: parsing, filtering, formatting and requeueing; and that no dead letter can do harm."""

import json
import re
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest
from hypothesis import example, given, strategies as st

from domain.alerts import AlertState
from notifier.dead_letters.counts import count_dead_letters
from notifier.dead_letters.dead_letter import (
    MAX_REQUEUE_AGE,
    DeadLetterEntry,
    DeadLetterFilter,
    DeadLetterIndex,
    RecordId,
    build_note_headers,
    extract_events,
    parse_moment,
    parse_record_id,
)
from notifier.dead_letters.decoding import SOURCES
from notifier.dead_letters.formatting import format_details, format_entry_json, format_line
from notifier.delivery.store import STATUS_RETENTION
from notifier.errors import NotRequeuable
from notifier.messages import (
    RaisedAlert,
    RaisedNotice,
    ScheduledConfirmation,
    decode_confirmation_request,
    encode_retry,
)
from streams.messages import encode_alert
from tests.notifier.alerts import ALERT, CAUSE, NOTICE, NOW, new_alert
from tests.notifier.dead_letter_records import (
    DeadLetteredEvent,
    build_plain_record,
    build_record,
    dead_lettered_alert,
    dead_lettered_notice,
    dead_lettered_notice_retry,
    dead_lettered_retry,
)
from towerwatch.alerts.v1.events_pb2 import AlertRaised
from towerwatch.flights.v1.events_pb2 import DIRECTION_ARRIVALS, Flight, FlightsObserved
from towerwatch.interests.v1.events_pb2 import InterestSet
from towerwatch.topics import (
    ALERTS_RAISED,
    ALERTS_RETRY,
    FLIGHTS_OBSERVED,
    INTERESTS_CHANGED,
    NOTICES_RAISED,
    USERS_CHANGED,
    Topic,
)
from towerwatch.users.v1.events_pb2 import UserChanged, UserRegistered

FLIGHTS_BATCH = FlightsObserved(airport="LICC", direction=DIRECTION_ARRIVALS, flights=[Flight(icao24="abc123")] * 2)
FLIGHTS_BATCH.begin.FromDatetime(datetime(2013, 2, 8, tzinfo=UTC))
FLIGHTS_BATCH.end.FromDatetime(datetime(2013, 2, 9, tzinfo=UTC))
REGISTERED = UserChanged(user_id=str(ALERT.user_id), registered=UserRegistered(confirmation_id="c1"))
INTEREST_KEY = f"KJFK/{ALERT.interest_id}".encode()
WELL_FORMED = (
    dead_lettered_alert(ALERT),
    dead_lettered_retry(ALERT, new_alert(user_id=ALERT.user_id), sealed=True),
    DeadLetteredEvent(FLIGHTS_OBSERVED, b"LICC", FLIGHTS_BATCH.SerializeToString()),
    DeadLetteredEvent(INTERESTS_CHANGED, INTEREST_KEY, InterestSet(airport="KJFK").SerializeToString()),
    DeadLetteredEvent(USERS_CHANGED, b"u", REGISTERED.SerializeToString()),
    dead_lettered_notice(),
    dead_lettered_notice_retry(sealed=True),
)
PRINTABLE = re.compile(r"[ -~]*")


def entries_of(*records) -> list[DeadLetterEntry]:
    """Return the entries of an index of these records."""
    index = DeadLetterIndex()
    for each in records:
        index.add(each)
    return index.build_entries()


def requeue(
    aside: DeadLetteredEvent, at: datetime = NOW, named: bool = False, **headers: bytes
) -> tuple[RaisedAlert | RaisedNotice, ...]:
    """Return the alerts or the notice to requeue for a dead letter with additional headers (with _ for -)."""
    letter = build_record(aside, at=at)
    letter.headers = (*letter.headers, *((name.replace("_", "-"), value) for name, value in headers.items()))
    return extract_events(entries_of(letter)[0].dead_letter, letter.value, NOW, named=named)


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
        (WELL_FORMED[5], f"airport=KPWM since=2026-11-21T00:00:00Z notice={NOTICE.notice_id}"),
        (WELL_FORMED[6], f"airport=KPWM since=2026-11-21T00:00:00Z notice={NOTICE.notice_id} sealed=yes"),
        (DeadLetteredEvent(NOTICES_RAISED, b"u", b"\xff"), "nothing decoded"),
        (DeadLetteredEvent(ALERTS_RAISED, b"u", b"\xff"), "nothing decoded"),
        (DeadLetteredEvent(ALERTS_RAISED, b"u", None), "nothing decoded"),
        (
            DeadLetteredEvent(ALERTS_RAISED, b"u", AlertRaised(airport="KJFK", state=9).SerializeToString()),
            "airport=KJFK state=9",
        ),
    ],
)
def test_a_line_shows_id_time_source_reason_and_facts(aside: DeadLetteredEvent, about: str) -> None:
    """A line also shows the facts of an incomplete or invalid event, as far as they can be decoded."""
    (entry,) = entries_of(build_record(aside, offset=17))
    assert format_line(entry) == f"3:17  2026-11-23T05:00:00Z  {aside.topic.name}  {aside.reason}  {about}"


def test_the_details_hold_the_whole_dead_letter() -> None:
    """The details are all headers, and the event as JSON, or all its bytes if it cannot be decoded."""
    letter = build_record(dead_lettered_alert(ALERT), offset=17)
    text = format_details(entries_of(letter)[0], letter)
    assert "source   alerts.raised.v1, partition 5, offset 77\n" in text
    for name, value in letter.headers:
        assert f"header   {name}: {value.decode()}\n" in text
    found = json.loads(text[text.index("{") :])
    assert found["alert_id"] == str(ALERT.alert_id)
    assert found["window_start"] == "2013-02-08T00:00:00Z"
    garbage = build_record(DeadLetteredEvent(ALERTS_RAISED, None, bytes(range(200, 256))))
    text = format_details(entries_of(garbage)[0], garbage)
    assert "key      none\n" in text
    assert "56 bytes that cannot be decoded\n" in text
    assert bytes.fromhex("".join(text.splitlines()[-2:])) == garbage.value
    empty = build_record(DeadLetteredEvent(ALERTS_RAISED, None, None))
    assert format_details(entries_of(empty)[0], empty).endswith("value    none")


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
    """Draw an event with one changed byte."""
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
def test_any_dead_letter_can_be_listed_shown_and_filtered(key, value, pairs, topic, at, named) -> None:
    """Any bytes and headers are shown in printable ASCII only, one line for each dead letter."""
    letter = build_plain_record(key, value, [*pairs, ("source-topic", topic.encode())], 1, at)
    found = entries_of(letter)
    for entry in found:
        assert PRINTABLE.fullmatch(format_line(entry))
        assert PRINTABLE.fullmatch(format_entry_json(entry))
        json.loads(format_entry_json(entry))
        for line in (*format_details(entry, letter).split("\n"), *str(count_dead_letters(found)).split("\n")):
            assert PRINTABLE.fullmatch(line)
        json.loads(count_dead_letters(found).to_json())
        DeadLetterFilter("x", topic, NOW, NOW).matches(entry.dead_letter)
        with suppress(NotRequeuable):
            assert extract_events(entry.dead_letter, value, NOW, named=named)


def test_a_dead_letter_cannot_control_a_terminal() -> None:
    """Control characters for colours, titles, new lines and right-to-left text are escaped."""
    reason = "\x1b]0;owned\x07\x1b[2Jfine\r\nrequeued 5\u202e\x9b31m\x7f"
    letter = build_record(
        DeadLetteredEvent(ALERTS_RAISED, b"\x1b[31m", AlertRaised(airport="\x1b[8m").SerializeToString(), reason)
    )
    (entry,) = entries_of(letter)
    escaped = r"\x1b]0;owned\x07\x1b[2Jfine\r\nrequeued 5\u202e\x9b31m\x7f"
    assert f"  {escaped}  " in format_line(entry)
    assert r"airport=\x1b[8m" in format_line(entry)
    assert escaped in str(count_dead_letters([entry]))
    assert r"key      \x1b[31m" in format_details(entry, letter)
    counted = str(count_dead_letters([entry]))
    assert not re.search(
        "[^ -~\n]", format_details(entry, letter) + counted + format_line(entry) + format_entry_json(entry)
    )


def test_a_huge_text_is_cut() -> None:
    """A reason and a fact of 9,000 characters make a line of less than 700."""
    (entry,) = entries_of(
        build_record(
            DeadLetteredEvent(ALERTS_RAISED, b"u", AlertRaised(airport="A" * 9_000).SerializeToString(), "r" * 9_000)
        )
    )
    assert len(format_line(entry)) < 700


def test_missing_headers_have_defaults() -> None:
    """The time defaults to the record's own, and source and reason are unknown."""
    (entry,) = entries_of(build_record(dead_lettered_alert(ALERT), headers=[]))
    assert format_line(entry).startswith("3:0  2026-11-23T05:00:00Z  unknown  no reason told  ")
    assert entry.dead_letter.source == "unknown, partition unknown, offset unknown"
    with pytest.raises(NotRequeuable, match="does not say which"):
        extract_events(entry.dead_letter, encode_alert(ALERT, CAUSE), NOW, named=True)


def test_entries_are_ordered_by_time_and_name_a_later_dead_letter_of_the_same_alert() -> None:
    """The order holds across partitions; a requeued dead letter is marked, and its note is no entry."""
    second, other = new_alert(), new_alert()
    at = [NOW + timedelta(seconds=each) for each in range(9)]
    found = entries_of(
        build_record(dead_lettered_alert(ALERT), 0, at[1]),
        build_record(dead_lettered_retry(second, other), 1, at[3]),
        build_plain_record(b"u", b"", build_note_headers(RecordId(3, 0), at[4]), 2, at[4]),
        build_record(dead_lettered_alert(ALERT), 3, at[5]),
        build_record(dead_lettered_alert(other), 0, at[0], partition=7),
        build_record(dead_lettered_alert(ALERT), 4, at[6]),
    )
    assert [str(each.dead_letter.record_id) for each in found] == ["7:0", "3:0", "3:1", "3:3", "3:4"]
    assert [str(each.repeated_in or "") for each in found] == ["3:1", "3:4", "", "3:4", ""]
    assert [each.requeued_at for each in found] == [None, at[4], None, None, None]
    assert format_line(found[1]).endswith("  [requeued 2026-11-23T05:00:04Z]  [again in 3:4]")
    assert json.loads(format_entry_json(found[1]))["again_in"] == "3:4"
    counted = count_dead_letters(found)
    assert (counted.letters, counted.requeued, counted.repeated) == (5, 1, 2)


def test_the_summary_counts_by_topic_and_reason_without_the_number_of_tries() -> None:
    """Otherwise one outage would appear as hundreds of reasons."""
    reasons = [f"gave up after {each} tries: no answer, 421" for each in range(300, 312)]
    found = entries_of(
        *(
            build_record(dead_lettered_retry(new_alert(), reason=reason), offset)
            for offset, reason in enumerate(reasons)
        ),
        build_record(dead_lettered_alert(ALERT, reasons[0]), 50),
    )
    assert str(count_dead_letters(found)).splitlines() == [
        "dead letters: 13; requeued: 0; again in a later one: 0",
        "      12  alerts.retry.v1  gave up after N tries: no answer, 421",
        "       1  alerts.raised.v1  gave up after N tries: no answer, 421",
    ]
    assert json.loads(count_dead_letters(found).to_json())["by_reason"][0] == {
        "source_topic": "alerts.retry.v1",
        "reason": "gave up after N tries: no answer, 421",
        "letters": 12,
    }
    assert str(count_dead_letters([])) == "no dead letters"


def test_a_filter_requires_all_its_conditions() -> None:
    """The instant `since` matches, the instant `until` does not; upper and lower case of a reason are equal."""
    (entry,) = entries_of(build_record(dead_lettered_alert(ALERT)))
    instant = timedelta(seconds=1)
    for matching in (
        DeadLetterFilter(),
        DeadLetterFilter("REFUSED the"),
        DeadLetterFilter(topic=ALERTS_RAISED.name),
        DeadLetterFilter(since=NOW, until=NOW + instant),
    ):
        assert matching.matches(entry.dead_letter)
    for other in (
        DeadLetterFilter("accepted"),
        DeadLetterFilter(topic=ALERTS_RETRY.name),
        DeadLetterFilter(since=NOW + instant),
        DeadLetterFilter(until=NOW),
        DeadLetterFilter("refused", ALERTS_RETRY.name),
    ):
        assert not other.matches(entry.dead_letter)


def test_an_alert_is_requeued_byte_by_byte() -> None:
    """Unknown fields of a later version are kept, at any position."""
    unknown_first = b"\xa2\x06\x01x" + encode_alert(ALERT, CAUSE)
    (found,) = requeue(DeadLetteredEvent(ALERTS_RAISED, b"u", unknown_first))
    assert found.original == unknown_first
    assert isinstance(found, RaisedAlert)
    assert found.alert == ALERT


def test_a_notice_is_requeued_byte_by_byte_also_from_its_retry() -> None:
    """It becomes an event of notices.raised.v1 again; a mail that the server may have is requeued by its id alone."""
    aside = dead_lettered_notice()
    unknown_first = b"\xa2\x06\x01x" + (aside.value or b"")
    assert requeue(replace(aside, value=unknown_first)) == (RaisedNotice(NOTICE, unknown_first),)
    assert requeue(dead_lettered_notice_retry()) == (RaisedNotice(NOTICE, aside.value or b""),)
    with pytest.raises(NotRequeuable, match="may have taken its mail already"):
        requeue(dead_lettered_notice_retry(sealed=True))
    assert len(requeue(dead_lettered_notice_retry(sealed=True), named=True)) == 1


def test_a_notice_is_found_again_in_a_later_dead_letter() -> None:
    """Its event and its retry hold the same notice."""
    first, later = (
        build_record(dead_lettered_notice(), 1),
        build_record(dead_lettered_notice_retry(), 2, NOW + timedelta(days=1)),
    )
    entries = entries_of(first, later)
    assert [each.dead_letter.event_ids for each in entries] == [(NOTICE.notice_id,)] * 2
    assert entries[0].repeated_in == entries[1].dead_letter.record_id


def test_all_alerts_of_a_failed_mail_are_requeued() -> None:
    """Every alert of the mail becomes an alert event of its own."""
    alerts = [new_alert(user_id=ALERT.user_id, state=state) for state in AlertState]
    found = requeue(dead_lettered_retry(*alerts))
    assert [each.original for each in found] == [encode_alert(each, CAUSE) for each in alerts]


def test_an_unconfirmed_mail_is_requeued_only_by_its_id() -> None:
    """The recipient may get it twice, so an operator must decide and name the id."""
    with pytest.raises(NotRequeuable, match="may have taken its mail already"):
        requeue(dead_lettered_retry(ALERT, sealed=True))
    assert len(requeue(dead_lettered_retry(ALERT, sealed=True), named=True)) == 1


def test_an_old_dead_letter_is_not_requeued() -> None:
    """The notifier stores mailed alert ids longer than dead letters can be requeued, so that repeating is harmless."""
    assert MAX_REQUEUE_AGE < STATUS_RETENTION
    assert requeue(dead_lettered_alert(ALERT), at=NOW - MAX_REQUEUE_AGE)
    with pytest.raises(NotRequeuable, match="older than 7 days"):
        requeue(dead_lettered_alert(ALERT), at=NOW - MAX_REQUEUE_AGE - timedelta(seconds=1), named=True)


@pytest.mark.parametrize(
    ("aside", "message"),
    [
        (DeadLetteredEvent(FLIGHTS_OBSERVED, b"LICC", FLIGHTS_BATCH.SerializeToString()), "streams verify"),
        (DeadLetteredEvent(INTERESTS_CHANGED, INTEREST_KEY, None), "next change of the interest by its owner"),
        (
            DeadLetteredEvent(USERS_CHANGED, b"u", REGISTERED.SerializeToString()),
            "may ask for another confirmation mail",
        ),
        (DeadLetteredEvent(Topic("weather.v1", 1), b"u", b"x"), "does not say which of Towerwatch's topics"),
        (DeadLetteredEvent(ALERTS_RAISED, b"u", None), "the event itself had no value"),
        (DeadLetteredEvent(ALERTS_RAISED, b"u", b"\xff"), "put aside again as undecodable: no AlertRaised"),
        (DeadLetteredEvent(ALERTS_RETRY, b"u", b"\xff"), "put aside again as undecodable: no AlertRetry"),
        (DeadLetteredEvent(NOTICES_RAISED, b"u", b"\xff"), "put aside again as undecodable: no AirportUnheard"),
        (
            DeadLetteredEvent(ALERTS_RAISED, b"u", AlertRaised(airport="KJFK").SerializeToString()),
            "undecodable: AlertRaised without",
        ),
    ],
)
def test_the_error_names_why_a_dead_letter_is_not_requeuable(aside: DeadLetteredEvent, message: str) -> None:
    """NotRequeuable is raised both for a named id and for a dead letter among all others."""
    for named in (True, False):
        with pytest.raises(NotRequeuable, match=re.escape(message)):
            requeue(aside, named=named)


def test_the_error_names_where_omitted_bytes_are() -> None:
    """An event too large for a dead letter is still in its source topic."""
    with pytest.raises(NotRequeuable, match=r"1,000,003 bytes .* at alerts.raised.v1, partition 5, offset 77,"):
        requeue(DeadLetteredEvent(ALERTS_RAISED, None, b""), left_out=b"1000003")
    letter = build_record(DeadLetteredEvent(ALERTS_RAISED, None, b""))
    letter.headers = (*letter.headers, ("left-out", b"1000003"))
    assert format_line(entries_of(letter)[0]).endswith("[1,000,003 bytes left out]")


@given(st.integers(0, 10**9 - 1), st.integers(0, 10**18 - 1))
def test_an_id_is_parsed_as_it_is_written(partition: int, offset: int) -> None:
    """Parsing the text of any record id gives the same id."""
    assert parse_record_id(str(RecordId(partition, offset))) == RecordId(partition, offset)


@pytest.mark.parametrize(
    "text", ["", "3", "3:", ":3", "3:1:1", "-3:1", "3:-1", "3: 1", "३:1", "3:1\n", "1" * 10 + ":1"]
)
def test_an_invalid_id_is_rejected(text: str) -> None:
    """The error holds an example of a valid id."""
    with pytest.raises(ValueError, match="like 3:17"):
        parse_record_id(text)


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
def test_a_time_is_an_age_or_a_date(text: str, moment: datetime) -> None:
    """A date without an offset is in UTC."""
    assert parse_moment(text, NOW) == moment


@pytest.mark.parametrize(
    "text", ["", "h", "2", "2w", "-2h", "yesterday", "2026-13-01", "999999999d", "0001-01-01T00:00+14:00"]
)
def test_an_invalid_time_is_rejected(text: str) -> None:
    """The error holds examples of valid times."""
    with pytest.raises(ValueError, match="like 2h, 30m, 7d or 2026"):
        parse_moment(text, NOW)


def test_json_holds_the_ids_of_all_alerts() -> None:
    """A program finds the alerts in the notifier's log by these ids."""
    alerts = [new_alert(user_id=ALERT.user_id) for _ in range(3)]
    (entry,) = entries_of(build_record(dead_lettered_retry(*alerts), offset=17))
    found = json.loads(format_entry_json(entry))
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


def test_the_first_of_equal_headers_counts() -> None:
    """The service that wrote the dead letter wrote its headers first."""
    letter = build_record(dead_lettered_alert(ALERT))
    letter.headers = (*letter.headers, ("reason", b"another"), ("source-topic", str(uuid4()).encode()))
    (entry,) = entries_of(letter)
    assert "another" not in format_line(entry)
    assert entry.dead_letter.source_topic == ALERTS_RAISED.name


def test_a_deferred_confirmation_says_whose_it_is_and_is_not_requeued() -> None:
    """Its user may ask for another mail, with a fresh link."""
    request = decode_confirmation_request(REGISTERED.SerializeToString())
    assert request is not None
    value = encode_retry(ScheduledConfirmation(request, 2_500, NOW, NOW - timedelta(days=7)))
    event = DeadLetteredEvent(ALERTS_RETRY, str(ALERT.user_id).encode(), value, "gave up after 2500 tries: 450")
    index = DeadLetterIndex()
    index.add(build_record(event))
    [entry] = index.build_entries()
    assert entry.dead_letter.facts == {"change": "registered", "user": str(ALERT.user_id)}
    assert "change=registered" in format_line(entry)
    with pytest.raises(NotRequeuable, match="ask for another confirmation mail"):
        extract_events(entry.dead_letter, value, NOW, named=True)
