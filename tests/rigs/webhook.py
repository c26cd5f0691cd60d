"""A real HTTP server that takes notices, and says what came and what the world looked like at that moment."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

SECRET = "T0P-S3CRET"  # noqa: S105 - what must be in no log


class Webhook:
    """
    Answers every POST; what it got stands in ``got``.

    :param status: of the answer
    :param seconds: until the answer
    :param headers: of the answer
    :param drips: a byte of the answer each 0.1 s, so that no wait for a single byte is long
    :param text: the answer's body
    :param look: asked for each POST before it is answered; its word stands beside it in ``seen``
    """

    def __init__(
        self,
        status: int = 200,
        seconds: float = 0.0,
        headers: dict[str, str] | None = None,
        drips: bool = False,
        text: str = "",
        look: Callable[[], Any] = lambda: None,
    ) -> None:
        self.got: list[dict[str, Any]] = []
        self.seen: list[Any] = []
        outer, self._closing = self, threading.Event()

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                outer.seen.append(look())
                got = {"path": self.path, "type": self.headers["Content-Type"], "login": self.headers["Authorization"]}
                outer.got.append({**got, **json.loads(body)})
                outer._closing.wait(seconds)
                for byte in b"HTTP/1.1 200 OK\r\n" if drips else b"":
                    self.wfile.write(bytes([byte]))
                    outer._closing.wait(0.1)
                if not drips:
                    self.send_response(status)
                for name, value in (headers or {}).items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text.encode())

            do_GET = do_POST  # noqa: N815 - the name that http.server calls

            def log_message(self, *_: object) -> None: ...

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.base = f"http://127.0.0.1:{self.server.server_port}"
        self.url = f"{self.base}/services/{SECRET}"

    def __enter__(self) -> Self:
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.set()
        self.server.shutdown()
        self.server.server_close()

    def wait(self, count: int, within: float = 5.0) -> None:
        """Wait until so many came; what came too much is seen by the caller."""
        until = time.monotonic() + within
        while len(self.got) < count and time.monotonic() < until:
            time.sleep(0.02)
