"""A collector of the blizzard: a real gRPC server that tells the pages of its sources, one of each light."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from functools import partial

import grpc
from google.protobuf.timestamp_pb2 import Timestamp

from chassis.metrics import Metrics, ServiceIdentity
from chassis.rpc import GrpcServer
from tests.streams import blizzard
from towerwatch.collection.v1 import source_service_pb2 as sources_pb
from towerwatch.collection.v1.source_service_pb2_grpc import (
    SourceServiceServicer,
    add_SourceServiceServicer_to_server,
)
from towerwatch.flights.v1 import events_pb2 as flights_pb


class SnowedInSources(SourceServiceServicer):
    """A collector whose record is in time, whose feed has one source that fails, and whose receiver is silent."""

    def GetSources(  # noqa: N802 - the contract's name
        self, request: sources_pb.GetSourcesRequest, context: grpc.ServicerContext
    ) -> sources_pb.GetSourcesResponse:
        """Reply with three sources: green, amber and red."""
        answer = sources_pb.GetSourcesResponse(at=_stamp(blizzard.NOW))
        answer.record.lag_seconds = 26 * 3600
        answer.record.credits.budget, answer.record.credits.left = 4_000, 3_120
        answer.position_credits.budget, answer.position_credits.left = 4_000, 2_008
        answer.feeds.add(
            name="opensky",
            last_poll_at=_stamp(blizzard.NOW - timedelta(seconds=21)),
            aircraft=5_812,
            interval_seconds=22,
            live_airports=["LICC"],
            settled_airports={"KSFO": "nobody hears KSFO"},
            error="box-2: the source fails, and is not asked for 60 s",
        )
        answer.feeds.add(
            name="receivers",
            last_poll_at=_stamp(blizzard.NOW - timedelta(hours=9)),
            aircraft=31,
            interval_seconds=10,
            error="the time in aircraft.json stands still",
        )
        return answer

    def GetAgreement(  # noqa: N802 - the contract's name
        self, request: sources_pb.GetAgreementRequest, context: grpc.ServicerContext
    ) -> sources_pb.GetAgreementResponse:
        """Reply with one day of departures."""
        day = sources_pb.DayAgreement(day=_stamp(blizzard.NOW - timedelta(days=3)), recorded=60, live=58, matched=57)
        return sources_pb.GetAgreementResponse(
            directions=[
                sources_pb.DirectionAgreement(direction=flights_pb.DIRECTION_DEPARTURES, is_trusted=True, days=[day])
            ]
        )


def _stamp(at: datetime) -> Timestamp:
    """Return the message of a time."""
    made = Timestamp()
    made.FromDatetime(at)
    return made


@contextmanager
def serving_sources(servicer: SourceServiceServicer, port: int) -> Iterator[None]:
    """Serve a collector on a port of this machine for the block."""
    add = partial(add_SourceServiceServicer_to_server, servicer)
    server = GrpcServer("127.0.0.1", port, {"sources": add}, {}, Metrics(ServiceIdentity("collector", "local")))
    server.start()
    try:
        yield
    finally:
        server.stop()
