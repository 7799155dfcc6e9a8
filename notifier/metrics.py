"""The metrics of the notifier."""

from collections.abc import Callable
from datetime import datetime
from typing import Final

from chassis.metrics import Metrics
from notifier.errors import FailureReason
from notifier.messages import RaisedAlert

_SECONDS: Final = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3_600, 14_400, 86_400)
_ALERTS: Final = (1, 2, 5, 10, 20, 50, 100, 200)


class NotifierMetrics:
    """The notifier's own metrics: counts and durations of mails, alerts, retries, dead letters and bounce reports.

    The metrics of Faust are in `chassis.faust.internals.metrics`.
    """

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._emails = metrics.counter("emails_sent_total", "Mails handed to the mail server", "status", "kind")
        self._seconds = metrics.histogram("email_duration_seconds", "Time to hand over a mail").labels()
        self._last_seconds = metrics.gauge("last_email_sent_duration_seconds", "The same, of the last mail").labels()
        self._retries = metrics.counter("email_retries_total", "Mails put off until later", "kind", "reason")
        self._dead = metrics.counter("dead_letters_total", "Events put aside for good", "reason")
        self._dropped = metrics.counter("alerts_dropped_total", "Alerts that need no mail", "reason")
        self._overflow = metrics.counter(
            "alerts_made_to_wait_total",
            "Alerts put into alerts.waiting.v1, as their person has very many or they follow one that waits",
        ).labels()
        self._confirmations_dropped = metrics.counter(
            "confirmations_dropped_total", "Confirmation mails that nobody needs", "reason"
        )
        self._notices_dropped = metrics.counter("notices_dropped_total", "Notices that need no mail", "reason")
        self._group = metrics.histogram("alerts_per_mail", "Alerts told by one mail", buckets=_ALERTS).labels()
        self._suppressed = metrics.counter(
            "addresses_suppressed_total", "Addresses that do not exist, by what became of our report", "outcome"
        )
        self._delay = metrics.histogram(
            "alert_mail_delay_seconds",
            "From the publication of the fact that caused an alert to its mail being taken",
            buckets=_SECONDS,
        ).labels()

    def register_gauges(
        self,
        alert_count: Callable[[], float],
        oldest_age_s: Callable[[], float],
        is_circuit_open: Callable[[], bool],
    ) -> None:
        """Register gauges that call these functions at each scrape: the number of queued alerts, the age in seconds of
        the oldest queued alert, and True while the circuit to the mail server is open."""
        self._metrics.gauge("alerts_waiting", "Alerts in hand that are not mailed").labels().set_function(alert_count)
        self._metrics.gauge(
            "oldest_alert_waiting_seconds", "How long the alert has been in hand that has waited longest"
        ).labels().set_function(oldest_age_s)
        self._metrics.gauge(
            "mail_server_left_alone", "1 while the mail server is not asked after failures"
        ).labels().set_function(lambda: float(is_circuit_open()))

    def count_sent_mail(self, kind: str, took_s: float) -> None:
        """Count a mail that was sent and record its duration, in the histogram and as that of the last mail.

        `kind`: "alerts", "catch_up", "corrections", "confirmation" or "notice". `took_s`: seconds.
        """
        self._emails.labels(status="success", kind=kind).inc()
        self._seconds.observe(took_s)
        self._last_seconds.set(took_s)

    def count_failed_mail(self, kind: str) -> None:
        """Count a failed attempt to send a mail, by kind (as in `count_sent_mail`)."""
        self._emails.labels(status="failure", kind=kind).inc()

    def observe_mailed_alerts(self, alerts: tuple[RaisedAlert, ...], now: datetime) -> None:
        """Observe the number of alerts in a sent mail, and each alert's delay in seconds since its cause's publication.

        A negative delay, because of different clocks, counts as 0.
        """
        self._group.observe(len(alerts))
        for each in alerts:
            self._delay.observe(max((now - each.cause_published_at).total_seconds(), 0.0))

    def count_deferred_mail(self, kind: str, reason: FailureReason | str) -> None:
        """Count a mail that was deferred, by kind (as in `count_sent_mail`) and by the reason of its failure."""
        self._retries.labels(kind=kind, reason=str(reason)).inc()

    def count_dead_letter(self, reason: str) -> None:
        """Count an event that was dead-lettered, by a short reason such as "undecodable" or "gave_up"."""
        self._dead.labels(reason=reason).inc()

    def count_dropped_alerts(self, reason: str, alerts: int = 1) -> None:
        """Count `alerts` alerts that need no mail, by a short reason such as "already_sent" or "user_gone"."""
        if alerts:  # a reason that never was has no series
            self._dropped.labels(reason=reason).inc(alerts)

    def count_overflow(self, alerts: int) -> None:
        """Count alerts that are published to alerts.waiting.v1; an alert that is published again counts again."""
        self._overflow.inc(alerts)

    def count_dropped_confirmation(self, reason: str) -> None:
        """Count a confirmation request that needs no mail, by a short reason such as "already_sent"."""
        self._confirmations_dropped.labels(reason=reason).inc()

    def count_dropped_notice(self, reason: str) -> None:
        """Count a notice that needs no mail, by a short reason such as "already_sent" or "user_gone"."""
        self._notices_dropped.labels(reason=reason).inc()

    def count_bounce_report(self, outcome: str) -> None:
        """Count an address that does not exist, by whether user_manager received our report ("told") or not
        ("not_told")."""
        self._suppressed.labels(outcome=outcome).inc()
