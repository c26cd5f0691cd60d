"""
Open-source nginx: one include file a service and node, tested and reloaded (``nginx_host`` says how).

The include draws each request's upstream with ``split_clients``. A shift is a reload: new workers take what comes, old
ones finish what they have. No request is lost where nginx has ``keepalive_min_timeout``; ``check`` says so where not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any, cast

from bluegreen.catalog import models
from bluegreen.core.colors import Color, Split
from bluegreen.core.errors import RouterError
from bluegreen.core.evidence import Counters
from bluegreen.core.ports import Finding, Limits, Secrets
from bluegreen.core.reading import Health, NodeReading
from bluegreen.hosts import host_seen
from bluegreen.hosts.host_files import Trouble
from bluegreen.hosts.places import Place, place_of
from bluegreen.routers import nginx_check, nginx_config, nginx_host, nginx_include
from bluegreen.routers.hosted import HostedNode, HostedRouter


class NginxRouter(HostedRouter):
    """
    A service behind one or more nginx nodes.

    :param service: the service file's whole: nginx asks no server for its health, so that we do, from the node's host
    :param router: its ``router``
    :param secrets: who logs in on nodes behind SSH
    :param proving: ``check`` sends a real request to each node's entry
    """

    # A kept-alive client that was idle at the reload may send one request more to an old worker.
    limits = Limits(
        finest_step=1, cas="atomic", renew=True, follow_within=timedelta(seconds=nginx_config.KEEPALIVE_MIN + 1)
    )

    def __init__(
        self,
        service: models.Service,
        router: models.NginxRouter,
        secrets: Secrets | None = None,
        *,
        proving: bool = True,
    ) -> None:
        self._catalog, self._router, self._proving = service, router, proving
        members = [NginxMember(service, router, node, place_of(node.ssh, nginx_host, secrets)) for node in router.nodes]
        super().__init__(service.service, members)

    @classmethod
    def of(cls, service: models.Service, secrets: Secrets) -> NginxRouter:
        """Make the router of a service; nginx knows no login, but SSH does."""
        return cls(service, cast("models.NginxRouter", service.router), secrets)  # the registry chose by its type

    def check(self) -> Sequence[Finding]:
        """Find what in the nodes' configurations would keep a shift from doing what it says."""
        return nginx_check.check(self._catalog, self._router, self.members, proving=self._proving)


class NginxMember(HostedNode):
    """One nginx node of one service."""

    mend_stamp = nginx_include.MEND_STAMP
    kind, file = "nginx", "nginx.conf"
    mend_health = "see why they do not answer their health path from the node's host"

    def __init__(
        self, service: models.Service, router: models.NginxRouter, node: models.NginxNode, place: Place
    ) -> None:
        config = nginx_config.host_config(service, router, node)
        super().__init__(service.service, node.name, place, config, router.backends)

    def health(self, found: Mapping[str, Any]) -> Mapping[Color, Health]:
        """Servers by color, as this node's host sees them."""
        pools = {color: found["pools"][backend].values() for color, backend in self.backends.items()}
        return {
            color: Health(sum(status == host_seen.UP for status in statuses), len(statuses))
            for color, statuses in pools.items()
        }

    def require_targets(self, node: NodeReading, to: Split) -> None:
        """Refuse a configuration that nginx would not reload, or that does not route by our file."""
        with self.errors():
            dump = self.place.call("dump", config=self.config)
        if dump["lost"]:
            raise self.refused(dump["lost"], nginx_include.INITIAL)
        if dump["broken"]:
            raise self.refused(dump["broken"], "let who changed it mend it; until then nginx takes no reload")
        found = nginx_config.Configuration.of(dump["text"])
        if self.config["include"] not in found.files:
            fact = f"nginx.conf does not include {self.config['include']}: a shift would change nothing"
            raise self.refused(fact, nginx_include.status_lines(self.config))
        for backend in self.backends.values():
            if backend not in found.upstreams:
                known = ", ".join(sorted(found.upstreams)) or "none"
                raise self.refused(f"nginx knows no upstream {backend}", f"nginx.conf's upstreams are {known}")
        super().require_targets(node, to)

    async def counters(self) -> dict[Color, Counters] | None:
        """Count by color; None when the node or its log does not answer."""
        try:
            found = await self.place.acall("count", config=self.config)
            return {color: Counters(**found[backend]) for color, backend in self.backends.items()}
        except (Trouble, RouterError, KeyError, TypeError, ValueError):
            return None
