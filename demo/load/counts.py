"""What a load counts: kinds of failure, requests by color and version, and a snapshot of it all."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field

# How a request can fail. The first five have no whole answer; `proxy_made` is an answer without a color.
CONNECT = "connect"  # no connection could be opened
RESET_FRESH = "reset_fresh"  # a new connection ended before the first byte of its first answer
RESET_REUSED = "reset_reused"  # a kept-alive connection ended before the first byte of the answer
TRUNCATED = "truncated"  # the answer began and did not end
TIMEOUT = "timeout"  # no whole answer in time
STATUS_5XX = "status_5xx"  # a color answered 5xx
PROXY_MADE = "proxy_made"  # no color header: the proxy itself answered, with whatever status
FAILURES = (CONNECT, RESET_FRESH, RESET_REUSED, TRUNCATED, TIMEOUT, STATUS_5XX, PROXY_MADE)


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


def _add(total: Series, one: Series) -> None:
    """Add a series that has requests to a sum."""
    total.requests += one.requests
    total.status_5xx += one.status_5xx
    for kind, count in one.failures.items():
        total.failures[kind] = total.failures.get(kind, 0) + count
    for name, choose in (("first_start", min), ("first_end", min), ("last_start", max), ("last_end", max)):
        values = [value for value in (getattr(total, name), getattr(one, name)) if value is not None]
        setattr(total, name, choose(values))
