"""The pods behind a service's colors, and what EndpointSlices say of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from bluegreen.clusters.objects import ENDPOINT_SLICES, Cluster, Json
from bluegreen.clusters.status import is_ready
from bluegreen.core.colors import Color
from bluegreen.core.reading import Health

SERVICE_NAME = "kubernetes.io/service-name"
MEND_UNREACHED = "give the containers of both colors the same port names, or the Service's targetPort a number"


@dataclass(frozen=True)
class Endpoint:
    """
    One address that a Service sends requests to.

    :param name: its pod's, or the address itself where it is no pod's
    :param ready: it takes new requests
    """

    name: str
    ready: bool


def is_there(pod: Json) -> bool:
    """Tell whether a pod counts: it is neither at its end nor on its way to it."""
    ended = pod.get("status", {}).get("phase") in ("Succeeded", "Failed")
    return not (ended or pod["metadata"].get("deletionTimestamp"))


def health_of(pods: Iterable[Json]) -> Health:
    """Return how many of these pods are ready."""
    there = [pod for pod in pods if is_there(pod)]
    return Health(sum(is_ready(pod) for pod in there), len(there))


def selector_text(labels: Mapping[str, str]) -> str:
    """Return labels as a label selector."""
    return ",".join(f"{key}={value}" for key, value in sorted(labels.items()))


def has_labels(pod: Json, labels: Mapping[str, str]) -> bool:
    """Tell whether a pod has all these labels."""
    return labels.items() <= (pod["metadata"].get("labels") or {}).items()


def named_ports(pod: Json) -> dict[str, int]:
    """Return the ports that a pod gives a name, with their numbers; a sidecar is an init container that goes on."""
    beside = (one for one in pod["spec"].get("initContainers") or () if one.get("restartPolicy") == "Always")
    return {
        port["name"]: int(port["containerPort"])
        for container in (*(pod["spec"].get("containers") or ()), *beside)
        for port in container.get("ports") or ()
        if port.get("name")
    }


def unreached(service: Json, pods: Mapping[Color, Iterable[Json]]) -> dict[Color, str]:
    """
    Say of which colors some ready pods do not have a port that the Service sends requests to by its name.

    Kubernetes has such pods among the endpoints, and no port there: requests are refused. A port that no pod of
    either color has is no loss.
    """
    there = {color: [pod for pod in own if is_there(pod)] for color, own in pods.items()}
    known = {name for own in there.values() for pod in own for name in named_ports(pod)}
    said = {}
    for port in service["spec"].get("ports") or ():
        name = port.get("targetPort")
        for color, own in there.items() if name in known else ():
            if lacking := sum(is_ready(pod) and name not in named_ports(pod) for pod in own):
                said[color] = (
                    f"{lacking} ready pods of {color} have no container port {name}, where port {port['port']} leads"
                )
    return said


def endpoints_of(slices: Iterable[Json]) -> frozenset[Endpoint]:
    """Return the endpoints of a Service's slices; one with an address of each family is one."""
    found = set()
    for one in slices:
        for endpoint in one.get("endpoints") or ():
            target = endpoint.get("targetRef") or {}
            conditions = endpoint.get("conditions") or {}
            if not conditions.get("terminating"):
                # The API's own rule: what says nothing is ready.
                ready = conditions.get("ready") is not False
                found.add(Endpoint(target.get("name") or endpoint["addresses"][0], ready))
    return frozenset(found)


def slices_selector(*services: str) -> str:
    """Return the label selector of these Services' slices."""
    return f"{SERVICE_NAME} in ({','.join(sorted(services))})"


def services_health(cluster: Cluster, services: Mapping[Color, str]) -> dict[Color, Health]:
    """Return the ready endpoints of each color's own Service, asked for at once."""
    slices = cluster.list(ENDPOINT_SLICES, slices_selector(*services.values())).items
    found = {}
    for color, service in services.items():
        own = endpoints_of(one for one in slices if one["metadata"]["labels"].get(SERVICE_NAME) == service)
        found[color] = Health(sum(one.ready for one in own), len(own))
    return found
