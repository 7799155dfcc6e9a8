"""What can be wrong with an event for good: each of these puts it aside."""


class UnusableEventError(Exception):
    """An event that can never be folded. Permanent; the text is the reason, and quotes nothing of the event."""


class UndecodableError(UnusableEventError):
    """Bytes that are no event of the contract, or one that contradicts itself."""


class UnsequencedError(UnusableEventError):
    """An event without the sequence that tells a repeat."""


class MisroutedError(UnusableEventError):
    """An event in another partition than its airport's, where the rest of that airport is not known."""
