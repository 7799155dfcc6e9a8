"""Formats of texts for schemathesis, so that its requests are valid: see schemathesis.toml, which loads this."""

import schemathesis
from hypothesis import strategies as st

import tests.openapi.headers  # noqa: F401 - its hook
from chassis.text import is_blank
from chassis.time_zones import list_time_zones
from user_manager.addresses import parse_address
from user_manager.errors import AddressInvalidError


def _is_registrable(text: str) -> bool:
    """Return True if the service accepts this address for a registration."""
    try:
        parse_address(text, allow_test=False)
    except AddressInvalidError:
        return False
    return not text.lower().startswith("verify/")


# JSON Schema's `email` allows domains that are reserved and get no mail (RFC 6761), such as .invalid and .arpa.
schemathesis.openapi.format("email", st.just("ann@example.org") | st.emails().filter(_is_registrable))
schemathesis.openapi.format("iana-time-zone", st.sampled_from(sorted(list_time_zones())))
# No pattern can list all that the eye does not see.
_LINES = st.text(st.characters(exclude_categories=("Cc", "Cs", "Zl", "Zp")), min_size=1, max_size=100)
schemathesis.openapi.format("person-name", _LINES.filter(lambda name: not is_blank(name)))
