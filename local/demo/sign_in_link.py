"""The link by which whoever runs the demo signs in to the pages as the person of its story: a real mail has it."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import httpx

from local.errors import LocalError
from local.mailbox.reading import find_sign_in_link, read_mails

_MAIL_TIMEOUT_S: Final = 120.0
_POLL_INTERVAL_S: Final = 0.1


def request_sign_in_link(public_url: str, email: str, maildir: Path, require_alive: Callable[[], None]) -> str:
    """Ask for a mail with a link that signs in, as the form of the pages does, and return the link once it has come.

    `require_alive` is called meanwhile, and raises LocalError if a process of the stack has ended. Raises LocalError if
    the request is refused, or if no such mail comes within two minutes.
    """
    before = {mail.key for mail in read_mails(maildir)}
    try:
        answer = httpx.post(f"{public_url}/sign-in", json={"email": email}, timeout=30, trust_env=False)
    except httpx.TransportError as error:
        raise LocalError(f"{public_url}/sign-in does not answer ({type(error).__name__})") from None
    if answer.status_code != httpx.codes.ACCEPTED:
        raise LocalError(f"POST {public_url}/sign-in was answered {answer.status_code}; see the log of user_manager")
    deadline = time.monotonic() + _MAIL_TIMEOUT_S
    while time.monotonic() < deadline:
        require_alive()
        for mail in read_mails(maildir, before):
            if (link := find_sign_in_link(mail)) is not None:
                return link
        time.sleep(_POLL_INTERVAL_S)
    raise LocalError("no mail came with a link that signs in; see the logs of user_manager and notifier")
