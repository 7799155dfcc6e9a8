"""The report to user_manager that an address does not exist."""

from datetime import datetime
from uuid import UUID

from notifier.delivery.interfaces import ContactsLike
from notifier.errors import UserManagerUnavailable
from notifier.metrics import NotifierMetrics


async def report_bounce_once(contacts: ContactsLike, metrics: NotifierMetrics, user_id: UUID, at: datetime) -> None:
    """Report to user_manager, in one attempt, that the user's address did not exist at `at`; count the result.

    A failed attempt raises nothing: if the next mail to the address bounces, too, that is reported again.
    """
    try:
        await contacts.report_bounce(user_id, at)
        metrics.count_bounce_report("told")
    except UserManagerUnavailable:
        metrics.count_bounce_report("not_told")
