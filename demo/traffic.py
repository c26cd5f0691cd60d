"""One request over one fresh connection."""

from __future__ import annotations

import socket
from typing import NamedTuple


class Answer(NamedTuple):
    """Status and headers, names and values in small letters."""

    status: int
    headers: dict[str, str]


def fresh_request(
    port: int, path: str = "/", timeout: float = 5.0, host: str = "127.0.0.1", name: str = "shop.test"
) -> Answer:
    """Send it and return the answer; ``name`` is of the service."""
    with socket.create_connection((host, port), timeout) as connection:
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: {name}\r\nConnection: close\r\n\r\n".encode())
        raw = b"".join(iter(lambda: connection.recv(65536), b""))
    first, *lines = raw.partition(b"\r\n\r\n")[0].decode().split("\r\n")
    headers = dict(line.lower().split(": ", 1) for line in lines)
    return Answer(int(first.split()[1]), headers)
