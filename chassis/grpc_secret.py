"""The shared secret of gRPC calls between services: other users of the machine do not have it, and are refused.

The health check (Check) needs none, because probes have none. To replace a secret without an interruption,
`GRPC_SECRET` may hold two, separated by a comma: the first is sent, both are accepted. Set `old,new` everywhere, then
`new,old`, then `new`.
"""

import hmac
import time
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Final, NamedTuple

import grpc
import structlog
from pydantic import AfterValidator, SecretStr

log = structlog.get_logger()

METADATA_KEY: Final = "x-towerwatch-secret"
REFUSED: Final = "This call does not show the secret of GRPC_SECRET; give all services the same one."
"""The details of the status UNAUTHENTICATED, by which clients tell it from a refused token."""

HEALTH_CHECK: Final = "/grpc.health.v1.Health/Check"
"""The method that needs no secret. The health service's Watch does: each of its calls stays open."""

_LOG_EVERY_S: Final = 60.0
_SHORTEST: Final = 16


def split_secrets(setting: SecretStr | None) -> tuple[str, ...]:
    """Return the secrets of a setting, the one to send first; none without a setting."""
    given = "" if setting is None else setting.get_secret_value()
    return tuple(each.strip() for each in given.split(",") if each.strip())


def _check_secrets(setting: SecretStr) -> SecretStr:
    """Return the setting unchanged. Raises ValueError unless it is one or two secrets of printable ASCII."""
    found = split_secrets(setting)
    if len(found) not in (1, 2) or any(
        len(each) < _SHORTEST or not (each.isascii() and each.isprintable()) for each in found
    ):
        raise ValueError("must be a secret of at least 16 ASCII characters, or two of them with a comma between")
    return setting


GrpcSecret = Annotated[SecretStr, AfterValidator(_check_secrets)]
"""The type of the setting GRPC_SECRET."""


class SecretCheck(grpc.ServerInterceptor):  # type: ignore[misc, unused-ignore]
    """A server interceptor that refuses calls that send none of the secrets, but for health checks.

    A refused call gets UNAUTHENTICATED before any message of it is read, and one sentence in the log a minute. Without
    secrets nothing is refused.
    """

    def __init__(self, secrets: Sequence[str], monotonic: Callable[[], float] = time.monotonic) -> None:
        self._secrets = tuple(each.encode() for each in secrets)
        self._monotonic = monotonic
        self._log_from = float("-inf")
        if not secrets:
            log.warning("grpc.open", reason="GRPC_SECRET is not set: whoever reaches the gRPC port may call it")

    def intercept_service(self, continuation: Callable[..., Any], details: grpc.HandlerCallDetails) -> Any:
        """Return the handler of a call, or one that refuses it; gRPC calls this."""
        if not self._secrets or details.method == HEALTH_CHECK or self._has_secret(details):
            return continuation(details)
        if self._monotonic() >= self._log_from:
            self._log_from = self._monotonic() + _LOG_EVERY_S
            log.warning("grpc.refused", method=self._name_method(continuation(details), details), reason=REFUSED)
        # A handler of one message would hold a thread until the message comes, which a stranger need not send.
        return grpc.stream_stream_rpc_method_handler(_refuse)

    def _has_secret(self, details: grpc.HandlerCallDetails) -> bool:
        """Return True if the call's metadata has one of the secrets, else False, after a time that reveals neither."""
        shown = [value for key, value in details.invocation_metadata or () if key == METADATA_KEY]
        if len(shown) != 1:
            return False
        given = shown[0].encode() if isinstance(shown[0], str) else bytes(shown[0])
        matches = [hmac.compare_digest(given, secret) for secret in self._secrets]  # all of them, without a short cut
        return any(matches)

    def _name_method(self, handler: object, details: grpc.HandlerCallDetails) -> str:
        """Return the method's name for the log; that of an unknown method is any text of a stranger."""
        return "unknown" if handler is None else str(details.method)


def _refuse(_requests: object, context: grpc.ServicerContext) -> None:
    """End the call with UNAUTHENTICATED, without reading its messages."""
    context.abort(grpc.StatusCode.UNAUTHENTICATED, REFUSED)


class _CallDetails(NamedTuple):
    """The details of a call, with the secret in its metadata."""

    method: str
    timeout: float | None
    metadata: Any
    credentials: Any
    wait_for_ready: bool | None
    compression: Any = None


class SecretSender(grpc.UnaryUnaryClientInterceptor):  # type: ignore[misc, unused-ignore]
    """A client interceptor that adds the secret to the metadata of each unary call."""

    def __init__(self, secret: str) -> None:
        self._secret = secret

    def intercept_unary_unary(self, continuation: Callable[..., Any], details: Any, request: Any) -> Any:
        """Make the call with the secret in its metadata; gRPC calls this."""
        return continuation(_add_secret(details, self._secret), request)


class AioSecretSender(grpc.aio.UnaryUnaryClientInterceptor):  # type: ignore[misc, unused-ignore]
    """A `SecretSender` for asyncio."""

    def __init__(self, secret: str) -> None:
        self._secret = secret

    async def intercept_unary_unary(self, continuation: Callable[..., Any], details: Any, request: Any) -> Any:
        """Make the call with the secret in its metadata; gRPC calls this."""
        metadata = grpc.aio.Metadata(*(details.metadata or ()), (METADATA_KEY, self._secret))
        return await continuation(details._replace(metadata=metadata), request)


def _add_secret(details: Any, secret: str) -> _CallDetails:
    """Return the details of a call with the secret in its metadata."""
    return _CallDetails(
        details.method,
        details.timeout,
        (*(details.metadata or ()), (METADATA_KEY, secret)),
        details.credentials,
        getattr(details, "wait_for_ready", None),
        getattr(details, "compression", None),
    )
