"""
Routers whose split is a file on each node's host: what their nodes share.

A host program (``haproxy_host``, ``nginx_host``) reads and swaps the file under one lock, here or over SSH; this module
turns its answers into readings and its trouble into errors.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar

from bluegreen.core.colors import Color, Split
from bluegreen.core.errors import NotSettled, RouterError, RouterRefused, RouterUnreachable, TrafficConflict
from bluegreen.core.evidence import Counters, NodeCounters
from bluegreen.core.reading import Health, NodeReading
from bluegreen.core.stamp import Stamp
from bluegreen.hosts.host_files import Trouble
from bluegreen.hosts.places import Place
from bluegreen.routers.nodes import NodesRouter, Version, Write

_ERRORS: Mapping[str, type[RouterError]] = {
    "unreachable": RouterUnreachable,
    "refused": RouterRefused,
    "conflict": TrafficConflict,
    "unsettled": NotSettled,
}


class HostedNode:
    """
    One node of one service behind a host program; implements ``nodes.Node``.

    :param service: name in the catalog
    :param name: the node's name in the catalog
    :param place: where the host program runs
    :param config: what the host program wants to know
    :param backends: how the kind calls each color's servers
    """

    mend_stamp: ClassVar[str]
    mend_health: ClassVar[str]
    kind: ClassVar[str]
    file: ClassVar[str]

    def __init__(
        self, service: str, name: str, place: Place, config: Mapping[str, Any], backends: Mapping[Color, str]
    ) -> None:
        self.service, self.name, self.place, self.backends = service, name, place, backends
        self.config = dict(config)

    def read(self) -> NodeReading:
        """Ask the node for file, run time and servers."""
        with self.errors():
            return self._reading(self.place.call("read", config=self.config))

    def write(self, write: Write, version: Version) -> NodeReading:
        """Compare and set under the node's lock, durable and in force."""
        fields = {**(write.stamp.as_fields() if write.stamp else {}), "split": str(write.split)}
        with self.errors():
            return self._reading(self.place.call("swap", config=self.config, version=list(version), fields=fields))

    def health(self, found: Mapping[str, Any]) -> Mapping[Color, Health]:
        """Servers by color in a host program's answer."""
        raise NotImplementedError

    def require_targets(self, node: NodeReading, to: Split) -> None:
        """
        Refuse, before anything is touched, a split that this node cannot serve.

        That is one over an unknown or empty backend, or more traffic for one without a healthy server.
        """
        health, now = node.health or {}, node.split or to
        for color, backend in self.backends.items():
            found = health.get(color)
            if found is None:
                raise self.refused(f"{self.kind} knows no backend {backend}", f"name it as {self.file} does")
            if not found.total:
                raise self.refused(f"backend {backend} has no server", f"give it servers in {self.file} and reload")
            if to.share(color) > now.share(color) and not found.serves:
                fact = (
                    f"none of {found.total} servers of backend {backend} is up, wanted {to.share(color)} % for {color}"
                )
                raise self.refused(fact, self.mend_health)

    async def counters(self) -> dict[Color, Counters] | None:
        """Count by color; None when the node does not answer."""
        raise NotImplementedError

    def _reading(self, found: Mapping[str, Any]) -> NodeReading:
        stamp = Stamp.from_fields(found["fields"])
        return NodeReading(
            self.name,
            split=Split.parse(found["split"]),
            stamp=stamp,
            stamped_split=Split.parse(found["fields"]["split"]) if stamp else None,
            settled=found["settled"],
            health=self.health(found),
            detail=found["detail"],
        )

    @contextmanager
    def errors(self) -> Iterator[None]:
        """Turn a host's trouble, and its nonsense, into errors that name service and node."""
        try:
            yield
        except Trouble as trouble:
            raise _ERRORS[trouble.kind](
                trouble.fact, service=self.service, part=self.name, next_step=trouble.mend
            ) from trouble
        except (KeyError, IndexError) as error:
            raise RouterUnreachable(
                f"its answer is cut short: no {error}", service=self.service, part=self.name, next_step="try again"
            ) from error
        except ValueError as error:
            raise self.refused(f"the stamp is garbled: {error}", self.mend_stamp) from error

    def refused(self, fact: str, next_step: str) -> RouterRefused:
        """Return the error of a write that was not begun."""
        return RouterRefused(fact, service=self.service, part=self.name, next_step=f"nothing was touched; {next_step}")


class HostedRouter(NodesRouter):
    """
    A router over hosted nodes.

    :param service: name in the catalog
    :param members: its nodes, in the order of writing
    """

    members: Sequence[HostedNode]

    def __init__(self, service: str, members: Sequence[HostedNode]) -> None:
        self.members = tuple(members)
        super().__init__(service, self.members)

    async def counters(self) -> NodeCounters:
        """Cumulative counts of every node that answers, asked at the same time."""
        counted = await asyncio.gather(*(member.counters() for member in self.members))
        return {member.name: counts for member, counts in zip(self.members, counted, strict=True) if counts is not None}
