"""Why the replay refuses a question."""


class Unauthorised(Exception):
    """The caller claims to be somebody, and we cannot confirm it."""


class BadQuestion(Exception):
    """The parameters are missing, malformed or ask for more than one call may."""


class OutOfCredits(Exception):
    """The caller's credits of this day do not pay for the question."""

    def __init__(self, retry_after: int) -> None:
        super().__init__(f"no credits left for {retry_after} seconds")
        self.retry_after = retry_after
        """Seconds of the server's clock until new credits are given."""
