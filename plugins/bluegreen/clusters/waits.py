"""Waits by watch: the API server tells each change, and nobody asks again and again."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from bluegreen.clusters.objects import Cluster, Json, Kind, Listed
from bluegreen.clusters.trouble import ClusterTrouble
from bluegreen.core.deadlines import Deadline

Seen = Mapping[str, Json]
"""Objects by name."""
PAUSE = 0.2
"""Seconds before an API server that went away is asked again."""


@dataclass(frozen=True)
class Waited:
    """
    How a wait ended.

    :param held: what was waited for came true
    :param seen: the objects as they were last told
    """

    held: bool
    seen: Seen


def wait_for(  # what, of which objects, how long
    cluster: Cluster,
    kind: Kind,
    holds: Callable[[Seen], bool],
    deadline: Deadline,
    *,
    name: str = "",
    labels: str = "",
) -> Waited:
    """
    Wait until something is true of some objects; they are read once, and then watched.

    An API server that goes away meanwhile is asked again until the deadline.

    :param holds: asked with all of them after each change; an object that is deleted is not among them any more
    :param name: one object
    :param labels: or those with such labels
    :raises ClusterTrouble: they could not be read even once, or we may not
    """
    seen: dict[str, Json] = {}
    since, read = "", False
    while True:
        try:
            if not since:
                listed = _listed(cluster, kind, name, labels)
                seen, since, read = {_name(item): item for item in listed.items}, listed.version, True
            if holds(seen):
                return Waited(held=True, seen=seen)
            if deadline.left <= 0:
                return Waited(held=False, seen=seen)
            for event in cluster.watch(kind, since, deadline.left, name=name, labels=labels):
                since = event.version
                _take(seen, event.kind, event.item)
                if event.kind != "BOOKMARK" and holds(seen):
                    return Waited(held=True, seen=seen)
        except ClusterTrouble as trouble:
            if trouble.kind not in ("unreachable", "expired") or (deadline.left <= 0 and not read):
                raise
            since = "" if trouble.kind == "expired" else since
            deadline.sleep(min(PAUSE, deadline.left))


def _listed(cluster: Cluster, kind: Kind, name: str, labels: str) -> Listed:
    if not name:
        return cluster.list(kind, labels)
    item = cluster.get(kind, name)
    return Listed((item,), item["metadata"]["resourceVersion"])


def _take(seen: dict[str, Json], change: str, item: Json) -> None:
    if change == "DELETED":
        seen.pop(_name(item), None)
    elif change != "BOOKMARK":
        seen[_name(item)] = item


def _name(item: Json) -> str:
    return str(item["metadata"]["name"])
