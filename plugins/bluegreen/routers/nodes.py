"""
What all routers share: one split over several nodes, moved all or none forward, and node by node on the way back.

A kind of router gives its nodes (read and compare-and-set write of one node); the order of writing, the undo after a
node failed half-way, the repeated task and the conflict stand here once (design, section 4).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from bluegreen.core.colors import Split
from bluegreen.core.errors import RouterError, RouterRefused, RouterUnreachable, TrafficConflict, UnsupportedSplit
from bluegreen.core.ports import Limits
from bluegreen.core.reading import NodeReading, Reading
from bluegreen.core.stamp import Expected, Stamp

Version = tuple[Any, ...]


@dataclass(frozen=True)
class Write:
    """
    What one node is to bear.

    :param split: the split
    :param stamp: its stamp; None only when an undo gives back a node that had none
    """

    split: Split
    stamp: Stamp | None


class Node(Protocol):
    """One node of a router."""

    @property
    def name(self) -> str:
        """The node's name in the catalog."""
        ...

    def read(self) -> NodeReading:
        """
        Ask the node.

        :raises RouterUnreachable: it does not answer
        """
        ...

    def write(self, write: Write, version: Version) -> NodeReading:
        """
        Compare ``NodeReading.version`` and write, under one lock; durable and in force on return.

        :raises RouterUnreachable: it does not answer
        :raises TrafficConflict: another version is there
        :raises RouterRefused: it cannot take the write
        """
        ...


class Guarded(Protocol):
    """A node that knows what it cannot serve."""

    def require_targets(self, node: NodeReading, to: Split) -> None:
        """
        Refuse, before anything is touched, a split that this node cannot serve.

        :raises RouterRefused: it cannot
        """
        ...


class NodesRouter:
    """
    A router over nodes that are written one after the other.

    :param service: name in the catalog, for errors
    :param nodes: in the one fixed order of writing
    """

    @property
    def limits(self) -> Limits:
        """What this kind cannot do."""
        return Limits()

    members: Sequence[Guarded] = ()
    """The same nodes, of kinds that know what they cannot serve."""

    def __init__(self, service: str, nodes: Sequence[Node]) -> None:
        self.service = service
        self.nodes = tuple(nodes)

    def read(self) -> Reading:
        """Ask every node at the same time."""
        return Reading(self.service, tuple(self._each(self._read_node)))

    def shift(self, to: Split, expected: Expected | None, stamp: Stamp) -> Reading:
        """Write a split and its stamp; see ``core.ports.Router``."""
        before = self.read()
        if stamp.phase.way_back:
            return self._way_back(to, expected, stamp, before)
        return self._forward(to, expected, stamp, before)

    def foresee(self, to: Split) -> None:
        """Refuse a split that this kind cannot make; see ``core.ports.Foresees``."""
        self._need_step(to)

    def renew(self, identity: Expected, lease: datetime) -> Reading:
        """Keep the later lease on every node that bears ``identity``; see ``core.ports.Renews``."""
        before = self.read()
        if not before.reachable:
            raise self._unreachable(before)
        if before.stamp is None or before.stamp.identity != identity or before.foreign:
            raise self._conflict(before, identity)
        bearing = [node for node in before.reachable if node.stamp and node.stamp.identity == identity]
        renewals = [
            (node, Write(node.split, node.stamp.renewed(lease)))
            for node in bearing
            if node.stamp and node.split and node.stamp.phase.transitional
        ]
        self._write_each_reached(renewals)
        return self.read()

    def catch_up(self) -> Reading:
        """Bring nodes that lag behind a claimed or final truth up to it; see ``core.ports.CatchesUp``."""
        before = self.read()
        if before.stamp and before.split and not before.stamp.phase.transitional:
            self._write_each_reached([(node, Write(before.split, before.stamp)) for node in before.lagging])
        return self.read()

    def _forward(self, to: Split, expected: Expected | None, stamp: Stamp, before: Reading) -> Reading:
        for member, node in zip(self.members, before.nodes, strict=False):
            if node.reachable:
                member.require_targets(node, to)
        self._need_step(to)
        if before.unreachable:
            raise self._unreachable(before)
        waiting = [node for node in before.nodes if not _bears(node, to, stamp)]
        for node in waiting:
            found = node.stamp.identity if node.stamp else None
            if node.changed_by_hand or not (found == expected or stamp.same_write(node.stamp)):
                raise self._conflict(before, expected)
        moved: list[NodeReading] = []
        for node in waiting:
            moved.append(node)
            try:
                self._node(node.node).write(Write(to, stamp), node.version)
            except RouterError:
                self._undo(moved, to, stamp)
                raise
        return self.read()

    def _need_step(self, to: Split) -> None:
        if to.blue % self.limits.finest_step:
            raise UnsupportedSplit(
                f"wanted {to}, the finest step is {self.limits.finest_step} %",
                service=self.service,
                part="router",
                next_step="nothing was moved; give canary steps that it can make",
            )

    def _undo(self, moved: Sequence[NodeReading], to: Split, stamp: Stamp) -> None:
        # Only nodes that bear the new epoch: the one that failed may or may not have taken the write.
        new = NodeReading("", split=to, stamp=stamp).version
        for node in reversed(moved):
            if node.split is None or stamp.same_write(node.stamp):
                continue
            with suppress(RouterError):  # it does not bear the new epoch, or is gone: restore and guard see to it
                self._node(node.node).write(Write(node.split, node.stamp), new)

    def _way_back(self, to: Split, expected: Expected | None, stamp: Stamp, before: Reading) -> Reading:
        if not before.reachable:
            raise self._unreachable(before)
        found = before.stamp.identity if before.stamp else None
        if not (found == expected or stamp.same_write(before.stamp)):
            raise self._conflict(before, expected)
        self._write_each_reached([(n, Write(to, stamp)) for n in before.reachable if not _bears(n, to, stamp)])
        return self.read()

    def _write_each_reached(self, writes: Sequence[tuple[NodeReading, Write]]) -> None:
        """Write what can be written; a node that fails keeps the others from nothing, unless all fail."""
        failed: list[RouterError] = []
        for node, write in writes:
            try:
                self._node(node.node).write(write, node.version)
            except RouterError as error:
                failed.append(error)
        if failed and len(failed) == len(writes):
            raise failed[0]

    def _unreachable(self, reading: Reading) -> RouterError:
        names = ", ".join(node.node for node in reading.unreachable)
        errors = "; ".join(node.error for node in reading.unreachable)
        refused = any(node.refused for node in reading.unreachable)
        return (RouterRefused if refused else RouterUnreachable)(
            f"{'cannot be used' if refused else 'does not answer'}: {errors}",
            service=self.service,
            part=names,
            next_step="nothing was moved; bring the node back or take it out of the service file",
        )

    def _conflict(self, reading: Reading, expected: Expected | None) -> TrafficConflict:
        wanted = f"epoch {expected[0]} of {expected[1]}" if expected else "no stamp"
        return TrafficConflict(
            f"expected {wanted}, found {reading.says()}" + (f" of {reading.stamp.release}" if reading.stamp else ""),
            service=self.service,
            part="router",
            next_step="nothing was touched; see who did it with bluegreen status",
        )

    def _node(self, name: str) -> Node:
        return next(node for node in self.nodes if node.name == name)

    def _read_node(self, node: Node) -> NodeReading:
        try:
            return node.read()
        except RouterError as error:
            text = f"{error.fact}; {error.next_step}" if error.next_step else error.fact
            return NodeReading(node.name, error=text, refused=not error.retryable)
        except Exception as error:  # noqa: BLE001 - one node's nonsense must not keep the others from the way back
            return NodeReading(node.name, error=f"unexpected {type(error).__name__}: {error}")

    def _each(self, ask: Callable[[Node], NodeReading]) -> list[NodeReading]:
        if len(self.nodes) == 1:
            return [ask(self.nodes[0])]
        with ThreadPoolExecutor(max_workers=min(16, len(self.nodes))) as pool:
            return list(pool.map(ask, self.nodes))


def _bears(node: NodeReading, to: Split, stamp: Stamp) -> bool:
    return node.split == to and stamp.same_write(node.stamp) and node.settled
