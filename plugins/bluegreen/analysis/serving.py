"""The built-in rule of every watch: both colors serve. Without the old one there is no way back, without the new no sense."""

from __future__ import annotations

from dataclasses import dataclass, field

from bluegreen.analysis.judgement import Judgement, State
from bluegreen.core.colors import Color
from bluegreen.core.evidence import NodeCounters

PATIENCE = 3
"""Samples in a row without a healthy server before it counts: one missed health check is no outage."""


@dataclass
class Serving:
    """Counts, by color, the samples in a row that saw no healthy server."""

    dead: dict[Color, int] = field(default_factory=lambda: dict.fromkeys(Color, 0))
    seen: set[Color] = field(default_factory=set)

    def add(self, counters: NodeCounters) -> None:
        """Take a sample; one without any node says nothing of the servers."""
        for color in Color:
            told = [node[color] for node in counters.values() if color in node and node[color].total > 0]
            if told:
                self.seen.add(color)
                self.dead[color] = 0 if any(c.ready for c in told) else self.dead[color] + 1

    def judge(self, new: Color) -> Judgement:
        """Hold the rule against the samples so far."""
        for color, rule in ((new, "new color"), (new.other, "way_back: old color")):
            if self.dead[color] >= PATIENCE:
                return Judgement(State.BROKEN, f"{rule} {color} has no healthy server")
        if self.seen != set(Color):
            return Judgement(State.NO_DATA, "way_back: no node tells whether both colors serve")
        return Judgement(State.KEPT, "both colors serve")
