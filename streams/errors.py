"""What can go wrong in the stream."""


class UndecodableError(Exception):
    """Bytes that are no event of the contract. Permanent: the event is put aside."""


class UnsequencedError(Exception):
    """An event without the sequence that tells a repeat. Permanent: the event is put aside."""
