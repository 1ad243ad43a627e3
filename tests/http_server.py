"""An HTTP server of a test's own."""

from __future__ import annotations

import contextlib
import json
import ssl
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

SHUTDOWN_POLL_S = 0.01


class QuietHandler(BaseHTTPRequestHandler):
    """Answers without a line on the test's output."""

    def answer(self, status: int, body: object, content_type: str = "application/json") -> None:
        """Answer with `body` as JSON."""
        self.reply(status, json.dumps(body).encode(), content_type)

    def reply(self, status: int, body: bytes, content_type: str = "application/octet-stream") -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: the test's output is not the place."""


@contextlib.contextmanager
def serving(
    handler: Callable[..., BaseHTTPRequestHandler], address: str = "127.0.0.1", tls: ssl.SSLContext | None = None
) -> Iterator[str]:
    """The base URL of a server on a free port, which ends with the block."""
    with ThreadingHTTPServer((address, 0), handler) as server:
        if tls is not None:
            server.socket = tls.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, args=(SHUTDOWN_POLL_S,))
        thread.start()
        try:
            yield f"{'https' if tls else 'http'}://{address}:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()
