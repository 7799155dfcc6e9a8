"""The mail server: a pool of kept-open connections, what its answers mean, and when it is left alone."""

from notifier.smtp.client import MailServer
from notifier.smtp.connection import Access, Security, Timeouts

__all__ = ["Access", "MailServer", "Security", "Timeouts"]
