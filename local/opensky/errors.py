"""The errors with which the replay rejects a request."""


class Unauthorised(Exception):
    """The caller's credentials or token are invalid."""


class Forbidden(Exception):
    """The request needs a token, and has none."""


class BadRequest(Exception):
    """The parameters are missing or malformed, or request more than one call may."""


class OutOfCredits(Exception):
    """The caller has too few credits left today for the request."""

    def __init__(self, retry_after: int) -> None:
        super().__init__(f"no credits left for {retry_after} seconds")
        self.retry_after = retry_after
        """Seconds of the server's clock until midnight, when the credits are renewed."""
