"""InfluxDB: four InfluxQL statements in one request of the API that versions 1, 2 and 3 have."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from bluegreen.analysis.counted import CountedUntil, Told, each, refuse
from bluegreen.analysis.counted_http import HttpCounts, Question
from bluegreen.analysis.counted_points import Point, Points, one_series
from bluegreen.catalog.durations import text
from bluegreen.catalog.evidence import COLOR
from bluegreen.catalog.sources import InfluxCounts
from bluegreen.core.colors import Color

_WHATS = ("requests", "errors")


class InfluxCountSource(HttpCounts[InfluxCounts]):
    """See ``counted.py``."""

    who = "InfluxDB"

    def question(self, colors: tuple[Color, ...], since: datetime, until: datetime) -> Question:
        """See ``HttpCounts``."""
        span = f"time >= {int(since.timestamp() * 1000)}ms AND time < {int(until.timestamp() * 1000)}ms"
        # Steps that begin with the evidence: none of them has anything from before it.
        step = f"time({text(self.section.step)}, {int(since.timestamp() * 1000) % self._step_ms}ms)"
        statements = [
            f"{getattr(self.section, what).replace(COLOR, color)} AND {span} GROUP BY {step} fill(none)"
            for color in colors
            for what in _WHATS
        ]
        query = {"db": self.section.database, "epoch": "ms", "q": "; ".join(statements)}
        return Question(f"{self.section.url}/query", query)

    @property
    def _step_ms(self) -> int:
        return int(self.section.step.total_seconds() * 1000)

    def told(self, document: Any, colors: tuple[Color, ...], since: datetime, until: datetime) -> Told:
        """See ``HttpCounts``."""
        # A statement that fails ends the answer, and those after it are missing.
        if broken := [one["error"] for one in document["results"] if "error" in one]:
            # Of several statements version 1 tells only this, whatever the first one's error was.
            hint = ": is there such a database, and does each query select a sum?" * ("not executed" in broken)
            refuse(f"{self.who} says {'; '.join(broken)}{hint}")
        results = {one["statement_id"]: one for one in document["results"]}

        def points(index: int, what: str) -> Sequence[Point]:
            series = one_series(results[index].get("series", ()), what)
            return [(datetime.fromtimestamp(row[0] / 1000, UTC), row[1]) for row in series["values"]] if series else []

        def tell(color: Color) -> CountedUntil:
            first = 2 * colors.index(color)
            requests, errors = (points(first + place, f"{color} {what}") for place, what in enumerate(_WHATS))
            return Points(requests, errors, self.section.step).counted(since, until)

        return each(colors, tell)
