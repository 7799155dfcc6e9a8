"""Reads the credential of the present request, a bearer token or a session, and records the use of a session."""

from dataclasses import dataclass

from chassis.credentials import Credential, SessionSecret
from chassis.web.session_cookie import SessionCookie
from user_manager.sessions import Sessions


@dataclass(frozen=True, slots=True)
class CredentialReader:
    """A reader of the credential of the present request, which the use cases verify."""

    cookie: SessionCookie
    sessions: Sessions

    def read(self) -> Credential:
        """Return the bearer token or, without one, the session's secret. Raises Problem 401 or 403 if it has none."""
        credential = self.cookie.read_credential()
        if isinstance(credential, SessionSecret):
            self.sessions.record_use(credential)
        return credential

    def read_secret(self) -> SessionSecret | None:
        """Return the session's secret; None without its cookie. Raises Problem 401 or 403 if it is rejected."""
        secret = self.cookie.read_secret()
        if secret is not None:
            self.sessions.record_use(secret)
        return secret
