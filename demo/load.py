"""Keep-alive HTTP/1.1 load with honest accounting: what users of a service live through, request by request.

A request is never retried. With a rate, requests have a timetable and their latency counts from the time they
were due, so a stall of the server shows in every request that it delayed.

Use `Load` inside an event loop, or `LoadProcess` to run it in a process of its own (`python -m demo.load`).
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import math
import os
import signal
import struct
import sys
import time
from array import array
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

from demo.processes import Process, wait_until

# How a request can fail. The first five have no whole answer; `proxy_made` is an answer without a color.
CONNECT = "connect"  # no connection could be opened
RESET_FRESH = "reset_fresh"  # a new connection ended before the first byte of its first answer
RESET_REUSED = "reset_reused"  # a kept-alive connection ended before the first byte of the answer
TRUNCATED = "truncated"  # the answer began and did not end
TIMEOUT = "timeout"  # no whole answer in time
STATUS_5XX = "status_5xx"  # a color answered 5xx
PROXY_MADE = "proxy_made"  # no color header: the proxy itself answered, with whatever status
FAILURES = (CONNECT, RESET_FRESH, RESET_REUSED, TRUNCATED, TIMEOUT, STATUS_5XX, PROXY_MADE)
_KINDS = ("", *FAILURES)
_KIND_CODES = {kind: code for code, kind in enumerate(_KINDS)}

_SWEEP_S = 0.05
_ALARM_S = 0.001
_ALARM_LATE_S = 0.003
_SNAPSHOT_S = 0.5
# Without a rate, a refused connection would be tried thousands of times a second.
_PAUSE_AFTER_REFUSAL_S = 0.05
# Start (wall clock), latency in seconds, status, number of the series, kind of failure.
_RECORD = struct.Struct("<dfHHB")
_MAX_SERIES = 1000
_UNTIL_CLOSE = -1
_CHUNKED = -2

Window = tuple[float, float]


class Record(NamedTuple):
    """One request: when it was due or sent (wall clock), how long it took, what came back."""

    start: float
    latency_s: float
    status: int
    series: int
    failure: str


class Bucket(NamedTuple):
    """What started in one slice of time."""

    start: float
    requests: int
    failed: int
    p99_ms: float


@dataclass
class Series:
    """What one version of one color answered; color and version are empty where no color answered."""

    color: str = ""
    version: str = ""
    requests: int = 0
    status_5xx: int = 0
    failures: dict[str, int] = field(default_factory=dict)
    first_start: float | None = None
    first_end: float | None = None
    last_start: float | None = None
    last_end: float | None = None

    def count(self, start: float, end: float, kind: str, status: int) -> None:
        """Add one finished request."""
        self.requests += 1
        if kind:
            self.failures[kind] = self.failures.get(kind, 0) + 1
        if status >= 500:
            self.status_5xx += 1
        if self.first_start is None or self.last_start is None:
            self.first_start, self.first_end = start, end
            self.last_start = start
        elif start > self.last_start:
            self.last_start = start
        self.last_end = end


@dataclass
class Snapshot:
    """The state of a load at one moment; p50 and p99 are within 2 %, see `Records` for exact ones."""

    running: bool
    started: float
    now: float
    requests: int
    failures: dict[str, int]
    status_5xx: int
    in_flight: int
    overdue: int  # due by the timetable and not sent yet; at the end: never sent
    connections_opened: int
    idle_closed: int  # closed by the other side between two requests, which harms nobody
    p50_ms: float
    p99_ms: float
    max_ms: float
    cpu_s: float
    series: list[Series]

    @property
    def failed(self) -> int:
        """All failed requests."""
        return sum(self.failures.values())

    @property
    def rate(self) -> float:
        """Finished requests per second, over the whole run."""
        return self.requests / max(self.now - self.started, 1e-9)

    def of(self, color: str, version: str | None = None) -> Series:
        """The sum over a color, or one version of it; all zero when it never answered."""
        total = Series(color, version or "")
        for one in self.series:
            if one.color == color and version in (None, one.version) and one.requests:
                _add(total, one)
        return total

    def share(self, color: str) -> float:
        """The color's share of what the colors answered, 0 to 1."""
        answered = sum(one.requests for one in self.series if one.color)
        return self.of(color).requests / answered if answered else 0.0

    @classmethod
    def from_json(cls, text: str) -> Snapshot:
        """Read what `to_json` wrote."""
        values = json.loads(text)
        values["series"] = [Series(**one) for one in values["series"]]
        return cls(**values)

    def to_json(self) -> str:
        """As one line."""
        return json.dumps(asdict(self))


class Records:
    """Every request in 17 bytes; when there are more than `capacity`, the oldest are overwritten."""

    def __init__(self, capacity: int = 4_000_000, content: bytes = b"") -> None:
        self.capacity = capacity
        self.total = len(content) // _RECORD.size
        self._bytes = bytearray(content[: self.total * _RECORD.size])
        self._written = 0

    def __len__(self) -> int:
        return min(self.total, self.capacity)

    def __iter__(self) -> Iterator[Record]:
        for start, latency, status, series, kind in _RECORD.iter_unpack(self._bytes):
            yield Record(start, latency, status, series, _KINDS[kind])

    def add(self, start: float, latency_s: float, status: int, series: int, kind: str) -> None:
        """Add one request."""
        if self.total < self.capacity:
            self._bytes += _RECORD.pack(start, latency_s, status, series, _KIND_CODES[kind])
        else:
            place = self.total % self.capacity * _RECORD.size
            _RECORD.pack_into(self._bytes, place, start, latency_s, status, series, _KIND_CODES[kind])
        self.total += 1

    def append_new_to(self, path: Path) -> None:
        """Append to a file what it does not hold yet; what comes after `capacity` is not written."""
        with path.open("ab") as output:
            output.write(memoryview(self._bytes)[self._written :])
        self._written = len(self._bytes)

    def within(self, windows: Iterable[Window]) -> Iterator[Record]:
        """The requests that started in one of the windows (wall clock)."""
        windows = list(windows)
        return (one for one in self if any(begin <= one.start < end for begin, end in windows))

    def percentile_ms(self, percent: float, windows: Iterable[Window] | None = None) -> float | None:
        """The exact percentile of all latencies, failed requests included; None without requests."""
        chosen = self if windows is None else self.within(windows)
        return _percentile_ms(array("f", (one.latency_s for one in chosen)), percent)

    def p99_ms(self, windows: Iterable[Window] | None = None) -> float | None:
        """99 % of the requests that started in the windows took at most this long."""
        return self.percentile_ms(99, windows)

    def timeline(self, bucket_s: float = 0.1) -> list[Bucket]:
        """The run in slices of time, by the requests' start; slices without requests are left out."""
        latencies: dict[int, array[float]] = {}
        failed: dict[int, int] = {}
        for one in self:
            number = math.floor(one.start / bucket_s)
            latencies.setdefault(number, array("f")).append(one.latency_s)
            failed[number] = failed.get(number, 0) + bool(one.failure)
        return [
            Bucket(number * bucket_s, len(some), failed[number], _percentile_ms(some, 99) or 0.0)
            for number, some in sorted(latencies.items())
        ]


def _percentile_ms(latencies_s: Sequence[float], percent: float) -> float | None:
    if not latencies_s:
        return None
    return sorted(latencies_s)[max(0, math.ceil(len(latencies_s) * percent / 100) - 1)] * 1000


class _Histogram:
    """Latencies in bins that grow by 2 %: cheap enough for every request, good enough for a display."""

    _GROWTH = math.log(1.02)

    def __init__(self) -> None:
        self.longest_s = 0.0
        self._count = 0
        self._bins = [0] * 1024

    def add(self, latency_s: float) -> None:
        self._count += 1
        self.longest_s = max(self.longest_s, latency_s)
        place = int(math.log(max(latency_s * 1e6, 1.0)) / self._GROWTH)
        self._bins[min(place, len(self._bins) - 1)] += 1

    def percentile_ms(self, percent: float) -> float:
        wanted = self._count * percent / 100
        seen = 0
        for place, count in enumerate(self._bins):
            seen += count
            if count and seen >= wanted:
                return min(math.exp((place + 0.5) * self._GROWTH) / 1e3, self.longest_s * 1e3)
        return 0.0


@dataclass
class Load:
    """Many connections that send requests to the targets in turn until they are told to stop.

    Without a rate, each connection sends as soon as it has its answer.
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
        self._run: _Run | None = None

    async def run(self, duration_s: float | None = None, stop: asyncio.Event | None = None) -> Snapshot:
        """Send until the time is over or `stop` is set, wait for the answers under way, and tell the result."""
        if duration_s is None and stop is None:
            raise ValueError("say how long, or give an event that stops the load")
        self._run = run = _Run(self)
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


class _Head(NamedTuple):
    """What matters of an answer's first part."""

    status: int
    series: int
    length: int  # or _UNTIL_CLOSE, or _CHUNKED
    closes: bool


class _Run:
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
        self._heads: dict[bytes, _Head] = {}
        self._color_key = b"\n" + load.color_header.lower().encode() + b":"
        self._version_key = b"\n" + load.version_header.lower().encode() + b":"
        self._histogram = _Histogram()
        self._idle: deque[_Connection] = deque()
        self._connections = [
            _Connection(self, *load.targets[number % len(load.targets)]) for number in range(load.connections)
        ]
        self._wake: asyncio.TimerHandle | None = None
        self._began = self._ended = self._cpu = 0.0

    def begin(self) -> None:
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

    def next_for(self, connection: _Connection, *, rested: bool = False) -> None:
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
        number = self.issued % len(self.requests)
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

    def count(self, connection: _Connection, kind: str, status: int = 0, series: int = 0) -> None:
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

    def count_answer(self, connection: _Connection, head: _Head) -> None:
        """A whole answer came."""
        kind = ""
        if not self.series[head.series].color:
            kind = PROXY_MADE
        elif head.status >= 500:
            kind = STATUS_5XX
        self.count(connection, kind, head.status, head.series)

    def head(self, text: bytes) -> _Head:
        """Read an answer's head; equal heads are read once."""
        known = self._heads.get(text)
        if known is None:
            if len(self._heads) > 500:
                self._heads.clear()
            known = self._heads[text] = self._read(text)
        return known

    def _read(self, text: bytes) -> _Head:
        status = int(text[9:12])
        length = _value(text, b"\ncontent-length:")
        if b"chunked" in _value(text, b"\ntransfer-encoding:").lower():
            size = _CHUNKED
        elif length:
            size = int(length)
        else:
            size = 0 if status in (204, 304) else _UNTIL_CLOSE
        series = self._series(_value(text, self._color_key).decode(), _value(text, self._version_key).decode())
        asked_to_close = b"close" in _value(text, b"\nconnection:").lower() or text.startswith(b"HTTP/1.0")
        return _Head(status, series, size, asked_to_close or size == _UNTIL_CLOSE)

    def _series(self, color: str, version: str) -> int:
        number = self._series_numbers.get((color, version))
        if number is None:
            if len(self.series) >= _MAX_SERIES:
                raise RuntimeError(f"more than {_MAX_SERIES} versions answered")
            number = self._series_numbers[color, version] = len(self.series)
            self.series.append(Series(color, version))
        return number

    def snapshot(self) -> Snapshot:
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


class _Connection:
    """One user: has at most one request under way and opens a new connection when the old one is gone."""

    def __init__(self, run: _Run, host: str, port: int) -> None:
        self.run = run
        self.busy = False
        self.due = self.due_wall = self.sent = 0.0
        self._address = (host, port)
        self._request = b""
        self._bodiless = False
        self._channel: _Channel | None = None
        self._connecting: asyncio.Task[None] | None = None

    def send(self, request: bytes, due: float, due_wall: float, *, bodiless: bool) -> None:
        self.busy = True
        self.due, self.due_wall, self.sent = due, due_wall, time.monotonic()
        self._request, self._bodiless = request, bodiless
        if self._channel is not None:
            self._channel.ask(request, bodiless=bodiless)
        else:
            self._connecting = self.run.loop.create_task(self._connect())

    async def _connect(self) -> None:
        try:
            _, channel = await self.run.loop.create_connection(lambda: _Channel(self), *self._address)
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

    def answered(self, head: _Head) -> None:
        self.busy = False
        self.run.count_answer(self, head)
        if head.closes:
            self._drop()
        self.run.next_for(self)

    def broken(self, channel: _Channel, kind: str) -> None:
        """The connection ended, with the request under way failed as `kind`."""
        if channel is self._channel:
            self._channel = None
            self._finish(kind)

    def closed_while_idle(self, channel: _Channel) -> None:
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


class _Channel(asyncio.Protocol):
    """One TCP connection; reads as much of HTTP as is needed to know where an answer ends."""

    def __init__(self, owner: _Connection) -> None:
        self.lost = False
        self._owner = owner
        self._waiting = False
        self._used = False
        self._bodiless = False
        self._buffer = b""
        self._head: _Head | None = None
        self._missing = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: Any = transport

    def ask(self, request: bytes, *, bodiless: bool) -> None:
        self._waiting, self._head, self._bodiless = True, None, bodiless
        self._transport.write(request)

    def abort(self) -> None:
        self._waiting = False
        self._transport.abort()

    def data_received(self, data: bytes) -> None:
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

    def _body(self, head: _Head, data: bytes) -> None:
        if self._missing >= 0:
            self._missing -= len(data)
            if self._missing <= 0:
                self._whole(head)
        elif self._missing == _CHUNKED:
            self._buffer += data
            try:
                complete = _chunks_end(self._buffer)
            except ValueError:
                self._transport.abort()
                return
            if complete:
                self._whole(head)

    def _whole(self, head: _Head) -> None:
        self._waiting, self._used, self._buffer = False, True, b""
        self._owner.answered(head)

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True
        if not self._waiting:
            self._owner.closed_while_idle(self)
            return
        self._waiting = False
        if self._head is not None and self._missing == _UNTIL_CLOSE and exc is None:
            self._owner.answered(self._head)
        elif self._head is not None or self._buffer:
            self._owner.broken(self, TRUNCATED)
        else:
            self._owner.broken(self, RESET_REUSED if self._used else RESET_FRESH)


def _value(head: bytes, key: bytes) -> bytes:
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


def _add(total: Series, one: Series) -> None:
    """Add a series that has requests to a sum."""
    total.requests += one.requests
    total.status_5xx += one.status_5xx
    for kind, count in one.failures.items():
        total.failures[kind] = total.failures.get(kind, 0) + count
    for name, choose in (("first_start", min), ("first_end", min), ("last_start", max), ("last_end", max)):
        values = [value for value in (getattr(total, name), getattr(one, name)) if value is not None]
        setattr(total, name, choose(values))


class LoadProcess:
    """A load in a process of its own, so that it does not share Python's one core with whoever starts it."""

    def __init__(self, load: Load, workdir: Path, name: str = "load") -> None:
        self.stats = workdir.resolve() / f"{name}.json"
        self._process = Process(
            [sys.executable, "-m", "demo.load", *_arguments(load, self.stats)],
            workdir / f"{name}.log",
            cwd=Path(__file__).resolve().parent.parent,
        )

    def start(self) -> LoadProcess:
        """Start sending; return when the first snapshot is there."""
        self.stats.parent.mkdir(parents=True, exist_ok=True)
        for old in (self.stats, _records_path(self.stats)):
            old.unlink(missing_ok=True)
        self._process.start()

        def begun() -> bool:
            if not self._process.alive:
                raise RuntimeError(f"the load ended with code {self._process.returncode}:\n{self._process.tail()}")
            return self.stats.exists()

        wait_until(begun, 20, "the first snapshot of the load")
        return self

    def snapshot(self) -> Snapshot:
        """The latest snapshot, at most half a second old while the load runs."""
        return Snapshot.from_json(self.stats.read_text())

    def wait_for_next(self, timeout_s: float = 10.0) -> Snapshot:
        """A snapshot that was taken after this call."""
        asked = time.time()
        wait_until(lambda: self.snapshot().now > asked or not self._process.alive, timeout_s, "a new snapshot")
        return self.snapshot()

    def stop(self, timeout_s: float = 30.0) -> Snapshot:
        """Let the requests under way finish and return the final snapshot."""
        self._process.stop(timeout_s)
        final = self.snapshot()
        if final.running:
            raise RuntimeError(f"the load did not end in an orderly way:\n{self._process.tail()}")
        return final

    def kill(self) -> None:
        """End the process without a final snapshot."""
        self._process.kill()

    def records(self) -> Records:
        """Every request up to the latest snapshot."""
        content = _records_path(self.stats).read_bytes()
        return Records(content=content)

    def p99_ms(self, windows: Iterable[Window] | None = None) -> float | None:
        """The exact p99 of the requests that started in the windows (wall clock)."""
        return self.records().p99_ms(windows)


def _records_path(stats: Path) -> Path:
    return stats.with_suffix(".records")


def _arguments(load: Load, stats: Path) -> list[str]:
    arguments = [f"--stats={stats}", f"--host={load.host_header}", f"--connections={load.connections}"]
    arguments += [f"--timeout={load.timeout_s}", f"--color-header={load.color_header}"]
    arguments += [f"--version-header={load.version_header}"]
    arguments += [f"--target={host}:{port}" for host, port in load.targets]
    arguments += [f"--path={method} {path}" for method, path in load.paths]
    arguments += [f"--header={name}: {value}" for name, value in load.headers.items()]
    return arguments if load.rate is None else [*arguments, f"--rate={load.rate}"]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m demo.load", description=__doc__)
    parser.add_argument("--target", action="append", required=True, metavar="HOST:PORT")
    parser.add_argument("--host", default="localhost", help="the Host header")
    parser.add_argument("--path", action="append", metavar="'METHOD /PATH'", help="taken in turn; default: GET /")
    parser.add_argument("--header", action="append", default=[], metavar="'NAME: VALUE'")
    parser.add_argument("--connections", type=int, default=50)
    parser.add_argument("--rate", type=float, help="requests per second; default: as fast as answers come")
    parser.add_argument("--timeout", type=float, default=10.0)
    parser.add_argument("--duration", type=float, help="seconds; default: until SIGTERM")
    parser.add_argument("--color-header", default="X-Release-Color")
    parser.add_argument("--version-header", default="X-App-Version")
    parser.add_argument("--stats", type=Path, help="where to write a snapshot each half second")
    return parser


def _load_from(options: argparse.Namespace) -> Load:
    targets = [(host, int(port)) for host, _, port in (target.rpartition(":") for target in options.target)]
    return Load(
        targets=targets,
        host_header=options.host,
        connections=options.connections,
        rate=options.rate,
        paths=[(method, path) for method, path in (one.split(" ", 1) for one in options.path or ["GET /"])],
        timeout_s=options.timeout,
        headers=dict(header.split(": ", 1) for header in options.header),
        color_header=options.color_header,
        version_header=options.version_header,
    )


def _write(stats: Path, load: Load, snapshot: Snapshot) -> None:
    # The records first: a reader of a snapshot finds every request that it counts.
    load.records.append_new_to(_records_path(stats))
    fresh = stats.with_suffix(f".{os.getpid()}.tmp")
    fresh.write_text(snapshot.to_json() + "\n")
    fresh.replace(stats)


async def _main(options: argparse.Namespace) -> Snapshot:
    load, stop = _load_from(options), asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    running = asyncio.create_task(load.run(options.duration, stop))
    await asyncio.sleep(0)
    while not running.done():
        if options.stats:
            _write(options.stats, load, load.snapshot())
        await asyncio.wait([running], timeout=_SNAPSHOT_S)
    if options.stats:
        _write(options.stats, load, running.result())
    return running.result()


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a load from the command line and print its final snapshot."""
    options = _parser().parse_args(arguments)
    # A full collection would stop the load for some milliseconds and show as the server's latency.
    gc.freeze()
    try:
        import uvloop  # noqa: PLC0415 - faster, where it is installed
    except ImportError:
        final = asyncio.run(_main(options))
    else:
        final = uvloop.run(_main(options))
    print(final.to_json())


if __name__ == "__main__":
    main()
