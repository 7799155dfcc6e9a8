"""The settings class of the stream."""

from pydantic import Field

from chassis.addresses import Target
from chassis.faust.app import StreamSettings
from streams.entries import LONGEST_HISTORY_DAYS
from streams.join_state import DEFAULT_HISTORY_DAYS


class JoinSettings(StreamSettings):
    """The settings of a worker of the stream: those of every Faust worker, and how much history the pages have."""

    history_days: int = Field(default=DEFAULT_HISTORY_DAYS, ge=42, le=LONGEST_HISTORY_DAYS)
    """Days for which the pages can show the flights of closed windows; the judgement needs the last 41 days."""
    collector_grpc_target: Target | None = None
    """The address of the collector's gRPC, which tells the pages how its sources are. Unset: they say "not known"."""
