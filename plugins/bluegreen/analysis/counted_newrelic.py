"""New Relic events by NRQL: both colors in one NerdGraph request."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from bluegreen.analysis.counted import EMPTY, CountedUntil, Told, count_until, each, refuse
from bluegreen.analysis.counted_http import HttpCounts, Question
from bluegreen.catalog.evidence import COLOR
from bluegreen.catalog.sources import NewRelicCounts
from bluegreen.core.colors import Color
from bluegreen.core.ports import Credentials


class NewRelicCountSource(HttpCounts[NewRelicCounts]):
    """See ``counted.py``."""

    who = "New Relic"

    def headers(self, credentials: Credentials) -> Mapping[str, str]:
        """See ``HttpCounts``."""
        return {"API-Key": credentials.password}

    def question(self, colors: tuple[Color, ...], since: datetime, until: datetime) -> Question:
        """See ``HttpCounts``."""
        fields = " ".join(
            f"{color}: nrql(query: {json.dumps(self._nrql(color, since, until))}) {{results}}" for color in colors
        )
        query = f"{{actor {{account(id: {self.section.account}) {{{fields}}}}}}}"
        return Question(self.section.url, document={"query": query})

    def _nrql(self, color: Color, since: datetime, until: datetime) -> str:
        where, errors = (text.replace(COLOR, color) for text in (self.section.requests, self.section.errors))
        return (  # NRQL has no bound values; only the color and the times are ours to fill in
            f"SELECT count(*) AS requests, filter(count(*), WHERE {errors}) AS errors, latest(timestamp) AS latest"  # noqa: S608
            f" FROM {self.section.events} WHERE {where}"
            f" SINCE {int(since.timestamp() * 1000)} UNTIL {int(until.timestamp() * 1000)}"
        )

    def told(self, document: Any, colors: tuple[Color, ...], since: datetime, until: datetime) -> Told:  # noqa: ARG002
        """See ``HttpCounts``."""
        if document.get("errors"):
            said = "; ".join(str(error["message"]) for error in document["errors"])
            refuse(f"{self.who} says {said}", query="syntax" in said.lower())
        account = document["data"]["actor"]["account"]

        def tell(color: Color) -> CountedUntil:
            rows = account[color]["results"]
            if len(rows) > 1:
                refuse(f"{len(rows)} rows, wanted one: no FACET or TIMESERIES in the conditions")
            if not rows or rows[0]["latest"] is None:
                refuse(EMPTY)
            at = datetime.fromtimestamp(float(rows[0]["latest"]) / 1000, UTC)
            return count_until(rows[0]["requests"], rows[0]["errors"], at)

        return each(colors, tell)
