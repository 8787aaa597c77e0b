"""A web server that word of nights is posted to."""

from __future__ import annotations

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

WAIT_S = 90.0


class WebhookSink:
    """A web server that keeps what is posted to it."""

    def __init__(self) -> None:
        self.posts: list[dict[str, Any]] = []
        sink = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                sink.posts.append(json.loads(body))
                self.send_response(204)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}/hook?token=secret-of-the-hook"

    def wait_for(self, what: str, night: str = "") -> dict[str, Any]:
        """Return the first word of a kind, of one night where that is given."""
        give_up = time.monotonic() + WAIT_S
        while time.monotonic() < give_up:
            for post in list(self.posts):
                if post["what"] == what and post["night"].endswith(night):
                    return post
            time.sleep(0.5)
        raise AssertionError(f"no word of a {what} night within {WAIT_S:.0f} s, only {self.posts}")

    def close(self) -> None:
        self.server.shutdown()
