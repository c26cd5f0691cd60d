"""
HAProxy: one map file a service and node, swapped on disk and at run time (``haproxy_host`` says how).

Each node's map says what share of new requests green gets; the configuration draws a number for each request. A shift
loses no request and needs no reload, and a reload or a restart keeps it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

from bluegreen.catalog import models
from bluegreen.core.colors import Color
from bluegreen.core.errors import RouterError
from bluegreen.core.evidence import Counters
from bluegreen.core.ports import Finding, Limits, Secrets
from bluegreen.core.reading import Health
from bluegreen.hosts.host_files import Trouble
from bluegreen.hosts.places import Here, Place, place_of
from bluegreen.routers import haproxy_check, haproxy_host, haproxy_socket
from bluegreen.routers.hosted import HostedNode, HostedRouter


class HAProxyRouter(HostedRouter):
    """
    A service behind one or more HAProxy nodes.

    :param service: name in the catalog
    :param router: the service file's ``router``
    :param entry: the service file's ``entry``, for ``check``'s real request; without it none is sent
    :param secrets: who logs in on nodes behind SSH
    """

    limits = Limits(finest_step=1, cas="atomic", renew=True)

    def __init__(
        self,
        service: str,
        router: models.HAProxyRouter,
        entry: models.Entry | None = None,
        secrets: Secrets | None = None,
    ) -> None:
        members = [
            HAProxyMember(service, node, place_of(node.ssh, haproxy_host, secrets), router.backends)
            for node in router.nodes
        ]
        super().__init__(service, members)
        self._router, self._entry = router, entry

    @classmethod
    def of(cls, service: models.Service, secrets: Secrets) -> HAProxyRouter:
        """Make the router of a service; HAProxy's admin socket knows no login, but SSH does."""
        router = cast("models.HAProxyRouter", service.router)  # the registry chose by its type
        return cls(service.service, router, service.entry, secrets)

    def check(self) -> Sequence[Finding]:
        """Find what in the nodes' configurations would keep a shift from doing what it says."""
        return haproxy_check.check(self.service, self._router, self._entry, self.members)

    def make_ready(self, color: Color) -> None:
        """Put servers that were drained or in maintenance back on each node that is reached."""
        failed: list[RouterError] = []
        for member in self.members:
            try:
                cast("HAProxyMember", member).make_ready(color)
            except RouterError as error:
                failed.append(error)
        if len(failed) == len(self.members):
            raise failed[0]


class HAProxyMember(HostedNode):
    """One HAProxy node of one service."""

    mend_stamp = haproxy_host.MEND_STAMP
    kind, file = "HAProxy", "haproxy.cfg"
    mend_health = "see why their health check fails: `show stat` on the admin socket"

    def __init__(self, service: str, node: models.HAProxyNode, place: Place, backends: Mapping[Color, str]) -> None:
        super().__init__(service, node.name, place, haproxy_check.host_config(node, backends), backends)

    def make_ready(self, color: Color) -> None:
        """Put this node's drained servers of a color back."""
        with self.errors():
            self.place.call("make_ready", config=self.config, backend=self.backends[color])

    def health(self, found: Mapping[str, Any]) -> Mapping[Color, Health]:
        """Servers by color, of the backends that HAProxy knows."""
        pools = {color: found["pools"].get(backend) for color, backend in self.backends.items()}
        return {color: _health(pool.values()) for color, pool in pools.items() if pool is not None}

    async def counters(self) -> dict[Color, Counters] | None:
        """Count by color; None when the node does not answer."""
        try:
            rows = haproxy_host.table(await self._stat())
            return {
                color: _counters([row for row in rows if row["pxname"] == backend and row["svname"] != "FRONTEND"])
                for color, backend in self.backends.items()
                if any(row["pxname"] == backend for row in rows)
            }
        except (Trouble, OSError, KeyError, IndexError, ValueError):  # gone, or cut short in the middle
            return None

    async def _stat(self) -> str:
        if isinstance(self.place, Here):
            return await haproxy_socket.stat(self.config)
        return str(await self.place.acall("stat", config=self.config))


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
