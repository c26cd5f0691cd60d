"""
Routers whose split stands in a Kubernetes object: what a Service, a VirtualService and a Gateway API route share.

The stamp is an annotation of that very object. One JSON patch writes split and stamp, and fails as a whole where the
object is not the one that was compared (``test`` of its resourceVersion). A JSON patch and no server-side apply: lists
of these objects have one owner as a whole, so that an apply would have to send, and take over, every route beside ours;
our field manager stands in ``managedFields`` either way, for GitOps to leave alone.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar, Self, cast

from bluegreen.catalog import models
from bluegreen.catalog.kube import KubeNode, KubeSection
from bluegreen.clusters.annotations import annotated
from bluegreen.clusters.objects import Cluster, Json, Kind, comparing
from bluegreen.clusters.trouble import ClusterTrouble
from bluegreen.clusters.waits import wait_for
from bluegreen.core.colors import Color, Split
from bluegreen.core.deadlines import Deadline
from bluegreen.core.errors import NotSettled, RouterError, RouterRefused, RouterUnreachable, TrafficConflict
from bluegreen.core.ports import Finding, Secrets
from bluegreen.core.reading import Health, NodeReading
from bluegreen.core.stamp import Stamp
from bluegreen.hosts import host_stamp
from bluegreen.hosts.host_files import Trouble
from bluegreen.routers.nodes import NodesRouter, Version, Write

if TYPE_CHECKING:
    from bluegreen.routers.kube_check import ObjectCheck

STAMP = "bluegreen.dev/stamp"
SWAP_WITHIN = timedelta(seconds=5)
"""How long a write is tried again while others write the rest of the object, as its controllers do."""
ARRIVES_WITHIN = timedelta(seconds=10)
"""Until proxies and kernels of all nodes route by what the API server has: most often far below a second."""
BACK_WITHIN = timedelta(seconds=5)
"""How long a way back looks whether a node has it in force before it goes on to the next one."""

_ERRORS: Mapping[str, type[RouterError]] = {
    "unreachable": RouterUnreachable,
    "expired": RouterUnreachable,
    "forbidden": RouterRefused,
    "missing": RouterRefused,
    "refused": RouterRefused,
    "conflict": TrafficConflict,
}
Healths = Mapping[Color, Health]
Operation = Mapping[str, Any]


@dataclass(frozen=True)
class Routed:
    """
    What an object routes by.

    :param split: None where what stands there is no split of the two colors
    :param why: why there is none, or why it is not in force; empty when all is well
    """

    split: Split | None
    why: str = ""


class ObjectNode:
    """
    One object in one namespace of one cluster; implements ``nodes.Node``.

    :param service: the service file
    :param router: its ``router``
    :param node: the node in it
    :param cluster: its namespace
    """

    kind: Kind

    def __init__(self, service: models.Service, router: KubeSection, node: KubeNode, cluster: Cluster) -> None:
        self.service, self.name, self.entry, self.cluster = service.service, node.name, node.entry, cluster
        self.min_healthy = service.release.min_healthy
        self.settle_within = router.settles_within(service.release.lease)

    # What a kind says of its object.

    @property
    def target(self) -> str:
        """The object's name."""
        raise NotImplementedError

    def routed(self, found: Json, fields: Mapping[str, str]) -> Routed:
        """
        Read the split.

        :param fields: the stamp beside it, as flat words
        """
        raise NotImplementedError

    def edits(self, found: Json, split: Split) -> Sequence[Operation]:
        """Return the operations that give the object a split; none where it has it."""
        raise NotImplementedError

    def healths(self, found: Json) -> Healths:  # noqa: ARG002 - most kinds look behind their object
        """Return ready pods by color; a color that nothing can be said of is absent."""
        return {}

    def not_in_force(self, found: Json) -> str:  # noqa: ARG002 - most kinds' objects say it themselves
        """Say why the cluster does not route by the object as it stands, as far as it says so itself."""
        return ""

    def look(self, found: Json) -> tuple[str, Healths]:
        """Return why the split is not in force, and the health of each color."""
        return self.not_in_force(found), self.healths(found)

    def put(self, write: Write, version: Version, deadline: Deadline) -> Json:  # noqa: ARG002 - a kind may have to wait
        """Compare and write; a kind that needs more than one write says how."""
        return self.swap(write, version, lambda found: self.edits(found, write.split))

    def wait_in_force(self, found: Json, deadline: Deadline) -> str:
        """Wait until the cluster routes by the object; return why it does not in the end."""
        if not (why := self.not_in_force(found)) or deadline.left <= 0:
            return why
        waited = wait_for(
            self.cluster, self.kind, lambda seen: not self._why(seen.get(self.target)), deadline, name=self.target
        )
        return "" if waited.held else self._why(waited.seen.get(self.target))

    # What all of them do.

    @property
    def says(self) -> str:
        """The object, as people call it."""
        return f"{self.kind.name} {self.cluster.namespace}/{self.target}"

    def read(self) -> NodeReading:
        """Ask for the object and for the pods behind it."""
        with self.errors():
            return self._reading(self.cluster.get(self.kind, self.target))

    def write(self, write: Write, version: Version) -> NodeReading:
        """
        Compare and set; durable and in force on return.

        A way back does not hold up the next node for one that is slow to take it: the reading says so.
        """
        back = write.stamp is not None and write.stamp.phase.way_back
        again = NodeReading("", split=write.split, stamp=write.stamp).version == tuple(version)  # renewed, or repeated
        deadline = Deadline(self.settle_within)
        with self.errors():
            found = self.put(write, version, deadline)
            if back or again:
                deadline = Deadline(min(BACK_WITHIN, self.settle_within))
            why = self._waited(found, deadline, back=back)
        if why and not (back or again):
            step = "it is undone where it can be; see bluegreen check"
            raise NotSettled(f"written, but {why}", service=self.service, part=self.name, next_step=step)
        return self.bare(found)

    def require_targets(self, node: NodeReading, to: Split) -> None:
        """Refuse, before anything is touched, more traffic for a color without ready pods enough."""
        now = node.split or to
        if node.health is None:
            raise self.refused(f"the pods of {self.says} cannot be seen: {node.detail}", "see bluegreen check")
        for color, health in node.health.items():
            share, wanted = to.share(color), self.pods_before(node, to.share(color))
            if share <= now.share(color) or health.ready >= wanted:
                continue
            many = f"none of {health.total} pods" if not health.ready else f"only {health.ready} of {health.total} pods"
            fact = f"{many} of {color} is ready, wanted {share} % for {color}"
            fact += f" and release.min_healthy is {wanted}" if wanted > 1 else ""
            raise self.refused(fact, f"see `kubectl -n {self.cluster.namespace} get pods`")

    def pods_before(self, node: NodeReading, share: int) -> int:  # noqa: ARG002 - a kind may want to know
        """Return how many ready pods a color must have before it gets a share."""
        return self.min_healthy if share == 100 else 1

    def swap(
        self,
        write: Write,
        version: Version,
        edits: Callable[[Json], Sequence[Operation]],
        more: Mapping[str, str] | None = None,
    ) -> Json:
        """
        Compare with what was read, and write split and stamp at once.

        :param edits: operations for the object as it stands now
        :param more: words of the kind's own beside the stamp
        :raises ClusterTrouble: ``conflict`` where another split or stamp is there
        """
        forward = write.stamp is None or not write.stamp.phase.way_back
        conflict: ClusterTrouble | None = None
        for _ in Deadline(SWAP_WITHIN).tries():
            found = self.cluster.get(self.kind, self.target)
            now = self.bare(found)
            if now.version != tuple(version):
                raise ClusterTrouble("conflict", f"expected {_said(version)}, found {_said(now.version)}", "read again")
            if forward and now.split is None:
                raise ClusterTrouble("conflict", now.detail, "put it right by hand, or bluegreen restore does it")
            operations = [comparing(found), *self._stamping(found, write, more or {}), *edits(found)]
            try:
                return self.cluster.patch(self.kind, self.target, operations)
            except ClusterTrouble as trouble:
                if trouble.kind != "conflict":
                    raise
                conflict = trouble  # something else of it was changed, most likely its status: look again
        raise conflict or ClusterTrouble("unreachable", f"{self.says} was never tried", "try again")

    def fields(self, found: Json) -> dict[str, str]:
        """
        Return the stamp beside the split as flat words; none without one.

        :raises Trouble: what stands there is no stamp
        """
        text = (found["metadata"].get("annotations") or {}).get(STAMP)
        if text is None:
            return {}
        try:
            fields = {str(key): str(value) for key, value in json.loads(text).items()}
        except (ValueError, AttributeError):
            fields = {"epoch": text[:40]}
        host_stamp.require_words(fields, f"the annotation {STAMP} of {self.says}", self.mend_stamp)
        return fields

    @property
    def mend_stamp(self) -> str:
        """What to do about a stamp that cannot be read."""
        names = f"{self.kind.plural}/{self.target} {STAMP}-"
        return f"after a look at the split: kubectl -n {self.cluster.namespace} annotate {names}, then bluegreen adopt"

    def bare(self, found: Json) -> NodeReading:
        """Return split and stamp; nothing more is asked."""
        fields = self.fields(found)
        stamp = Stamp.from_fields(fields)
        routed = self.routed(found, fields)
        stamped = Split.parse(fields["split"]) if stamp else None
        return NodeReading(
            self.name, routed.split, stamp, stamped, settled=not routed.why, detail=routed.why and f"{self.says}: {routed.why}"
        )  # fmt: skip

    def refused(self, fact: str, next_step: str) -> RouterRefused:
        """Return the error of a write that was not begun."""
        return RouterRefused(fact, service=self.service, part=self.name, next_step=f"nothing was touched; {next_step}")

    @contextmanager
    def errors(self) -> Iterator[None]:
        """Turn an API server's trouble, and nonsense in an object, into errors that name service and node."""
        try:
            yield
        except (ClusterTrouble, Trouble) as trouble:
            raise _ERRORS[trouble.kind](
                trouble.fact, service=self.service, part=self.name, next_step=trouble.mend
            ) from trouble
        except (KeyError, IndexError, TypeError, AttributeError) as error:
            fact = f"{self.says} is not as its kind is: {type(error).__name__} {error}"
            raise self.refused(
                fact, f"look at it: kubectl -n {self.cluster.namespace} get {self.kind.plural} -o yaml"
            ) from error
        except ValueError as error:
            raise self.refused(f"the stamp is garbled: {error}", self.mend_stamp) from error

    def _waited(self, found: Json, deadline: Deadline, *, back: bool) -> str:
        try:
            return self.wait_in_force(found, deadline)
        except ClusterTrouble as trouble:
            if not back:
                raise
            return trouble.fact  # it is written: what forbids or breaks the look makes it no failure

    def _reading(self, found: Json) -> NodeReading:
        bare = self.bare(found)
        why, health, unseen = bare.detail, None, ""
        try:
            late, health = self.look(found)
            why = why or late
        except ClusterTrouble as trouble:
            if trouble.kind == "unreachable":
                raise
            # What forbids to look at pods does not keep the traffic from its way back.
            unseen = f"{trouble.fact}; {trouble.mend}"
        detail = "; ".join(word for word in (why, unseen) if word)
        return NodeReading(
            bare.node, bare.split, bare.stamp, bare.stamped_split, settled=not detail, health=health, detail=detail
        )

    def _why(self, found: Json | None) -> str:
        return self.not_in_force(found) if found else f"{self.says} was deleted"

    def _stamping(self, found: Json, write: Write, more: Mapping[str, str]) -> Sequence[Operation]:
        if write.stamp is None:
            return annotated(found, {STAMP: None})
        fields = {**write.stamp.as_fields(), "split": str(write.split), **more}
        return annotated(found, {STAMP: json.dumps(host_stamp.with_later_lease(self.fields(found), fields))})


class KubeRouter(NodesRouter):
    """
    A router over objects of one kind, in one or more clusters.

    :param service: the service file
    :param router: its ``router``
    :param secrets: who logs in to the clusters
    :param proving: ``check`` sends a real request to each node's entry
    """

    node_type: ClassVar[type[ObjectNode]]
    check_type: ClassVar[type[ObjectCheck]]
    members: Sequence[ObjectNode]

    def __init__(
        self, service: models.Service, router: KubeSection, secrets: Secrets | None = None, *, proving: bool = True
    ) -> None:
        self.catalog, self.proving = service, proving
        self.members = tuple(self.node_type(service, router, one, Cluster.of(one, secrets)) for one in router.nodes)
        super().__init__(service.service, self.members)

    @classmethod
    def of(cls, service: models.Service, secrets: Secrets) -> Self:
        """Make the router of a service."""
        return cls(service, cast("KubeSection", service.router), secrets)  # the registry chose by its type

    def check(self) -> Sequence[Finding]:
        """Find what in the cluster would keep a shift from doing what it says."""
        return [one for member in self.members for one in self.check_type.of(self, member).findings()]

    @property
    def calls(self) -> Counter[str]:
        """How often each verb was asked of API servers, over all nodes; see ``core.ports.TellsCalls``."""
        return sum((member.cluster.calls for member in self.members), Counter())


def _said(version: Version) -> str:
    split, *stamp = version
    return f"{split}, epoch {stamp[0]} ({stamp[3]}) of {stamp[1]}" if stamp else f"{split}, no stamp"
