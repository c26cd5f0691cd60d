"""Log lines in Elasticsearch or OpenSearch: both colors in one aggregation."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from bluegreen.analysis.counted import EMPTY, CountedUntil, Told, count_until, each, refuse
from bluegreen.analysis.counted_http import HttpCounts, Question
from bluegreen.catalog.evidence import COLOR
from bluegreen.catalog.sources import ElasticsearchCounts
from bluegreen.core.colors import Color


class ElasticsearchCountSource(HttpCounts[ElasticsearchCounts]):
    """See ``counted.py``. An answer of some shards only is none: it would have too few errors."""

    who = "Elasticsearch"

    def question(self, colors: tuple[Color, ...], since: datetime, until: datetime) -> Question:
        """See ``HttpCounts``."""
        section = self.section
        inner: dict[str, Any] = {"latest": {"max": {"field": section.time}}}
        inner |= {
            what: {"filter": _query(condition)}
            for what, condition in (("errors", section.errors), ("requests", section.requests))
            if condition
        }
        lines = {str(color): _query(section.lines.replace(COLOR, color)) for color in colors}
        span = {"gte": since.astimezone(UTC).isoformat(), "lt": until.astimezone(UTC).isoformat()}
        document = {
            "size": 0,
            "query": {"range": {section.time: span}},
            "aggs": {"colors": {"filters": {"filters": lines}, "aggs": inner}},
        }
        return Question(f"{section.url}/{section.index}/_search", document=document)

    def told(self, document: Any, colors: tuple[Color, ...], since: datetime, until: datetime) -> Told:  # noqa: ARG002
        """See ``HttpCounts``."""
        if document["timed_out"] or document["_shards"]["failed"]:
            refuse(f"incomplete: timed out, or {document['_shards']['failed']} of the index's shards failed")
        if not document["_shards"]["total"]:
            refuse("empty: there is no such index")
        buckets = document["aggregations"]["colors"]["buckets"]

        def tell(color: Color) -> CountedUntil:
            found = buckets[color]
            if found["latest"]["value"] is None:
                refuse(EMPTY)
            requests = found["requests"]["doc_count"] if self.section.requests else None
            at = datetime.fromtimestamp(float(found["latest"]["value"]) / 1000, UTC)
            return count_until(requests, found["errors"]["doc_count"], at)

        return each(colors, tell)


def _query(text: str) -> dict[str, Any]:
    return {"query_string": {"query": text}}
