"""What the notifier counts."""

from collections.abc import Callable
from datetime import datetime
from typing import Final

from chassis.metrics import Metrics
from notifier.errors import Reason
from notifier.messages import RaisedAlert

_SECONDS: Final = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3_600, 14_400, 86_400)
_ALERTS: Final = (1, 2, 5, 10, 20, 50, 100, 200)


class NotifierMetrics:
    """The notifier's own metrics; those of its framework are in `chassis.faust.internals.metrics`."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._emails = metrics.counter("emails_sent_total", "Mails handed to the mail server", "status", "kind")
        self._seconds = metrics.histogram("email_duration_seconds", "Time to hand over a mail").labels()
        self._last_seconds = metrics.gauge("last_email_sent_duration_seconds", "The same, of the last mail").labels()
        self._retries = metrics.counter("email_retries_total", "Mails put off until later", "kind", "reason")
        self._dead = metrics.counter("dead_letters_total", "Events put aside for good", "reason")
        self._dropped = metrics.counter("alerts_dropped_total", "Alerts that need no mail", "reason")
        self._confirmations_dropped = metrics.counter(
            "confirmations_dropped_total", "Confirmation mails that nobody needs", "reason"
        )
        self._group = metrics.histogram("alerts_per_mail", "Alerts told by one mail", buckets=_ALERTS).labels()
        self._suppressed = metrics.counter(
            "addresses_suppressed_total", "Addresses that do not exist, by what became of our report", "outcome"
        )
        self._delay = metrics.histogram(
            "alert_mail_delay_seconds",
            "From the publication of the fact that caused an alert to its mail being taken",
            buckets=_SECONDS,
        ).labels()

    def watch(self, waiting: Callable[[], float], oldest_s: Callable[[], float], is_open: Callable[[], bool]) -> None:
        """Take gauges from where they are known: alerts that wait, the age in seconds of the one that has waited
        longest, and whether the mail server is being left alone."""
        self._metrics.gauge("alerts_waiting", "Alerts in hand that are not mailed").labels().set_function(waiting)
        self._metrics.gauge(
            "oldest_alert_waiting_seconds", "How long the alert has been in hand that has waited longest"
        ).labels().set_function(oldest_s)
        self._metrics.gauge(
            "mail_server_left_alone", "1 while the mail server is not asked after failures"
        ).labels().set_function(lambda: float(is_open()))

    def sent(self, kind: str, took_s: float) -> None:
        self._emails.labels(status="success", kind=kind).inc()
        self._seconds.observe(took_s)
        self._last_seconds.set(took_s)

    def not_sent(self, kind: str) -> None:
        self._emails.labels(status="failure", kind=kind).inc()

    def told(self, raised: tuple[RaisedAlert, ...], now: datetime) -> None:
        self._group.observe(len(raised))
        for each in raised:
            self._delay.observe(max((now - each.cause_published_at).total_seconds(), 0.0))

    def put_off(self, kind: str, reason: Reason | str) -> None:
        self._retries.labels(kind=kind, reason=str(reason)).inc()

    def dead(self, reason: str) -> None:
        self._dead.labels(reason=reason).inc()

    def dropped(self, reason: str, alerts: int = 1) -> None:
        self._dropped.labels(reason=reason).inc(alerts)

    def confirmation_dropped(self, reason: str) -> None:
        self._confirmations_dropped.labels(reason=reason).inc()

    def suppressed(self, outcome: str) -> None:
        self._suppressed.labels(outcome=outcome).inc()
