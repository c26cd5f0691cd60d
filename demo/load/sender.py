"""The load itself: a timetable, connections that keep to it, and the books."""

from __future__ import annotations

import asyncio
import random
import time
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace

from demo.load.counts import CONNECT, PROXY_MADE, RESET_FRESH, STATUS_5XX, TIMEOUT, Series, Snapshot
from demo.load.records import Histogram, Records, Window
from demo.load.wire import CHUNKED, UNTIL_CLOSE, Channel, Head, value

_SWEEP_S = 0.05
_ALARM_S = 0.001
_ALARM_LATE_S = 0.003
# Without a rate, a refused connection would be tried thousands of times a second.
_PAUSE_AFTER_REFUSAL_S = 0.05
_MAX_SERIES = 1000


@dataclass
class Load:
    """Many connections that send requests to the targets in turn until they are told to stop.

    Each path is asked for once before one is asked for again. Without a rate, each connection sends as soon as it has its
    answer.
    """

    targets: Sequence[tuple[str, int]]
    host_header: str = "localhost"
    connections: int = 50
    rate: float | None = None
    paths: Sequence[tuple[str, str]] = (("GET", "/"),)
    timeout_s: float = 10.0
    headers: Mapping[str, str] = field(default_factory=dict)
    color_header: str = "X-Release-Color"
    version_header: str = "X-App-Version"
    records: Records = field(default_factory=Records)

    def __post_init__(self) -> None:
        if not self.targets or not self.paths or self.connections < 1:
            raise ValueError("a load needs a target, a path and a connection")
        self._run: Run | None = None

    async def run(self, duration_s: float | None = None, stop: asyncio.Event | None = None) -> Snapshot:
        """Send until the time is over or `stop` is set, wait for the answers under way, and tell the result."""
        if duration_s is None and stop is None:
            raise ValueError("say how long, or give an event that stops the load")
        self._run = run = Run(self)
        run.begin()
        try:
            with suppress(TimeoutError):
                await asyncio.wait_for((stop or asyncio.Event()).wait(), duration_s)
        finally:
            await run.end()
        return run.snapshot()

    def snapshot(self) -> Snapshot:
        """How it stands now."""
        if self._run is None:
            raise RuntimeError("the load was not started")
        return self._run.snapshot()

    def p99_ms(self, windows: Iterable[Window] | None = None) -> float | None:
        """The exact p99 of the requests that started in the windows (wall clock)."""
        return self.records.p99_ms(windows)

    def request_bytes(self) -> list[bytes]:
        """The requests as they go over the wire."""
        extra = "".join(f"{name}: {value}\r\n" for name, value in self.headers.items())
        heads = []
        for method, path in self.paths:
            length = "" if method in ("GET", "HEAD") else "Content-Length: 0\r\n"
            heads.append(f"{method} {path} HTTP/1.1\r\nHost: {self.host_header}\r\n{length}{extra}\r\n".encode())
        return heads


class Run:
    """One run of a load: the timetable, the connections and the books.

    Times are time.monotonic(), not the loop's: uvloop's clock knows only whole milliseconds.
    """

    def __init__(self, load: Load) -> None:
        self.load = load
        self.loop = asyncio.get_running_loop()
        self.requests = load.request_bytes()
        self.bodiless = [method == "HEAD" for method, _ in load.paths]
        self.failures: dict[str, int] = {}
        self.series = [Series()]
        self.opened = self.idle_closed = self.finished = self.status_5xx = self.issued = 0
        self.running = True
        self._series_numbers = {("", ""): 0}
        self._round: list[int] = []
        self._heads: dict[bytes, Head] = {}
        self._color_key = b"\n" + load.color_header.lower().encode() + b":"
        self._version_key = b"\n" + load.version_header.lower().encode() + b":"
        self._histogram = Histogram()
        self._idle: deque[Connection] = deque()
        self._connections = [
            Connection(self, *load.targets[number % len(load.targets)]) for number in range(load.connections)
        ]
        self._wake: asyncio.TimerHandle | None = None
        self._began = self._ended = self._cpu = 0.0

    def begin(self) -> None:
        """Open the books and give each connection its first request."""
        self._began, self._cpu = time.time(), time.process_time()
        self._first_due = time.monotonic()
        self._sweeper = self.loop.call_later(_SWEEP_S, self._sweep)
        for connection in self._connections:
            self.next_for(connection)

    async def end(self) -> None:
        """Send nothing more, wait for the answers under way (each is bounded by its timeout), close."""
        self._overdue_at_end = self._overdue()
        self.running = False
        while any(connection.busy for connection in self._connections):  # noqa: ASYNC110 - once a run is cheap enough
            await asyncio.sleep(0.01)
        self._ended = time.time()
        for handle in (self._sweeper, self._wake):
            if handle is not None:
                handle.cancel()
        for connection in self._connections:
            connection.close()
        # The transports close in the loop's next rounds.
        await asyncio.sleep(0)

    def next_for(self, connection: Connection, *, rested: bool = False) -> None:
        """Give a free connection its next request, or let it wait for one.

        A connection that has rested was free when the request was due: a little lateness is our own alarm's.
        """
        if not self.running:
            return
        now = time.monotonic()
        due = now
        if self.load.rate is not None:
            due = self._first_due + self.issued / self.load.rate
            if due > now:
                self._idle.append(connection)
                if self._wake is None:
                    # The loop's alarm goes by milliseconds; a shorter wait would be none, and burn the processor.
                    self._wake = self.loop.call_later(max(due - now, _ALARM_S), self._serve_idle)
                return
            if rested and now - due < _ALARM_LATE_S:
                due = now
        if not self._round:
            # In another order each time: a proxy that gives every tenth request to a color would give it some paths only.
            self._round = random.sample(range(len(self.requests)), len(self.requests))
        number = self._round.pop()
        self.issued += 1
        connection.send(self.requests[number], due, time.time() - (now - due), bodiless=self.bodiless[number])

    def _serve_idle(self) -> None:
        self._wake = None
        # Each free connection gets one chance; those that are too early put themselves back and set the alarm.
        for _ in range(len(self._idle)):
            if self._wake is not None:
                break
            self.next_for(self._idle.popleft(), rested=True)

    def _overdue(self) -> int:
        if self.load.rate is None or not self.running:
            return 0
        return max(0, int((time.monotonic() - self._first_due) * self.load.rate) - self.issued)

    def _sweep(self) -> None:
        latest = time.monotonic() - self.load.timeout_s
        for connection in self._connections:
            if connection.busy and connection.sent < latest:
                connection.give_up()
        self._sweeper = self.loop.call_later(_SWEEP_S, self._sweep)

    def count(self, connection: Connection, kind: str, status: int = 0, series: int = 0) -> None:
        """Write one finished request into the books."""
        latency = time.monotonic() - connection.due
        start = connection.due_wall
        self.finished += 1
        if kind:
            self.failures[kind] = self.failures.get(kind, 0) + 1
        if status >= 500:
            self.status_5xx += 1
        self.series[series].count(start, start + latency, kind, status)
        self._histogram.add(latency)
        self.load.records.add(start, latency, status, series, kind)

    def count_answer(self, connection: Connection, head: Head) -> None:
        """A whole answer came."""
        kind = ""
        if not self.series[head.series].color:
            kind = PROXY_MADE
        elif head.status >= 500:
            kind = STATUS_5XX
        self.count(connection, kind, head.status, head.series)

    def head(self, text: bytes) -> Head:
        """Read an answer's head; equal heads are read once."""
        known = self._heads.get(text)
        if known is None:
            if len(self._heads) > 500:
                self._heads.clear()
            known = self._heads[text] = self._read(text)
        return known

    def _read(self, text: bytes) -> Head:
        status = int(text[9:12])
        length = value(text, b"\ncontent-length:")
        if b"chunked" in value(text, b"\ntransfer-encoding:").lower():
            size = CHUNKED
        elif length:
            size = int(length)
        else:
            size = 0 if status in (204, 304) else UNTIL_CLOSE
        series = self._series(value(text, self._color_key).decode(), value(text, self._version_key).decode())
        asked_to_close = b"close" in value(text, b"\nconnection:").lower() or text.startswith(b"HTTP/1.0")
        return Head(status, series, size, asked_to_close or size == UNTIL_CLOSE)

    def _series(self, color: str, version: str) -> int:
        number = self._series_numbers.get((color, version))
        if number is None:
            if len(self.series) >= _MAX_SERIES:
                raise RuntimeError(f"more than {_MAX_SERIES} versions answered")
            number = self._series_numbers[color, version] = len(self.series)
            self.series.append(Series(color, version))
        return number

    def snapshot(self) -> Snapshot:
        """Return how it stands now."""
        return Snapshot(
            running=self.running,
            started=self._began,
            now=self._ended or time.time(),
            requests=self.finished,
            failures=dict(self.failures),
            status_5xx=self.status_5xx,
            in_flight=sum(connection.busy for connection in self._connections),
            overdue=self._overdue() if self.running else self._overdue_at_end,
            connections_opened=self.opened,
            idle_closed=self.idle_closed,
            p50_ms=self._histogram.percentile_ms(50),
            p99_ms=self._histogram.percentile_ms(99),
            max_ms=self._histogram.longest_s * 1000,
            cpu_s=time.process_time() - self._cpu,
            series=[replace(one, failures=dict(one.failures)) for one in self.series],
        )


class Connection:
    """One user: has at most one request under way and opens a new connection when the old one is gone."""

    def __init__(self, run: Run, host: str, port: int) -> None:
        self.run = run
        self.busy = False
        self.due = self.due_wall = self.sent = 0.0
        self._address = (host, port)
        self._request = b""
        self._bodiless = False
        self._channel: Channel | None = None
        self._connecting: asyncio.Task[None] | None = None

    def send(self, request: bytes, due: float, due_wall: float, *, bodiless: bool) -> None:
        """Send a request, over a new connection where there is none."""
        self.busy = True
        self.due, self.due_wall, self.sent = due, due_wall, time.monotonic()
        self._request, self._bodiless = request, bodiless
        if self._channel is not None:
            self._channel.ask(request, bodiless=bodiless)
        else:
            self._connecting = self.run.loop.create_task(self._connect())

    async def _connect(self) -> None:
        try:
            _, channel = await self.run.loop.create_connection(lambda: Channel(self), *self._address)
        except OSError:
            self._connecting = None
            self._finish(CONNECT)
            return
        self._connecting = None
        self.run.opened += 1
        if channel.lost:
            self._finish(RESET_FRESH)
            return
        self._channel = channel
        channel.ask(self._request, bodiless=self._bodiless)

    def answered(self, head: Head) -> None:
        """Take the whole answer, and ask for the next request."""
        self.busy = False
        self.run.count_answer(self, head)
        if head.closes:
            self._drop()
        self.run.next_for(self)

    def broken(self, channel: Channel, kind: str) -> None:
        """The connection ended, with the request under way failed as `kind`."""
        if channel is self._channel:
            self._channel = None
            self._finish(kind)

    def closed_while_idle(self, channel: Channel) -> None:
        """Note that the other side closed between two requests, which harms nobody."""
        if channel is self._channel:
            self._channel = None
            self.run.idle_closed += 1

    def give_up(self) -> None:
        """The request under way took too long."""
        if self._connecting is not None:
            self._connecting.cancel()
            self._connecting = None
            self._finish(CONNECT)
        else:
            self._drop()
            self._finish(TIMEOUT)

    def close(self) -> None:
        """Close without a word in the books."""
        self._drop()

    def _finish(self, kind: str) -> None:
        self.busy = False
        self.run.count(self, kind)
        if kind == CONNECT and self.run.load.rate is None:
            self.run.loop.call_later(_PAUSE_AFTER_REFUSAL_S, self.run.next_for, self)
        else:
            # Not at once: this may be the inside of the old connection's last callback.
            self.run.loop.call_soon(self.run.next_for, self)

    def _drop(self) -> None:
        channel, self._channel = self._channel, None
        if channel is not None:
            channel.abort()
