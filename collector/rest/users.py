"""Authentication of requests, by bearer token or session: user_manager's reply over gRPC, cached for seconds."""

import hashlib
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

import grpc

from chassis.credentials import Credential, SessionSecret
from chassis.grpc_secret import REFUSED
from chassis.rpc import create_channel
from collector.errors import NotAuthenticatedError, NotConfirmedError, UserManagerUnavailableError
from towerwatch.users.v1.user_service_pb2 import AuthenticateRequest
from towerwatch.users.v1.user_service_pb2_grpc import UserServiceStub

MAX_CACHE_AGE_S: Final = 60.0
"""Seconds after which a cached reply is never used: the contract's limit, which the deletion of an account relies on
(towerwatch/users/v1/user_service.proto)."""

_UNAVAILABLE_CODES: Final = frozenset({grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED})
_DEADLINE_S = 3.0
_CIRCUIT_OPEN_S = 1.0
"""Seconds without a call after user_manager did not reply, so that not every thread waits for the deadline."""
_CACHE_SIZE = 10_000
"""Tokens and sessions whose callers are cached at most."""

_INVALID: Final = (
    "This token is not valid: it was replaced, or it is mistyped. For a new one send POST /users/token with your "
    "address to the accounts service."
)
_SIGNED_OUT: Final = "You are signed out: the session was ended, or was not used for long. Sign in again."


@dataclass(frozen=True, slots=True)
class Caller:
    """The user whose token or session came with a request."""

    user_id: UUID
    confirmed: bool
    """True once the user has confirmed the e-mail address."""


class Authenticator:
    """A thread-safe client of user_manager that finds the user of a credential, with a cache and a circuit breaker."""

    def __init__(
        self,
        target: str,
        cache_s: float,
        monotonic: Callable[[], float] = time.monotonic,
        secrets: Sequence[str] = (),
    ) -> None:
        """`target`: host:port. `cache_s`: seconds for which a reply is cached, and a deletion goes unnoticed at most.

        While user_manager is unavailable, requests that only read may use a cached reply for up to MAX_CACHE_AGE_S.
        Connects at the first call. The first of `secrets`, if any, is sent with each call.
        """
        self._channel = create_channel(target, secrets)
        self._stub = UserServiceStub(self._channel)
        self._cache_s = min(cache_s, MAX_CACHE_AGE_S)
        self._monotonic = monotonic
        self._cache: dict[bytes, tuple[float, Caller]] = {}
        """By the credential's digest: the time of the call (oldest first) and the caller."""
        self._open_until: float | None = None
        """Time until which the circuit is open (no calls are made); None: it is closed."""
        self._lock = threading.Lock()

    def close(self) -> None:
        """Close the channel."""
        self._channel.close()

    def authenticate(self, credential: Credential, *, reads_only: bool = False) -> Caller:
        """Return the user of a token or session, from the cache or else from user_manager. Blocks for 3 s at most.

        Only users with a confirmed address are cached; the cached reply of a credential that user_manager rejects is
        discarded. Raises NotAuthenticatedError, UserManagerUnavailableError (also at once while the circuit is open).

        `reads_only`: the request changes nothing, so an older cached reply is used if user_manager is unavailable.
        """
        digest = _compute_digest(credential)
        now = self._monotonic()
        with self._lock:
            called_at, cached = self._cache.get(digest, (now, None))
        if cached is not None and now < called_at + self._cache_s:
            return cached
        try:
            caller = self._call_user_manager(credential)
        except NotAuthenticatedError:
            with self._lock:
                self._cache.pop(digest, None)
            raise
        except UserManagerUnavailableError:
            if reads_only and cached is not None and self._monotonic() < called_at + MAX_CACHE_AGE_S:
                return cached
            raise
        if caller.confirmed:  # a user who has just confirmed must not wait until the cached reply expires
            self._cache_caller(digest, now, caller)
        return caller

    def _call_user_manager(self, credential: Credential) -> Caller:
        """Request the credential's user from user_manager, unless the circuit is open, and return the user.

        Opens the circuit for `_CIRCUIT_OPEN_S` if user_manager is unavailable or too slow; closes it when user_manager
        has accepted or rejected the credential. Raises NotAuthenticatedError, UserManagerUnavailableError.
        """
        self._require_circuit_closed()
        try:
            reply = self._stub.Authenticate(_build_request(credential), timeout=_DEADLINE_S)
        except grpc.RpcError as error:
            if error.code() is grpc.StatusCode.UNAUTHENTICATED and error.details() != REFUSED:
                self._open_until = None
                raise NotAuthenticatedError(
                    _SIGNED_OUT if isinstance(credential, SessionSecret) else _INVALID
                ) from None
            if error.code() in _UNAVAILABLE_CODES:
                self._open_until = self._monotonic() + _CIRCUIT_OPEN_S
            raise UserManagerUnavailableError("Accounts cannot be asked at present; try again shortly.") from None
        self._open_until = None
        return Caller(UUID(reply.user_id), reply.confirmed)

    def _require_circuit_closed(self) -> None:
        """Raise UserManagerUnavailableError while the circuit is open; afterwards let one thread probe user_manager.

        The method returns in that thread, and keeps the circuit open for all others for the call's deadline.
        """
        now = self._monotonic()
        with self._lock:
            if self._open_until is None:
                return
            if now < self._open_until:
                raise UserManagerUnavailableError("Accounts cannot be asked at present; try again shortly.")
            self._open_until = now + _DEADLINE_S  # this thread probes; the circuit stays open for the others

    def _cache_caller(self, digest: bytes, called_at: float, caller: Caller) -> None:
        """Cache the credential's user as the newest entry, and discard the oldest entry if the cache is full."""
        with self._lock:
            self._cache.pop(digest, None)
            if len(self._cache) >= _CACHE_SIZE:
                del self._cache[next(iter(self._cache))]
            self._cache[digest] = (called_at, caller)


def require_confirmed(caller: Caller) -> Caller:
    """Return the caller unchanged. Raises NotConfirmedError unless the caller's e-mail address is confirmed."""
    if not caller.confirmed:
        raise NotConfirmedError("Confirm your address first: follow the link in the mail that was sent to it.")
    return caller


def _build_request(credential: Credential) -> AuthenticateRequest:
    """Return the request that asks user_manager whose token or session this is."""
    if isinstance(credential, SessionSecret):
        return AuthenticateRequest(session=credential.text)
    return AuthenticateRequest(token=credential)


def _compute_digest(credential: Credential) -> bytes:
    """Return the key of a credential in the cache: a session has another one than a token with the same text."""
    if isinstance(credential, SessionSecret):
        return hashlib.sha256(b"session " + credential.text.encode()).digest()
    return hashlib.sha256(credential.encode()).digest()
