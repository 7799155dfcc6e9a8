"""The errors that the collector's own code raises. Each text is one sentence for the user or operator concerned."""

from datetime import timedelta
from enum import StrEnum
from typing import ClassVar, assert_never


class CollectorError(Exception):
    """The base of all errors of the collector.

    The text may be shown to the caller: it holds no token, no secret, no SQL and nobody else's data.
    """

    transient: ClassVar[bool] = False
    """True if the same action may succeed later, False if it would fail again."""


class NotAuthenticatedError(CollectorError):
    """The token belongs to no user."""


class NotConfirmedError(CollectorError):
    """The user's e-mail address is not confirmed yet."""


class NotAllowedError(CollectorError):
    """The action is reserved for the operator."""


class NoSuchAirportError(CollectorError):
    """No airport has this ICAO code."""

    def __init__(self, text: str, field: str | None = None) -> None:
        """`field`: the member or parameter of the request that names the airport; None: none does."""
        super().__init__(text)
        self.field = field


class NoSuchInterestError(CollectorError):
    """The user has no such interest, whether another user has it or not."""


class BadRangeError(CollectorError):
    """The range of windows that is asked for is empty, too long, or too long ago."""

    def __init__(self, text: str, *fields: str) -> None:
        """`fields`: the parameters of the request that are concerned."""
        super().__init__(text)
        self.fields = fields


class VersionMismatchError(CollectorError):
    """The interest was changed since the caller read it."""


class BadCursorError(CollectorError):
    """The page cursor is invalid: none of our pages ended with it."""

    field = "cursor"


class BadUserIdError(CollectorError):
    """The user id is no UUID."""


class BadInterestIdError(CollectorError):
    """The interest's id is no UUID."""


class LimitError(CollectorError):
    """The person has, or did, as much as one person may."""

    limit: ClassVar[str]
    """The name of the limit: the label of a metric."""


class TooManyInterestsError(LimitError):
    """The person has as many interests as one person may have."""

    limit = "interests"

    def __init__(self, most: int) -> None:
        super().__init__(f"You have {most} interests or more, and no more may be set; change or remove one of them.")


class TooManyAirportsError(LimitError):
    """The person has interests in as many airports as one person may have."""

    limit = "airports"
    field = "airport_icao"
    """The member of the request that names one airport too many."""

    def __init__(self, most: int) -> None:
        super().__init__(
            f"You watch {most} airports or more, and no other may be added; remove your interests in one of them first."
        )


class TooManyWritesError(LimitError):
    """The person has sent too many requests that change interests within a minute."""

    transient = True
    limit = "writes"

    def __init__(self, most: int, retry_after_s: int) -> None:
        super().__init__(f"You may change interests {most} times in a minute; come back in {retry_after_s} s.")
        self.retry_after_s = retry_after_s


class TooManyReadsError(LimitError):
    """The person has sent too many requests within a minute whose answers cost much to compute."""

    transient = True
    limit = "reads"

    def __init__(self, most: int, retry_after_s: int) -> None:
        super().__init__(
            f"You may ask for windows, previews and what is usual {most} times in a minute; come back in "
            f"{retry_after_s} s. An answer that has not changed since (If-None-Match) does not count."
        )
        self.retry_after_s = retry_after_s


class TooManyPastWindowsError(LimitError):
    """The person's changes of the last day have had as many past windows judged as one person may."""

    transient = True
    limit = "past_windows"
    field = "effective_from"
    """The member of the request that says which windows are judged."""

    def __init__(self, windows: int, most: int, retry_after_s: int) -> None:
        """`windows`: how many past windows the change would have judged."""
        super().__init__(
            f"Your changes may have {most} past windows judged in a day, and this one has {windows}; come back in "
            f"{retry_after_s} s, or give a later effective_from."
        )
        self.retry_after_s = retry_after_s


class CallerGoneError(CollectorError):
    """The caller has stopped waiting for the answer."""

    transient = True


class UserManagerUnavailableError(CollectorError):
    """The user_manager, which authenticates users, is unavailable."""

    transient = True


class SupersededError(CollectorError):
    """Another collector has begun a newer term.

    Nothing of the superseded collector's transaction was stored, and it must make no API call.
    """


class ConcurrentCollectionError(CollectorError):
    """Another collector has stored this interval, or is about to store it."""


class SourceError(CollectorError):
    """The source returned no flights or positions because of an error: never to be taken for "there are none"."""

    is_unasked = False
    """True if the source was not asked, as the token server gave no token: no cost. False: it may have been asked."""


class SourceUnavailableError(SourceError):
    """The source is unreachable, or its answer is unreadable."""

    transient = True


class ForeignAnswer(StrEnum):
    """The kinds of answers that come in the source's name, but are not its own (the values are labels of a metric)."""

    HTML = "html"
    """A web page: of a proxy, a sign-in portal, or a site under maintenance."""
    PROBLEM_JSON = "problem_json"
    """A JSON object that describes an error: of a gateway, or of a server that has no such address."""
    JSON = "json"
    """Any other JSON that does not have the form of the source's answers, `null` included."""
    REDIRECT = "redirect"
    """A redirect to another address."""
    NOT_FOUND_WITH_BODY = "not_found_with_body"
    """A 404 with a body that is none of the above; the source's own 404, for no flights, has an empty one."""
    UNREADABLE = "unreadable"
    """An answer that is no valid JSON: empty, truncated, or plain text."""
    NO_IDENTITY = "no_identity"
    """A list in which no row is a flight: the source's format has changed, or it is another service."""


class ForeignAnswerError(SourceUnavailableError):
    """The answer is not the source's own: a proxy, a portal or another server has answered in its name.

    Or the source has changed its format. Such an answer does not mean "no flights". The error's text says what an
    operator can do, and holds nothing of the answer's body.
    """

    def __init__(self, kind: ForeignAnswer, status: int, setting: str = "OPENSKY_URL") -> None:
        """`setting`: the name of the setting that has the source's address."""
        super().__init__(f"{_describe_foreign_answer(kind, setting)} (status {status})")
        self.kind = kind


def _describe_foreign_answer(kind: ForeignAnswer, setting: str) -> str:
    """Return a sentence that says what was received instead of the source's answer, and what an operator can do.

    `setting`: the name of the setting that has the source's address.
    """
    match kind:
        case ForeignAnswer.HTML:
            return f"a web page is not the source's answer: look for a proxy, a sign-in page or a wrong {setting}"
        case ForeignAnswer.PROBLEM_JSON:
            return f"an error in JSON came that is not the source's: check {setting}, and any gateway on the way to it"
        case ForeignAnswer.JSON:
            settings = "OPENSKY_URL and OPENSKY_TOKEN_URL" if setting == "OPENSKY_URL" else setting
            return f"the answer is JSON of another form than the source's: check {settings}"
        case ForeignAnswer.REDIRECT:
            return f"a redirect is not the source's answer: look for a proxy or a sign-in page, or correct {setting}"
        case ForeignAnswer.NOT_FOUND_WITH_BODY:
            return f"a 404 with a body is not the source's answer: look for a proxy, or correct {setting}"
        case ForeignAnswer.UNREADABLE:
            return "the answer is no JSON: look for a proxy that changes answers, or wait if the source is disturbed"
        case ForeignAnswer.NO_IDENTITY:
            return "none of the rows in the answer can be read: look for a newer version of Towerwatch"
        case _:
            assert_never(kind)


class IncompleteAnswerError(SourceError):
    """The source's answer has too many rows that cannot be counted: without identity, or of another airport.

    What is left of it is not all flights, so it covers nothing. The source has answered, and has charged its credits.
    """

    transient = True

    def __init__(self, left_out: int, rows: int) -> None:
        super().__init__(
            f"{left_out} of the {rows} flights in the answer have no identity, or are of another airport: wait, or ask "
            "the source for the airport by hand"
        )


class BreakerOpenError(SourceUnavailableError):
    """The circuit breaker is open after too many failures of the source: the API call was not made."""

    def __init__(self, retry_after_s: float) -> None:
        super().__init__(f"the source fails, and is not asked for {retry_after_s:.0f} s")
        self.retry_after_s = retry_after_s
        """Seconds on the service's clock until the breaker may admit a call again."""


class SourceLimitedError(SourceError):
    """The source requires a pause: it rejects API calls for some time (rate limit)."""

    transient = True

    def __init__(self, retry_after_s: float) -> None:
        super().__init__(f"the source wants no request for {retry_after_s:.0f} s")
        self.retry_after_s = retry_after_s
        """Seconds on the source's clock."""


class WrongClockError(SourceError):
    """The service's clock differs from the source's by more than an hour: nothing of the answer can be stored."""

    def __init__(self, error: timedelta) -> None:
        """`error`: the time that the service's clock is ahead of the source's; negative if it is behind."""
        hours = abs(error) / timedelta(hours=1)
        side = "ahead of" if error > timedelta(0) else "behind"
        super().__init__(f"this machine's clock is {hours:.1f} h {side} the source's; set the machine's clock right")
        self.error = error


class SourceRefusedError(SourceError):
    """The source rejects the credentials or the request: an operator must look at it."""
