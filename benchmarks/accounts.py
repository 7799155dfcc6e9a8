"""`python -m benchmarks.accounts`: user_manager under load.

Three scenarios of `--seconds` each, with `--clients` that never pause: the cheapest request there is, reading an
account, registering one. Prints requests per second, their ratio to the cheapest request's, and latencies. Exits with 1
if any request got an error. Load and server share the machine, so only the ratios travel.
"""

import secrets
import sys
import tempfile
from pathlib import Path
from typing import Final

import httpx

from benchmarks.load import parse_options, run_scenarios, run_service
from tests.ports import free_port

NAME: Final = "accounts"
ACCOUNTS: Final = 500
"""Number of accounts that exist before the load begins."""


def main() -> int:
    """Run the service, register accounts, and run all scenarios; return 1 if any request got an error, else 0."""
    options = parse_options(NAME, __doc__)
    operator_token = secrets.token_urlsafe(32)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        settings = {
            "DATABASE_URL": options.database_url or f"sqlite:///{folder}/accounts.db",
            "HTTP_PORT": str(free_port()),
            "GRPC_PORT": str(free_port()),
            "COLLECTOR_GRPC_TARGET": f"127.0.0.1:{free_port()}",
            "KAFKA_BOOTSTRAP_SERVERS": f"127.0.0.1:{free_port()}",
            "PUBLIC_URL": "https://towerwatch.example",
            "SIGNING_KEY": secrets.token_urlsafe(32),
            "OPERATOR_TOKEN": operator_token,
            "ALLOW_TEST_ADDRESSES": "true",
            "REGISTRATION_LIMIT": "1000000/second",
            "MAILS_PER_CLIENT": "1000000000",
            "MAILS_PER_HOUR": "1000000000",
            "LOG_LEVEL": "warning",
        }
        with run_service("user_manager", settings, folder) as base_url:
            emails = [_register_account(base_url, number) for number in range(ACCOUNTS)]
            environment = {"OPERATOR_TOKEN": operator_token, "KNOWN_EMAILS": " ".join(emails)}
            locustfile = Path(__file__).with_name("accounts_load.py")
            failures = run_scenarios(
                NAME, locustfile, ("Baseline", "Reading", "Registering"), base_url, environment, options
            )
    return 1 if failures else 0


def _register_account(base_url: str, number: int) -> str:
    """Register the account with this number, and return its address. Raises HTTPStatusError if it is rejected."""
    email = f"known{number}@bench.test"
    httpx.post(f"{base_url}/users", json={"email": email, "name": "Known"}, trust_env=False).raise_for_status()
    return email


if __name__ == "__main__":
    sys.exit(main())
