"""The stream's settings."""

from chassis.stream_app import StreamSettings


class StreamsSettings(StreamSettings):
    """Read from the environment in `__main__`."""
