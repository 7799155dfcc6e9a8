"""Tests of the last failure of the source: people and operators read why nothing comes, until it comes again."""

from datetime import timedelta

import pytest

from collector.errors import (
    BreakerOpenError,
    SourceError,
    SourceLimitedError,
    SourceRefusedError,
    SourceUnavailableError,
)
from collector.settled.coverage_report import CoverageReports
from collector.settled.source_failure import load_failure, store_failure
from domain.interests import Direction
from tests.collector.conftest import ANN, NOON, Service, wish
from tests.collector.settled.test_collection import TIMING, build_collector, list_daily_flights, run_recorded
from tests.collector.settled.test_status import build_status
from tests.fakes.nightly_source import NightlySource


@pytest.mark.parametrize(
    "failure", [SourceUnavailableError("it cannot be reached"), SourceRefusedError("no token"), SourceLimitedError(60)]
)
def test_a_failure_is_told_until_a_call_succeeds(service: Service, failure: SourceError) -> None:
    """Coverage, status and the lights name the time and the reason; the credits of a failed call are given back."""
    service.set(wish(), ANN)
    source = NightlySource(service.clock, list_daily_flights())
    source.failures = [failure] * 40
    collector = build_collector(service, source)
    run_recorded(service, collector)
    told = f"the last call failed at 12:00: {failure}; the source is asked again by itself"
    status, reports = build_status(service), CoverageReports(service.database, service.clock, TIMING)
    state = status.load_state()
    assert state.failure is not None
    assert (state.failure.explain(NOON), state.spent) == (told, 0)
    assert status.load_record_state().error == told
    assert state.coverage[0].waiting_for is not None
    assert state.coverage[0].waiting_for.endswith(f"; {told}")
    assert reports.load_report(ANN, "KJFK").waiting_for[Direction.DEPARTURES].endswith(f"; {told}")
    source.failures = []
    service.clock.advance(timedelta(minutes=20))
    run_recorded(service, collector)
    assert (status.load_state().failure, status.load_record_state().error) == (None, None)
    assert "failed" not in reports.load_report(ANN, "KJFK").waiting_for.get(Direction.DEPARTURES, "")


def test_an_open_breaker_leaves_the_reason_of_before(service: Service) -> None:
    """That nobody asks now says nothing of why; a failure of another day is told with its date."""
    with service.database.transaction() as session:
        assert load_failure(session) is None
        store_failure(session, SourceUnavailableError("it cannot be reached"), NOON)
        store_failure(session, BreakerOpenError(30), NOON + timedelta(hours=1))
    with service.database.reading() as session:
        failure = load_failure(session)
    assert failure is not None
    assert failure.explain(NOON + timedelta(days=1)).startswith("the last call failed at 13 Feb 12:00: it cannot be")
