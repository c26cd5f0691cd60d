"""Every request of a load: when, how long, what came back; and exact percentiles."""

from __future__ import annotations

import math
import struct
from array import array
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from demo.load.counts import FAILURES

_KINDS = ("", *FAILURES)
_KIND_CODES = {kind: code for code, kind in enumerate(_KINDS)}
# Start (wall clock), latency in seconds, status, number of the series, kind of failure.
_RECORD = struct.Struct("<dfHHB")

Window = tuple[float, float]


class Record(NamedTuple):
    """One request: when it was due or sent (wall clock), how long it took, what came back."""

    start: float
    latency_s: float
    status: int
    series: int
    failure: str


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


def _percentile_ms(latencies_s: Sequence[float], percent: float) -> float | None:
    if not latencies_s:
        return None
    return sorted(latencies_s)[max(0, math.ceil(len(latencies_s) * percent / 100) - 1)] * 1000


class Histogram:
    """Latencies in bins that grow by 2 %: cheap enough for every request, good enough for a display."""

    _GROWTH = math.log(1.02)

    def __init__(self) -> None:
        self.longest_s = 0.0
        self._count = 0
        self._bins = [0] * 1024

    def add(self, latency_s: float) -> None:
        """Count one latency."""
        self._count += 1
        self.longest_s = max(self.longest_s, latency_s)
        place = int(math.log(max(latency_s * 1e6, 1.0)) / self._GROWTH)
        self._bins[min(place, len(self._bins) - 1)] += 1

    def percentile_ms(self, percent: float) -> float:
        """Return a percentile, within 2 %."""
        wanted = self._count * percent / 100
        seen = 0
        for place, count in enumerate(self._bins):
            seen += count
            if count and seen >= wanted:
                return min(math.exp((place + 0.5) * self._GROWTH) / 1e3, self.longest_s * 1e3)
        return 0.0
