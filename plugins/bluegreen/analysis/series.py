"""Cumulative counts of several nodes to one growing series of both colors; resets and gaps are missing data, not zero."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from bluegreen.core.colors import Color
from bluegreen.core.evidence import Counters, NodeCounters

GAP = 10.0
"""Seconds between two samples that are worth a word: the triggerer was restarted, or its loop was held up."""
MOST_ROWS = 400
"""Rows that are kept. When there are more, every second of the older half goes: it stands in the report, and is judged."""


@dataclass(frozen=True)
class Counted:
    """
    A color's counts over some time.

    :param requests: answered
    :param errors: 5xx among them
    :param latency_ms: mean response time at its end in milliseconds, on the slowest node; None where nobody tells
    """

    requests: int = 0
    errors: int = 0
    latency_ms: float | None = None


@dataclass(frozen=True)
class Row:
    """
    Both colors' counts since the watch began.

    :param at: seconds since the watch began
    """

    at: float
    colors: Mapping[Color, Counted]

    def since(self, before: Row, color: Color) -> Counted:
        """Return what a color counted after another row."""
        new, old = self.colors[color], before.colors[color]
        return Counted(new.requests - old.requests, new.errors - old.errors, new.latency_ms)

    def as_json(self) -> list[Any]:
        """Return ``[at, requests, errors, latency]``, the last three for blue and for green."""
        counts = [self.colors[color] for color in Color]
        return [round(self.at, 3), *(value for c in counts for value in (c.requests, c.errors, c.latency_ms))]

    @classmethod
    def of_json(cls, told: Sequence[Any]) -> Row:
        """
        Read what ``as_json`` wrote.

        :raises ValueError: it did not write this
        """
        at, *counts = told
        if len(counts) != 6:
            raise ValueError(f"a row has 7 values, found {len(told)}")
        return cls(float(at), {color: Counted(*counts[3 * n : 3 * n + 3]) for n, color in enumerate(Color)})


@dataclass
class Series:
    """
    One watch's evidence.

    :param baseline: counters when the watch began
    :param warm_up: seconds after which evidence begins
    :param rows: the first one is where the evidence begins
    :param thinned: how often rows were taken out
    """

    baseline: NodeCounters
    warm_up: float = 0.0
    rows: list[Row] = field(default_factory=lambda: [Row(0.0, dict.fromkeys(Color, Counted()))])
    gaps: list[str] = field(default_factory=list)
    thinned: int = 0
    _last: dict[tuple[str, Color], Counters] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._last = {(node, color): c for node, colors in self.baseline.items() for color, c in colors.items()}

    def add(self, at: float, counters: NodeCounters) -> None:
        """
        Add a sample.

        :param at: seconds since the watch began
        :param counters: cumulative counts of every node that answered
        """
        before = self.rows[-1]
        for missing in sorted({node for node, _ in self._last} - set(counters)):
            self.note_gap(f"{missing} gave no counts at {at:.0f} s")
        self.put(Row(at, {color: self._grown(before.colors[color], color, counters, at) for color in Color}))

    def put(self, row: Row, longest: float = GAP) -> None:
        """
        Add a row.

        :param longest: seconds after the row before it that are no gap yet
        """
        before = self.rows[-1]
        if row.at - before.at > longest:
            self.note_gap(f"nothing was sampled for {row.at - before.at:.0f} s before {row.at:.0f} s")
        if before.at < self.warm_up:
            # The evidence begins with the first sample after it, or with the last one before: nothing in between counts.
            self.rows = [row]
            return
        self.rows.append(row)
        if len(self.rows) > MOST_ROWS:
            half = len(self.rows) // 2
            self.rows = [*self.rows[:half:2], *self.rows[half:]]
            self.thinned += 1

    def stretch(self, color: Color, window: float, min_requests: int) -> tuple[int, int, float]:
        """
        Return the latest stretch that is at least ``window`` seconds long and holds ``min_requests``.

        :returns: requests, errors, seconds; all there is where that is less
        """
        last = self.rows[-1]
        # Both only grow, so that what holds for a row holds for all before it: one look a second, at up to 400 rows.
        long = bisect_right(self.rows, last.at - window, key=lambda row: row.at)
        enough = last.colors[color].requests - min_requests
        many = bisect_right(self.rows, enough, key=lambda row: row.colors[color].requests)
        begin = self.rows[max(0, min(long, many) - 1)]
        found = last.since(begin, color)
        return found.requests, found.errors, last.at - begin.at

    def counted(self, color: Color) -> Counted:
        """Return what a color counted since the evidence began."""
        return self.rows[-1].since(self.rows[0], color)

    def totals(self) -> dict[str, dict[str, int]]:
        """Return requests and errors by color since the evidence began, as JSON."""
        counts = {color: self.counted(color) for color in Color}
        return {str(color): {"requests": c.requests, "errors": c.errors} for color, c in counts.items()}

    def note_gap(self, text: str) -> None:
        """Note that something is missing; the first 50 are kept."""
        if len(self.gaps) < 50:
            self.gaps.append(text)

    def _grown(self, past: Counted, color: Color, counters: NodeCounters, at: float) -> Counted:
        requests, errors = past.requests, past.errors
        for node, colors in counters.items():
            now = colors.get(color)
            if now is None:
                continue
            before = self._last.get((node, color))
            self._last[node, color] = now
            if before is None or now.requests < before.requests or now.errors < before.errors:
                # A new process counts from 0: what it counted before is not known, so nothing is.
                self.note_gap(f"{node} began its counts anew at {at:.0f} s")
                continue
            requests += now.requests - before.requests
            errors += now.errors - before.errors
        return Counted(requests, errors, _slowest(colors[color] for colors in counters.values() if color in colors))


@dataclass(frozen=True)
class Stream:
    """
    What one of those who count has told in a watch.

    :param past: the old color's counts before; None while it serves beside the new one
    :param missing: why it tells nothing now; empty while it does
    :param waiting: it may tell something yet
    """

    series: Series
    past: Counted | None = None
    missing: str = ""
    waiting: bool = False


def _slowest(counters: Iterable[Counters]) -> float | None:
    seen = [one.latency_ms for one in counters]
    return max((ms for ms in seen if ms is not None), default=None)
