"""The kinds of faults that the replay can inject: of OpenSky itself, and of whatever answers in its name."""

from enum import StrEnum
from typing import Final


class InjectedFault(StrEnum):
    """A kind of fault that one request meets."""

    LIMITED = "429"
    """Status 429, with the number of seconds to pause."""
    LIMITED_UNSAID = "429-unsaid"
    """Status 429, without the number of seconds to pause."""
    LIMITED_BY_PROXY = "429-retry-after"
    """Status 429 of a load balancer, with the pause as seconds in `Retry-After`."""
    LIMITED_UNTIL = "429-retry-after-date"
    """The same, with the pause as a date (RFC 9110, section 10.2.3)."""
    UNAVAILABLE = "503"
    """Status 503."""
    BAD_GATEWAY = "502"
    """Status 502 of a proxy, with a page."""
    PROXY_LOGIN = "407"
    """Status 407 of a proxy that wants a password, with a page."""
    FORGOTTEN = "401"
    """The token is revoked before it expires, so status 401. Not drawn for a caller without a token."""
    RESET = "reset"
    """The connection is reset in the middle of the body."""
    SLOW = "slow"
    """The body stalls in the middle."""
    TRUNCATED = "truncated"
    """The first half of the JSON, with a Content-Length as if it were the whole."""
    GZIP_CUT = "gzip-cut"
    """A compressed body of which the end is missing, with a Content-Length as if it were the whole."""
    GZIP_BROKEN = "gzip-broken"
    """A body that is said to be compressed and is not."""
    HTML = "html"
    """An HTML page in place of the JSON, with status 200."""
    NOT_FOUND_HTML = "404-html"
    """An HTML page with status 404."""
    NOT_FOUND_PROBLEM = "404-problem"
    """An error in JSON with status 404."""
    NOT_FOUND_CUT = "404-cut"
    """A compressed page with status 404, of which so much is missing that nothing is left to read."""
    PROBLEM = "problem"
    """An error in JSON with status 200."""
    NULL = "null"
    """The JSON value null with status 200."""
    OTHER_JSON = "other-json"
    """A list of objects that are no flights, with status 200."""
    REDIRECT = "redirect"
    """A redirect to a sign-in page."""
    WRONG_DATE = "wrong-date"
    """A good answer whose `Date` is hours or days off, as of a machine with a wrong clock or of an old cache."""
    OUTAGE = "404-outage"
    """Status 404 with no body although there are flights: nothing tells it from "no flights". Only by a script."""
    DUPLICATED = "duplicated"
    """Some flights are in the answer twice."""
    LATE = "late"
    """Some flights, perhaps all, are missing in the answer."""
    MALFORMED = "malformed"
    """Some flights in the answer cannot be parsed."""


ANSWER_FAULTS: Final = frozenset({InjectedFault.DUPLICATED, InjectedFault.LATE, InjectedFault.MALFORMED})
"""Faults that still give the client a usable answer; all other faults count as failures."""
PAUSE_FAULTS: Final = frozenset({InjectedFault.LIMITED, InjectedFault.LIMITED_BY_PROXY, InjectedFault.LIMITED_UNTIL})
"""Faults that announce a pause."""
SCRIPTED_FAULTS: Final = frozenset({InjectedFault.OUTAGE})
"""Faults that are in no seeded plan, since repeating the call at once does not help."""
FOREIGN_FAULTS: Final = frozenset(
    {
        InjectedFault.BAD_GATEWAY,
        InjectedFault.PROXY_LOGIN,
        InjectedFault.GZIP_CUT,
        InjectedFault.GZIP_BROKEN,
        InjectedFault.HTML,
        InjectedFault.NOT_FOUND_HTML,
        InjectedFault.NOT_FOUND_PROBLEM,
        InjectedFault.NOT_FOUND_CUT,
        InjectedFault.PROBLEM,
        InjectedFault.NULL,
        InjectedFault.OTHER_JSON,
        InjectedFault.REDIRECT,
        InjectedFault.WRONG_DATE,
        InjectedFault.OUTAGE,
    }
)
"""Faults in which something else than the source has written the answer, or has changed it on its way."""
TOKEN_FAULTS: Final = (
    InjectedFault.UNAVAILABLE,
    InjectedFault.RESET,
    InjectedFault.SLOW,
    InjectedFault.TRUNCATED,
    InjectedFault.HTML,
    InjectedFault.BAD_GATEWAY,
    InjectedFault.PROXY_LOGIN,
    InjectedFault.GZIP_CUT,
    InjectedFault.GZIP_BROKEN,
    InjectedFault.NOT_FOUND_HTML,
    InjectedFault.PROBLEM,
    InjectedFault.NULL,
    InjectedFault.REDIRECT,
)
"""Faults that a request for a token may meet."""
