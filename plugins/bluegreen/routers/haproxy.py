"""
HAProxy: one map file a service and node, swapped on disk and at run time (``haproxy_host`` says how).

Each node's map says what share of new requests green gets; the configuration draws a number for each request. A shift
loses no request and needs no reload, and a reload or a restart keeps it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from bluegreen.catalog import models
from bluegreen.core.colors import Color, Split
from bluegreen.core.errors import NotSettled, RouterError, RouterRefused, RouterUnreachable, TrafficConflict
from bluegreen.core.evidence import Counters, NodeCounters
from bluegreen.core.ports import Finding, Limits, Secrets
from bluegreen.core.reading import Health, NodeReading, Reading
from bluegreen.core.stamp import Expected, Stamp
from bluegreen.routers import haproxy_check, haproxy_host
from bluegreen.routers.nodes import NodesRouter, Version, Write

_ERRORS: Mapping[str, type[RouterError]] = {
    "unreachable": RouterUnreachable,
    "refused": RouterRefused,
    "conflict": TrafficConflict,
    "unsettled": NotSettled,
}


class HAProxyRouter(NodesRouter):
    """
    A service behind one or more HAProxy nodes.

    :param service: name in the catalog
    :param router: the service file's ``router``
    :param entry: the service file's ``entry``, for ``check``'s real request; without it none is sent
    """

    limits = Limits(finest_step=1, cas="atomic", renew=True)

    def __init__(self, service: str, router: models.HAProxyRouter, entry: models.Entry | None = None) -> None:
        self.members = tuple(HAProxyMember(service, node, router.backends) for node in router.nodes)
        super().__init__(service, self.members)
        self._router, self._entry = router, entry

    @classmethod
    def of(cls, service: models.Service, secrets: Secrets) -> HAProxyRouter:
        """Make the router of a service; HAProxy's admin socket knows no login."""
        del secrets
        return cls(service.service, service.router, service.entry)

    def check(self) -> Sequence[Finding]:
        """Find what in the nodes' configurations would keep a shift from doing what it says."""
        return haproxy_check.check(self.service, self._router, self._entry)

    async def counters(self) -> NodeCounters:
        """Cumulative counts of every node that answers, asked at the same time."""
        counted = await asyncio.gather(*(member.counters() for member in self.members))
        return {member.name: counts for member, counts in zip(self.members, counted, strict=True) if counts is not None}

    def make_ready(self, color: Color) -> None:
        """Put servers that were drained or in maintenance back on each node that is reached."""
        failed: list[RouterError] = []
        for member in self.members:
            try:
                member.make_ready(color)
            except RouterError as error:
                failed.append(error)
        if len(failed) == len(self.members):
            raise failed[0]

    def _forward(self, to: Split, expected: Expected | None, stamp: Stamp, before: Reading) -> Reading:
        # On every node before the first is moved.
        for member, node in zip(self.members, before.nodes, strict=True):
            if node.reachable:
                member.require_targets(node, to)
        return super()._forward(to, expected, stamp, before)


@dataclass(frozen=True)
class HAProxyMember:
    """One HAProxy node of one service; implements ``nodes.Node``."""

    service: str
    node: models.HAProxyNode
    backends: Mapping[Color, str]

    @property
    def name(self) -> str:
        """The node's name in the catalog."""
        return self.node.name

    @property
    def config(self) -> haproxy_host.Config:
        """Return what ``haproxy_host`` wants to know."""
        return haproxy_check.host_config(self.node, self.backends)

    def read(self) -> NodeReading:
        """Ask the node for file, run time and servers."""
        with self._errors():
            return self._reading(haproxy_host.read(self.config))

    def write(self, write: Write, version: Version) -> NodeReading:
        """Compare and set under the node's lock, durable and in force."""
        stamp = write.stamp.as_fields() if write.stamp else {}
        with self._errors():
            return self._reading(haproxy_host.swap(self.config, list(version), {**stamp, "split": str(write.split)}))

    def make_ready(self, color: Color) -> None:
        """Put this node's drained servers of a color back."""
        with self._errors():
            haproxy_host.make_ready(self.config, self.backends[color])

    def require_targets(self, node: NodeReading, to: Split) -> None:
        """Refuse a split over an unknown backend, an empty one, or more traffic for one without a healthy server."""
        health, now = node.health or {}, node.split or to
        for color, backend in self.backends.items():
            found = health.get(color)
            if found is None:
                raise self._refused(f"HAProxy knows no backend {backend}", "name it as haproxy.cfg does")
            if not found.total:
                raise self._refused(f"backend {backend} has no server", "give it servers in haproxy.cfg and reload")
            if to.share(color) > now.share(color) and not found.serves:
                fact = (
                    f"none of {found.total} servers of backend {backend} is up, wanted {to.share(color)} % for {color}"
                )
                raise self._refused(fact, "see why their health check fails: `show stat` on the admin socket")

    async def counters(self) -> dict[Color, Counters] | None:
        """Count by color; None when the node does not answer."""
        try:
            async with asyncio.timeout(haproxy_check.SOCKET_TIMEOUT):
                rows = haproxy_host.table(await _ask(self.node.socket, "show stat"))
            return {
                color: _counters([row for row in rows if row["pxname"] == backend and row["svname"] != "FRONTEND"])
                for color, backend in self.backends.items()
                if any(row["pxname"] == backend for row in rows)
            }
        except (OSError, TimeoutError, KeyError, IndexError, ValueError):  # gone, or cut short in the middle
            return None

    def _reading(self, found: dict[str, Any]) -> NodeReading:
        stamp = Stamp.from_fields(found["fields"])
        pools = {color: found["pools"].get(backend) for color, backend in self.backends.items()}
        return NodeReading(
            self.name,
            split=Split.parse(found["split"]),
            stamp=stamp,
            stamped_split=Split.parse(found["fields"]["split"]) if stamp else None,
            settled=found["settled"],
            health={color: _health(pool.values()) for color, pool in pools.items() if pool is not None},
            detail=found["detail"],
        )

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except haproxy_host.Trouble as trouble:
            raise _ERRORS[trouble.kind](
                trouble.fact, service=self.service, part=self.name, next_step=trouble.mend
            ) from trouble
        except (KeyError, IndexError) as error:
            raise RouterUnreachable(
                f"its answer is cut short: no {error}", service=self.service, part=self.name, next_step="try again"
            ) from error
        except ValueError as error:
            raise self._refused(f"the stamp in {self.node.map} is garbled: {error}", haproxy_host.MEND_STAMP) from error

    def _refused(self, fact: str, next_step: str) -> RouterRefused:
        return RouterRefused(fact, service=self.service, part=self.name, next_step=f"nothing was touched; {next_step}")


def takes_requests(status: str) -> bool:
    """Tell whether a server with this status in ``show stat`` gets new requests."""
    return status.startswith("UP") or status == "no check"


def _health(statuses: Any) -> Health:
    return Health(sum(takes_requests(status) for status in statuses), len(statuses))


def _counters(rows: Sequence[dict[str, str]]) -> Counters:
    """
    Counters of one backend: its own row counts what HAProxy answered in the servers' place, too.

    Requests are those that were answered; those that still run are in flight.
    """
    total = next((row for row in rows if row["svname"] == "BACKEND"), {})
    health = _health([haproxy_host.server_status(row) for row in rows if row["svname"] != "BACKEND"])
    answered = sum(int(total.get(f"hrsp_{kind}") or 0) for kind in ("1xx", "2xx", "3xx", "4xx", "5xx", "other"))
    return Counters(
        requests=answered,
        errors=int(total.get("hrsp_5xx") or 0),
        in_flight=int(total.get("scur") or 0) + int(total.get("qcur") or 0),
        ready=health.ready,
        total=health.total,
        latency_ms=float(total.get("rtime") or 0) if answered else None,
    )


async def _ask(where: str, command: str) -> str:
    if where.startswith("/"):
        reader, writer = await asyncio.open_unix_connection(where)
    else:
        host, _, port = where.rpartition(":")
        reader, writer = await asyncio.open_connection(host.strip("[]"), int(port))
    try:
        writer.write(command.encode() + b"\n")
        writer.write_eof()
        return (await reader.read()).decode("utf-8", "replace")
    finally:
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()
