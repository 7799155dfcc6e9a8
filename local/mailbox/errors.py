"""The error of the mailbox."""

import os
from typing import Self


class CannotListenError(Exception):
    """The port is in use, or listening on it is not allowed. The text is one sentence for the person at the console."""

    @classmethod
    def on(cls, host: str, port: int, cause: OSError) -> Self:
        """Build the error of a host and port, with the cause in the system's words."""
        return cls(f"cannot listen on {host}:{port}: {os.strerror(cause.errno) if cause.errno else cause}")
