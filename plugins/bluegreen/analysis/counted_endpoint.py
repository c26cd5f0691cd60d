"""Any address that answers JSON."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import jmespath
from jmespath.exceptions import JMESPathError

from bluegreen.analysis.counted import EMPTY, CountedUntil, Told, count_until, each, refuse
from bluegreen.analysis.counted_http import HttpCounts, Question
from bluegreen.catalog.evidence import COLOR
from bluegreen.catalog.sources import SINCE, UNTIL, EndpointCounts
from bluegreen.core.colors import Color
from bluegreen.core.ports import Secrets


class EndpointCountSource(HttpCounts[EndpointCounts]):
    """See ``counted.py``. One request tells both colors where the address does not say which one is meant."""

    who = "the endpoint"

    def __init__(self, section: EndpointCounts, secrets: Secrets) -> None:
        super().__init__(section, secrets)
        self.at_once = COLOR not in section.url

    def question(self, colors: tuple[Color, ...], since: datetime, until: datetime) -> Question:
        """See ``HttpCounts``."""
        url = self.section.url.replace(COLOR, colors[0])
        for word, at in ((SINCE, since), (UNTIL, until)):
            url = url.replace(word, f"{at.timestamp():.3f}")
        return Question(url)

    def told(self, document: Any, colors: tuple[Color, ...], since: datetime, until: datetime) -> Told:  # noqa: ARG002
        """See ``HttpCounts``."""

        def tell(color: Color) -> CountedUntil:
            requests, errors = (
                self._found(path.replace(COLOR, color), document)
                for path in (self.section.requests, self.section.errors)
            )
            if requests is None or errors is None:
                refuse(EMPTY)
            return count_until(requests, errors, self._at(document, color, until))

        return each(colors, tell)

    def _at(self, document: Any, color: Color, until: datetime) -> datetime:
        if not self.section.at:
            return until
        at = self._found(self.section.at.replace(COLOR, color), document)
        if not isinstance(at, int | float):
            refuse(f"at is {at!r}, wanted seconds since 1970")
        return datetime.fromtimestamp(at, UTC)

    def _found(self, path: str, document: Any) -> Any:
        try:
            return jmespath.search(path, document)
        except JMESPathError as error:
            return refuse(f"{path}: {error}", query=True)
