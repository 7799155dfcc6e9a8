"""The gateway's metrics: the number of requests by service and outcome."""

from enum import StrEnum

from chassis.metrics import Metrics


class RequestOutcome(StrEnum):
    """The result of a request; each is a value of the metric's label `outcome`."""

    ANSWERED = "answered"
    """The service's answer was passed on, whatever its status."""
    REDIRECTED = "redirected"
    NO_ROUTE = "no_route"
    REFUSED = "refused"
    """The request cannot be read, names a foreign host, or is too large."""
    UNAVAILABLE = "unavailable"
    """The service accepted no connection, or sent no answer, or not in time."""
    CUT_OFF = "cut_off"
    """The service ended in the middle of its answer."""
    CLIENT_GONE = "client_gone"


class RequestMetrics:
    """The counter of requests."""

    def __init__(self, metrics: Metrics) -> None:
        self._total = metrics.counter(
            "gateway_requests_total", "Requests by the service that they were for, and outcome", "route", "outcome"
        )

    def count(self, service: str | None, outcome: RequestOutcome) -> None:
        """Count one request. `service`: where its route leads; None: to no service."""
        self._total.labels(route=service or "none", outcome=outcome.value).inc()
