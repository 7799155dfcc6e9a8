"""`python -m local.compose` makes the secrets of compose.yaml: random ones, and files for those that others give."""

import os
import secrets
import sys
from pathlib import Path
from typing import Final

from local.processes import ROOT

FOLDER: Final = ROOT / ".towerwatch" / "compose"

GIVEN_BY_OTHERS: Final = ("opensky_client_id", "opensky_client_secret", "smtp_username", "smtp_password")
"""Secrets that OpenSky and the mail server issue; their files are made empty, which means that there is none."""

_FOR_ALL_IN_ITS_CONTAINER: Final = 0o444
"""Compose mounts a secret with the rights of its file, and each container has another user; the folder is closed."""


def main() -> int:
    """Make what is missing, print what to fill in, and return exit status 0."""
    made = make_secrets(FOLDER)
    print(f"{'made' if made else 'complete already'}: {FOLDER}")
    print(f"write into these files what you were given, or leave them empty: {', '.join(GIVEN_BY_OTHERS)}")
    return 0


def make_secrets(folder: Path) -> list[str]:
    """Write each secret that is not in `folder` yet, and return the names of those that were made.

    What is there stays: the databases were made with their passwords, and links in mails with the signing key. Only the
    owner of the folder can enter it.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    made: list[str] = []

    def keep_or_make(name: str, content: str) -> str:
        """Return the content of a secret's file; write it with `content` first if there is no such file."""
        path = folder / name
        if not path.exists():
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "w") as file:
                file.write(content)
            path.chmod(_FOR_ALL_IN_ITS_CONTAINER if content else 0o644)
            made.append(name)
        return path.read_text()

    for name in ("signing_key", "operator_token", "grpc_secret", "user_db_root_password", "data_db_root_password"):
        keep_or_make(name, _make_random_text())
    for database, user in (("user_db", "user_manager"), ("data_db", "collector")):
        password = keep_or_make(f"{database}_password", _make_random_text())
        keep_or_make(f"{database}_url", f"mysql+pymysql://{user}:{password}@{database.replace('_', '-')}/{user}")
    for name in GIVEN_BY_OTHERS:
        keep_or_make(name, "")
    return made


def _make_random_text() -> str:
    """Return 256 random bits, in characters that a URL takes unescaped."""
    return secrets.token_urlsafe(32)


if __name__ == "__main__":
    sys.exit(main())
