"""The SMTP client: a pool of open connections, the meaning of the server's replies, rate limit and circuit breaker."""

from notifier.smtp.client import SmtpClient
from notifier.smtp.connection import Security, SmtpServerConfig, SmtpTimeouts

__all__ = ["Security", "SmtpClient", "SmtpServerConfig", "SmtpTimeouts"]
