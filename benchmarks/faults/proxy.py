"""A proxy in front of an S3 server that spoils a share of the requests, and writes down what it did.

Run: ``python -m benchmarks.faults.proxy UPSTREAM_PORT --seed 1 --share 0.1 --record FILE``; prints the port on which it
listens. One request per connection: a spoilt one then harms no other. Each fault is a line ``KIND METHOD`` in FILE.

``drop``: no answer. ``reset``: the connection ends before the request is passed on. ``cut``: half of the answer.
``half_written``: the server gets half of the request. ``answer_lost``: the server has done it, the client never hears.
``500``, ``503``, ``403``: the server's refusals. ``delay``: late by up to a second.

With ``--refuse CODE`` nothing else happens: from one request on, and for some time, every request of the named methods
is refused with that code.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import socket
import struct
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

WEIGHTS = {
    "drop": 1, "reset": 5, "cut": 6, "half_written": 6, "answer_lost": 6, "500": 4, "503": 6, "403": 2, "delay": 3,
}  # fmt: skip
REFUSALS = {"500": "InternalError", "503": "SlowDown", "403": "AccessDenied"}
STATUS = {"ExpiredToken": 400, "AccessDenied": 403, "RequestTimeTooSkewed": 403, "SlowDown": 503}
LONGEST_DELAY_S = 1.0
HANG_S = 60.0


@dataclass
class Refusal:
    """A refusal of every request, from one on and for some time.

    Attributes:
        code: The server's code.
        methods: Methods that are refused; empty for all.
        first: How many requests pass before.
        seconds: How long it lasts.
    """

    code: str
    methods: tuple[str, ...]
    first: int
    seconds: float
    num_seen: int = 0
    since_s: float | None = None

    def meets(self, method: str) -> bool:
        """Return whether a request is refused; counts it."""
        self.num_seen += 1
        if self.num_seen <= self.first or (self.methods and method not in self.methods):
            return False
        self.since_s = self.since_s or time.monotonic()
        return time.monotonic() - self.since_s < self.seconds


class FaultyProxy:
    """Passes requests on, or spoils them."""

    def __init__(
        self, upstream_port: int, share: float, seed: int, record: Path, refusal: Refusal | None = None
    ) -> None:
        """Prepare; ``share`` of the requests get a fault, kinds by weight."""
        self._port = upstream_port
        self._share = share
        self._rng = random.Random(seed)
        self._record = record
        self._refusal = refusal

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one connection."""
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            request = await _read_request(reader, writer)
            method = request.split(b" ", 1)[0].decode()
            fault = self._choose(method)
            if fault:
                with self._record.open("a") as file:
                    file.write(f"{fault} {method}\n")
            await self._answer(fault, request, writer)
        writer.close()

    def _choose(self, method: str) -> str:
        if self._refusal is not None:
            return self._refusal.code if self._refusal.meets(method) else ""
        if self._rng.random() >= self._share:
            return ""
        return self._rng.choices(list(WEIGHTS), list(WEIGHTS.values()))[0]

    async def _answer(self, fault: str, request: bytes, writer: asyncio.StreamWriter) -> None:
        if fault == "drop":
            await asyncio.sleep(HANG_S)
            return
        if fault == "reset":
            _reset(writer)
            return
        if fault in REFUSALS or fault in STATUS:
            writer.write(_refusal(fault, with_body=not request.startswith(b"HEAD ")))
            await writer.drain()
            return
        if fault == "delay":
            await asyncio.sleep(self._rng.uniform(0, LONGEST_DELAY_S))
        if fault == "half_written":
            await self._pass_on(request[: len(request) // 2], wait_for_answer=False)
            _reset(writer)
            return
        answer = await self._pass_on(request, wait_for_answer=True)
        if fault == "answer_lost":
            _reset(writer)
            return
        writer.write(answer[: len(answer) // 2] if fault == "cut" else answer)
        await writer.drain()
        if fault == "cut":
            _reset(writer)

    async def _pass_on(self, request: bytes, *, wait_for_answer: bool) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        try:
            writer.write(request)
            await writer.drain()
            return await reader.read() if wait_for_answer else b""
        finally:
            writer.close()


async def _read_request(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
    """Read one request; the server is asked to close the connection after it."""
    head = await reader.readuntil(b"\r\n\r\n")
    lines = head[:-4].split(b"\r\n")
    fields = {name.strip().lower(): value.strip() for name, _, value in (line.partition(b":") for line in lines[1:])}
    if fields.get(b"expect", b"").lower() == b"100-continue":
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        await writer.drain()
    if b"chunked" in fields.get(b"transfer-encoding", b""):
        raise ConnectionError("requests in chunks are not passed on")
    body = await reader.readexactly(int(fields.get(b"content-length", b"0")))
    kept = [line for line in lines if line.split(b":", 1)[0].strip().lower() not in (b"expect", b"connection")]
    return b"\r\n".join([*kept, b"Connection: close"]) + b"\r\n\r\n" + body


def _reset(writer: asyncio.StreamWriter) -> None:
    """End a connection with a reset, not with an orderly close."""
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


def _refusal(fault: str, *, with_body: bool) -> bytes:
    code = REFUSALS.get(fault, fault)
    status = STATUS.get(code, 500)
    body = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>planted</Message></Error>".encode()
    head = f"HTTP/1.1 {status} {code}\r\nContent-Type: application/xml\r\nContent-Length: {len(body)}\r\n"
    return head.encode() + b"Connection: close\r\n\r\n" + (body if with_body else b"")


async def run(options: argparse.Namespace) -> None:
    """Listen until the process is ended."""
    refusal = (
        Refusal(options.refuse, tuple(options.methods), options.first, options.seconds) if options.refuse else None
    )
    proxy = FaultyProxy(options.upstream_port, options.share, options.seed, options.record, refusal)
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("upstream_port", type=int)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--share", type=float, default=0.1)
    parser.add_argument("--record", type=Path, required=True)
    parser.add_argument("--refuse", choices=tuple(STATUS), default="")
    parser.add_argument("--methods", nargs="*", default=[])
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=1e9)
    asyncio.run(run(parser.parse_args()))
