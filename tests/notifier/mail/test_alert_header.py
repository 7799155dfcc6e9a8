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
    alert_header,
    cause_header,
    parse_alert_header,
    parse_cause_header,
    told,
)
from tests.notifier.alerts import ALERT, alerts


def test_the_header_is_the_documented_text() -> None:
    """Other programs read it, so its form is part of the contract."""
    assert alert_header(told(ALERT)) == (
        "airport=KJFK; direction=departures; window=1h; bound=high; state=FIRING; "
        "window_start=2013-02-08T00:00:00Z; count=24; threshold=20"
    )


@given(alerts, st.datetimes(timezones=st.just(UTC)))
def test_headers_survive_a_mail_on_the_wire(alert: Alert, cause: datetime) -> None:
    """What was written is what is read, after real serialisation with its folding."""
    mail = EmailMessage(policy=SMTP)
    mail[ALERT_HEADER] = alert_header(told(alert))
    mail[CAUSE_HEADER] = cause_header(cause)
    read = message_from_bytes(mail.as_bytes(), EmailMessage, policy=default)
    assert parse_alert_header(read[ALERT_HEADER]) == told(alert)
    assert parse_cause_header(read[CAUSE_HEADER]) == cause


@pytest.mark.parametrize(
    "value",
    [
        "",
        "airport=KJFK",
        alert_header(told(ALERT)).replace("high", "highest"),
        alert_header(told(ALERT)).replace("count=24", "count=many"),
        alert_header(told(ALERT)).replace("Z;", ";"),
        alert_header(told(ALERT)) + "; more=1",
    ],
)
def test_other_headers_are_refused(value: str) -> None:
    """A reader is told that a header is not ours rather than given half of it."""
    with pytest.raises(MalformedHeaderError):
        parse_alert_header(value)


@given(st.text())
def test_no_text_breaks_the_parsers(value: str) -> None:
    """Any text is either read or refused with our own error."""
    for parse in (parse_alert_header, parse_cause_header):
        with suppress(MalformedHeaderError):
            parse(value)
