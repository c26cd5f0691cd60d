"""Counters in Prometheus: how much they grew since the evidence began, of both colors in one query."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from bluegreen.analysis.counted import EMPTY, CountedUntil, Told, count_until, each, refuse
from bluegreen.analysis.counted_http import HttpCounts, Question
from bluegreen.catalog.evidence import COLOR
from bluegreen.catalog.sources import LokiCounts, PrometheusCounts
from bluegreen.core.colors import Color

MARK = "bluegreen"
"""Label that tells the numbers of one answer apart."""


class PrometheusCountSource(HttpCounts[PrometheusCounts]):
    """
    See ``counted.py``.

    ``increase`` takes a counter's reset for what it is. It knows a series from its first sample on: the first errors of a
    series that begins with them are seen from its second sample on.
    """

    who = "Prometheus"

    def question(self, colors: tuple[Color, ...], since: datetime, until: datetime) -> Question:
        """See ``HttpCounts``."""
        span = f"[{max(1, int(1000 * (until - since).total_seconds()))}ms]"
        parts = {}
        for color in colors:
            requests, errors = (text.replace(COLOR, color) for text in (self.section.requests, self.section.errors))
            parts[f"{color} requests"] = f"sum(increase({requests}{span}))"
            parts[f"{color} errors"] = f"sum(increase({errors}{span}))"
            # The oldest of the latest samples: until then all of them were counted.
            parts[f"{color} at"] = f"min(timestamp({requests}))"
        form = {"query": marked(parts), "time": f"{until.timestamp():.3f}"}
        return Question(f"{self.section.url}/api/v1/query", form=form, headers=tenant(self.section))

    def told(self, document: Any, colors: tuple[Color, ...], since: datetime, until: datetime) -> Told:  # noqa: ARG002
        """See ``HttpCounts``."""
        found = by_mark(document)

        def tell(color: Color) -> CountedUntil:
            requests, errors, at = (one(found, f"{color} {what}") for what in ("requests", "errors", "at"))
            if requests is None or at is None:
                refuse(EMPTY)
            return count_until(requests, errors or 0, datetime.fromtimestamp(float(at), UTC))

        return each(colors, tell)


def marked(parts: Mapping[str, str]) -> str:
    """Ask several queries at once, each one's answer under its own name; PromQL and LogQL alike."""
    return " or ".join(f'label_replace({query}, "{MARK}", "{name}", "", "")' for name, query in parts.items())


def by_mark(document: Any) -> Mapping[str, Sequence[str]]:
    """Return the values of such an answer under their names."""
    if document["data"]["resultType"] != "vector":
        refuse(f"the answer is a {document['data']['resultType']}, wanted a vector")
    found: dict[str, list[str]] = {}
    for sample in document["data"]["result"]:
        found.setdefault(sample["metric"][MARK], []).append(sample["value"][1])
    return found


def one(found: Mapping[str, Sequence[str]], name: str) -> str | None:
    """
    Return the value of a name, None where there is none.

    :raises BadAnswer: there are several
    """
    values = found.get(name, ())
    if len(values) > 1:
        refuse(f"{len(values)} series of {name}, wanted one")
    return values[0] if values else None


def tenant(section: PrometheusCounts | LokiCounts) -> Mapping[str, str]:
    """Return the header that names the tenant of Mimir, Loki and their like."""
    return {"X-Scope-OrgID": section.tenant} if section.tenant else {}
