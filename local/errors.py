"""The error of the local stack's commands."""


class LocalError(Exception):
    """A failure that the person at the console can correct; the text is one sentence that says how."""
