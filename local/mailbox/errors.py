"""The error of the mailbox."""


class CannotListenError(Exception):
    """The port is in use, or listening on it is not allowed. The text is one sentence for the person at the console."""
