"""Pydantic models of the export: the JSON file with all that is kept about a person. ADR 64."""

from datetime import datetime
from typing import Any, Final
from uuid import UUID

from pydantic import BaseModel, Field

from domain.interests import Direction, Interest
from domain.windows import AlignedTo, Window
from user_manager.collector_record import CollectorRecord, FormerInterest, StoredInterest, WriteRecord
from user_manager.kept_elsewhere import KEPT_ELSEWHERE
from user_manager.mail_requests import MailKind
from user_manager.mailbox_limits import PauseScope
from user_manager.person_export import MailCount, MailState, PendingDeletion, PersonExport
from user_manager.rest.models import ConfirmationProgress, Session, User

FORMAT: Final = "towerwatch-export-1"
"""The name of the file's shape; members may be added to it, none changes or goes."""

_SCOPES: Final = {PauseScope.ACCOUNT: "account", PauseScope.SIGN_IN: "sign_in"}
_KEPT_UNTIL: Final = "When it is forgotten, unless something of the kind happens before."


class ExportedAccount(User):
    """The account, with what `GET /users/{email}` does not show of it."""

    version: int = Field(description="Grows with every change.")
    confirmation: ConfirmationProgress
    confirmation_mails: int = Field(description="How many confirmation mails were asked for.")
    confirmed_at: datetime | None = Field(description="When a link last confirmed the address.")
    bounced_at: datetime | None = Field(description="When mail to the address last came back for good.")


class ExportedMailCount(BaseModel):
    """How many mails to your address were asked for, by you or by others; it bounds them."""

    about: str = Field(description="`account`: mails that confirm, or offer a token; `sign_in`: mails that sign in.")
    mails: int
    last_mail_at: datetime | None
    stopped_at: datetime | None = Field(description="When you stopped these mails; null: they are not stopped.")
    proved_at: datetime | None = Field(description="When a link last confirmed the address.")
    kept_until: datetime = Field(description=_KEPT_UNTIL)

    @classmethod
    def from_count(cls, count: MailCount) -> "ExportedMailCount":
        """Copy the count's fields."""
        values = {name: getattr(count, name) for name in cls.model_fields if name != "about"}
        return cls(about=_SCOPES[count.scope], **values)


class ExportedMailRequest(BaseModel):
    """A mail about the account that was asked for and is not known to be sent."""

    about: MailKind
    email: str
    requested_at: datetime
    kept_until: datetime = Field(description=_KEPT_UNTIL)


class ExportedLink(BaseModel):
    """The link in the last mail to sign in with; it was not used so far."""

    requested_at: datetime
    kept_until: datetime = Field(description=_KEPT_UNTIL)


class ExportedMails(BaseModel):
    """What is kept of mails about the account."""

    counts: list[ExportedMailCount]
    requested: list[ExportedMailRequest]
    sign_in_link: ExportedLink | None

    @classmethod
    def from_state(cls, state: MailState) -> "ExportedMails":
        """Copy what is kept."""
        link = state.sign_in_link
        return cls(
            counts=[ExportedMailCount.from_count(each) for each in state.counts],
            requested=[
                ExportedMailRequest(
                    about=MailKind(each.kind),
                    email=each.email,
                    requested_at=each.requested_at,
                    kept_until=each.kept_until,
                )
                for each in state.requested
            ],
            sign_in_link=None
            if link is None
            else ExportedLink(requested_at=link.requested_at, kept_until=link.kept_until),
        )


class ExportedAnswer(BaseModel):
    """An answer to your registration, which is kept, encrypted, for a repeat of the request."""

    kept_until: datetime


class ExportedDeletion(BaseModel):
    """A deletion of the account that was asked for, and has not begun to take effect."""

    deletion_id: UUID
    requested_at: datetime
    attempts: int
    next_attempt_at: datetime

    @classmethod
    def from_deletion(cls, deletion: PendingDeletion) -> "ExportedDeletion":
        """Copy the deletion's fields."""
        return cls(**{name: getattr(deletion, name) for name in cls.model_fields})


class _InterestParts(BaseModel):
    """The parts of an interest, as `GET /interests/{id}` names them."""

    interest_id: UUID
    airport_icao: str
    direction: Direction
    window: Window
    aligned_to: AlignedTo
    high_value: int | None
    low_value: int | None
    high_percent: int | None
    low_percent: int | None
    for_windows: int
    repeat: bool
    effective_from: datetime
    version: int


class ExportedInterest(_InterestParts):
    """An interest, and what else is kept of it."""

    created_at: datetime
    updated_at: datetime
    told_version: int = Field(description="The newest version whose alerts are known to be mailed; 0: none.")

    @classmethod
    def from_stored(cls, stored: StoredInterest) -> "ExportedInterest":
        """Copy the interest's fields."""
        return cls(
            **_list_parts(stored.interest),
            created_at=stored.created_at,
            updated_at=stored.updated_at,
            told_version=stored.told_version,
        )


class ExportedFormerInterest(_InterestParts):
    """What an interest was before it was changed or removed."""

    since: datetime = Field(description="When it was set.")
    until: datetime = Field(description="When it was changed or removed.")

    @classmethod
    def from_former(cls, former: FormerInterest) -> "ExportedFormerInterest":
        """Copy the version's fields."""
        return cls(**_list_parts(former.interest), since=former.since, until=former.until)


def _list_parts(interest: Interest) -> dict[str, Any]:
    """Return the parts of an interest by the names that REST has for them."""
    renamed = {"airport_icao": interest.airport, "high_value": interest.high, "low_value": interest.low}
    names = _InterestParts.model_fields.keys() - renamed.keys()
    return renamed | {name: getattr(interest, name) for name in names}


class ExportedWrites(BaseModel):
    """What is counted of your changes of interests and costly reads, so that nobody takes the place of others."""

    paid_microcredits: int = Field(description="Millionths of the source's credits that count as paid by you.")
    minute: datetime | None = Field(description="Begin of the minute in which changes were counted last.")
    writes: int = Field(description="How many were counted in it.")
    past_windows_until: datetime | None = Field(
        description="When the past windows that your changes have had judged are paid off."
    )
    read_minute: datetime | None = Field(
        description="Begin of the minute in which answers that cost much were counted last, as of windows and previews."
    )
    reads: int = Field(description="How many were counted in it.")

    @classmethod
    def from_record(cls, record: WriteRecord) -> "ExportedWrites":
        """Copy the record's fields."""
        return cls(**{name: getattr(record, name) for name in cls.model_fields})


class ExportedNotices(BaseModel):
    """What you were told once of airports, so that you are not told again."""

    unheard_airports: list[str] = Field(description="ICAO codes of airports that nobody hears.")
    retired_codes: list[str] = Field(description="ICAO codes that were retired.")


class NotIncluded(BaseModel):
    """Something that is kept about you and is not in this file."""

    what: str
    where: str
    kept: str = Field(description="For how long.")


class Export(BaseModel):
    """All that is kept about a person, but for what `not_included` names. It holds no token and no key."""

    format: str = Field(default=FORMAT, description="The name of this shape; members may be added to it.")
    exported_at: datetime
    account: ExportedAccount
    sessions: list[Session]
    mails: ExportedMails | None = Field(
        description="null for an account whose address is not confirmed: its holder need not own the mailbox."
    )
    stored_answers: list[ExportedAnswer]
    deletion: ExportedDeletion | None
    interests: list[ExportedInterest] = Field(description="In the order of their ids.")
    former_interests: list[ExportedFormerInterest] = Field(
        description="What interests were before, also removed ones, the oldest first; for 40 days, and 500 at most."
    )
    writes: ExportedWrites | None
    notices: ExportedNotices
    not_included: list[NotIncluded]

    @classmethod
    def from_export(cls, export: PersonExport) -> "Export":
        """Build the file of an export."""
        record: CollectorRecord = export.collector
        shown = {name: getattr(export.account, name) for name in User.model_fields}
        return cls(
            exported_at=export.exported_at,
            account=ExportedAccount(
                **shown,
                version=export.account.version,
                confirmation=ConfirmationProgress.from_confirmation(export.confirmation),
                confirmation_mails=export.confirmation_mails,
                confirmed_at=export.confirmed_at,
                bounced_at=export.bounced_at,
            ),
            sessions=[Session.from_view(each) for each in export.sessions],
            mails=None if export.mail_state is None else ExportedMails.from_state(export.mail_state),
            stored_answers=[ExportedAnswer(kept_until=each) for each in export.stored_answers],
            deletion=None if export.deletion is None else ExportedDeletion.from_deletion(export.deletion),
            interests=[ExportedInterest.from_stored(each) for each in record.interests],
            former_interests=[ExportedFormerInterest.from_former(each) for each in record.former_interests],
            writes=None if record.writes is None else ExportedWrites.from_record(record.writes),
            notices=ExportedNotices(
                unheard_airports=list(record.unheard_notices), retired_codes=list(record.retired_notices)
            ),
            not_included=[NotIncluded(what=each.what, where=each.where, kept=each.kept) for each in KEPT_ELSEWHERE],
        )
