"""What schemathesis needs to be told of our header fields, to make up requests that are meant: a part of its hooks."""

from itertools import count
from uuid import UUID

import schemathesis

_KEYS = count(1)


def is_meant(case: schemathesis.Case) -> bool:
    """Whether the request is one that should succeed."""
    return case.meta is not None and case.meta.generation.mode.is_positive


@schemathesis.hook
def before_call(_context: schemathesis.HookContext, case: schemathesis.Case, **_kwargs: object) -> None:
    """Make the header fields of requests that should succeed what they are to be."""
    if not is_meant(case) or not case.headers:
        return
    if "Idempotency-Key" in case.headers:  # one that was used for another body is refused
        case.headers["Idempotency-Key"] = f'"{UUID(int=next(_KEYS))}"'
    if case.headers.get("If-Match") == "0":  # schemathesis 4.32 cannot spell quotation marks in its coverage phase
        case.headers["If-Match"] = "*"
