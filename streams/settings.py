"""The stream's settings."""

from pydantic import Field

from chassis.faust.app import StreamSettings
from streams.entries import LONGEST_HISTORY_DAYS
from streams.join_state import DEFAULT_HISTORY_DAYS


class StreamsSettings(StreamSettings):
    """Read from the environment in `__main__`."""

    history_days: int = Field(default=DEFAULT_HISTORY_DAYS, ge=42, le=LONGEST_HISTORY_DAYS)
    """How long the flights of closed windows are kept for the pages; what is judged needs the last 41 days."""
