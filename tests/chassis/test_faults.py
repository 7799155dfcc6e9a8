"""Rejected values are described in our words: none of pydantic's, and none of the value."""

from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal
from uuid import UUID

import pytest
from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from chassis.faults import describe_fault
from tests.error_texts import FOREIGN_WORDS


class Colour(StrEnum):
    RED = "red"
    BLUE = "blue"


class Closed(BaseModel):
    model_config = ConfigDict(extra="forbid")

    needed: int


def refuse(value: object) -> object:
    """Raise ValueError with a text of ours."""
    raise ValueError("no airport has this ICAO code; ICAO codes look like KJFK.")


def describe(kind: Any, value: object) -> str:
    """Return the description of the one fault of a value."""
    with pytest.raises(ValidationError) as refused:
        TypeAdapter(kind).validate_python(value)
    (fault,) = refused.value.errors()
    return describe_fault(fault)


@pytest.mark.parametrize(
    ("kind", "value", "text"),
    [
        (Annotated[str, AfterValidator(refuse)], "secret", "no airport has this ICAO code; ICAO codes look like KJFK."),
        (Closed, {}, "is required"),
        (Closed, {"needed": 1, "secret": 2}, "is not known here; leave it out"),
        (Closed, "secret", "must be an object"),
        (str, 7, "must be a text"),
        (Annotated[str, Field(max_length=3)], "secret", "must have at most 3 characters"),
        (Annotated[str, Field(min_length=9)], "secret", "must have at least 9 characters"),
        (Annotated[str, AfterValidator(str.strip), Field(max_length=3)], "secret", "must be at most 3 long"),
        (Annotated[bool, Field(strict=True)], "secret", "must be true or false"),
        (bool, "secret", "must be true or false"),
        (int, "secret", "must be a whole number"),
        (int, 1.5, "must be a whole number"),
        (Annotated[int, Field(strict=True)], True, "must be a whole number"),
        (float, "secret", "must be a number"),
        (Annotated[float, Field(le=60)], 61, "must be 60 or less"),
        (Annotated[float, Field(gt=0)], 0, "must be more than 0"),
        (Annotated[int, Field(ge=1)], 0, "must be 1 or more"),
        (Colour, "secret", "must be 'red' or 'blue'"),
        (Literal["a", "b"], "secret", "must be 'a' or 'b'"),
        (UUID, "secret", "must be a UUID"),
        (AwareDatetime, "secret", "must be an instant like 2026-07-01T00:00:00Z"),
        (AwareDatetime, "2026-07-01T00:00:00", "must name its offset from UTC, like 2026-07-01T00:00:00Z"),
        (timedelta, "secret", "must be a duration like PT30M (ISO 8601)"),
        (Annotated[timedelta, Field(le=timedelta(days=2))], "P3D", "must be 2 days or less"),
        (Path, 7, "must be a path"),
        (list[int], "secret", "must be a list"),
        (bytes, 7, "has a value that cannot be used here"),
        (complex, "secret", "has a value that cannot be used here"),
    ],
)
def test_a_fault_is_described_in_our_words(kind: Any, value: object, text: str) -> None:
    """Each kind of fault has a sentence; one that is not known here has a general one. None repeats the value."""
    described = describe(kind, value)
    assert described == text
    assert not FOREIGN_WORDS.search(described)
    assert "secret" not in described
