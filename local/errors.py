"""What can go wrong on one machine."""


class LocalError(Exception):
    """Something that the person at the keyboard can put right; the text is one sentence that says how."""
