"""Authentication of the replay's callers: OAuth2 client credentials, or anonymous.

Tokens live for 30 minutes of the server's clock, not of real time: a client that uses the same clock must renew its
token as often as at OpenSky, however fast the clock runs. Tokens are kept in memory, so a restarted server has none of
them, answers 401, and a correct client requests a new one.
"""

import secrets
from dataclasses import dataclass
from typing import NamedTuple

from local.opensky.credits import ANONYMOUS_PER_DAY, STANDARD_PER_DAY
from local.opensky.errors import Unauthorised

TOKEN_SECONDS = 1_800


@dataclass(frozen=True, slots=True)
class Credentials:
    """The client id and secret of an API client, as OpenSky's account page hands them out."""

    client_id: str
    client_secret: str


class Caller(NamedTuple):
    """The credit account that a request is charged to: its name, and its daily allowance of credits in each bucket.

    `is_anonymous`: the request had no token.
    """

    name: str
    allowance: int
    is_anonymous: bool = False


class AccessControl:
    """The issuer and verifier of access tokens, for one client, or for none if there are no credentials.

    It also gives every caller its credit account. `credits_per_day` replaces the allowance of the client and that of
    every anonymous caller.
    """

    def __init__(self, credentials: Credentials | None, credits_per_day: int | None = None) -> None:
        self._credentials = credentials
        self._anonymous_credits = ANONYMOUS_PER_DAY if credits_per_day is None else credits_per_day
        self._client_credits = STANDARD_PER_DAY if credits_per_day is None else credits_per_day
        self._expiries: dict[str, int] = {}
        """By token, the second of the server's clock at which the token expires."""

    def issue_token(self, credentials: Credentials, now: int) -> str:
        """Return a new token, which expires TOKEN_SECONDS after `now`; earlier tokens stay valid.

        `now`: Unix seconds of the server's clock. Raises Unauthorised unless the credentials are those of the client.
        """
        if credentials != self._credentials:
            raise Unauthorised("Invalid client or Invalid client credentials")
        self._expiries = {token: expiry for token, expiry in self._expiries.items() if now < expiry}
        token = secrets.token_urlsafe(32)
        self._expiries[token] = now + TOKEN_SECONDS
        return token

    def revoke_token(self, authorization: str) -> None:
        """Revoke the token in the value of an Authorization header; do nothing if the token is unknown."""
        self._expiries.pop(authorization.partition(" ")[2], None)

    def identify_caller(self, authorization: str | None, address: str, now: int) -> Caller:
        """Return the caller with this Authorization header (None: an anonymous one) at this network address.

        All requests with a valid token are charged to one account; anonymous callers have one for each address.
        Raises Unauthorised for a token that is unknown or has expired, and for every other scheme: OpenSky ended basic
        authentication in March 2026.
        """
        if authorization is None:
            return Caller(f"anonymous at {address}", self._anonymous_credits, is_anonymous=True)
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() != "bearer" or now >= self._expiries.get(token, 0):
            raise Unauthorised("the token is unknown or has expired")
        return Caller("client", self._client_credits)
