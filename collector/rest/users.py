"""Who is asking: user_manager's answer over gRPC, remembered for seconds."""

import hashlib
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final
from uuid import UUID

import grpc

from chassis.rpc import create_channel
from collector.errors import NotAuthenticatedError, UserManagerAwayError
from towerwatch.users.v1.user_service_pb2 import AuthenticateRequest
from towerwatch.users.v1.user_service_pb2_grpc import UserServiceStub

BELIEVED_S: Final = 60.0
"""How old an answer may be that anything is done on; the contract's bound, which the deletion of an account reckons
with (towerwatch/users/v1/user_service.proto)."""

_AWAY: Final = frozenset({grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED})
_DEADLINE_S = 3.0
_REST_S = 1.0
"""How long nobody asks again after user_manager did not answer, so that not every thread waits for the deadline."""
_REMEMBERED = 10_000


@dataclass(frozen=True, slots=True)
class Caller:
    """The person behind a request."""

    user_id: UUID
    confirmed: bool


class Users:
    """Asks user_manager. Used by many threads at once."""

    def __init__(self, target: str, cache_s: float, monotonic: Callable[[], float] = time.monotonic) -> None:
        """`target`: host:port. `cache_s`: seconds that an answer is believed, and so a deletion missed at most.

        While user_manager is away it is believed for longer, up to BELIEVED_S, by those who only read.
        Connects when first used.
        """
        self._channel = create_channel(target)
        self._stub = UserServiceStub(self._channel)
        self._cache_s = min(cache_s, BELIEVED_S)
        self._monotonic = monotonic
        self._known: dict[bytes, tuple[float, Caller]] = {}
        """By the digest of the token, when it was asked for, oldest first, and whose it is."""
        self._away_until: float | None = None
        self._lock = threading.Lock()

    def close(self) -> None:
        """Close the channel."""
        self._channel.close()

    def authenticate(self, token: str, *, reads_only: bool = False) -> Caller:
        """Whose token it is. Raises NotAuthenticatedError, UserManagerAwayError. Blocks for 3 s at most.

        `reads_only`: for a request that changes nothing, an older answer will do where none comes.
        """
        digest = hashlib.sha256(token.encode()).digest()
        now = self._monotonic()
        with self._lock:
            asked_at, known = self._known.get(digest, (now, None))
        if known is not None and now < asked_at + self._cache_s:
            return known
        try:
            caller = self._ask(token)
        except NotAuthenticatedError:
            with self._lock:
                self._known.pop(digest, None)
            raise
        except UserManagerAwayError:
            if reads_only and known is not None and self._monotonic() < asked_at + BELIEVED_S:
                return known
            raise
        if caller.confirmed:  # who has just confirmed must not wait for the cache
            self._remember(digest, now, caller)
        return caller

    def _ask(self, token: str) -> Caller:
        self._require_present()
        try:
            answer = self._stub.Authenticate(AuthenticateRequest(token=token), timeout=_DEADLINE_S)
        except grpc.RpcError as error:
            if error.code() is grpc.StatusCode.UNAUTHENTICATED:
                self._away_until = None
                raise NotAuthenticatedError("This token is not valid.") from None
            if error.code() in _AWAY:
                self._away_until = self._monotonic() + _REST_S
            raise UserManagerAwayError("Accounts cannot be asked at present; try again shortly.") from None
        self._away_until = None
        return Caller(UUID(answer.user_id), answer.confirmed)

    def _require_present(self) -> None:
        """Raises UserManagerAwayError while it was found away a moment ago."""
        now = self._monotonic()
        with self._lock:
            if self._away_until is None:
                return
            if now < self._away_until:
                raise UserManagerAwayError("Accounts cannot be asked at present; try again shortly.")
            self._away_until = now + _DEADLINE_S  # this thread looks; the others wait for what it finds

    def _remember(self, digest: bytes, asked_at: float, caller: Caller) -> None:
        with self._lock:
            self._known.pop(digest, None)
            if len(self._known) >= _REMEMBERED:
                del self._known[next(iter(self._known))]
            self._known[digest] = (asked_at, caller)
