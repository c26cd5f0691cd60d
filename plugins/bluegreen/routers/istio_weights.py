"""
Istio: the weights of a VirtualService's http routes.

Nothing of the object is touched but these weights and the stamp. Istio says nowhere that its proxies have them, so that
a write counts as in force when the API server has it, and the proof says the rest. An unknown subset is refused before
anything is touched: Istio itself would take it, and answer with 503.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import cast

from bluegreen.catalog import models
from bluegreen.catalog.kube import IstioRouter, KubeNode
from bluegreen.clusters.objects import DESTINATION_RULES, PODS, SERVICES, VIRTUAL_SERVICES, Cluster, Json
from bluegreen.core.colors import Color, Split
from bluegreen.core.ports import Limits
from bluegreen.core.reading import NodeReading
from bluegreen.routers import kube_pods, kube_weights
from bluegreen.routers.istio_check import IstioCheck
from bluegreen.routers.kube_nodes import ARRIVES_WITHIN, Healths, KubeRouter, Routed
from bluegreen.routers.kube_weights import Destinations, WeightedNode


class IstioNode(WeightedNode):
    """One VirtualService in one namespace."""

    kind = VIRTUAL_SERVICES
    nothing = "no http route carries both colors"
    mend_stays = (
        "give it one destination of each color and no other; what is for testers matches a header or a query parameter"
    )

    def __init__(self, service: models.Service, router: IstioRouter, node: KubeNode, cluster: Cluster) -> None:
        super().__init__(service, router, node, cluster)
        self.router = router

    @property
    def target(self) -> str:
        """The VirtualService's name."""
        return self.router.virtual_service

    def places(self, found: Json) -> list[Destinations]:
        """Return every http route, with the colors that it names."""
        return [
            Destinations(
                f"route {route.get('name') or number}",
                f"/spec/http/{number}/route",
                self._colors(route),
                [one.get("weight", 0) for one in route.get("route") or ()],
                pinned=kube_weights.pinned(route.get("match") or ()),
            )
            for number, route in enumerate(found["spec"].get("http") or ())
        ]

    def _colors(self, route: Json) -> list[Color | None]:
        names = {
            color: self._short(one.model_dump(exclude_none=True)) for color, one in self.router.destinations.items()
        }
        return [kube_weights.by_color(names, self._short(one["destination"])) for one in route.get("route") or ()]

    def _short(self, destination: Json) -> Json:
        """Return a destination with its host's short name, which Istio takes for the whole one in this namespace."""
        return {**destination, "host": self._service(destination["host"]) or destination["host"]}

    def staying(self, found: Json) -> Iterator[tuple[str, str]]:
        """Yield routes of connections, too: a shift writes http routes alone."""
        yield from super().staying(found)
        for kind in ("tcp", "tls"):
            for number, route in enumerate(found["spec"].get(kind) or ()):
                if named := sorted({str(color) for color in self._colors(route) if color}):
                    fact = (
                        f"{kind} route {number} sends its connections to {' and '.join(named)}, whatever the split is"
                    )
                    mend = "send it to a host that is no color's, such as a Service of the pods of both"
                    yield f"{self.says}: {fact}", mend

    def unlisted(self, found: Json) -> Iterator[str]:
        """Say which routes carry both colors, and are none of those that the catalog names: nothing moves their requests."""
        ours = {one.path for one in self.carrying(found)}
        for one in self.places(found):
            if one.both and one.path not in ours:
                yield f"{self.says}: {one.says} carries both colors and is not in router.routes: its requests stay where they are"

    def carrying(self, found: Json) -> list[Destinations]:
        """Return the routes whose weights are ours: those that the catalog names, else those of both colors."""
        if self.router.routes is None:
            return super().carrying(found)
        return [one for one in self.places(found) if one.says.removeprefix("route ") in self.router.routes]

    def missing_routes(self, found: Json) -> list[str]:
        """Return the names in the catalog that no route has."""
        known = {one.says.removeprefix("route ") for one in self.places(found)}
        return [name for name in self.router.routes or () if name not in known]

    def routed(self, found: Json, fields: Mapping[str, str]) -> Routed:
        """Read the weights of routes that are all there."""
        if missing := self.missing_routes(found):
            return Routed(None, f"it has no http route {', '.join(missing)}")
        return super().routed(found, fields)

    def healths(self, found: Json) -> Healths:
        """Return the ready endpoints of each color's Service, or the ready pods of its subset."""
        del found
        services = {color: self.service_of(color) for color in Color}
        if not all(services.values()):
            return {}  # in another namespace or outside of the cluster
        if services[Color.BLUE] != services[Color.GREEN]:
            return kube_pods.services_health(self.cluster, cast("Mapping[Color, str]", services))
        if self.router.destination_rule is None:
            return {}  # nobody says which pods a subset has
        subsets = self.subsets()
        labels = {color: subsets.get(str(self.router.destinations[color].subset)) for color in Color}
        selector = self.cluster.get(SERVICES, str(services[Color.BLUE]))["spec"].get("selector") or {}
        pods = self.cluster.list(PODS, kube_pods.selector_text(selector)).items
        return {
            color: kube_pods.health_of(pod for pod in pods if own is not None and kube_pods.has_labels(pod, own))
            for color, own in labels.items()
        }

    def service_of(self, color: Color) -> str:
        """Return the Service of a color's host, empty where it is none of this namespace."""
        return self._service(self.router.destinations[color].host)

    def _service(self, host: str) -> str:
        name, _, rest = host.partition(".")
        return name if not rest or rest.split(".")[0] == self.cluster.namespace else ""

    def subsets(self) -> Mapping[str, Mapping[str, str]]:
        """Return the labels of each subset of the DestinationRule that the catalog names."""
        rule = self.cluster.get(DESTINATION_RULES, str(self.router.destination_rule))
        return {one["name"]: one.get("labels") or {} for one in rule["spec"].get("subsets") or ()}

    def missing_subsets(self) -> Iterator[tuple[str, str]]:
        """Yield each subset that the DestinationRule does not have, and what to do about it."""
        known = self.subsets()
        for color, one in self.router.destinations.items():
            if one.subset not in known:
                fact = f"DestinationRule {self.router.destination_rule} has no subset {one.subset} for {color}"
                yield fact, f"add it there; it has {', '.join(sorted(known)) or 'none'}"

    def require_targets(self, node: NodeReading, to: Split) -> None:
        """Refuse a subset that the DestinationRule does not have: its requests would be answered with 503."""
        if self.router.destination_rule:
            with self.errors():
                missing = next(self.missing_subsets(), None)
            if missing:
                raise self.refused(*missing)
        super().require_targets(node, to)


class IstioWeightsRouter(KubeRouter):
    """A service behind a VirtualService in one or more clusters; see ``KubeRouter``."""

    node_type = IstioNode
    check_type = IstioCheck
    limits = Limits(follow_within=ARRIVES_WITHIN, arrives_within=ARRIVES_WITHIN)
