"""The bodies and queries of `rest`: what is read is checked by them, what is answered is made from them."""

import re
from datetime import datetime
from functools import cache
from typing import Annotated, Any, Final
from uuid import UUID
from zoneinfo import available_timezones

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from pydantic.json_schema import SkipJsonSchema

from user_manager.accounts import Account, Change
from user_manager.deletion.saga import DeletionStatus

LONGEST_NAME: Final = 100
"""Characters."""

LONGEST_PAGE: Final = 200
"""Accounts."""

# The name becomes a part of mail headers. A control character (Cc) or a separator of lines or paragraphs (Zl, Zp)
# could end one and begin another. The set in the middle leaves out blanks too: a name has something to read in it.
# Half a surrogate pair, which JSON can spell, is no text at all; no pattern can say so.
_CONTROLS: Final = r"\x00-\x1f\x7f-\x9f\u2028\u2029"
_BLANKS: Final = r"\x20\xa0\u1680\u2000-\u200a\u202f\u205f\u3000"
_NAME: Final = f"^[^{_CONTROLS}]*[^{_CONTROLS}{_BLANKS}][^{_CONTROLS}]*$"


def _person_name(name: str) -> str:
    if not re.fullmatch(_NAME, name) or any("\ud800" <= character <= "\udfff" for character in name):
        raise ValueError("must hold a letter or so, and no control characters")
    return name.strip()


@cache
def _time_zones() -> frozenset[str]:
    return frozenset(available_timezones())


def _time_zone(name: str) -> str:
    if name not in _time_zones():
        raise ValueError("must be the IANA name of a time zone, such as Europe/Rome")
    return name


def _digits(text: object) -> object:
    if not isinstance(text, str) or not re.fullmatch("[0-9]{1,9}", text):
        raise ValueError("must be a whole number")
    return text


def _without_defaults(schema: dict[str, Any]) -> None:
    """What may be left out and may not be null has no default that JSON could show."""
    for member in schema["properties"].values():
        if member.get("default", ...) is None:
            del member["default"]


Name = Annotated[
    str,
    AfterValidator(_person_name),
    Field(min_length=1, max_length=LONGEST_NAME, json_schema_extra={"pattern": _NAME}),
]
TimeZone = Annotated[
    str,
    AfterValidator(_time_zone),
    Field(
        json_schema_extra={"format": "iana-time-zone", "examples": ["Europe/Rome"]},
        description="The IANA name of a time zone.",
    ),
]
Email = Annotated[str, Field(max_length=254, json_schema_extra={"format": "email", "examples": ["ann@example.org"]})]


def _at_least_one(schema: dict[str, Any]) -> None:
    _without_defaults(schema)
    schema["minProperties"] = 1


_LEFT_OUT: Final[Any] = None
_PAUSED: Final = "Whether no alerts are wanted at present."


class _Body(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class NewUser(_Body):
    """Who registers."""

    email: Email
    name: Name
    time_zone: TimeZone = "UTC"


class ChangedUser(_Body):
    """What is to be otherwise: at least one of these. What is left out stays as it is."""

    model_config = ConfigDict(json_schema_extra=_at_least_one)

    name: Name = _LEFT_OUT
    time_zone: TimeZone = _LEFT_OUT
    paused: Annotated[bool, Field(strict=True)] = Field(default=_LEFT_OUT, description=_PAUSED)

    @model_validator(mode="after")
    def _something(self) -> "ChangedUser":
        if not self.model_fields_set:
            raise ValueError("must say what to change: name, time_zone or paused")
        return self

    def change(self) -> Change:
        return Change(**self.model_dump(exclude_unset=True))


class PageQuery(BaseModel):
    """Which page of all accounts."""

    model_config = ConfigDict(json_schema_extra=_without_defaults)

    cursor: str | SkipJsonSchema[None] = Field(default=None, description="From the link to the next page; opaque.")
    limit: Annotated[int, Field(ge=1, le=LONGEST_PAGE), BeforeValidator(_digits)] = 50


class User(BaseModel):
    """An account, as its owner sees it."""

    user_id: UUID
    email: Email
    name: str
    time_zone: TimeZone
    confirmed: bool = Field(description="Whether somebody has followed the link in the confirmation mail.")
    paused: bool = Field(description=_PAUSED)
    suppressed: bool = Field(
        description="Whether mail to the address came back. Nothing is sent there until its owner asks for another "
        "confirmation mail, and follows the link in it."
    )
    created_at: datetime

    @classmethod
    def of(cls, account: Account) -> "User":
        return cls.model_construct(**{name: getattr(account, name) for name in cls.model_fields})


class OneUser(BaseModel):
    """An account."""

    user: User


class Registered(BaseModel):
    """A new account, and the token that is the right to it. It is shown this once."""

    user: User
    token: str


class Users(BaseModel):
    """A page of accounts, oldest first."""

    users: list[User]


class NewToken(BaseModel):
    """The token that is valid from now on. It is shown this once."""

    token: str


class Existence(BaseModel):
    """Whether an account has the address."""

    exists: bool


class DeletionState(BaseModel):
    """How far a deletion is. What has begun will complete."""

    deletion_id: UUID
    status: DeletionStatus
