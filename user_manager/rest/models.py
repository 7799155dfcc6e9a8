"""Pydantic models of the REST API: they validate request bodies and queries, and build response bodies."""

from datetime import datetime
from typing import Annotated, Any, Final
from uuid import UUID

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator
from pydantic.json_schema import SkipJsonSchema

from chassis.text import has_control_characters, is_blank
from chassis.texts import LANGUAGES
from chassis.time_zones import list_time_zones, suggest_time_zone
from chassis.web.numbers import FROM_QUERY
from user_manager.accounts import Account, AccountUpdate, Confirmation
from user_manager.deletion.saga import DeletionProgress, DeletionStatus
from user_manager.model import ConfirmationState
from user_manager.sessions import SessionView

MAX_NAME_LENGTH: Final = 100
"""Maximum length of a name, in characters."""

MAX_PAGE_SIZE: Final = 200
"""Maximum number of accounts on a page."""

# The name becomes a part of mail headers. A control character (Cc) or a separator of lines or paragraphs (Zl, Zp)
# could end a header and begin another. The set in the middle also excludes most of what the eye does not see; what else
# `is_blank` refuses, and half a surrogate pair, which JSON can spell, no pattern can express.
_CONTROLS: Final = r"\x00-\x1f\x7f-\x9f\u2028\u2029"
_BLANKS: Final = (
    r"\x20\xa0\xad\u0300-\u036f\u061c\u115f\u1160\u1680\u180b-\u180f\u2000-\u200f\u202a-\u202f\u205f-\u206f"
    r"\u2800\u3000\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\uffff"
)
_NAME: Final = f"^[^{_CONTROLS}]*[^{_CONTROLS}{_BLANKS}][^{_CONTROLS}]*$"


def _check_person_name(name: str) -> str:
    """Return the name without surrounding blanks. Raises ValueError for control characters or nothing to be seen."""
    if has_control_characters(name):
        raise ValueError("must be one line, without control characters")
    if is_blank(name):
        raise ValueError("must hold at least one letter or another character that can be seen")
    return name.strip()


def parse_person_name(text: str) -> str:
    """Return a name without surrounding blanks. Raises ValueError if it is too long, or no name."""
    if len(text) > MAX_NAME_LENGTH:
        raise ValueError(f"must have at most {MAX_NAME_LENGTH} characters")
    return _check_person_name(text)


def _check_time_zone(name: str) -> str:
    """Return `name` unchanged. Raises ValueError, with a hint, unless it names a time zone that people can be in."""
    if name not in list_time_zones():
        meant = suggest_time_zone(name)
        hint = "" if meant is None else f"; did you mean {meant}?"
        raise ValueError(f"must be the IANA name of a time zone, such as Europe/Rome or UTC{hint}")
    return name


def _check_language(tag: str) -> str:
    """Return `tag` unchanged. Raises ValueError unless the pages are there in this language."""
    if tag not in LANGUAGES:
        raise ValueError(f"must be one of {', '.join(LANGUAGES)}")
    return tag


def _remove_null_defaults(schema: dict[str, Any]) -> None:
    """Remove `"default": null` from all members of a JSON schema, in place: they may be absent but must not be null."""
    for member in schema["properties"].values():
        if member.get("default", ...) is None:
            del member["default"]


Name = Annotated[
    str,
    AfterValidator(_check_person_name),
    Field(
        min_length=1,
        max_length=MAX_NAME_LENGTH,
        json_schema_extra={"pattern": _NAME, "format": "person-name"},
        description="One line in which at least one character can be seen.",
    ),
]
TimeZone = Annotated[
    str,
    AfterValidator(_check_time_zone),
    Field(
        json_schema_extra={"format": "iana-time-zone", "examples": ["Europe/Rome"]},
        description="The IANA name of a time zone.",
    ),
]


def is_time_zone(name: str) -> bool:
    """Return True if a text is the IANA name of a time zone that people can be in."""
    return name in list_time_zones()


Language = Annotated[
    str,
    AfterValidator(_check_language),
    Field(json_schema_extra={"enum": list(LANGUAGES)}, description="The tag of the language of the pages."),
]
Email = Annotated[str, Field(max_length=254, json_schema_extra={"format": "email", "examples": ["ann@example.org"]})]


def _require_one_member(schema: dict[str, Any]) -> None:
    """Add to a JSON schema, in place, that at least one member must be present; and remove defaults of null."""
    _remove_null_defaults(schema)
    schema["minProperties"] = 1


_ABSENT: Final[Any] = None
"""Default of a member that may be absent but must not be null."""

_PAUSED: Final = "Whether no alerts are wanted at present."
_CORRECTIONS: Final = (
    "Whether a mail is wanted, at most once a day, about what the night's record corrects of that which was seen live."
)


class _Body(BaseModel):
    """Base class of request bodies: unknown members are an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class NewUser(_Body):
    """The request body of a registration."""

    model_config = ConfigDict(json_schema_extra=_remove_null_defaults)

    email: Email
    name: Name
    time_zone: TimeZone = "UTC"
    language: Language = _ABSENT


class ChangedUser(_Body):
    """The new values of an account: at least one member. An absent member stays unchanged."""

    model_config = ConfigDict(json_schema_extra=_require_one_member)

    name: Name = _ABSENT
    time_zone: TimeZone = _ABSENT
    language: Language = _ABSENT
    paused: Annotated[bool, Field(strict=True)] = Field(default=_ABSENT, description=_PAUSED)
    corrections: Annotated[bool, Field(strict=True)] = Field(default=_ABSENT, description=_CORRECTIONS)

    @model_validator(mode="after")
    def _require_one_field(self) -> "ChangedUser":
        """Return the body unchanged. Raises ValueError if it has no member."""
        if not self.model_fields_set:
            raise ValueError("must say what to change: name, time_zone, language, paused or corrections")
        return self

    def to_update(self) -> AccountUpdate:
        """Return the changes for `Accounts.update`; members that are absent from the body are None: unchanged."""
        return AccountUpdate(**self.model_dump(exclude_unset=True))


class PageQuery(BaseModel):
    """The query parameters that select a page of all accounts."""

    model_config = ConfigDict(json_schema_extra=_remove_null_defaults)

    cursor: str | SkipJsonSchema[None] = Field(default=None, description="From the link to the next page; opaque.")
    limit: Annotated[int, Field(ge=1, le=MAX_PAGE_SIZE), FROM_QUERY] = 50


class User(BaseModel):
    """An account, as its owner may see it."""

    user_id: UUID
    email: Email
    name: str
    time_zone: TimeZone
    language: Language
    confirmed: bool = Field(description="Whether somebody has followed the link in the confirmation mail.")
    paused: bool = Field(description=_PAUSED)
    corrections: bool = Field(description=_CORRECTIONS)
    suppressed: bool = Field(
        description="Whether mail to the address came back. Nothing is sent there until its owner asks for another "
        "confirmation mail, and follows the link in it."
    )
    created_at: datetime

    @classmethod
    def from_account(cls, account: Account) -> "User":
        """Copy the account's fields."""
        return cls.model_construct(**{name: getattr(account, name) for name in cls.model_fields})


class OneUser(BaseModel):
    """A response body with one account."""

    user: User


CONFIRM_FIRST: Final = (
    "A mail with a link is on its way to the address: follow it to confirm the address. The page behind it shows a new "
    "token, and the one in this answer is void then, unless the request that confirms carries it."
)
"""What to do after registering."""


class Registered(BaseModel):
    """A new account, and the token that gives access to it. The token is not shown again."""

    user: User
    token: str | None = Field(
        description="null in the answer to a repeated request without an `Idempotency-Key`: anybody can repeat a body. "
        "It is void as soon as the address is confirmed by a request that does not carry it."
    )
    notice: str = Field(
        default=CONFIRM_FIRST, description="What to do next, and how long the token is valid, in words."
    )


class AddressOfAccount(_Body):
    """The address of an account whose token is lost, or whose owner wants to sign in."""

    email: Email


class Users(BaseModel):
    """A page of accounts, from oldest to newest."""

    users: list[User]


class NewToken(BaseModel):
    """The token that is valid from now on. It is not shown again."""

    token: str


class Session(BaseModel):
    """A browser in which somebody is signed in."""

    session_id: UUID
    device: str = Field(description="What the browser called itself when it signed in, in words: `Firefox on Linux`.")
    created_at: datetime = Field(description="When it signed in.")
    last_used_at: datetime = Field(description="When it was last used, to a minute.")
    ends_at: datetime = Field(description="When it is signed out, unless it is used before.")
    is_current: bool = Field(description="Whether it has sent this request.")

    @classmethod
    def from_view(cls, view: SessionView) -> "Session":
        """Copy the session's fields."""
        return cls.model_construct(**{name: getattr(view, name) for name in cls.model_fields})


class Sessions(BaseModel):
    """The browsers that are signed in, the latest used one first."""

    sessions: list[Session]


class CurrentSession(BaseModel):
    """Who is signed in in this browser."""

    user: User
    session: Session


class Existence(BaseModel):
    """The answer to the question if an account has the address."""

    exists: bool


class DeletionState(BaseModel):
    """The progress of a deletion. A deletion that has begun will complete."""

    deletion_id: UUID
    status: DeletionStatus
    interests_deleted: bool | None = Field(
        default=None, description="Whether the interests are deleted; null: that is not known yet."
    )

    @classmethod
    def from_progress(cls, deletion_id: UUID, progress: DeletionProgress) -> "DeletionState":
        """Build the body of a deletion's progress."""
        return cls(deletion_id=deletion_id, status=progress.status, interests_deleted=progress.are_interests_deleted)


class ConfirmationProgress(BaseModel):
    """How far the confirmation of an address is."""

    state: ConfirmationState = Field(
        description="`confirmed`: nothing is left to do. `requested`: a mail was asked for. `waiting`: the mail server "
        "puts the mail off or is away; the mail is tried again by itself for seven days. `sent`: the mail server has "
        "taken a mail with a link, now or a short time before; look for it. `failed`: it was refused or given up; ask "
        "for another."
    )
    requested_at: datetime = Field(description="When the last confirmation mail was asked for.")

    @classmethod
    def from_confirmation(cls, confirmation: Confirmation) -> "ConfirmationProgress":
        """Copy the confirmation's fields."""
        return cls(state=confirmation.state, requested_at=confirmation.requested_at)
