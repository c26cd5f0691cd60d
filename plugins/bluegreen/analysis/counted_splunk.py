"""Log lines in Splunk: both colors in one search that is exported as it ends."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

from bluegreen.analysis.counted import EMPTY, CountedUntil, Told, count_until, each, refuse
from bluegreen.analysis.counted_http import HttpCounts, Question
from bluegreen.catalog.evidence import COLOR
from bluegreen.catalog.sources import SplunkCounts
from bluegreen.checks.fresh import Answer
from bluegreen.core.colors import Color


class SplunkCountSource(HttpCounts[SplunkCounts]):
    """See ``counted.py``."""

    who = "Splunk"

    def question(self, colors: tuple[Color, ...], since: datetime, until: datetime) -> Question:
        """See ``HttpCounts``."""
        first, *others = (self._search(color, since, until) for color in colors)
        search = " ".join([first, *(f"| append [{other}]" for other in others)])
        form = {"search": search, "output_mode": "json", "preview": "false"}
        return Question(f"{self.section.url}/services/search/jobs/export", form=form)

    def _search(self, color: Color, since: datetime, until: datetime) -> str:
        counts = f"count AS lines, max(_time) AS latest, count(eval({self.section.errors})) AS errors"
        if self.section.requests:
            counts += f", count(eval({self.section.requests})) AS requests"
        span = f"earliest={since.timestamp():.3f} latest={until.timestamp():.3f}"
        lines = self.section.lines.replace(COLOR, color)
        return f'search ({lines}) {span} | stats {counts} | eval bluegreen="{color}"'

    def document(self, answer: Answer) -> Any:
        """Return the lines of an answer, each of which is JSON."""
        return [json.loads(line) for line in answer.text.splitlines() if line.strip()]

    def told(self, document: Any, colors: tuple[Color, ...], since: datetime, until: datetime) -> Told:  # noqa: ARG002
        """See ``HttpCounts``."""
        said = [word for line in document for word in line.get("messages", ())]
        if broken := [word["text"] for word in said if word["type"] in ("FATAL", "ERROR")]:
            refuse(f"{self.who} says {'; '.join(broken)}")
        rows = [line["result"] for line in document if "result" in line and not line.get("preview")]

        def tell(color: Color) -> CountedUntil:
            found = [row for row in rows if row["bluegreen"] == color]
            if len(found) > 1:
                refuse(f"{len(found)} rows, wanted one")
            if not found or not found[0].get("latest"):
                refuse(EMPTY)
            at = datetime.fromtimestamp(float(found[0]["latest"]), UTC)
            return count_until(found[0]["requests"] if self.section.requests else None, found[0]["errors"], at)

        return each(colors, tell)
