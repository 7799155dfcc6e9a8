"""What can go wrong in the mailbox."""


class CannotListenError(Exception):
    """The port is taken, or not ours to take. The text is one sentence for whoever started the mailbox."""
