"""What a cluster tells of a Deployment in trouble, gathered part by part: one that cannot be had hides no other."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from bluegreen.clusters.objects import DEPLOYMENTS, EVENTS, NODES, PODS, REPLICA_SETS, Cluster, Json, Kind
from bluegreen.clusters.trouble import ClusterTrouble
from bluegreen.deployers.kube_rollout import condition, container_statuses, selector

T = TypeVar("T")
LOG_LINES = 15
"""Last lines of a container's log that are asked for."""
MOST_LOGS = 3
"""Containers whose logs are asked for: of a hundred pods that crash, all say the same."""
NONE: tuple[Json, ...] = ()
QUOTAS = Kind("", "v1", "resourcequotas", "ResourceQuota")
PODS_OF_ALL = Kind("", "v1", "pods", "Pod", namespaced=False)


@dataclass
class KubeFacts:
    """
    What there is to know.

    :param namespace: of all of it
    :param deployment: the Deployment
    :param pods: its pods, the newest first
    :param logs: ``pod container`` -> last lines before it ended
    :param events: about the Deployment, its ReplicaSets and pods, the newest first
    :param quotas: the namespace's
    :param nodes: of the cluster; only where a pod finds no place
    :param placed: pods of all namespaces on them
    :param missing: part -> why it is not there
    """

    namespace: str
    deployment: Json
    pods: tuple[Json, ...] = ()
    logs: dict[str, list[str]] = field(default_factory=dict)
    events: tuple[Json, ...] = ()
    quotas: tuple[Json, ...] = ()
    nodes: tuple[Json, ...] = ()
    placed: tuple[Json, ...] = ()
    missing: dict[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The Deployment's name."""
        return str(self.deployment["metadata"]["name"])


def gathered(cluster: Cluster, name: str) -> KubeFacts:
    """
    Ask a cluster for all that tells of a Deployment; reads only.

    :raises ClusterTrouble: the Deployment itself cannot be read
    """
    facts = KubeFacts(cluster.namespace, cluster.get(DEPLOYMENTS, name))
    labels = selector(facts.deployment)
    facts.pods = _had(facts, "pods", NONE, lambda: _newest_first(cluster.list(PODS, labels).items))
    sets = _had(facts, "replica sets", NONE, lambda: cluster.list(REPLICA_SETS, labels).items)
    names = {name, *(one["metadata"]["name"] for one in (*sets, *facts.pods))}
    facts.events = _had(facts, "events", NONE, lambda: _about(names, cluster.list(EVENTS).items))
    facts.quotas = _had(facts, "quota", NONE, lambda: cluster.list(QUOTAS).items)
    if any(map(unplaced, facts.pods)):
        facts.nodes = _had(facts, "nodes", NONE, lambda: cluster.list(NODES).items)
        facts.placed = _had(facts, "pods of all namespaces", NONE, lambda: cluster.list(PODS_OF_ALL).items)
    for pod, container, before in crashed(facts.pods)[:MOST_LOGS]:
        key = f"{pod} {container}"
        facts.logs[key] = _had(facts, f"log of {key}", [], lambda: _log(cluster, pod, container, before=before))  # noqa: B023 - called at once
    return facts


def unplaced(pod: Mapping[str, object]) -> str:
    """Say why the scheduler finds no node for a pod; empty where it has one."""
    found = condition(pod, "PodScheduled", "False")
    return str(found.get("message", "no node")) if found else ""


def crashed(pods: Iterable[Json]) -> list[tuple[str, str, bool]]:
    """Return pod and container of each that ended badly, and whether it has been started again since."""
    found = []
    for pod in pods:
        for one in container_statuses(pod):
            now, last = ((one.get(key) or {}).get("terminated") for key in ("state", "lastState"))
            if (ended := now or last) and ended.get("exitCode", 0):
                found.append((pod["metadata"]["name"], one["name"], now is None))
    return found


def _had(facts: KubeFacts, part: str, nothing: T, ask: Callable[[], T]) -> T:
    try:
        return ask()
    except ClusterTrouble as trouble:
        facts.missing[part] = f"{trouble.fact}; {trouble.mend}"
        return nothing


def _log(cluster: Cluster, pod: str, container: str, *, before: bool) -> list[str]:
    query = {"container": container, "tailLines": str(LOG_LINES), "previous": str(before).lower()}
    return cluster.text(PODS, pod, "log", query).splitlines()[-LOG_LINES:]


def _newest_first(pods: Iterable[Json]) -> tuple[Json, ...]:
    return tuple(sorted(pods, key=lambda pod: str(pod["metadata"].get("creationTimestamp")), reverse=True))


def _about(names: set[str], events: Iterable[Json]) -> tuple[Json, ...]:
    mine = [one for one in events if (one.get("involvedObject") or {}).get("name") in names]
    return tuple(sorted(mine, key=when, reverse=True))


def when(event: Mapping[str, object]) -> str:
    """Return when an event was seen last, as text that sorts by time."""
    series = event.get("series")
    seen = series.get("lastObservedTime") if isinstance(series, dict) else None
    return str(seen or event.get("lastTimestamp") or event.get("eventTime") or event.get("firstTimestamp") or "")
