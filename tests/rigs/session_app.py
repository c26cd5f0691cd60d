"""
A small app with sessions, and where it keeps them: one process is one server of one color.

    python -m tests.rigs.session_app PORT VERSION STORE

STORE is ``redis:PORT``, ``memcached:PORT``, ``signed:SECRET`` or ``memory:``. It answers a login with a cookie and with
a token, and whoever has no session is told so, with what he sent: an app that shows secrets. Three paths do not end
before their client does: ``/tunnel`` (HTTP Upgrade, echoes), ``/events`` (server-sent), ``/download`` (slow).
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from secrets import token_hex
from typing import Any, Protocol
from urllib.parse import parse_qs

USER, PASSWORD = "tester", 'p"ss wörd&=%-81c2'


class Store(Protocol):
    """Where sessions are."""

    def make(self, user: str) -> str: ...

    def user(self, key: str) -> str | None: ...


@dataclass
class Memory:
    """In the process itself: another color knows none of them."""

    users: dict[str, str] = field(default_factory=dict)

    def make(self, user: str) -> str:
        key = token_hex(16)
        self.users[key] = user
        return key

    def user(self, key: str) -> str | None:
        return self.users.get(key)


@dataclass
class Signed:
    """In the cookie, signed: whoever has the secret knows them."""

    secret: str

    def make(self, user: str) -> str:
        said = base64.urlsafe_b64encode(f"{user}|{token_hex(4)}".encode()).decode().rstrip("=")
        return f"{said}.{self._sign(said)}"

    def user(self, key: str) -> str | None:
        said, _, sign = key.partition(".")
        if not hmac.compare_digest(sign, self._sign(said)):
            return None
        return base64.urlsafe_b64decode(said + "=" * (-len(said) % 4)).decode().partition("|")[0]

    def _sign(self, said: str) -> str:
        return hmac.new(self.secret.encode(), said.encode(), hashlib.sha256).hexdigest()


@dataclass
class Kept:
    """In Redis or Memcached: both clients know ``set`` and ``get``."""

    client: Any

    def make(self, user: str) -> str:
        key = token_hex(16)
        self.client.set(key, user)
        return key

    def user(self, key: str) -> str | None:
        found = self.client.get(key) if re.fullmatch("[0-9a-f]{32}", key) else None
        return found.decode() if found else None


def store_of(words: str) -> Store:
    """Make what a word names."""
    kind, _, rest = words.partition(":")
    if kind == "redis":
        import redis

        return Kept(redis.Redis(port=int(rest)))
    if kind == "memcached":
        from pymemcache.client.base import PooledClient

        return Kept(PooledClient(("127.0.0.1", int(rest))))
    return Signed(rest) if kind == "signed" else Memory()


@dataclass
class App:
    """What it answers."""

    store: Store
    version: str = "1"

    def answer(self, path: str, headers: Mapping[str, str], body: bytes) -> tuple[int, dict[str, str], str]:
        """Return status, headers and body."""
        if path.startswith("/health"):
            return 200, {}, json.dumps({"version": self.version})
        if path.startswith("/login"):
            return self._login(headers, body.decode())
        key = re.search(r"\bsid=([^;]+)", headers.get("Cookie", "") or "")
        sent = key[1] if key else (headers.get("Authorization", "") or "").removeprefix("Bearer ")
        user = self.store.user(sent) if sent else None
        if user is None:
            return 401, {}, f"no session {sent} here"
        return 200, {}, json.dumps({"user": user, "version": self.version})

    def _login(self, headers: Mapping[str, str], body: str) -> tuple[int, dict[str, str], str]:
        if "form" in (headers.get("Content-Type") or ""):
            asked = {name: values[0] for name, values in parse_qs(body).items()}
        else:
            asked = json.loads(body)
        if (asked.get("user"), asked.get("password")) != (USER, PASSWORD):
            return 403, {}, f"no such user: {body}"
        key = self.store.make(asked["user"])
        return 200, {"Set-Cookie": f"sid={key}; Path=/; HttpOnly"}, json.dumps({"access_token": key})


def _tunnel(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(101)
    seed = handler.headers["Sec-WebSocket-Key"] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455, section 1.3
    accept = base64.b64encode(hashlib.sha1(seed.encode(), usedforsecurity=False).digest()).decode()
    said = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Accept": accept}
    for name, value in said.items():
        handler.send_header(name, value)
    handler.end_headers()
    while said := handler.connection.recv(1024):
        handler.connection.sendall(said)


def _events(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    for name, value in {"Content-Type": "text/event-stream", "Transfer-Encoding": "chunked"}.items():
        handler.send_header(name, value)
    handler.end_headers()
    while True:
        handler.wfile.write(b"f\r\ndata: an event\n\r\n")
        time.sleep(0.05)


def _download(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", "1000000")
    handler.end_headers()
    for _ in range(1_000_000):
        handler.wfile.write(b"x")
        time.sleep(0.05)


def main() -> None:
    """Serve until it is ended."""
    port, version, words = sys.argv[1:]
    app = App(store_of(words), version)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            if endless := {"/tunnel": _tunnel, "/events": _events, "/download": _download}.get(self.path):
                with suppress(OSError):
                    endless(self)
                self.close_connection = True
                return
            status, headers, text = app.answer(self.path, self.headers, self._body())
            self.send_response(status)
            for name, value in (headers | {"Content-Length": str(len(text.encode()))}).items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(text.encode())

        do_POST = do_GET  # noqa: N815

        def _body(self) -> bytes:
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))

        def log_message(self, *_: object) -> None:
            """Nothing."""

    ThreadingHTTPServer(("127.0.0.1", int(port)), Handler).serve_forever()


if __name__ == "__main__":
    main()
