"""Sentences about values that pydantic rejects: what such a value must be, without any words of pydantic's own."""

from collections.abc import Mapping
from typing import Any, Final

from pydantic_core import ErrorDetails

_SENTENCES: Final[Mapping[str, str]] = {
    "missing": "is required",
    "extra_forbidden": "is not known here; leave it out",
    "string_type": "must be a text",
    "string_too_short": "must have at least {min_length} characters",
    "string_too_long": "must have at most {max_length} characters",
    "too_short": "must be at least {min_length} long",
    "too_long": "must be at most {max_length} long",
    "string_pattern_mismatch": "must have the form {pattern}",
    "string_unicode": "must be a text in UTF-8",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "int_type": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_from_float": "must be a whole number",
    "int_parsing_size": "must be a smaller number",
    "float_type": "must be a number",
    "float_parsing": "must be a number",
    "finite_number": "must be a number that is not infinite",
    "greater_than": "must be more than {gt}",
    "greater_than_equal": "must be {ge} or more",
    "less_than": "must be less than {lt}",
    "less_than_equal": "must be {le} or less",
    "enum": "must be {expected}",
    "literal_error": "must be {expected}",
    "uuid_type": "must be a UUID",
    "uuid_parsing": "must be a UUID",
    "timezone_aware": "must name its offset from UTC, like 2026-07-01T00:00:00Z",
    "datetime_type": "must be an instant like 2026-07-01T00:00:00Z",
    "datetime_parsing": "must be an instant like 2026-07-01T00:00:00Z",
    "datetime_from_date_parsing": "must be an instant like 2026-07-01T00:00:00Z",
    "datetime_object_invalid": "must be an instant like 2026-07-01T00:00:00Z",
    "time_delta_type": "must be a duration like PT30M (ISO 8601)",
    "time_delta_parsing": "must be a duration like PT30M (ISO 8601)",
    "path_type": "must be a path",
    "path_not_file": "must be the path of a file that exists",
    "path_not_directory": "must be the path of a folder that exists",
    "list_type": "must be a list",
    "dict_type": "must be an object",
    "model_type": "must be an object",
    "none_required": "must be null",
}
"""By pydantic's type of the error; the names in braces are of the error's context."""

_UNKNOWN: Final = "has a value that cannot be used here"


def _format_bound(value: object) -> str:
    """Return a value of an error's context as people write it: 60 and not 60.0."""
    return f"{value:g}" if isinstance(value, float) else str(value)


def describe_fault(fault: ErrorDetails) -> str:
    """Return what is wrong with a value, as the end of a sentence that begins with its name; the value is not repeated.

    The text of a ValueError that our own check raised is returned as it is.
    """
    context: Mapping[str, Any] = fault.get("ctx", {})
    own = context.get("error")
    if fault["type"] in ("value_error", "assertion_error"):
        return str(own) if own is not None and str(own) else _UNKNOWN
    sentence = _SENTENCES.get(fault["type"], _UNKNOWN)
    try:
        return sentence.format_map({name: _format_bound(value) for name, value in context.items()})
    except KeyError:
        return _UNKNOWN


def explain_unreadable(error: OSError | ValueError) -> str:
    """Return why a file cannot be read, in the system's words, without its path: "No such file or directory"."""
    if isinstance(error, UnicodeDecodeError):
        return "it is not in UTF-8"
    return (error.strerror if isinstance(error, OSError) else None) or "its path is invalid"
