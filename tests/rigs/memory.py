"""
A router in memory: the rules of ``routers/nodes.py`` over nodes that fail when a test says so.

Nodes are the world (they outlive any router), so that several writers may each build a router over the same nodes::

    nodes = memory_nodes("one", "two")
    MemoryRouter("shop", nodes).shift(...)
    nodes[0].fails = "after"          # the next write takes hold, and its writer is told that it did not
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, field, replace
from threading import Barrier, RLock
from typing import Literal, Self

from bluegreen.core.colors import Color, Split
from bluegreen.core.errors import RouterError, RouterRefused, RouterUnreachable, TrafficConflict
from bluegreen.core.evidence import Counters
from bluegreen.core.ports import Finding, Limits
from bluegreen.core.reading import Health, NodeReading
from bluegreen.core.stamp import Stamp
from bluegreen.routers.nodes import NodesRouter, Version, Write
from tests.rigs.rig import Hook, hooked

When = Literal["before", "after"]


class WriterKilled(BaseException):
    """The writing process died; nothing in it runs any more, so no ``except RouterError`` catches this."""


@dataclass
class MemoryNode:
    """
    One node; implements ``nodes.Node``.

    :param reachable: False: read and write raise RouterUnreachable
    :param refuses: True: write raises RouterRefused
    :param fails: the next write raises RouterUnreachable before or after it takes hold, once
    :param kills: the next write kills its writer (WriterKilled) before or after it takes hold, once
    :param delay: seconds that each read and write takes
    :param in_force: False: the next writes are durable, but not in force, until it is True again
    :param on_read: called just before the answer, to let somebody else come in between
    :param on_write: called just before the comparison, for the same
    """

    name: str
    split: Split = field(default_factory=lambda: Split.whole_on(Color.BLUE))
    stamp: Stamp | None = None
    stamped_split: Split | None = None
    health: dict[Color, Health] = field(default_factory=lambda: {color: Health(2, 2) for color in Color})
    counts: dict[Color, Counters] = field(default_factory=lambda: {color: Counters(0, 0) for color in Color})
    drained: Counter[Color] = field(default_factory=Counter)
    reachable: bool = True
    refuses: bool = False
    fails: When | None = None
    kills: When | None = None
    delay: float = 0.0
    in_force: bool = True
    on_read: Callable[[], None] | None = None
    on_write: Callable[[], None] | None = None
    writes: int = 0
    lock: AbstractContextManager[object] = field(default_factory=RLock)

    def read(self) -> NodeReading:
        """Answer as the node stands now."""
        self._answer()
        if self.on_read:
            self.on_read()
        with self.lock:
            return self._reading()

    def write(self, write: Write, version: Version) -> NodeReading:
        """Compare and set, with the faults that the test asked for."""
        self._answer()
        if self.on_write:
            self.on_write()
        with self.lock:
            if self.refuses:
                raise RouterRefused("the disk is read-only", part=self.name, next_step="mend it")
            if tuple(version) != self._reading().version:
                raise TrafficConflict(f"expected {version}, found {self._reading().version}", part=self.name)
            self._break("before")
            self._take(write)
            self._break("after")
            return self._reading()

    def by_hand(self, split: Split) -> None:
        """Let somebody change the split past us: the stamp stays."""
        with self.lock:
            self.split = split

    def drain(self, color: Color) -> None:
        """Take a color's servers out by hand."""
        self.health[color] = replace(self.health[color], ready=0)
        self.drained[color] = 1

    def _take(self, write: Write) -> None:
        stamp = write.stamp
        if stamp and stamp.lease and self.stamp and stamp.same_write(self.stamp):
            stamp = self.stamp.renewed(stamp.lease)
        self.split, self.stamp, self.stamped_split = write.split, stamp, write.split if stamp else None
        self.writes += 1

    def _reading(self) -> NodeReading:
        return NodeReading(
            self.name, self.split, self.stamp, self.stamped_split, settled=self.in_force, health=dict(self.health)
        )

    def _answer(self) -> None:
        if self.delay:
            time.sleep(self.delay)
        if not self.reachable:
            raise RouterUnreachable("does not answer", part=self.name, next_step="bring it back")

    def _break(self, when: When) -> None:
        if self.kills == when:
            self.kills = None
            raise WriterKilled(f"{self.name}: {when} the write")
        if self.fails == when:
            self.fails = None
            raise RouterUnreachable(f"went away {when} the write", part=self.name, next_step="bring it back")


class MemoryRouter(NodesRouter):
    """A router over memory nodes, with all powers that the HAProxy router has."""

    limits = Limits()

    def __init__(self, service: str, nodes: Sequence[MemoryNode], limits: Limits | None = None) -> None:
        super().__init__(service, nodes)
        self.memory = tuple(nodes)
        self.limits = limits or Limits()

    def check(self) -> Sequence[Finding]:
        """Nothing can be wrong here."""
        return ()

    async def counters(self) -> dict[str, dict[Color, Counters]]:
        """Return what the test has put in ``MemoryNode.counts``."""
        return {node.name: dict(node.counts) for node in self.memory if node.reachable}

    def make_ready(self, color: Color) -> None:
        """Put drained servers back."""
        for node in self.memory:
            if node.reachable and node.drained.pop(color, 0):
                node.health[color] = replace(node.health[color], ready=node.health[color].total)


def memory_nodes(*names: str, locked: bool = True) -> tuple[MemoryNode, ...]:
    """Nodes in their fixed order; ``locked=False`` spares single-threaded machines the lock."""
    return tuple(MemoryNode(name) if locked else MemoryNode(name, lock=nullcontext()) for name in names)


class MemoryRig:
    """The rig over memory; see ``tests/rigs/rig.py``."""

    name = "memory"
    can: frozenset[str] = frozenset({"readies", "hitless"})
    warnings: frozenset[str] = frozenset()
    steps = 4

    def __init__(self) -> None:
        self.nodes = memory_nodes("one", "two")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None: ...

    def router(
        self, *, before: Mapping[int, Hook] | None = None, after: Mapping[int, Hook] | None = None
    ) -> NodesRouter:
        return hooked(MemoryRouter("shop", self.nodes), before or {}, after or {})

    def reset(self) -> None:
        for node, fresh in zip(self.nodes, memory_nodes("one", "two"), strict=True):
            vars(node).update(vars(fresh))

    def lose(self, number: int) -> None:
        self.nodes[number].reachable = False

    def bring_back(self, number: int) -> None:
        self.nodes[number].reachable = True

    def by_hand(self, number: int, share: int) -> None:
        self.nodes[number].by_hand(Split.giving(Color.GREEN, share))

    def refuse_writes(self, number: int) -> None:
        self.nodes[number].refuses = True

    def kill_writer(self, at: int, write: Callable[[NodesRouter], object]) -> bool:
        steps = [(node, when) for node in self.nodes for when in ("before", "after")]
        if at > len(steps):
            return False
        node, when = steps[at - 1]
        node.kills = when
        with suppress(WriterKilled):
            write(self.router())
        return True

    def race(self, writes: list[Callable[[NodesRouter], object]]) -> list[str]:
        meet = Barrier(len(writes))

        def one(write: Callable[[NodesRouter], object]) -> str:
            meet.wait()
            try:
                write(self.router())
            except RouterError as error:
                return type(error).__name__
            return ""

        with ThreadPoolExecutor(len(writes)) as pool:
            return list(pool.map(one, writes))

    def drain(self, color: Color) -> None:
        for node in self.nodes:
            node.drain(color)
