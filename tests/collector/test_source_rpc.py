"""SourceService: what the collector tells operators' pages of its sources, from the database."""

from datetime import timedelta

import pytest

from chassis.db.database import Database
from chassis.errors import DatabaseUnavailableError
from chassis.metrics import Metrics, ServiceIdentity
from collector.live.live_store import REPORT_FORMAT, name_report, write_state
from collector.live.reports import FeedReport, encode_report
from collector.live.status import LiveStatus
from collector.model import LiveAgreementRow
from collector.rpc import SOURCES_NAME, SourceService
from collector.settled.coverage_report import LiveReports
from collector.settled.evidence import RecordTiming
from collector.settled.quota import Bucket, QuotaStore
from collector.settled.schedule import CollectionTiming
from collector.settled.status import SchedulerStatus
from tests.collector.conftest import NOON, NOWHERE, Service
from towerwatch.collection.v1.source_service_pb2 import DESCRIPTOR, GetAgreementRequest, GetSourcesRequest
from towerwatch.flights.v1 import events_pb2 as flights_pb

TIMING = CollectionTiming(RecordTiming(timedelta(hours=1), timedelta(hours=3)), timedelta(hours=1), timedelta(days=2))
BUDGET = 4_000


def build_service(service: Service, database: Database | None = None, feeds=("opensky", "receivers")) -> SourceService:
    """Return the gRPC service of a collector, as `__main__` wires it; `database`: another one than the collector's."""
    database = database or service.database
    metrics = Metrics(ServiceIdentity("collector", "local"))
    live = LiveStatus(database, service.clock, feeds, QuotaStore(BUDGET, Bucket.STATES), metrics)
    status = SchedulerStatus(database, service.clock, TIMING, QuotaStore(BUDGET))
    return SourceService(status.load_record_state, live.load_state, LiveReports(database, service.clock).load_live)


def test_the_service_has_the_name_of_the_contract() -> None:
    """Health checks and reflection use this name."""
    assert [each.full_name for each in DESCRIPTOR.services_by_name.values()] == [SOURCES_NAME]


def test_the_sources_are_told_as_any_replica_reads_them(service: Service) -> None:
    """Credits, pause and lag of the record; each feed's last poll, or that there was none; nothing of a person."""
    service.set()
    report = FeedReport(
        "opensky", NOON.timestamp() - 20.5, NOON.timestamp() - 30, 812, 22.0, ("KJFK",), {"LICC": "why"}, "a fault"
    )
    with service.database.transaction() as session:
        write_state(session, name_report("opensky"), REPORT_FORMAT, 0.0, encode_report(report))
        QuotaStore(BUDGET).charge(session, 120, NOON)
        QuotaStore(BUDGET).store_pause(session, NOON + timedelta(hours=1), NOON)
        QuotaStore(BUDGET, Bucket.STATES).charge(session, 5_000, NOON)
    told = build_service(service).GetSources(GetSourcesRequest(), None)
    assert told.at.ToDatetime(NOON.tzinfo) == NOON
    assert (told.record.credits.budget, told.record.credits.left) == (BUDGET, BUDGET - 120)
    assert told.record.paused_until.ToDatetime(NOON.tzinfo) == NOON + timedelta(hours=1)
    assert told.record.lag_seconds > 3600
    assert (told.position_credits.budget, told.position_credits.left) == (BUDGET, 0)
    opensky, receivers = told.feeds
    assert opensky.last_poll_at.ToMilliseconds() == (NOON.timestamp() - 20.5) * 1000
    assert (opensky.aircraft, opensky.live_airports, opensky.error) == (812, ["KJFK"], "a fault")
    assert dict(opensky.settled_airports) == {"LICC": "why"}
    assert (receivers.name, receivers.HasField("last_poll_at"), receivers.error) == ("receivers", False, "")


def test_a_collector_without_positions_tells_of_the_record_alone(service: Service) -> None:
    """Nothing is said of credits for positions that nobody asks for; without interests nothing is behind."""
    told = build_service(service, feeds=()).GetSources(GetSourcesRequest(), None)
    assert (list(told.feeds), told.HasField("position_credits")) == ([], False)
    assert (told.record.lag_seconds, told.record.HasField("paused_until")) == (0, False)


def test_the_agreement_of_an_airport_is_told_by_direction_and_day(service: Service) -> None:
    """A direction that agrees badly is not trusted; an airport that was never live has no days, and is no error."""
    day = NOON.replace(hour=0)
    with service.database.transaction() as session:
        for direction, matched in (("departures", 99), ("arrivals", 20)):
            for back in (1, 2):
                session.add(
                    LiveAgreementRow(
                        airport="KJFK",
                        direction=direction,
                        day=day - timedelta(days=back),
                        recorded=100,
                        live=100,
                        matched=matched,
                        added=1,
                        retracted=1,
                        hourly="[]",
                    )
                )
    told = build_service(service).GetAgreement(GetAgreementRequest(airport="KJFK"), None)
    found = {each.direction: each for each in told.directions}
    arrivals, departures = found[flights_pb.DIRECTION_ARRIVALS], found[flights_pb.DIRECTION_DEPARTURES]
    assert (arrivals.is_trusted, departures.is_trusted) == (False, True)
    newest = departures.days[0]
    assert newest.day.ToDatetime(NOON.tzinfo) == day - timedelta(days=1)
    assert (newest.recorded, newest.live, newest.matched, len(departures.days)) == (100, 100, 99, 2)
    never = build_service(service).GetAgreement(GetAgreementRequest(airport="LICC"), None)
    assert [(each.is_trusted, len(each.days)) for each in never.directions] == [(True, 0), (True, 0)]


def test_a_database_that_is_away_is_an_error_and_not_a_source_without_faults(service: Service) -> None:
    """The interceptor makes UNAVAILABLE of it."""
    with pytest.raises(DatabaseUnavailableError):
        build_service(service, Database(NOWHERE)).GetSources(GetSourcesRequest(), None)
