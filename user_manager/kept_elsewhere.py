"""The data about a person that the export does not hold: what they are, where they are, and for how long. Pure.

Times are those of the topics' catalogue and of the services' own constants; a test compares them.
"""

from dataclasses import dataclass
from typing import Final

from towerwatch.topics import LONGEST_ABSENCE_DAYS

DEAD_LETTER_DAYS: Final = 30
"""Days for which Kafka keeps a dead letter."""
NOTIFIER_STATUS_DAYS: Final = LONGEST_ABSENCE_DAYS + 1
"""Days for which the notifier keeps what became of a mail."""


@dataclass(frozen=True, slots=True)
class KeptElsewhere:
    """A kind of data that is kept about a person and is not in the export, in words for that person."""

    what: str
    where: str
    kept: str
    """For how long."""


KEPT_ELSEWHERE: Final = (
    KeptElsewhere(
        "Your token, the secrets of your sessions, and what the links in your mails are made of: only digests are "
        "stored, and they are left out because they are of use to nobody but a thief.",
        "user_manager's database",
        "As long as the token, the session or the link is valid.",
    ),
    KeptElsewhere(
        "The alerts and notices that were raised for you, by your user id, without address and name. You have got them "
        "by mail.",
        "Kafka: alerts.raised.v1, alerts.retry.v1, alerts.waiting.v1, notices.raised.v1",
        f"{LONGEST_ABSENCE_DAYS} days.",
    ),
    KeptElsewhere(
        "Events of yours that could not be handled, with the reason, by your user id.",
        "Kafka: alerts.dead-letter.v1",
        f"{DEAD_LETTER_DAYS} days.",
    ),
    KeptElsewhere(
        "Your interests as they are above, by your user id, from which alerts are computed.",
        "Kafka: interests.changed.v1; the tables of the stream",
        f"As long as the interest; its removal is remembered for {LONGEST_ABSENCE_DAYS} days, by the interest's id.",
    ),
    KeptElsewhere(
        "That an account with your user id was registered, confirmed or deleted.",
        "Kafka: users.changed.v1",
        "The last of these events for good; it holds no address and no name.",
    ),
    KeptElsewhere(
        "When mails with alerts were sent to you in the last hour, which alerts are in a mail that is being sent, and "
        "which wait for another attempt, by your user id (`people`). That a mail to you was refused, until that is "
        "reported. The notifier keeps this in tables of its workers, which nobody can ask; it is of hours.",
        "The notifier's table people",
        f"Until it concerns no mail any more; {LONGEST_ABSENCE_DAYS + 1} days in its changelog in Kafka.",
    ),
    KeptElsewhere(
        "What became of each alert, notice and account mail, by the id of the alert or mail, not by yours (`sent`).",
        "The notifier's table sent",
        f"{NOTIFIER_STATUS_DAYS} days.",
    ),
    KeptElsewhere(
        "Your name, address and time zone, when a mail to you is due; whose token or session it is, when it is used; "
        "where one machine keeps all, how many answers that cost much you have had in the present minute.",
        "The memory of the notifier and of the collector",
        "Seconds; a minute at most.",
    ),
    KeptElsewhere(
        "How many mails the computer from which you asked for one has asked for in an hour, by a keyed digest of its "
        "address that is linked to no account; and how many went to all other spellings (+tags) of your mailbox, by a "
        "keyed digest of the mailbox, because others may have invented them.",
        "user_manager's database",
        "Two hours; 30 days.",
    ),
    KeptElsewhere(
        "Lines in the logs of the services, with your user id, and neither address nor name; copies of the databases "
        "that were backed up; what the mail server logs of the mails that it takes.",
        "The machines of whoever runs this service",
        "As long as its operator keeps them: ask there.",
    ),
)
