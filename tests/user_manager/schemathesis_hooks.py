"""What schemathesis needs to be told to make up requests that are meant: loaded by it, see schemathesis.toml."""

from itertools import count
from uuid import UUID
from zoneinfo import available_timezones

import schemathesis
from hypothesis import strategies as st

from user_manager.addresses import parse_address
from user_manager.errors import AddressInvalidError

_KEYS = count(1)


def _gets_mail(text: str) -> bool:
    try:
        parse_address(text, allow_test=False)
    except AddressInvalidError:
        return False
    return not text.lower().startswith("verify/")


# JSON Schema's `email` allows domains that are reserved for what is no mail (RFC 6761), such as .invalid and .arpa.
schemathesis.openapi.format("email", st.just("ann@example.org") | st.emails().filter(_gets_mail))
schemathesis.openapi.format("iana-time-zone", st.sampled_from(sorted(available_timezones())))


@schemathesis.hook
def before_call(_context: schemathesis.HookContext, case: schemathesis.Case, **_kwargs: object) -> None:
    """Make the header fields of requests that should succeed what they are to be."""
    if case.meta is None or not case.meta.generation.mode.is_positive or not case.headers:
        return
    if "Idempotency-Key" in case.headers:  # one that was used for another body is refused
        case.headers["Idempotency-Key"] = f'"{UUID(int=next(_KEYS))}"'
    if case.headers.get("If-Match") == "0":  # schemathesis 4.32 cannot spell quotation marks in its coverage phase
        case.headers["If-Match"] = "*"
