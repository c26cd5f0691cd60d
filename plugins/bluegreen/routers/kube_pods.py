"""The pods behind a service's colors, and what EndpointSlices say of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from bluegreen.clusters.objects import ENDPOINT_SLICES, Cluster, Json
from bluegreen.core.colors import Color
from bluegreen.core.reading import Health

SERVICE_NAME = "kubernetes.io/service-name"


@dataclass(frozen=True)
class Endpoint:
    """
    One address that a Service sends requests to.

    :param name: its pod's, or the address itself where it is no pod's
    :param ready: it takes new requests
    """

    name: str
    ready: bool


def is_ready(pod: Json) -> bool:
    """Tell whether a pod takes new requests."""
    conditions = pod.get("status", {}).get("conditions") or ()
    ready = any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)
    return ready and not pod["metadata"].get("deletionTimestamp")


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
