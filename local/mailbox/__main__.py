"""`python -m local.mailbox --maildir DIR`: takes mail by SMTP, and shows it on web pages, until SIGTERM."""

import argparse
import asyncio
import signal
import sys
from pathlib import Path

from chassis.process import keep_files_private
from local.arguments import parse_port
from local.mailbox.deliveries import DeliverySignal
from local.mailbox.errors import CannotListenError
from local.mailbox.pages import start_pages
from local.mailbox.server import start_server


def main() -> int:
    """Serve until SIGTERM or SIGINT, then return exit status 0; 1 if a port cannot be listened on.

    Before 1, one sentence on standard error gives the reason.
    """
    parser = argparse.ArgumentParser(prog="python -m local.mailbox", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=parse_port, default=8025, help="of the mail server (%(default)s)")
    parser.add_argument("--web-port", type=parse_port, default=8026, help="of the pages (%(default)s)")
    parser.add_argument("--maildir", type=Path, required=True, help="made where it is missing")
    options = parser.parse_args()
    keep_files_private()
    try:
        asyncio.run(_serve(options.host, options.port, options.web_port, options.maildir))
    except CannotListenError as error:
        print(f"mailbox: {error}", file=sys.stderr)
        return 1
    return 0


async def _serve(host: str, port: int, web_port: int, maildir: Path) -> None:
    """Receive mail, store every mail in the Maildir, and serve its pages, until SIGTERM or SIGINT.

    Prints a line once both servers listen; the mail server listens last. Open connections are not waited for at the
    end. Raises CannotListenError.
    """
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    deliveries = DeliverySignal()
    pages = await start_pages(host, web_port, maildir, deliveries)
    try:
        server = await start_server(host, port, maildir, deliveries.announce)
        print(
            f"mailbox: taking mail on {host}:{port}, into {maildir}; to be read at http://{host}:{web_port}/",
            flush=True,
        )
        await stopping.wait()
        server.close()  # connections that are open end with the process
    finally:
        await pages.cleanup()


if __name__ == "__main__":
    sys.exit(main())
