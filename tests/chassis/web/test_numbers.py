"""Whole numbers: every spelling of an integer in JSON and in a query is accepted, and nothing else is."""

import json
from decimal import Decimal
from typing import Annotated

import pytest
from hypothesis import given, strategies as st
from pydantic import BaseModel, Field, ValidationError

from chassis.web.numbers import FROM_JSON, FROM_QUERY, load_json

SPELLINGS = [
    ("20", 20), ("20.0", 20), ("2e1", 20), ("2E1", 20), ("2e+1", 20), ("2.0e1", 20), ("200e-1", 20), ("20.000", 20),
    ("0.2e2", 20), ("2000000000000e-11", 20), ("0", 0), ("0.0", 0), ("0e5", 0), ("0E-7", 0), ("1000000", 1_000_000),
    ("1e6", 1_000_000), ("0e999999999", 0),
]  # fmt: skip
"""Integers as JSON may spell them, from 0 to 1,000,000."""

REFUSED = [
    ("20.5", "whole number"), ("-0.0", "whole number"), ("-0e0", "whole number"), ("1e400", "too large"),
    ("1E+400", "too large"), ("-1e400", "too small"), ("1e999999999999999999999", "too large"),
    ("1e-400", "whole number"), ("1e-999999999", "whole number"), ("1e-99999999999999999999", "whole number"),
    ("20.00000000000000000001", "whole number"),
    ("1e308", "less than or equal"), ("1000001", "less than or equal"), ("1e7", "less than or equal"),
    ("-1", "greater than or equal"), ("-1.0", "greater than or equal"), ("9" * 999, "less than or equal"),
    ("9" * 20_000, "too large"), ("-" + "9" * 20_000, "too small"), ("1" + "0" * 400 + ".0", "too large"),
]  # fmt: skip
"""Numbers that are no integers from 0 to 1,000,000, and what the answer says."""

NO_NUMBERS = ["true", "false", '"20"', '"20.0"', '""', "[]", "[20]", "{}", '"\u0662"']
"""JSON that is no number."""

NO_TEXTS = [
    "", " ", "x", " 1", "1 ", "+1", "1_0", "0x14", "1e", "e1", ".5", "5.", "1.e1", "--1", "٣", "½", "1,0", "true",
    "null", "NaN", "Infinity", "inf", "1e1e1", "1\n", '"1"',
]  # fmt: skip
"""Texts of a query that spell no number."""


class Body(BaseModel):
    """A body with an integer from 0 to 1,000,000."""

    count: Annotated[int, Field(strict=True, ge=0, le=1_000_000), FROM_JSON]
    other: Annotated[int, Field(strict=True, ge=0), FROM_JSON] | None = None


class Query(BaseModel):
    """The same in a query."""

    count: Annotated[int, Field(ge=0, le=1_000_000), FROM_QUERY]


def explain_refusal(model: type[BaseModel], value: object) -> str:
    """Return the one message with which a model refuses a value."""
    with pytest.raises(ValidationError) as caught:
        model.model_validate({"count": value})
    [fault] = caught.value.errors()
    return fault["msg"]


def read_json(text: str) -> object:
    """Return the value of a member that is spelled like this in a body."""
    body = load_json(f'{{"count": {text}}}'.encode())
    assert isinstance(body, dict)
    return body["count"]


@pytest.mark.parametrize(("text", "value"), SPELLINGS)
def test_every_spelling_of_an_integer_is_accepted(text: str, value: int) -> None:
    """JSON Schema knows numbers, not their spellings."""
    for found in (
        Body.model_validate({"count": read_json(text)}).count,
        Query.model_validate({"count": text}).count,
    ):
        assert found == value
        assert type(found) is int


@pytest.mark.parametrize(("text", "reason"), REFUSED, ids=[text[:30] for text, _ in REFUSED])
def test_any_other_number_is_refused_with_a_reason(text: str, reason: str) -> None:
    """A number is never rounded to one that is accepted, and its exponent costs no memory."""
    assert reason in explain_refusal(Body, read_json(text))
    assert reason in explain_refusal(Query, text)


@pytest.mark.parametrize("text", NO_NUMBERS)
def test_what_is_no_number_is_refused(text: str) -> None:
    """A text with digits is a text; the answer says to leave the quotation marks out."""
    message = explain_refusal(Body, read_json(text))
    assert "whole number such as 20" in message
    assert ("quotation marks" in message) is text.startswith('"')


@pytest.mark.parametrize("text", NO_TEXTS)
def test_a_text_that_spells_no_number_is_refused(text: str) -> None:
    """Only the digits of ASCII count, as in JSON."""
    assert "whole number such as 20" in explain_refusal(Query, text)


def test_null_is_a_value_of_its_own() -> None:
    """A member that may be null takes null, and numbers by the same rule."""
    assert Body.model_validate({"count": 1, "other": None}).other is None
    assert Body.model_validate({"count": 1, "other": 2.0}).other == 2


def test_the_schema_says_integer() -> None:
    """The OpenAPI document publishes what is taken."""
    schema = {"maximum": 1_000_000, "minimum": 0, "title": "Count", "type": "integer"}
    assert Body.model_json_schema()["properties"]["count"] == schema
    assert Query.model_json_schema()["properties"]["count"] == schema


@given(
    st.recursive(st.none() | st.booleans() | st.integers() | st.text(), lambda inner: st.dictionaries(st.text(), inner))
)
def test_all_other_json_is_read_as_usual(value: object) -> None:
    """Only numbers with a fraction or an exponent are looked at."""
    assert load_json(json.dumps(value).encode()) == value


@given(st.decimals(allow_nan=False, allow_infinity=False))
def test_a_number_is_an_integer_if_it_is_whole(number: Decimal) -> None:
    """Whatever its digits and its exponent are, an accepted number has exactly the value that was written."""
    try:
        count = Body.model_validate({"count": read_json(f"{number:e}")}).count
    except ValidationError:
        assert number != number.to_integral_value() or not 0 <= number <= 1_000_000 or number.is_signed()
    else:
        assert count == number


@pytest.mark.parametrize(
    "text", [b"NaN", b"[Infinity]", b'{"count": -Infinity}', b"{", b"", b"\xff", b"020", b"+1", b".5"]
)
def test_what_is_no_json_is_refused(text: bytes) -> None:
    """Python's own reader takes NaN and Infinity, which RFC 8259 does not have."""
    with pytest.raises(ValueError):
        load_json(text)
