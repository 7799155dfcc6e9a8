"""`python -m local.mailbox --port 8025 --maildir DIR`: takes mail until SIGTERM."""

import argparse
import asyncio
import signal
import sys
from pathlib import Path

from local.mailbox.errors import CannotListenError
from local.mailbox.server import start_server


def main() -> int:
    """Serve until SIGTERM or SIGINT, then return exit status 0; 1 if the port cannot be listened on.

    Before 1, one sentence on standard error gives the reason.
    """
    parser = argparse.ArgumentParser(prog="python -m local.mailbox", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8025)
    parser.add_argument("--maildir", type=Path, required=True, help="made where it is missing")
    options = parser.parse_args()
    try:
        asyncio.run(_serve(options.host, options.port, options.maildir))
    except CannotListenError as error:
        print(f"mailbox: {error}", file=sys.stderr)
        return 1
    return 0


async def _serve(host: str, port: int, maildir: Path) -> None:
    """Receive mail, and store every mail in the Maildir, until SIGTERM or SIGINT. Raises CannotListenError.

    Prints a line once the server listens. Open connections are not waited for at the end.
    """
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    server = await start_server(host, port, maildir)
    print(f"mailbox: taking mail on {host}:{port}, into {maildir}", flush=True)
    await stopping.wait()
    server.close()  # connections that are open end with the process


if __name__ == "__main__":
    sys.exit(main())
