"""Cumulative counts of several nodes to one growing series per color; resets and gaps are missing data, not zero."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from bluegreen.core.colors import Color
from bluegreen.core.evidence import Counters, NodeCounters

GAP = 10.0
"""Seconds between two samples that are worth a word: the triggerer was restarted, or its loop was held up."""


@dataclass(frozen=True)
class Point:
    """
    A color's counts since the watch began.

    :param at: seconds since the watch began
    :param requests: answered
    :param errors: 5xx among them
    """

    at: float
    requests: int
    errors: int


@dataclass
class Series:
    """
    One watch's evidence.

    :param baseline: counters when the watch began
    """

    baseline: NodeCounters
    points: dict[Color, deque[Point]] = field(default_factory=dict)
    latest: NodeCounters = field(default_factory=dict)
    gaps: list[str] = field(default_factory=list)
    _last: dict[tuple[str, Color], Counters] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for color in Color:
            self.points[color] = deque([Point(0.0, 0, 0)], maxlen=20_000)
        self._last = {(node, color): c for node, colors in self.baseline.items() for color, c in colors.items()}

    def add(self, at: float, counters: NodeCounters) -> None:
        """
        Add a sample.

        :param at: seconds since the watch began
        :param counters: cumulative counts of every node that answered
        """
        if at - self.points[Color.BLUE][-1].at > GAP:
            self._gap(f"nothing was sampled for {at - self.points[Color.BLUE][-1].at:.0f} s before {at:.0f} s")
        self.latest = counters
        for missing in sorted({node for node, _ in self._last} - set(counters)):
            self._gap(f"{missing} gave no counts at {at:.0f} s")
        for color in Color:
            requests, errors = self._grown(color, counters, at)
            last = self.points[color][-1]
            self.points[color].append(Point(at, last.requests + requests, last.errors + errors))

    def stretch(self, color: Color, window: float, min_requests: int) -> tuple[int, int, float]:
        """
        Return the latest stretch that is at least ``window`` seconds long and holds ``min_requests``.

        :returns: requests, errors, seconds; all there is where that is less
        """
        points = self.points[color]
        last = points[-1]
        for point in reversed(points):
            if last.at - point.at >= window and last.requests - point.requests >= min_requests:
                return last.requests - point.requests, last.errors - point.errors, last.at - point.at
        first = points[0]
        return last.requests - first.requests, last.errors - first.errors, last.at - first.at

    def totals(self) -> dict[str, dict[str, int]]:
        """Return requests and errors by color since the watch began, as JSON."""
        latest = {color: points[-1] for color, points in self.points.items()}
        return {str(color): {"requests": last.requests, "errors": last.errors} for color, last in latest.items()}

    def _grown(self, color: Color, counters: NodeCounters, at: float) -> tuple[int, int]:
        requests = errors = 0
        for node, colors in counters.items():
            now = colors.get(color)
            if now is None:
                continue
            before = self._last.get((node, color))
            self._last[node, color] = now
            if before is None or now.requests < before.requests or now.errors < before.errors:
                # A new process counts from 0: what it counted before is not known, so nothing is.
                self._gap(f"{node} began its counts anew at {at:.0f} s")
                continue
            requests += now.requests - before.requests
            errors += now.errors - before.errors
        return requests, errors

    def _gap(self, text: str) -> None:
        if len(self.gaps) < 50:
            self.gaps.append(text)
