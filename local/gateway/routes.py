"""The routes of the gateway, by the rules of Gateway API: the same as in `manifests/base/routes.yaml`.

They are written here once more because nothing at run time reads YAML; `tests/local/gateway/test_routes.py` compares
the two.
"""

from dataclasses import dataclass
from typing import Final

ACCOUNTS: Final = "user_manager"
INTERESTS: Final = "collector"


@dataclass(frozen=True, slots=True)
class Route:
    """A rule for the requests for one path, and for all paths below it if it is a prefix."""

    path: str
    service: str | None
    """The service that answers; None: the gateway answers with a redirect to `replacement`."""
    is_prefix: bool = True
    replacement: str | None = None
    """The path that replaces `path` in the request that the service gets; None: the path is unchanged."""
    referrer_policy: str = "no-referrer"
    """The header Referrer-Policy. By default no referrer: a link in a mail works for everybody who has its address."""

    def matches(self, path: str) -> bool:
        """Return True if a request for the path is the route's. A prefix consists of whole elements of the path."""
        return path == self.path or (self.is_prefix and path.startswith(self.path.rstrip("/") + "/"))

    def build_destination(self, path: str) -> "Destination":
        """Return where a request for a path that matches goes."""
        changed = path if self.replacement is None else self.replacement + path.removeprefix(self.path)
        return Destination(self.service, changed, self.referrer_policy)


@dataclass(frozen=True, slots=True)
class Destination:
    """The service that gets a request, with the path that it gets; `service` None: a redirect (302) to the path."""

    service: str | None
    path: str
    referrer_policy: str = "no-referrer"

    def build_headers(self) -> dict[str, str]:
        """Return the headers that every answer from there gets, in place of the service's own."""
        return {**ANSWER_HEADERS, "Referrer-Policy": self.referrer_policy}


ROUTES: Final = (
    *(
        Route(path, ACCOUNTS)
        for path in ("/users", "/unsubscribe", "/stop", "/token", "/not-me", "/session", "/deletions")
    ),
    # Browsers send Origin with the forms of these pages only with such a policy; ADR 53.
    *(Route(path, ACCOUNTS, referrer_policy="same-origin") for path in ("/sign-in", "/confirm")),
    # The pages for people: exactly these, and the files that they load.
    *(
        Route(path, ACCOUNTS, is_prefix=False, referrer_policy="same-origin")
        for path in ("/", "/watch", "/told", "/register")
    ),
    # Below /account are the pages that delete it without a script.
    *(Route(path, ACCOUNTS, referrer_policy="same-origin") for path in ("/account", "/web")),
    *(Route(path, INTERESTS) for path in ("/interests", "/flights", "/collect", "/scheduler")),
    # Two services have a page at /docs: each is below a path of its own, with what it loads; the rest of them is not.
    Route("/docs/accounts/docs", ACCOUNTS, replacement="/docs"),
    Route("/docs/accounts/openapi.json", ACCOUNTS, is_prefix=False, replacement="/openapi.json"),
    Route("/docs/flights/docs", INTERESTS, replacement="/docs"),
    Route("/docs/flights/openapi.json", INTERESTS, is_prefix=False, replacement="/openapi.json"),
    Route("/docs", None, is_prefix=False, replacement="/docs/accounts/docs"),
    Route("/docs/accounts", None, is_prefix=False, replacement="/docs/accounts/docs"),
    Route("/docs/flights", None, is_prefix=False, replacement="/docs/flights/docs"),
)

ANSWER_HEADERS: Final = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
}
"""Headers of every answer; a route may have another Referrer-Policy.

`Strict-Transport-Security` is left to whoever ends TLS (RFC 6797, 7.2).
"""


def find_destination(path: str) -> Destination | None:
    """Return where a request for a path goes, or None if no route matches: an exact match, else the longest prefix."""
    matching = [route for route in ROUTES if route.matches(path)]
    if not matching:
        return None
    return max(matching, key=lambda route: (not route.is_prefix, len(route.path))).build_destination(path)
