"""`python -m local.kind.mails MAILDIR`: what the mailbox holds, as JSON; run in its pod."""

import json
import sys
from pathlib import Path

from local.mailbox.reading import confirmation_link, mails
from notifier.mail.alert_header import ALERT_HEADER


def as_json(maildir: Path) -> str:
    """One object for each mail: its subject, the link that it asks to follow, and the alerts that it tells of."""
    found = [
        {
            "subject": str(mail.message["Subject"]),
            "link": confirmation_link(mail),
            "alerts": [str(value) for value in mail.message.get_all(ALERT_HEADER, [])],
        }
        for mail in mails(maildir)
    ]
    return json.dumps(found)


if __name__ == "__main__":
    print(as_json(Path(sys.argv[1])))
