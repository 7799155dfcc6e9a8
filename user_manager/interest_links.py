"""The links to interests that mails hold: to the page that changes one, and to the page that stops one."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from user_manager.errors import TooManyInterestLinksError
from user_manager.links import LinkSigner

MAX_INTERESTS_PER_USER: Final = 200
"""Interests of one user in one call at most."""
MAX_INTERESTS_PER_CALL: Final = 1_000
"""Interests of all users of one call at most: with long links the answer stays below gRPC's 4 MiB."""


@dataclass(frozen=True, slots=True)
class InterestLinks:
    """The links to one interest in mails to one user."""

    interest_id: UUID
    change_url: str
    """Link to the page on which the interest is changed."""
    stop_url: str
    """Signed link that removes the interest, for this user alone."""


def check_number_of_interests(numbers: Collection[int]) -> None:
    """Raise TooManyInterestLinksError if a call requests links to more interests than it may.

    `numbers`: the number of interests of each user of the call.
    """
    if sum(numbers) > MAX_INTERESTS_PER_CALL or any(each > MAX_INTERESTS_PER_USER for each in numbers):
        raise TooManyInterestLinksError(
            f"Ask for links to at most {MAX_INTERESTS_PER_USER} interests of a user, and {MAX_INTERESTS_PER_CALL} in "
            "all, in one call."
        )


def build_interest_links(links: LinkSigner, user_id: UUID, interest_ids: Iterable[UUID]) -> tuple[InterestLinks, ...]:
    """Build the links to some interests, for mails to this user; nothing is looked up."""
    return tuple(
        InterestLinks(each, links.build_change_url(each), links.build_alert_stop_url(user_id, each))
        for each in interest_ids
    )
