"""The mail of corrections: one mail says what the night's record changes, each with both counts."""

from dataclasses import replace
from datetime import UTC, datetime
from email.message import EmailMessage
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from domain.alerts import Alert, AlertState, Bound
from notifier.mail import compose_alerts_mail, compose_corrections_mail
from notifier.mail.alert_header import ALERT_HEADER, parse_alert_header, select_header_fields
from tests.notifier.alerts import ALERT, CAUSE, CONTACT, SENDER, alerts, delivered, names
from tests.notifier.mail.test_catch_up import read_text

NOW = datetime(2026, 11, 30, 4, 5, tzinfo=UTC)

EXPECTED_TEXT = """\
Hello Ada Lovelace,

Yesterday, as the record has it. 4 corrections, Sun 29 Nov 09:00–21:00 UTC.
The night's record of all flights corrects what was seen live. These
corrections are about your levels; they are told here once. If you want no
such mails, set `corrections` to false in your Towerwatch account.

KBOS: General Edward Lawrence Logan International Airport, Boston

Departures in an hour: fewer than 5. Correction.
- Sun 29 Nov 09:00–10:00 UTC (04:00–05:00 local): 4 departures, not 7: still
  fewer than your level of 5. We take back that this had ended.

KJFK: John F Kennedy International Airport, New York

Departures in an hour: more than 20. Correction.
- Sun 29 Nov 15:00–16:00 UTC (10:00–11:00 local): 24 departures, not 19:
  more than your level of 20.
- Sun 29 Nov 16:00–17:00 UTC (11:00–12:00 local): 14 departures: no longer
  more than your level of 20.
- Sun 29 Nov 20:00–21:00 UTC (15:00–16:00 local): 19 departures, not 24: not
  more than your level of 20. We take back the alert.

"""


def build_correction(number: int, state: AlertState, hour: int, count: int, before: int, **changes: object) -> Alert:
    """Return a correction about an hour of the day before NOW, with the count of then and the count before."""
    values: dict[str, object] = {
        "alert_id": UUID(int=number),
        "state": state,
        "window_start": datetime(2026, 11, 29, hour, tzinfo=UTC),
        "count": count,
        "count_before": before,
        "corrects": True,
    }
    if state is AlertState.WITHDRAWN:
        values |= {"withdrawn_state": AlertState.FIRING, "withdrawn_count": before}
    return replace(ALERT, **(values | changes))  # type: ignore[arg-type]


BOSTON = {"airport": "KBOS", "bound": Bound.LOW, "interest_id": UUID(int=5), "threshold": 5}
CORRECTIONS = [
    build_correction(1, AlertState.FIRING, 15, 24, 19),
    build_correction(2, AlertState.RESOLVED, 16, 14, 14),
    build_correction(3, AlertState.WITHDRAWN, 20, 19, 24),
    build_correction(4, AlertState.WITHDRAWN, 9, 4, 7, withdrawn_state=AlertState.RESOLVED, **BOSTON),
]


def compose(listed: list[Alert], given: list[Alert] | None = None) -> EmailMessage:
    """Return the mail, as its recipient's program parses it. `given` None: as `listed`."""
    return delivered(compose_corrections_mail(listed, given or listed, CONTACT, SENDER, NOW, CAUSE))


def test_the_mail_lists_each_correction_with_both_counts() -> None:
    """Subject and text, word for word; the page has the same sentences, and each alert has its header."""
    mail = compose(CORRECTIONS)
    assert mail["Subject"] == "Yesterday, as the record has it: 4 corrections (KBOS, KJFK)"
    body = mail.get_body(("plain",))
    assert body is not None
    text = body.get_content().replace("\r\n", "\n")
    assert text[: len(EXPECTED_TEXT)] == EXPECTED_TEXT
    page = read_text(mail, "html").replace("&#39;", "'")
    for sentence in (
        "4 departures, not 7: still fewer than your level of 5. We take back that this had ended.",
        "24 departures, not 19: more than your level of 20.",
        "19 departures, not 24: not more than your level of 20. We take back the alert.",
        "The night's record of all flights corrects what was seen live.",
    ):
        assert sentence in page
    headers = [parse_alert_header(value) for value in mail.get_all(ALERT_HEADER)]
    assert sorted(headers, key=str) == sorted([select_header_fields(each) for each in CORRECTIONS], key=str)


@pytest.mark.parametrize(
    ("days", "subject"),
    [
        ((29,), "Yesterday, as the record has it: 1 correction (KJFK)"),
        ((28,), "Sat 28 Nov, as the record has it: 1 correction (KJFK)"),
        ((27, 29), "Fri 27 Nov – Sun 29 Nov, as the record has it: 2 corrections (KJFK)"),
    ],
)
def test_the_subject_names_the_days_unless_they_are_yesterday(days: tuple[int, ...], subject: str) -> None:
    """A record may come days late."""
    listed = [
        replace(CORRECTIONS[0], alert_id=UUID(int=day), window_start=datetime(2026, 11, day, 15, tzinfo=UTC))
        for day in days
    ]
    assert compose(listed)["Subject"] == subject


def test_the_message_id_depends_on_the_set_of_all_corrections_alone() -> None:
    """Also of those that cancel each other; it is that of a mail which tells the same alerts singly."""
    ids = {compose(listed, CORRECTIONS)["Message-ID"] for listed in (CORRECTIONS, CORRECTIONS[::-1], CORRECTIONS[:1])}
    assert ids == {delivered(compose_alerts_mail(CORRECTIONS, CONTACT, SENDER, NOW, CAUSE))["Message-ID"]}


def test_a_night_of_many_corrections_makes_no_endless_mail() -> None:
    """500 of 50 levels: 30 levels are shown, of each the latest; the number of the others is said."""
    listed = [
        replace(CORRECTIONS[0], alert_id=UUID(int=number * 100 + hour), interest_id=UUID(int=number),
                airport=f"K{number:03}", window_start=datetime(2026, 11, 29, hour, tzinfo=UTC))
        for number in range(50)
        for hour in range(10)
    ]  # fmt: skip
    mail = compose(listed)
    assert "200 more alerts are not shown" in read_text(mail)
    assert len(mail["Subject"]) < 200
    assert len(mail.as_bytes()) < 500_000


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(given=st.lists(alerts, min_size=1, max_size=5, unique_by=lambda each: each.alert_id), name=names)
def test_any_corrections_to_any_name_are_a_valid_mail(given: list[Alert], name: str) -> None:
    """Each correction has its header, whatever its values; text and page are there."""
    mail = delivered(compose_corrections_mail(given, given, replace(CONTACT, name=name), SENDER, NOW, CAUSE))
    assert len(mail.get_all(ALERT_HEADER)) == len(given)
    assert read_text(mail)
    assert read_text(mail, "html")
