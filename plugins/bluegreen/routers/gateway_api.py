"""
Gateway API: the weights of an HTTPRoute's or a GRPCRoute's backendRefs.

A write is in force when every parent of the route says so of this very generation: ``Accepted`` and ``ResolvedRefs``.
The parent may be a Gateway (Envoy Gateway, Traefik, Istio, a cloud's) or a Service (Linkerd). A controller that never
says which generation it means (Linkerd's) is taken at its word: whether the write has arrived, the proof finds out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from bluegreen.catalog import models
from bluegreen.catalog.kube import GatewayApiRouter, KubeNode
from bluegreen.clusters.objects import GRPC_ROUTES, HTTP_ROUTES, Cluster, Json
from bluegreen.core.colors import Color
from bluegreen.core.ports import Limits
from bluegreen.routers import kube_pods, kube_weights
from bluegreen.routers.gateway_check import GatewayCheck
from bluegreen.routers.kube_nodes import ARRIVES_WITHIN, Healths, KubeRouter
from bluegreen.routers.kube_weights import Destinations, WeightedNode

GROUP = "gateway.networking.k8s.io"
CORE = "core"
"""How Linkerd calls the group of a Service, whose name is empty: in its pages, and in each status that it writes."""
WANTED = ("Accepted", "ResolvedRefs")


class RouteNode(WeightedNode):
    """One HTTPRoute or GRPCRoute in one namespace."""

    nothing = "no rule has both colors as its backendRefs"
    mend_stays = (
        "give it one backendRef of each color and no other; what is for testers matches a header or a query parameter"
    )

    def __init__(self, service: models.Service, router: GatewayApiRouter, node: KubeNode, cluster: Cluster) -> None:
        super().__init__(service, router, node, cluster)
        self.router = router
        self.kind = HTTP_ROUTES if router.kind == "HTTPRoute" else GRPC_ROUTES

    @property
    def target(self) -> str:
        """The route's name."""
        return self.router.route

    def places(self, found: Json) -> list[Destinations]:
        """Return every rule, with the colors that it names."""
        rules, names = [], self._names()
        for number, rule in enumerate(found["spec"].get("rules") or ()):
            refs = rule.get("backendRefs") or ()
            rules.append(
                Destinations(
                    f"rule {rule.get('name') or number}",
                    f"/spec/rules/{number}/backendRefs",
                    [kube_weights.by_color(names, ref) if self._is_service(ref) else None for ref in refs],
                    [ref.get("weight", 1) for ref in refs],
                    pinned=kube_weights.pinned(rule.get("matches") or ()),
                )
            )
        return rules

    def _names(self) -> dict[Color, Json]:
        """Return what a color's backendRefs have: any port of its Service is the color's, as all of them end with its pods."""
        ours = self.router.backends
        if len({one.name for one in ours.values()}) == len(ours):
            return {color: {"name": one.name} for color, one in ours.items()}
        return {color: {"name": one.name, "port": one.port} for color, one in ours.items()}

    def healths(self, found: Json) -> Healths:
        """Return the ready endpoints of each color's Service."""
        del found
        names = {color: self.router.backends[color].name for color in Color}
        return kube_pods.services_health(self.cluster, names)

    def not_in_force(self, found: Json) -> str:
        """Say which parent has not taken this generation of the route."""
        return next(_not_taken(found, self.cluster.namespace), "")

    def says_no_generation(self, found: Json) -> bool:
        """Tell whether a parent says of no generation that it has taken it."""
        said = (found.get("status") or {}).get("parents") or ()
        return any(not one.get("observedGeneration") for parent in said for one in parent.get("conditions") or ())

    def _is_service(self, ref: Json) -> bool:
        group, kind, namespace = _group(ref, ""), ref.get("kind", "Service"), ref.get("namespace")
        return (group, kind) == ("", "Service") and namespace in (None, self.cluster.namespace)


class GatewayRouter(KubeRouter):
    """A service behind a route of the Gateway API in one or more clusters; see ``KubeRouter``."""

    node_type = RouteNode
    check_type = GatewayCheck
    limits = Limits(follow_within=ARRIVES_WITHIN, arrives_within=ARRIVES_WITHIN)


def _group(ref: Mapping[str, Any], usual: str) -> str:
    """Return a reference's group by its real name; ``usual`` is the one that it may leave out."""
    found = str(ref.get("group", usual))
    return "" if found == CORE else found


def parents(refs: Sequence[Mapping[str, Any]], namespace: str) -> Iterator[tuple[Any, ...]]:
    """
    Yield what tells parents apart; what a reference leaves out is the API's default.

    :param namespace: the route's own
    """
    for ref in refs:
        yield (
            _group(ref, GROUP),
            ref.get("kind", "Gateway"),
            ref.get("namespace", namespace),
            ref["name"],
            ref.get("sectionName"),
            ref.get("port"),
        )


def _not_taken(found: Json, namespace: str) -> Iterator[str]:
    said = (found.get("status") or {}).get("parents") or ()
    told = list(parents([one["parentRef"] for one in said], namespace))
    for parent in parents(found["spec"].get("parentRefs") or (), namespace):
        name = f"{parent[1]} {parent[2]}/{parent[3]}"
        answers = [one for one, whose in zip(said, told, strict=True) if whose == parent]
        if not answers:
            yield f"no controller has taken it for {name}"
        for answer in answers:
            yield from _not_true(answer, name, found["metadata"]["generation"])


def _not_true(answer: Json, name: str, generation: int) -> Iterator[str]:
    conditions = {one["type"]: one for one in answer.get("conditions") or ()}
    for wanted in WANTED:
        one = conditions.get(wanted)
        if one is None or 0 < one.get("observedGeneration", 0) < generation:  # none is 0: it says no generation at all
            yield f"{name} has not said {wanted} of generation {generation} yet"
        elif one["status"] != "True":
            yield f"{name} says {wanted}: {one['status']}, {one.get('reason')}: {one.get('message')}"
