"""An S3 face with a few objects to read, of which every request for a piece fails the first time that it is made."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler

from crrg.config.base import StorageSettings
from crrg.storage import Storage
from tests.support.served import served

_RANGE = re.compile(r"bytes=(\d+)-(\d+)")
_BUSY = b"<Error><Code>SlowDown</Code><Message>no</Message></Error>"


@dataclass
class FlakyStore:
    """Its objects by key, and what was asked of it.

    Attributes:
        root: The storage over its objects.
        objects: Bytes by key.
        failed: Pieces that were refused, as key and range.
        num_given: Pieces that were given out.
        etag: Version mark of every object.
        is_down: Whether no piece is given out any more.
    """

    root: Storage
    objects: dict[str, bytes] = field(default_factory=dict)
    failed: set[tuple[str, str]] = field(default_factory=set)
    num_given: int = 0
    etag: str = '"0"'
    is_down: bool = False

    def answer(self, key: str, piece: str, version: str) -> tuple[int, bytes]:
        """Return status and body."""
        data = self.objects.get(key)
        if data is None:
            return 404, b""
        if version not in ("", self.etag):
            return 412, b"<Error><Code>PreconditionFailed</Code></Error>"
        if not piece:
            return 200, data
        if self.is_down or (key, piece) not in self.failed:
            self.failed.add((key, piece))
            return 503, _BUSY
        match = _RANGE.fullmatch(piece)
        assert match is not None
        self.num_given += 1
        return 206, data[int(match[1]) : int(match[2]) + 1]


@contextmanager
def flaky_store() -> Iterator[FlakyStore]:
    """Yield a running store without objects."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _answer(self) -> None:
            key = self.path.partition("?")[0].removeprefix("/bucket/")
            status, body = store.answer(key, self.headers.get("Range", ""), self.headers.get("If-Match", ""))
            self.send_response(status)
            self.send_header("ETag", store.etag)
            self.send_header("Last-Modified", "Sat, 28 Nov 2026 00:00:00 GMT")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        do_GET = do_HEAD = _answer  # noqa: N815 - the names that http.server calls

        def log_message(self, *_: object) -> None:
            pass

    with served(Handler) as port:
        keys = {"access_key_id": "any", "secret_access_key": "any"}
        given = {"endpoint_url": f"http://127.0.0.1:{port}", **keys}
        store = FlakyStore(Storage("s3://bucket", StorageSettings.model_validate(given)))
        yield store
