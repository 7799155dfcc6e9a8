"""The error of the mailbox."""

from typing import Self

from chassis.listening import describe_refusal


class CannotListenError(Exception):
    """The port is in use, or listening on it is not allowed. The text is one sentence for the person at the console."""

    @classmethod
    def on(cls, host: str, port: int, cause: OSError) -> Self:
        """Build the error of a host and port, with the cause in the system's words and what to do."""
        return cls(f"cannot listen on {host}:{port}: {describe_refusal(cause) if cause.errno else cause}")
