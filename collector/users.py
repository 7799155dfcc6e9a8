"""Who is asking: user_manager's answer over gRPC, remembered for seconds."""

import threading
import time
from dataclasses import dataclass
from uuid import UUID

import grpc

from chassis.rpc import channel
from collector.errors import NotAuthenticatedError, UserManagerAwayError
from towerwatch.users.v1.user_service_pb2 import AuthenticateRequest
from towerwatch.users.v1.user_service_pb2_grpc import UserServiceStub

_DEADLINE_S = 3.0
_REMEMBERED = 10_000


@dataclass(frozen=True, slots=True)
class Caller:
    """The person behind a request."""

    user_id: UUID
    confirmed: bool


class Users:
    """Asks user_manager. Used by many threads at once."""

    def __init__(self, target: str, cache_s: float) -> None:
        """`target`: host:port. `cache_s`: seconds that an answer is believed, and so a deletion missed at most.

        Connects when first used.
        """
        self._channel = channel(target)
        self._stub = UserServiceStub(self._channel)
        self._cache_s = cache_s
        self._known: dict[str, tuple[float, Caller]] = {}
        self._lock = threading.Lock()

    def close(self) -> None:
        """Close the channel."""
        self._channel.close()

    def authenticate(self, token: str) -> Caller:
        """Raises NotAuthenticatedError, UserManagerAwayError. Blocks for 3 s at most."""
        now = time.monotonic()
        with self._lock:
            known = self._known.get(token)
        if known is not None and now < known[0]:
            return known[1]
        try:
            answer = self._stub.Authenticate(AuthenticateRequest(token=token), timeout=_DEADLINE_S)
        except grpc.RpcError as error:
            if error.code() is grpc.StatusCode.UNAUTHENTICATED:
                raise NotAuthenticatedError("This token is not valid.") from None
            raise UserManagerAwayError("Accounts cannot be asked at present; try again shortly.") from None
        caller = Caller(UUID(answer.user_id), answer.confirmed)
        if caller.confirmed:  # who has just confirmed must not wait for the cache
            with self._lock:
                if len(self._known) >= _REMEMBERED:
                    self._known.clear()
                self._known[token] = (now + self._cache_s, caller)
        return caller
