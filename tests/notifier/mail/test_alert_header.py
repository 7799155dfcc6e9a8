"""The headers X-Towerwatch-Alert and X-Towerwatch-Cause: what is written is what is parsed."""

from contextlib import suppress
from datetime import UTC, datetime
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import SMTP, default

import pytest
from hypothesis import given, strategies as st

from domain.alerts import Alert
from notifier.errors import MalformedHeaderError
from notifier.mail.alert_header import (
    ALERT_HEADER,
    CAUSE_HEADER,
    format_alert_header,
    format_cause_header,
    parse_alert_header,
    parse_cause_header,
    select_header_fields,
)
from tests.notifier.alerts import ALERT, alerts


def test_the_header_is_the_documented_text() -> None:
    """Other programs read the header, so its format is part of the contract."""
    assert format_alert_header(select_header_fields(ALERT)) == (
        "airport=KJFK; direction=departures; window=1h; bound=high; state=FIRING; "
        "window_start=2013-02-08T00:00:00Z; count=24; threshold=20"
    )


@given(alerts, st.datetimes(timezones=st.just(UTC)))
def test_headers_survive_a_mail_on_the_wire(alert: Alert, cause: datetime) -> None:
    """A program parses the values that were written, also after real serialization with folded lines."""
    mail = EmailMessage(policy=SMTP)
    mail[ALERT_HEADER] = format_alert_header(select_header_fields(alert))
    mail[CAUSE_HEADER] = format_cause_header(cause)
    read = message_from_bytes(mail.as_bytes(), EmailMessage, policy=default)
    assert parse_alert_header(read[ALERT_HEADER]) == select_header_fields(alert)
    assert parse_cause_header(read[CAUSE_HEADER]) == cause


@pytest.mark.parametrize(
    "value",
    [
        "",
        "airport=KJFK",
        format_alert_header(select_header_fields(ALERT)).replace("high", "highest"),
        format_alert_header(select_header_fields(ALERT)).replace("count=24", "count=many"),
        format_alert_header(select_header_fields(ALERT)).replace("Z;", ";"),
        format_alert_header(select_header_fields(ALERT)) + "; more=1",
    ],
)
def test_invalid_headers_are_rejected(value: str) -> None:
    """A header that Towerwatch did not write is rejected as a whole, never parsed in part."""
    with pytest.raises(MalformedHeaderError):
        parse_alert_header(value)


@given(st.text())
def test_no_text_crashes_the_parsers(value: str) -> None:
    """Any text is either parsed or rejected with MalformedHeaderError."""
    for parse in (parse_alert_header, parse_cause_header):
        with suppress(MalformedHeaderError):
            parse(value)
