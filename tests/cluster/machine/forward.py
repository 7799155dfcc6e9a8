"""`python -m tests.cluster.machine.forward`: passes connections to port 443 of loopback on to the cluster's entry."""

import asyncio
import contextlib
import itertools
from typing import Final

from tests.cluster.machine.layout import ENTRY_PORT, NODES

_CHUNK: Final = 65536


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Pass bytes on in one direction until its end, then end the other side's input."""
    with contextlib.suppress(OSError):
        while data := await reader.read(_CHUNK):
            writer.write(data)
            await writer.drain()
        if writer.can_write_eof():
            writer.write_eof()


async def main() -> None:
    """Serve until a signal; a node that cannot be reached is passed over."""
    turns = itertools.cycle(NODES)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for node, _ in zip(turns, NODES, strict=False):
            try:
                async with asyncio.timeout(5):
                    away = await asyncio.open_connection(node.address, ENTRY_PORT)
            except OSError:  # TimeoutError is one
                continue
            await asyncio.gather(_pass_on(reader, away[1]), _pass_on(away[0], writer))
            away[1].close()
            break
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 443)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
