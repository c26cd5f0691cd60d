"""One connection of a load: as much of HTTP as is needed to know where an answer ends, and how it failed."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, NamedTuple

from demo.load.counts import RESET_FRESH, RESET_REUSED, TRUNCATED

if TYPE_CHECKING:
    from demo.load.sender import Connection

UNTIL_CLOSE = -1
CHUNKED = -2


class Head(NamedTuple):
    """What matters of an answer's first part."""

    status: int
    series: int
    length: int  # or UNTIL_CLOSE, or CHUNKED
    closes: bool


class Channel(asyncio.Protocol):
    """One TCP connection; reads as much of HTTP as is needed to know where an answer ends."""

    def __init__(self, owner: Connection) -> None:
        self.lost = False
        self._owner = owner
        self._waiting = False
        self._used = False
        self._bodiless = False
        self._buffer = b""
        self._head: Head | None = None
        self._missing = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport; asyncio calls this and the two below."""
        self._transport: Any = transport

    def ask(self, request: bytes, *, bodiless: bool) -> None:
        """Send a request; only one is under way at a time."""
        self._waiting, self._head, self._bodiless = True, None, bodiless
        self._transport.write(request)

    def abort(self) -> None:
        """Close at once, without a word to the owner."""
        self._waiting = False
        self._transport.abort()

    def data_received(self, data: bytes) -> None:
        """Read the head, then the body, as it comes."""
        if not self._waiting:
            # Nobody asked: the other side is saying goodbye (a 408, say), or it does not speak HTTP.
            self._transport.abort()
            return
        if self._head is None:
            data = self._buffer + data
            end = data.find(b"\r\n\r\n")
            # An interim answer (1xx) is not the answer.
            while end >= 0 and data[9:10] == b"1":
                data = data[end + 4 :]
                end = data.find(b"\r\n\r\n")
            if end < 0:
                self._buffer = data
                return
            self._buffer = data
            try:
                self._head = self._owner.run.head(data[:end])
            except ValueError:
                # Not HTTP. The end of the connection counts the request as truncated.
                self._transport.abort()
                return
            self._missing = 0 if self._bodiless else self._head.length
            data, self._buffer = data[end + 4 :], b""
        self._body(self._head, data)

    def _body(self, head: Head, data: bytes) -> None:
        if self._missing >= 0:
            self._missing -= len(data)
            if self._missing <= 0:
                self._whole(head)
        elif self._missing == CHUNKED:
            self._buffer += data
            try:
                complete = _chunks_end(self._buffer)
            except ValueError:
                self._transport.abort()
                return
            if complete:
                self._whole(head)

    def _whole(self, head: Head) -> None:
        self._waiting, self._used, self._buffer = False, True, b""
        self._owner.answered(head)

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell the owner how the request under way ended."""
        self.lost = True
        if not self._waiting:
            self._owner.closed_while_idle(self)
            return
        self._waiting = False
        if self._head is not None and self._missing == UNTIL_CLOSE and exc is None:
            self._owner.answered(self._head)
        elif self._head is not None or self._buffer:
            self._owner.broken(self, TRUNCATED)
        else:
            self._owner.broken(self, RESET_REUSED if self._used else RESET_FRESH)


def value(head: bytes, key: bytes) -> bytes:
    """The value of a header, empty when it is not there; the key is a line feed, the name in lower case, a colon."""
    place = head.lower().find(key)
    return head[place + len(key) :].partition(b"\r\n")[0].strip() if place >= 0 else b""


def _chunks_end(body: bytes) -> bool:
    """Whether a chunked body is complete."""
    place = 0
    while True:
        line_end = body.find(b"\r\n", place)
        if line_end < 0:
            return False
        size = int(body[place:line_end].partition(b";")[0], 16)
        if size == 0:
            return body.find(b"\r\n", line_end + 2) >= 0
        place = line_end + 2 + size + 2
