"""Whether a route's rules really carry both colors, and its parents take it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bluegreen.clusters.objects import ENDPOINT_SLICES, SERVICES, Json
from bluegreen.clusters.trouble import ClusterTrouble
from bluegreen.core.ports import Finding
from bluegreen.routers.kube_check import ObjectCheck, Right

if TYPE_CHECKING:
    from bluegreen.routers.gateway_api import RouteNode


@dataclass(frozen=True)
class GatewayCheck(ObjectCheck):
    """The check of one node."""

    member: RouteNode

    mend_split = "give the rule both Services as backendRefs, with weights such as 100 and 0"

    @property
    def fields(self) -> Sequence[str]:
        """Path of the list that has the weights: it has one owner as a whole."""
        return ("spec", "rules")

    def rights(self) -> Sequence[Right]:
        """Everything that the router asks of the API server."""
        router = self.member.router
        services = tuple(one.name for one in router.backends.values())
        return (
            Right(("get", "patch", "watch"), self.member.kind, names=(router.route,)),
            Right(("list",), ENDPOINT_SLICES),
            Right(("get",), SERVICES, names=services, optional=True),
        )

    def own(self, found: Json) -> Iterator[Finding]:
        """What a route may have wrong."""
        for fact, mend in self.member.staying(found):
            yield self.finding("rule-not-split", fact, mend)
        if not found["spec"].get("parentRefs"):
            fact = f"{self.member.says} has no parentRefs: no gateway takes it"
            yield self.finding("no-parent", fact, "name the Gateway, or for Linkerd the Service, in spec.parentRefs")
        elif why := self.member.not_in_force(found):
            mend = "see its status: every parent must say Accepted and ResolvedRefs of its generation"
            yield self.finding("not-in-force", f"{self.member.says}: {why}", mend)
        elif self.member.says_no_generation(found):
            fact = f"a parent of {self.member.says} does not say which generation it has taken, as Linkerd does"
            mend = "whether a write has arrived is told by the proof alone: let entry lead through that parent"
            yield self.finding("generation-untold", fact, mend, "warning")
        yield from self._backends()

    def _backends(self) -> Iterator[Finding]:
        for color, backend in self.member.router.backends.items():
            try:
                service = self.member.cluster.get(SERVICES, backend.name)
            except ClusterTrouble as trouble:
                if trouble.kind == "missing":
                    yield self.finding("backend-missing", trouble.fact, "make it, or mend router.backends")
                continue
            ports = [port["port"] for port in service["spec"].get("ports") or ()]
            if backend.port not in ports:
                fact = f"Service {backend.name} of {color} has no port {backend.port}, only {', '.join(map(str, ports)) or 'none'}"
                yield self.finding("backend-without-port", fact, "mend router.backends, or the Service")
