"""The cookie of a browser's session: how it is set, and which requests may use it."""

import re
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from flask import Response, request

from chassis.credentials import Credential, SessionSecret, find_origin_fault
from chassis.web.http import Problem, read_bearer_token

_NAME: Final = "towerwatch-session"
_MARK: Final = "towerwatch-signed-in"
_SECRET: Final = re.compile(r"[A-Za-z0-9_-]{20,100}")
"""The form of a secret; any other text is rejected."""

AMBIGUOUS: Final = "The browser sent two cookies of a session; delete the cookies of this site, then sign in again."
UNREADABLE: Final = "The session's cookie is damaged; sign in again."


@dataclass(frozen=True, slots=True)
class SessionCookie:
    """The cookie in which a browser keeps the secret of its session.

    No script can read it (HttpOnly), and no foreign page causes it to be sent (SameSite=Strict). Where people reach
    the service by https, it goes over TLS only, and its name begins with `__Host-`: no other host can set it
    (RFC 6265bis, 4.1.3.2).
    """

    public_url: str | None
    """URL under which people reach the service; None: only the request's own host counts as the own origin."""

    @property
    def is_secure(self) -> bool:
        """Return True if browsers may send the cookie over TLS only."""
        return self.public_url is not None and self.public_url.startswith("https://")

    @property
    def name(self) -> str:
        """Return the name of the cookie."""
        return f"__Host-{_NAME}" if self.is_secure else _NAME

    def read_credential(self) -> Credential:
        """Return the bearer token of the present request or, without one, the secret of its session; unverified.

        Raises Problem 401 if it has neither, and the problems of `read_secret`.
        """
        secret = None if _has_bearer_header() else self.read_secret()
        return read_bearer_token() if secret is None else secret

    def read_secret(self) -> SessionSecret | None:
        """Return the secret in the cookie of the present request; None without the cookie.

        Raises Problem 403 if a page of another origin has caused the request (`find_origin_fault`), and 401 if there
        are two cookies of the name, of which another host may have set one, or if the cookie holds no secret.
        """
        found = request.cookies.getlist(self.name)
        if not found:
            return None
        self.require_own_origin()
        if len(found) > 1:
            raise Problem(401, AMBIGUOUS)
        if not _SECRET.fullmatch(found[0]):
            raise Problem(401, UNREADABLE)
        return SessionSecret(found[0])

    def is_sent(self) -> bool:
        """Return True if the present request comes from a browser that has a session, valid or not; else False.

        A second cookie says so: the session's own is not sent when a link on a foreign page, or in a mail that is read
        there, leads here. It opens nothing, so that it may be sent then (SameSite=Lax).
        """
        return self.name in request.cookies or self._mark_name in request.cookies

    def find_replaced_secret(self) -> SessionSecret | None:
        """Return the secret of the session that a new one replaces; None unless there is one well-formed cookie."""
        found = request.cookies.getlist(self.name)
        return SessionSecret(found[0]) if len(found) == 1 and _SECRET.fullmatch(found[0]) else None

    def require_own_origin(self) -> None:
        """Raise Problem 403 unless a page of this service's origin has caused the present request."""
        own = [each for each in (self.public_url, request.host_url) if each is not None]
        fault = find_origin_fault(
            request.method, request.headers.get("Sec-Fetch-Site"), request.headers.get("Origin"), own
        )
        if fault is not None:
            raise Problem(403, fault)

    def is_own_origin(self) -> bool:
        """Return True if a page of this service's origin has caused the present request.

        False where `require_own_origin` raises: another page has, or it cannot be known of a request that writes.
        """
        try:
            self.require_own_origin()
        except Problem:
            return False
        return True

    def set_on(self, response: Response, secret: SessionSecret, lifetime: timedelta) -> None:
        """Make the browser keep the secret for `lifetime`, in place of any other."""
        self._set(response, secret.text, lifetime)

    def delete_on(self, response: Response) -> None:
        """Make the browser forget the secret."""
        self._set(response, "", timedelta(0))

    @property
    def _mark_name(self) -> str:
        """Return the name of the cookie that says that there is a session."""
        return f"__Host-{_MARK}" if self.is_secure else _MARK

    def _set(self, response: Response, value: str, lifetime: timedelta) -> None:
        """Add the headers Set-Cookie; a browser replaces or deletes a cookie only if all attributes are the same."""
        for name, content, same_site in ((self.name, value, "Strict"), (self._mark_name, value and "yes", "Lax")):
            response.set_cookie(
                name,
                content,
                max_age=int(lifetime.total_seconds()),
                path="/",
                secure=self.is_secure,
                httponly=True,
                samesite=same_site,
            )


def _has_bearer_header() -> bool:
    """Return True if the request has the header `Authorization` with a bearer token, be it empty; else False.

    Another scheme is of a proxy in front, which asks for a password.
    """
    return request.headers.get("Authorization", "").partition(" ")[0].lower() == "bearer"
