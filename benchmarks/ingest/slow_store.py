"""A TCP relay that answers every request late: what a store in another building feels like.

Run: ``python -m benchmarks.ingest.slow_store UPSTREAM_PORT DELAY_S``; prints the port on which it listens.
"""

from __future__ import annotations

import asyncio
import sys
from contextlib import suppress

CHUNK_BYTES = 2**20


async def relay(upstream_port: int, delay_s: float) -> None:
    """Listen on a free loopback port and pass on what comes, requests ``delay_s`` later."""

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, wait_s: float) -> None:
        with suppress(ConnectionError):
            while data := await reader.read(CHUNK_BYTES):
                await asyncio.sleep(wait_s)
                writer.write(data)
                await writer.drain()
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        upstream_reader, upstream_writer = await asyncio.open_connection("127.0.0.1", upstream_port, limit=CHUNK_BYTES)
        await asyncio.gather(pump(reader, upstream_writer, delay_s), pump(upstream_reader, writer, 0.0))

    server = await asyncio.start_server(serve, "127.0.0.1", 0, limit=CHUNK_BYTES)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(relay(int(sys.argv[1]), float(sys.argv[2])))
