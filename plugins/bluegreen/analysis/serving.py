"""The built-in rule of every watch: both colors serve. Without the old one there is no way back, without the new no sense."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from bluegreen.analysis.judgement import Judgement, State
from bluegreen.core.colors import Color
from bluegreen.core.evidence import NodeCounters

PATIENCE = 3
"""Samples in a row without a healthy server before it counts: one missed health check is no outage."""


@dataclass(frozen=True)
class Sight:
    """
    One look at a color's servers.

    :param serves: at least one takes requests
    :param says: why not, where that is known
    """

    serves: bool
    says: str = ""


def told_by(counters: NodeCounters) -> dict[Color, Sight]:
    """Return what a router's counters tell of the colors' servers; a color that they do not tell of is absent."""
    told = {
        color: [node[color] for node in counters.values() if color in node and node[color].total > 0] for color in Color
    }
    return {color: Sight(any(c.ready for c in counts)) for color, counts in told.items() if counts}


@dataclass
class Serving:
    """Counts, by color, the samples in a row that saw no healthy server."""

    dead: dict[Color, int] = field(default_factory=lambda: dict.fromkeys(Color, 0))
    latest: dict[Color, Sight] = field(default_factory=dict)

    def add(self, seen: Mapping[Color, Sight]) -> None:
        """Take a sample; of a color that is not in it nothing is known."""
        for color, sight in seen.items():
            self.latest[color] = sight
            self.dead[color] = 0 if sight.serves else self.dead[color] + 1

    def judge(self, new: Color) -> Judgement:
        """Hold the rule against the samples so far."""
        for color, rule in ((new, "new color"), (new.other, "way_back: old color")):
            if self.dead[color] >= PATIENCE:
                why = f" ({says})" if (says := self.latest[color].says) else ""
                return Judgement(State.BROKEN, f"{rule} {color} has no healthy server{why}")
        if set(self.latest) != set(Color):
            return Judgement(State.NO_DATA, "way_back: nobody tells whether both colors serve")
        return Judgement(State.KEPT, "both colors serve")
