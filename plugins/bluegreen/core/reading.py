"""What a router says when it is asked: each node's split and stamp, and the truth among them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bluegreen.core.colors import Color, Split
from bluegreen.core.stamp import Stamp


@dataclass(frozen=True)
class Health:
    """
    How many servers of a color take requests.

    :param ready: servers that are up
    :param total: servers that are configured
    """

    ready: int
    total: int

    @property
    def serves(self) -> bool:
        """At least one server takes requests."""
        return self.ready > 0


@dataclass(frozen=True)
class NodeReading:
    """
    One node's answer.

    :param node: the node's name in the catalog
    :param split: what it routes by, or None when it did not answer
    :param stamp: the stamp beside it, or None when there is none
    :param stamped_split: the split that the stamp was written with; another ``split`` is a change by hand
    :param settled: durable and in force
    :param health: servers by color as this node sees them
    :param error: why it did not answer
    :param refused: it would answer, but something forbids it: asking again does not help
    :param detail: one line for people
    """

    node: str
    split: Split | None = None
    stamp: Stamp | None = None
    stamped_split: Split | None = None
    settled: bool = True
    health: Mapping[Color, Health] | None = None
    error: str = ""
    refused: bool = False
    detail: str = ""

    @property
    def reachable(self) -> bool:
        """The node answered."""
        return not self.error

    @property
    def epoch(self) -> int:
        """The stamp's epoch, 0 without a stamp."""
        return self.stamp.epoch if self.stamp else 0

    @property
    def changed_by_hand(self) -> bool:
        """The split is not the one that the stamp was written with."""
        return self.stamp is not None and self.split is not None and self.split != self.stamped_split

    @property
    def version(self) -> tuple[Any, ...]:
        """What a node compares under its lock before it is written: all but lease and remarks."""
        stamp = self.stamp
        return (str(self.split), *((stamp.epoch, stamp.release, stamp.step, str(stamp.phase)) if stamp else ()))


def _truth_order(reading: NodeReading) -> tuple[int, bool, float]:
    stamp = reading.stamp
    if stamp is None:
        return 0, False, 0.0
    # At equal epochs the restore counts (design, section 4); of two equal writes the later lease.
    return stamp.epoch, stamp.phase.way_back, stamp.lease.timestamp() if stamp.lease else 0.0


@dataclass(frozen=True)
class Reading:
    """
    Every node's answer, in the router's fixed order.

    :param service: name in the catalog
    :param nodes: one entry a node, also for those that did not answer
    """

    service: str
    nodes: tuple[NodeReading, ...]

    @property
    def reachable(self) -> tuple[NodeReading, ...]:
        """The nodes that answered."""
        return tuple(node for node in self.nodes if node.reachable)

    @property
    def unreachable(self) -> tuple[NodeReading, ...]:
        """The nodes that did not answer."""
        return tuple(node for node in self.nodes if not node.reachable)

    @property
    def truth(self) -> NodeReading | None:
        """The node with the highest epoch; at equal epochs the restore. None when no node answered."""
        return max(self.reachable, key=_truth_order, default=None)

    @property
    def stamp(self) -> Stamp | None:
        """The truth's stamp."""
        return self.truth.stamp if self.truth else None

    @property
    def split(self) -> Split | None:
        """The truth's split: what its stamp was written with, or the bare split without a stamp."""
        truth = self.truth
        if truth is None:
            return None
        return truth.stamped_split if truth.stamp else truth.split

    @property
    def live(self) -> Color | None:
        """The color that has all traffic on every node that answered, or None while it is split."""
        colors = {node.split.whole if node.split else None for node in self.reachable}
        return colors.pop() if len(colors) == 1 else None

    @property
    def lagging(self) -> tuple[NodeReading, ...]:
        """Nodes that bear a stamp other than the truth's, or have not put it in force."""
        stamp = self.stamp
        if stamp is None:
            return ()
        return tuple(n for n in self.reachable if n.stamp and not (stamp.same_write(n.stamp) and n.settled))

    @property
    def foreign(self) -> tuple[NodeReading, ...]:
        """Nodes that somebody else changed: no stamp beside a stamped truth, or a split that no stamp names."""
        stamped = self.stamp is not None
        return tuple(n for n in self.reachable if n.changed_by_hand or (stamped and n.stamp is None))

    @property
    def settled(self) -> bool:
        """Every node answered, bears the truth and has it in force."""
        return not (self.unreachable or self.lagging or self.foreign)

    def health(self, color: Color) -> Health | None:
        """Return the best view that any node has of a color; None when no node tells."""
        seen = [node.health[color] for node in self.reachable if node.health and color in node.health]
        return max(seen, key=lambda health: health.ready, default=None)

    def worst_health(self, color: Color) -> Health | None:
        """Return the worst view that any node has of a color; None when no node tells."""
        seen = [node.health[color] for node in self.reachable if node.health and color in node.health]
        return min(seen, key=lambda health: health.ready, default=None)

    def as_json(self) -> dict[str, Any]:
        """JSON for XCom, reports and ``bluegreen status --json``."""
        stamp = self.stamp
        return {
            "service": self.service,
            "live": self.live,
            "split": str(self.split) if self.split else None,
            "settled": self.settled,
            "stamp": stamp.as_fields() if stamp else None,
            "nodes": [
                {
                    "node": node.node,
                    "split": str(node.split) if node.split else None,
                    "epoch": node.epoch,
                    "phase": str(node.stamp.phase) if node.stamp else None,
                    "settled": node.settled,
                    "health": {c: [h.ready, h.total] for c, h in (node.health or {}).items()},
                    "error": node.error,
                    "detail": node.detail,
                }
                for node in self.nodes
            ],
        }

    def says(self) -> str:
        """One line for logs: split, phase and each node that is not as it should be."""
        stamp = self.stamp
        known = [f"blue/green {self.split}", f"{stamp.phase} (epoch {stamp.epoch})" if stamp else "no stamp"]
        words = known if self.reachable else []
        words += [f"{node.node} unreachable: {node.error}" for node in self.unreachable]
        words += [f"{node.node} lags at epoch {node.epoch}" for node in self.lagging]
        words += [f"{node.node} changed by hand to {node.split}" for node in self.foreign]
        return ", ".join(words)
