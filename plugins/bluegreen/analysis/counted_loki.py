"""Log lines in Loki, of both colors in one query."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from bluegreen.analysis.counted import EMPTY, CountedUntil, Told, count_until, each, refuse
from bluegreen.analysis.counted_http import HttpCounts, Question
from bluegreen.analysis.counted_prometheus import by_mark, marked, one, tenant
from bluegreen.catalog.durations import text
from bluegreen.catalog.evidence import COLOR
from bluegreen.catalog.sources import LokiCounts
from bluegreen.core.colors import Color


class LokiCountSource(HttpCounts[LokiCounts]):
    """
    See ``counted.py``.

    No error line is good news only where there are lines at all: all lines of a color are counted, too, and again those of
    the last ``max_age``, as LogQL tells no line's time.
    """

    who = "Loki"

    def question(self, colors: tuple[Color, ...], since: datetime, until: datetime) -> Question:
        """See ``HttpCounts``."""
        whole = f"{max(1, int(1000 * (until - since).total_seconds()))}ms"
        parts: dict[str, str] = {}
        for color in colors:
            lines = self.section.lines.replace(COLOR, color)
            wanted = {"lines": (lines, whole), "latest": (lines, f"{self._latest(since, until)}ms")}
            wanted["errors"] = (f"{lines} {self.section.errors.replace(COLOR, color)}", whole)
            if self.section.requests:
                wanted["requests"] = (f"{lines} {self.section.requests.replace(COLOR, color)}", whole)
            parts |= {
                f"{color} {what}": f"sum(count_over_time({query} [{span}]))" for what, (query, span) in wanted.items()
            }
        query = {"query": marked(parts), "time": str(int(until.timestamp() * 1e9))}
        return Question(f"{self.section.url}/loki/api/v1/query", query, headers=tenant(self.section))

    def _latest(self, since: datetime, until: datetime) -> int:
        return max(1, int(1000 * min(self.section.max_age, until - since).total_seconds()))

    def told(self, document: Any, colors: tuple[Color, ...], since: datetime, until: datetime) -> Told:  # noqa: ARG002
        """See ``HttpCounts``."""
        found = by_mark(document)

        def tell(color: Color) -> CountedUntil:
            values = {what: one(found, f"{color} {what}") for what in ("lines", "latest", "errors", "requests")}
            if not float(values["lines"] or 0):
                refuse(EMPTY)
            if not float(values["latest"] or 0):
                refuse(f"stale: no line of this color in the last {text(self.section.max_age)}")
            requests = (values["requests"] or 0) if self.section.requests else None
            return count_until(requests, values["errors"] or 0, until)

        return each(colors, tell)
