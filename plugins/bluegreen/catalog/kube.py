"""What a service file may say of Kubernetes: where a cluster is, and the objects that decide a service's split."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from bluegreen.catalog.durations import Duration, text
from bluegreen.catalog.section import ConnectionId, HostPort, Section
from bluegreen.core.colors import Color

OBJECT_NAME = r"^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$"
LABEL_VALUE = r"^[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?$"
LABEL_KEY = r"^([a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?/)?[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?$"

ObjectName = Annotated[str, Field(pattern=OBJECT_NAME, examples=["shop"])]
LabelValue = Annotated[str, Field(pattern=LABEL_VALUE, examples=["blue"])]
LabelKey = Annotated[str, Field(pattern=LABEL_KEY, examples=["version"])]
Port = Annotated[int, Field(ge=1, le=65535)]


def both_colors(found: dict[Color, Any]) -> dict[Color, Any]:
    """Refuse a mapping by color that lacks one, or has the same thing for both."""
    if set(found) != set(Color):
        raise ValueError("it needs both colors, blue and green")
    if found[Color.BLUE] == found[Color.GREEN]:
        raise ValueError("blue and green need one of their own each")
    return found


class ClusterPlace(Section):
    """A namespace of a cluster, and how the cluster is logged in to."""

    connection: ConnectionId | None = Field(
        None,
        description="Airflow connection of type kubernetes; without one the service account of the pod that we run in, "
        "else KUBECONFIG",
    )
    namespace: ObjectName = Field(description="namespace of the service's objects", examples=["shop"])
    timeout: Duration = Field(
        timedelta(seconds=5), gt=timedelta(), description="for one answer of the API server; a watch has its own"
    )


class KubeNode(ClusterPlace):
    """One cluster and namespace that carries the service."""

    name: str = Field(min_length=1, description="how logs and reports call it")
    entry: HostPort = Field(description="where proof requests reach this node")


def _nodes_differ(nodes: tuple[KubeNode, ...]) -> tuple[KubeNode, ...]:
    if len({node.name for node in nodes}) != len(nodes):
        raise ValueError("node names must differ")
    places: dict[tuple[str | None, str], str] = {}
    for node in nodes:
        if (other := places.setdefault((node.connection, node.namespace), node.name)) != node.name:
            raise ValueError(
                f"{other} and {node.name} are one object, by the same connection and namespace: "
                "each would find the other's write; take one of them out"
            )
    return nodes


KubeNodes = Annotated[tuple[KubeNode, ...], AfterValidator(_nodes_differ)]


class KubeSection(Section):
    """What the routers of all Kubernetes objects have."""

    client_cookie: ClassVar[str | None] = None

    nodes: KubeNodes = Field(min_length=1, description="written in this order; one, but for several clusters")
    settle_within: Duration | None = Field(
        None,
        gt=timedelta(),
        description="how long each node's write is waited for until the cluster has it in force, one node after the other; "
        "all together less than release.lease. By default 30s, and at most half of the lease, shared by the nodes",
    )

    def settles_within(self, lease: timedelta) -> timedelta:
        """Return how long one node's write is waited for: nobody renews the lease meanwhile."""
        if self.settle_within is not None:
            return self.settle_within
        return min(timedelta(seconds=30), lease / 2) / len(self.nodes)

    def need_lease(self, lease: timedelta) -> None:
        """
        Refuse what a guard would put back although it is only slow.

        :raises ValueError: all nodes' waits, one after the other, are not shorter than the lease
        """
        each, many = self.settle_within, len(self.nodes)
        if each is None or each * many < lease:
            return
        waits = (
            text(each) if many == 1 else f"{text(each)} for each of {many} nodes in turn, {text(each * many)} in all"
        )
        raise ValueError(
            f"lease is {text(lease)}, and router.settle_within {waits}: a guard would put back what is only slow; "
            f"give router.settle_within less than {text(lease / many)}, or a lease of more than {text(each * many)}"
        )


class ServiceCanary(Section):
    """The Deployments whose sizes make a share on a plain Service."""

    deployments: Annotated[dict[Color, ObjectName], AfterValidator(both_colors)] = Field(
        description="the Deployment of each color; the new one is scaled to its share of the live one"
    )


class PodConnections(Section):
    """Open connections are counted in the pods themselves, by `cat /proc/net/tcp`; needs the right to exec in them."""

    container: ObjectName | None = Field(None, description="one that has `cat`; by default each pod's first container")


class KubeServiceRouter(KubeSection):
    """A Service whose selector says the color. Without ``canary`` it knows 0 and 100 per cent only."""

    type: Literal["kube_service"]
    service: ObjectName = Field(description="the Service whose selector is switched")
    label: LabelKey = Field("color", description="the selector's key whose value says the color")
    values: Annotated[dict[Color, LabelValue], AfterValidator(both_colors)] = Field(
        {Color.BLUE: "blue", Color.GREEN: "green"}, description="its value for each color"
    )
    canary: ServiceCanary | None = Field(None, description="shares by the number of ready pods; else 0 and 100 only")
    connections: PodConnections | None = Field(
        None, description="the drain waits for clients' open connections, which stay on their pods; `{}` is enough"
    )


class Subset(Section):
    """Where a VirtualService sends a color's requests."""

    host: str = Field(min_length=1, description="destination.host as the VirtualService has it", examples=["shop"])
    subset: ObjectName | None = Field(None, description="destination.subset; none where each color has a host")


class IstioRouter(KubeSection):
    """The weights of a VirtualService's http routes."""

    type: Literal["istio"]
    virtual_service: ObjectName = Field(description="the VirtualService whose weights are written")
    routes: tuple[str, ...] | None = Field(
        None,
        min_length=1,
        description="names of the spec.http routes that carry the colors; by default those whose destinations are the two colors",
    )
    destinations: Annotated[dict[Color, Subset], AfterValidator(both_colors)] = Field(
        description="the destination of each color"
    )
    destination_rule: ObjectName | None = Field(None, description="the DestinationRule that has the subsets")

    @model_validator(mode="after")
    def _subsets_are_looked_for_somewhere(self) -> Self:
        if self.destination_rule and not all(found.subset for found in self.destinations.values()):
            raise ValueError("destination_rule is for destinations with a subset: give both a subset, or take it out")
        return self


class Backend(Section):
    """The Service of one color behind a Gateway API route."""

    name: ObjectName = Field(description="backendRef.name: the color's Service")
    port: Port = Field(description="backendRef.port")


class GatewayApiRouter(KubeSection):
    """The weights of an HTTPRoute's or GRPCRoute's backendRefs."""

    type: Literal["gateway_api"]
    kind: Literal["HTTPRoute", "GRPCRoute"] = Field("HTTPRoute", description="kind of the route")
    route: ObjectName = Field(description="the route whose weights are written")
    backends: Annotated[dict[Color, Backend], AfterValidator(both_colors)] = Field(
        description="the Service of each color; every rule that names one of them must name both"
    )
