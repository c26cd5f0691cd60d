"""What pods have answered, counted by namespace and color as a service's own statistics would: an evidence source of type ``http``."""

from __future__ import annotations

import math
import time
from collections import defaultdict
from typing import Any

COLORS = ("blue", "green")
STEPS_A_SECOND = 10
_KEPT = 3600 * STEPS_A_SECOND


class Counts:
    """Requests and errors in steps of a tenth of a second, for the last hour in which there were any."""

    def __init__(self) -> None:
        self._steps: dict[tuple[str, str], dict[int, list[int]]] = defaultdict(dict)

    def add(self, namespace: str, color: str, *, failed: bool) -> None:
        """Count an answer of now."""
        steps = self._steps[namespace, color]
        step = steps.setdefault(int(time.time() * STEPS_A_SECOND), [0, 0])
        step[0] += 1
        step[1] += failed
        if len(steps) > _KEPT:
            del steps[next(iter(steps))]

    def since(self, namespace: str, at: float) -> dict[str, Any]:
        """
        Return the counts of both colors: ``{"blue": {"requests": 90, "errors": 1}, …, "at": 1790000000.0}``.

        :param at: seconds since 1970; a step that began earlier is left out, as other points of other sources are
        """
        first = math.ceil(at * STEPS_A_SECOND)
        told: dict[str, Any] = {"at": time.time()}
        for color in COLORS:
            found = [counted for step, counted in self._steps[namespace, color].items() if step >= first]
            told[color] = {"requests": sum(each[0] for each in found), "errors": sum(each[1] for each in found)}
        return told
