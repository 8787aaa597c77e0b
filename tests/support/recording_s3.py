"""An S3 face that keeps nothing and remembers every request, to see what a client says of each write."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler

from tests.support.served import served

REFUSAL = "<Error><Code>AccessDenied</Code><Message>no</Message></Error>"
PAGE = "http://s3.amazonaws.com/doc/2006-03-01/"


@dataclass(frozen=True)
class Request:
    """One request.

    Attributes:
        operation: Name of the S3 operation.
        headers: Its headers, names in lower case.
        path: What it names, as it was sent.
    """

    operation: str
    headers: dict[str, str]
    path: str


@dataclass
class RecordingStore:
    """Address and requests so far; deletions are refused where ``may_delete`` is false, no object is there if empty.

    Where there is a ``meeting``, no request is answered before as many as it waits for have come.
    """

    endpoint_url: str = ""
    may_delete: bool = True
    is_empty: bool = False
    meeting: threading.Barrier | None = None
    requests: list[Request] = field(default_factory=list)

    def of(self, *operations: str) -> list[Request]:
        """Return the requests of some operations."""
        return [each for each in self.requests if each.operation in operations]


def operation_of(method: str, path: str, headers: dict[str, str]) -> str:
    """Return the name of the S3 operation that a request asks for."""
    query = path.partition("?")[2]
    copied = "x-amz-copy-source" in headers
    if method == "POST":
        return "CreateMultipartUpload" if query.startswith("uploads") else "CompleteMultipartUpload"
    if method == "PUT" and "partNumber=" in query:
        return "UploadPartCopy" if copied else "UploadPart"
    return {"PUT": "CopyObject" if copied else "PutObject", "DELETE": "DeleteObject", "HEAD": "HeadObject"}.get(
        method, "Get"
    )


def answer_of(operation: str) -> str:
    """Return the body that a client expects."""
    etag = "<ETag>&quot;0&quot;</ETag>"
    bodies = {
        "CreateMultipartUpload": ("InitiateMultipartUploadResult", "<UploadId>u</UploadId>"),
        "CompleteMultipartUpload": ("CompleteMultipartUploadResult", etag),
        "UploadPartCopy": ("CopyPartResult", etag),
        "CopyObject": ("CopyObjectResult", etag),
        "Get": ("ListBucketResult", "<IsTruncated>false</IsTruncated>"),
    }
    if operation not in bodies:
        return ""
    name, content = bodies[operation]
    return f'<?xml version="1.0" encoding="UTF-8"?><{name} xmlns="{PAGE}">{content}</{name}>'


@contextmanager
def recording_store(object_bytes: int = 1000) -> Iterator[RecordingStore]:
    """Yield a running store that says of every object that it has a given size."""
    store = RecordingStore()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _answer(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            headers = {name.lower(): value for name, value in self.headers.items()}
            operation = operation_of(self.command, self.path, headers)
            store.requests.append(Request(operation, headers, self.path))
            if store.meeting is not None:
                store.meeting.wait()
            refused = operation == "DeleteObject" and not store.may_delete
            body = (REFUSAL if refused else answer_of(operation)).encode()
            missing = operation == "HeadObject" and store.is_empty
            self.send_response(403 if refused else 404 if missing else 200)
            self.send_header("ETag", '"0"')
            self.send_header("Last-Modified", "Sat, 28 Nov 2026 00:00:00 GMT")
            self.send_header("Content-Length", str(object_bytes if operation == "HeadObject" else len(body)))
            self.end_headers()
            if operation != "HeadObject":
                self.wfile.write(body)

        do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _answer  # noqa: N815 - the names that http.server calls

        def log_message(self, *_: object) -> None:
            pass

    with served(Handler) as port:
        store.endpoint_url = f"http://127.0.0.1:{port}"
        yield store
