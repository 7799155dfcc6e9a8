"""`python -m local.kind.mails MAILDIR` prints the mailbox's mails as JSON; run in the mailbox's pod."""

import json
import sys
from pathlib import Path

from local.mailbox.reading import find_confirmation_link, read_mails
from notifier.mail.alert_header import ALERT_HEADER


def encode_mails(maildir: Path) -> str:
    """Encode a Maildir's mails as a JSON list of objects, in the order of delivery.

    Members: `subject`; `link`, the confirmation link or null; `alerts`, the values of the mail's alert headers.
    """
    found = [
        {
            "subject": str(mail.message["Subject"]),
            "link": find_confirmation_link(mail),
            "alerts": [str(value) for value in mail.message.get_all(ALERT_HEADER, [])],
        }
        for mail in read_mails(maildir)
    ]
    return json.dumps(found)


if __name__ == "__main__":
    print(encode_mails(Path(sys.argv[1])))
