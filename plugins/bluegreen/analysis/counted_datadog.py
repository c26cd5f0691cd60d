"""Datadog metrics: four queries in one request of its timeseries API (v2)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from bluegreen.analysis.counted import CountedUntil, Told, each, refuse
from bluegreen.analysis.counted_http import HttpCounts, Question
from bluegreen.analysis.counted_points import Point, Points, one_series
from bluegreen.catalog.evidence import COLOR
from bluegreen.catalog.sources import DatadogCounts
from bluegreen.core.colors import Color
from bluegreen.core.errors import SecretMissing
from bluegreen.core.ports import Credentials

_WHATS = ("requests", "errors")


class DatadogCountSource(HttpCounts[DatadogCounts]):
    """See ``counted.py``."""

    who = "Datadog"

    def headers(self, credentials: Credentials) -> Mapping[str, str]:
        """See ``HttpCounts``."""
        keys = {"DD-API-KEY": "api_key", "DD-APPLICATION-KEY": "app_key"}
        if missing := [key for key in keys.values() if not credentials.extra.get(key)]:
            raise SecretMissing(
                f"the connection's extra lacks {' and '.join(missing)}",
                part=f"connection {self.section.connection}",
                next_step='write {"api_key": …, "app_key": …} there, as for Airflow\'s Datadog hook',
            )
        return {header: str(credentials.extra[key]) for header, key in keys.items()}

    def question(self, colors: tuple[Color, ...], since: datetime, until: datetime) -> Question:
        """See ``HttpCounts``."""
        queries = {
            f"{color}_{what}": getattr(self.section, what).replace(COLOR, color) for color in colors for what in _WHATS
        }
        attributes = {
            "from": int(since.timestamp() * 1000),
            "to": int(until.timestamp() * 1000),
            "interval": int(self.section.step.total_seconds() * 1000),
            "queries": [{"data_source": "metrics", "name": n, "query": query} for n, query in queries.items()],
            "formulas": [{"formula": name} for name in queries],
        }
        document = {"data": {"type": "timeseries_request", "attributes": attributes}}
        return Question(f"{self.section.url}/api/v2/query/timeseries", document=document)

    def told(self, document: Any, colors: tuple[Color, ...], since: datetime, until: datetime) -> Told:
        """See ``HttpCounts``."""
        if document.get("errors"):
            refuse(f"{self.who} says {document['errors']}")
        found = document["data"]["attributes"]
        times = [datetime.fromtimestamp(ms / 1000, UTC) for ms in found["times"]]
        columns = list(zip(found["series"], found["values"], strict=True))

        def points(index: int, what: str) -> Sequence[Point]:
            # query_index is the place of the formula; a formula without data has no series.
            series = one_series([values for s, values in columns if s["query_index"] == index], what)
            return list(zip(times, series or (), strict=bool(series)))

        def tell(color: Color) -> CountedUntil:
            first = 2 * colors.index(color)
            requests, errors = (points(first + place, f"{color} {what}") for place, what in enumerate(_WHATS))
            return Points(requests, errors, self.section.step).counted(since, until)

        return each(colors, tell)
