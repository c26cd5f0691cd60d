"""
What the load's records say about moves of traffic.

The load notes every request: when it was due, how long it took, which color answered. Nothing here asks a router.
"""

from __future__ import annotations

import math
from array import array
from bisect import bisect_right
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from statistics import median
from typing import Any

from demo.load import Records, Snapshot

WARM_UP_S = 0.5
"""The load's first moments, when it opens its connections: in no window, though a failure counts even then."""
DURING_S = 1.0
"""Requests due in [start of the move, + this] are `during`; later ones, until the next move, `before` that one."""

REST_S = 1.0
"""After the `during` window, at least: what comes `before` the next move."""
COLUMNS = (
    "router",
    "shifts",
    "requests",
    "failed",
    "p99_before_ms",
    "p99_during_ms",
    "proven_s_p50",
    "proven_s_max",
)
"""Of a row, what every table of switches shows."""


@dataclass(frozen=True)
class Move:
    """
    One whole switch. Times are wall clock, as the load's records.

    :param prepared: when the side began to get ready; what was due from here to `begin` is in no window
    :param begin: when the write began
    :param old: the color that had the traffic
    :param new: the color that gets it
    :param proven_s: from `begin` to the end of the first proof that held; None when none did
    :param problem: why it is not proven
    :param asked: a proof was tried
    """

    prepared: float
    begin: float
    old: str
    new: str
    proven_s: float | None
    problem: str = ""
    asked: bool = True


@dataclass
class Observed:
    """The sum over one side's chunks."""

    requests: int = 0
    failures: Counter[str] = field(default_factory=Counter)
    overdue: int = 0
    idle_closed: int = 0
    before: array[float] = field(default_factory=lambda: array("f"))
    during: array[float] = field(default_factory=lambda: array("f"))
    moves: list[Move] = field(default_factory=list)
    last_old_s: list[float] = field(default_factory=list)
    moved: list[float] = field(default_factory=list)

    def add(self, moves: Sequence[Move], final: Snapshot, records: Records) -> None:
        """Add a chunk: a load of its own, and the moves that were made under it."""
        self.requests += final.requests
        self.failures.update(final.failures)
        self.overdue += final.overdue
        self.idle_closed += final.idle_closed
        self.moves += moves
        reader = _Reader(moves, [series.color for series in final.series], final.started + WARM_UP_S)
        for record in records:
            reader.read(record.start, record.latency_s, record.series, self)
        proven = [move.proven_s is not None for move in moves]
        self.last_old_s += [last for last, so in zip(reader.last_old_s, proven, strict=True) if so]
        self.moved += reader.moved_shares()

    @property
    def failed(self) -> int:
        """Every failed request, whatever the reason and whenever."""
        return self.failures.total()

    @property
    def moved_share(self) -> float | None:
        """The share of the requests that changed their color with a move, the median; None when nothing was seen."""
        return round(median(self.moved), 3) if self.moved else None

    def row(self, router: str) -> dict[str, Any]:
        """The row of the table."""
        proven = [move.proven_s for move in self.moves if move.proven_s is not None]
        asked = sum(move.asked for move in self.moves)
        return {
            "router": router,
            "shifts": len(self.moves),
            "requests": self.requests,
            "failed": self.failed,
            "p99_before_ms": percentile_ms(self.before, 99),
            "p99_during_ms": percentile_ms(self.during, 99),
            "proven_s_p50": round(median(proven), 4) if proven else None,
            "proven_s_max": round(max(proven), 4) if proven else None,
            "last_old_answer_s_max": round(max(self.last_old_s), 4) if self.last_old_s else None,
            "not_proven": asked - len(proven) if asked else None,
            "moved_share": self.moved_share,
            "failures": dict(self.failures),
            "idle_closed": self.idle_closed,
            "overdue": self.overdue,
            "requests_before": len(self.before),
            "requests_during": len(self.during),
        }

    def explained(self, row: dict[str, Any], otherwise: str) -> dict[str, Any]:
        """
        Return a row with what went wrong, and why a figure is missing.

        :param otherwise: why, where nothing went wrong
        """
        problems = sorted({move.problem for move in self.moves if move.problem})
        why = "; ".join(problems) or otherwise
        reasons = {name: why for name, value in row.items() if value is None}
        return row | ({"problems": problems} if problems else {}) | ({"reasons": reasons} if reasons else {})


class _Reader:
    """Sorts a chunk's records by the moves."""

    def __init__(self, moves: Sequence[Move], colors: Sequence[str], warm: float) -> None:
        self.moves, self.colors, self.warm = moves, colors, warm
        self.begins = [move.begin for move in moves]
        self.last_old_s = [0.0 for _ in moves]
        self.at_rest: list[Counter[str]] = [Counter() for _ in range(len(moves) + 1)]

    def read(self, start: float, latency_s: float, series: int, into: Observed) -> None:
        latest = bisect_right(self.begins, start) - 1
        color = self.colors[series]
        # The answer may fall behind the move after the one that the request was due behind.
        for number in (latest, latest + 1):
            if 0 <= number < len(self.moves) and color == self.moves[number].old:
                self.last_old_s[number] = max(self.last_old_s[number], start + latency_s - self.begins[number])
        if latest >= 0 and start - self.begins[latest] < DURING_S:
            into.during.append(latency_s)
        elif start >= self.warm and not (latest + 1 < len(self.moves) and start >= self.moves[latest + 1].prepared):
            into.before.append(latency_s)
            self.at_rest[latest + 1][color] += 1

    def moved_shares(self) -> list[float]:
        """What share of the requests each move has moved, from rest to rest."""
        shares = [seen["green"] / seen.total() if seen else None for seen in self.at_rest]
        return [abs(after - before) for before, after in pairwise(shares) if before is not None and after is not None]


def percentile_ms(latencies_s: Sequence[float], percent: float) -> float | None:
    """The exact percentile in milliseconds; None of nothing."""
    if not latencies_s:
        return None
    place = max(0, math.ceil(len(latencies_s) * percent / 100) - 1)
    return round(sorted(latencies_s)[place] * 1000, 3)
