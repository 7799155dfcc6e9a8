"""What schemathesis needs to be told to make up requests that are meant: loaded by it, see schemathesis.toml."""

from zoneinfo import available_timezones

import schemathesis
from hypothesis import strategies as st

import tests.openapi.headers  # noqa: F401 - its hook
from user_manager.addresses import parse_address
from user_manager.errors import AddressInvalidError


def _gets_mail(text: str) -> bool:
    try:
        parse_address(text, allow_test=False)
    except AddressInvalidError:
        return False
    return not text.lower().startswith("verify/")


# JSON Schema's `email` allows domains that are reserved for what is no mail (RFC 6761), such as .invalid and .arpa.
schemathesis.openapi.format("email", st.just("ann@example.org") | st.emails().filter(_gets_mail))
schemathesis.openapi.format("iana-time-zone", st.sampled_from(sorted(available_timezones())))
