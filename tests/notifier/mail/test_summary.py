"""Which thresholds a catch-up mail shows, if it is about more than it can show."""

from dataclasses import replace
from datetime import timedelta
from uuid import UUID

from domain.alerts import AlertState
from notifier.mail.summary import group_by_threshold, select_latest
from tests.notifier.alerts import ALERT


def test_breaches_have_precedence_over_later_windows() -> None:
    """A withdrawn RESOLVED reports a breach, too: it has not ended."""
    states = {
        AlertState.FIRING: None,
        AlertState.WITHDRAWN: AlertState.RESOLVED,
        AlertState.RESOLVED: None,
    }
    alerts = [
        replace(
            ALERT,
            alert_id=UUID(int=number),
            interest_id=UUID(int=number),
            state=state,
            withdrawn_state=withdrawn,
            window_start=ALERT.window_start + timedelta(hours=number),
        )
        for number, (state, withdrawn) in enumerate(states.items(), 1)
    ]
    shown = select_latest(group_by_threshold(alerts), 2)
    assert [each.latest.interest_id.int for each in shown] == [1, 2]
