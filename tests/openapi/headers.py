"""Schemathesis hooks for our header fields, which a service's hooks import: valid requests get valid header values."""

from itertools import count
from uuid import UUID

import schemathesis

_KEYS = count(1)


def is_valid_request(case: schemathesis.Case) -> bool:
    """Return True if the request was made to succeed, False if it was made to be rejected."""
    return case.meta is not None and case.meta.generation.mode.is_positive


@schemathesis.hook
def before_call(_context: schemathesis.HookContext, case: schemathesis.Case, **_kwargs: object) -> None:
    """Set the idempotency key, If-Match and If-None-Match of a valid request to values that succeed."""
    if not is_valid_request(case) or not case.headers:
        return
    if "Idempotency-Key" in case.headers:  # one that was used for another body is refused
        case.headers["Idempotency-Key"] = f'"{UUID(int=next(_KEYS))}"'
    for name in ("If-Match", "If-None-Match"):
        if case.headers.get(name) == "0":  # schemathesis 4.32 cannot spell quotation marks in its coverage phase
            case.headers[name] = "*"
