"""The count of answers in OpenSky's name that were not its own, shared by its clients."""

import httpx

from chassis.metrics import Metrics
from collector.errors import ForeignAnswer, ForeignAnswerError


class ForeignAnswerCounter:
    """Counts foreign answers by their kind, in a metric."""

    def __init__(self, metrics: Metrics) -> None:
        self._foreign = metrics.counter(
            "opensky_foreign_answers_total", "Answers in the source's name that were not its own", "kind"
        )
        for kind in ForeignAnswer:
            self._foreign.labels(kind=kind.value)  # 0 from the start, so that the first one is an increase

    def count(self, answer: httpx.Response, kind: ForeignAnswer) -> ForeignAnswerError:
        """Count a foreign answer by its kind, and return the error for the caller to raise."""
        self._foreign.labels(kind=kind.value).inc()
        return ForeignAnswerError(kind, answer.status_code)
