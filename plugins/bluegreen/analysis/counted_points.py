"""Counts that come as points of time: each one says how many there were in a step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from bluegreen.analysis.counted import EMPTY, CountedUntil, count_of, count_until, refuse

Point = tuple[datetime, Any]
"""When its step begins, and what was counted in it; None where nothing was."""


@dataclass(frozen=True)
class Points:
    """
    The points of one question.

    :param requests: in the order of time
    :param errors: the same of those that failed; there may be none
    :param step: of a point
    """

    requests: Sequence[Point]
    errors: Sequence[Point]
    step: timedelta

    def counted(self, since: datetime, until: datetime) -> CountedUntil:
        """
        Add them up. A step that began before the evidence does not count: a part of it was before.

        :raises BadAnswer: nothing was counted, or a point is no count
        """
        requests, errors = _kept(self.requests, since, until), _kept(self.errors, since, until)
        if not requests:
            refuse(EMPTY)
        end = min(requests[-1][0] + self.step, until)
        return count_until(_sum(requests, "requests"), _sum(errors, "errors"), end)


def _kept(points: Sequence[Point], since: datetime, until: datetime) -> list[Point]:
    return [(at, value) for at, value in points if since <= at < until and value is not None]


def _sum(points: Sequence[Point], what: str) -> float:
    for _, value in points:
        count_of(value, what)
    return sum(float(value) for _, value in points)


def one_series(found: Sequence[Any], what: str) -> Any:
    """
    Return the only series of an answer, or None where there is none.

    :raises BadAnswer: there are several
    """
    if len(found) > 1:
        refuse(f"{len(found)} series of {what}, wanted one: sum them in the query, or select one")
    return found[0] if found else None
