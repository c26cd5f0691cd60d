"""Graphite: four targets in one request of its render API."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from bluegreen.analysis.counted import CountedUntil, Told, each
from bluegreen.analysis.counted_http import HttpCounts, Question
from bluegreen.analysis.counted_points import Point, Points, one_series
from bluegreen.catalog.evidence import COLOR
from bluegreen.catalog.sources import GraphiteCounts
from bluegreen.core.colors import Color


class GraphiteCountSource(HttpCounts[GraphiteCounts]):
    """See ``counted.py``. Graphite finds no series where there is none, and says so with an empty list."""

    who = "Graphite"

    def question(self, colors: tuple[Color, ...], since: datetime, until: datetime) -> Question:
        """See ``HttpCounts``."""
        targets = [
            f'alias({getattr(self.section, what).replace(COLOR, color)}, "{color} {what}")'
            for color in colors
            for what in ("requests", "errors")
        ]
        # "from" is exclusive in Graphite; a step that began before the evidence is left out by Points.
        span = {"from": int(since.timestamp()) - 1, "until": int(until.timestamp())}
        return Question(f"{self.section.url}/render", form={"target": targets, "format": "json", **span})

    def told(self, document: Any, colors: tuple[Color, ...], since: datetime, until: datetime) -> Told:
        """See ``HttpCounts``."""

        def points(name: str) -> Sequence[Point]:
            series = one_series([series["datapoints"] for series in document if series["target"] == name], name)
            return [(datetime.fromtimestamp(at, UTC), value) for value, at in series or ()]

        def tell(color: Color) -> CountedUntil:
            requests, errors = points(f"{color} requests"), points(f"{color} errors")
            step = requests[1][0] - requests[0][0] if len(requests) > 1 else timedelta()
            return Points(requests, errors, step).counted(since, until)

        return each(colors, tell)
