"""Counts, verdicts and proofs: what was seen of the traffic, by color."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

from bluegreen.core.colors import Color


@dataclass(frozen=True)
class Counters:
    """
    One color's cumulative counts on one node.

    :param requests: answered requests since the counter began
    :param errors: 5xx answers among them, made by the servers or by the proxy in their place
    :param in_flight: requests that run now, or a bound above them; None where the router cannot tell, which is not 0
    :param ready: servers that take requests
    :param total: servers that are configured
    :param latency_ms: mean response time of the latest requests in milliseconds, None without any
    """

    requests: int
    errors: int
    in_flight: int | None = 0
    ready: int = 0
    total: int = 0
    latency_ms: float | None = None


NodeCounters = Mapping[str, Mapping[Color, Counters]]
"""By node name; a node that did not answer is absent."""


def counts_as_json(counted: NodeCounters) -> dict[str, dict[str, dict[str, Any]]]:
    """JSON of counters: by node name, by color."""
    return {node: {str(color): asdict(c) for color, c in colors.items()} for node, colors in counted.items()}


def in_flight(counts: Iterable[Counters]) -> int | None:
    """Requests that run now, over several counters; None where one of them does not tell."""
    each = [count.in_flight for count in counts]
    known = [count for count in each if count is not None]
    return sum(known) if len(known) == len(each) else None


class Outlook(StrEnum):
    """The three things that a watch may say."""

    HEALTHY = "healthy"
    UNHEALTHY = "unhealthy"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Verdict:
    """
    What a watch says, with the numbers that made it.

    :param says: healthy, unhealthy or unknown
    :param reason: one line for people
    :param numbers: JSON values by name
    """

    says: Outlook
    reason: str
    numbers: Mapping[str, Any] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """JSON for XCom and reports."""
        return {"says": str(self.says), "reason": self.reason, "numbers": dict(self.numbers)}


@dataclass(frozen=True)
class NodeProof:
    """
    What one node's entry answered to fresh connections.

    :param node: node name
    :param answers: answers by color
    :param failures: what was no answer of a color (proxy-made, redirect, broken), by kind
    """

    node: str
    answers: Mapping[Color, int]
    failures: Mapping[str, int]

    @property
    def total(self) -> int:
        """All requests sent to the node."""
        return sum(self.answers.values()) + sum(self.failures.values())


@dataclass(frozen=True)
class Proof:
    """
    The result of asking through the entry which color serves.

    :param split: the split that was to be proven
    :param proven: True, False, or None where it cannot be proven
    :param reason: one line for people
    :param nodes: counts by node
    """

    split: str
    proven: bool | None
    reason: str
    nodes: tuple[NodeProof, ...] = ()

    @property
    def says(self) -> str:
        """Return ``proven``, ``not proven`` or ``unproven``."""
        return {True: "proven", False: "not proven", None: "unproven"}[self.proven]

    def as_json(self) -> dict[str, Any]:
        """JSON for XCom and reports."""
        return {"split": self.split, "says": self.says, "reason": self.reason, "nodes": [asdict(n) for n in self.nodes]}
