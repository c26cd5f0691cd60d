"""
A service's objects in its namespace, as deploys write them: each write compares who wrote last, and may be repeated.

An API server that does not answer is asked again for a while, as a write that it may have taken does no harm twice.
Every failure is a ``DeployError``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from datetime import timedelta
from typing import Any, TypeVar

from bluegreen.clusters.annotations import annotated
from bluegreen.clusters.objects import MANAGER, Cluster, Json, Kind, comparing
from bluegreen.clusters.trouble import ClusterTrouble
from bluegreen.clusters.waits import Seen, wait_for
from bluegreen.core.deadlines import Deadline
from bluegreen.core.errors import DeployError
from bluegreen.deployers.kube_marks import FENCE, Claim, shown
from bluegreen.hosts.host_fence import Record

T = TypeVar("T")
Edit = Callable[[Json, Record | None], list[Json]]
"""From an object and who wrote it last to the JSON patch that changes it; none leaves it as it is."""


class Objects:
    """
    The objects of one service.

    :param cluster: the namespace
    :param service: name in the catalog
    :param patience: how long an API server that does not answer is asked again
    """

    def __init__(self, cluster: Cluster, service: str, patience: timedelta) -> None:
        self.cluster, self._service, self._patience = cluster, service, patience

    def find(self, kind: Kind, name: str, part: str) -> Json | None:
        """
        Read an object; None where it is not there.

        :param part: color or role, for errors
        :raises DeployError: it cannot be read
        """
        return self._answered(part, lambda: self._found(kind, name))

    def all(self, kind: Kind, part: str, labels: str = "") -> tuple[Json, ...]:
        """
        Read the objects of a kind.

        :param labels: a label selector
        :raises DeployError: they cannot be read
        """
        return self._answered(part, lambda: self.cluster.list(kind, labels).items)

    def change(self, kind: Kind, name: str, claim: Claim, edit: Edit, done: str | None = None) -> Json:
        """
        Change an object that is there, and leave the claim on it.

        :param done: what the claim has brought up with it; see ``Claim.record``
        :raises DeployFenced: a newer claim has it
        :raises DeployError: it is not there, or cannot be written
        """

        def once() -> Json:
            found = self.cluster.get(kind, name)
            before = claim.over(found)
            mark = annotated(found, {FENCE: shown(claim.record(before, done))})
            operations = _merged(mark, edit(found, before))
            return self.cluster.patch(kind, name, [comparing(found), *operations]) if operations else found

        return self._answered(claim.part, once)

    def apply(self, kind: Kind, name: str, claim: Claim, body_of: Callable[[Json | None], Json]) -> Json:
        """
        Let an object be what we want in what we say of it, and leave the claim on it; made where it is not there.

        :param body_of: from the object, None where it is not there, to what we say of it
        :raises DeployFenced: a newer claim has it
        :raises DeployError: it cannot be written
        """

        def once() -> Json:
            found = self._found(kind, name)
            before = claim.over(found) if found else None
            body = deepcopy(body_of(found))
            metadata = body.setdefault("metadata", {})
            metadata["name"] = name
            metadata["annotations"] = (metadata.get("annotations") or {}) | {FENCE: shown(claim.record(before))}
            if found is None:
                whole = {"apiVersion": kind.api_version, "kind": kind.name, **body}
                return self._applied(kind, self.cluster.create(kind, whole))
            metadata["resourceVersion"] = self._applied(kind, found)["metadata"]["resourceVersion"]
            return self.cluster.apply(kind, name, body, force=True)

        return self._answered(claim.part, once)

    def wait(self, kind: Kind, part: str, holds: Callable[[Seen], bool], deadline: Deadline, **which: str) -> bool:
        """
        Wait by watch until something is true of objects, and tell whether it came true.

        :param which: ``name`` or ``labels``
        :raises DeployError: they cannot be watched
        """
        with self.told(part):
            return wait_for(self.cluster, kind, holds, deadline, **which).held

    @contextmanager
    def told(self, part: str) -> Iterator[None]:
        """
        Turn a cluster's trouble into a deploy's error.

        :raises DeployError: there was trouble
        """
        try:
            yield
        except ClusterTrouble as trouble:
            raise self.error(trouble, part) from trouble

    def error(self, trouble: ClusterTrouble, part: str) -> DeployError:
        """Return a cluster's trouble as a deploy's error."""
        again = "; a repeated task goes on where this one stopped" if trouble.kind == "unreachable" else ""
        return DeployError(trouble.fact, service=self._service, part=part, next_step=f"{trouble.mend}{again}")

    def _found(self, kind: Kind, name: str) -> Json | None:
        try:
            return self.cluster.get(kind, name)
        except ClusterTrouble as trouble:
            if trouble.kind == "missing":
                return None
            raise

    def _answered(self, part: str, ask: Callable[[], T]) -> T:
        """Ask until there is an answer; a write that somebody else came before is read, compared and tried again."""
        last: ClusterTrouble | None = None
        for _ in Deadline(self._patience).tries(first_pause=0.1):
            try:
                return ask()
            except ClusterTrouble as trouble:
                if trouble.kind not in ("unreachable", "conflict"):
                    raise self.error(trouble, part) from trouble
                last = trouble
        assert last is not None  # noqa: S101 - a deadline gives at least one try
        raise self.error(last, part) from last

    def _applied(self, kind: Kind, found: Json) -> Json:
        """
        Let what we made count as applied by us: else a field that a later manifest leaves out would stay for ever.

        Only a create is refused where somebody was faster, so what is new is not applied, but created.
        """
        owners = found["metadata"].get("managedFields") or []
        mine = [(n, one) for n, one in enumerate(owners) if not one.get("subresource")]
        if len(mine) != 1 or (mine[0][1].get("manager"), mine[0][1].get("operation")) != (MANAGER, "Update"):
            return found
        path = f"/metadata/managedFields/{mine[0][0]}/operation"
        operation = {"op": "replace", "path": path, "value": "Apply"}
        return self.cluster.patch(kind, found["metadata"]["name"], [comparing(found), operation])


def body_of(manifest: Mapping[str, Any]) -> Json:
    """Return what a manifest says of an object, without what an API server fills in."""
    metadata = {
        key: value
        for key, value in manifest["metadata"].items()
        if key in ("name", "labels", "annotations", "finalizers", "ownerReferences")
    }
    rest = {key: value for key, value in manifest.items() if key not in ("apiVersion", "kind", "metadata", "status")}
    return deepcopy({"metadata": metadata, **rest})


def _merged(first: list[Json], then: list[Json]) -> list[Json]:
    """Return two patches of one object as one; both may make sure that it has annotations."""
    return first + [one for one in then if one not in first]
