"""What the checks of all Kubernetes routers look at: rights, the object, its stamp and split, who else writes it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

from bluegreen.clusters.objects import Cluster, Json, Kind
from bluegreen.clusters.trouble import ClusterTrouble
from bluegreen.core.ports import Finding
from bluegreen.core.reading import NodeReading
from bluegreen.hosts.host_files import Trouble
from bluegreen.routers import kube_gitops
from bluegreen.routers.kube_nodes import KubeRouter, ObjectNode
from bluegreen.routers.node_check import HERE, Level, NodeCheck


@dataclass(frozen=True)
class Right:
    """
    What a router may have to do.

    :param verbs: as in RBAC
    :param kind: of which objects
    :param part: a subresource
    :param names: the only objects of that kind; empty for all
    :param optional: traffic is moved without it: what asks is ``check``, or the drain
    """

    verbs: tuple[str, ...]
    kind: Kind
    part: str = ""
    names: tuple[str, ...] = ()
    optional: bool = False

    @property
    def resource(self) -> str:
        """As in RBAC."""
        return f"{self.kind.plural}/{self.part}" if self.part else self.kind.plural

    def rule(self) -> Json:
        """Return the rule of a Role that grants it."""
        rule: Json = {"apiGroups": [self.kind.group], "resources": [self.resource], "verbs": list(self.verbs)}
        return rule | ({"resourceNames": list(self.names)} if self.names else {})

    def lacking(self, cluster: Cluster) -> list[str]:
        """Ask the API server which verbs it would refuse."""
        return [
            verb
            for verb in self.verbs
            if not all(cluster.may(verb, self.kind, name, self.part) for name in self.names or ("",))
        ]


@dataclass(frozen=True)
class Us:
    """From where clusters are asked: here."""

    name: str = HERE


@dataclass(frozen=True)
class ObjectCheck(NodeCheck):
    """
    The check of one node.

    :param member: the node
    """

    member: ObjectNode

    mend_split: ClassVar[str]
    mend_redirect = "let the gateway answer {path} without a redirect"
    mend_color = "let the app, or the route's filter of each color, set {header}; see that pods are ready"

    @classmethod
    def of(cls, router: KubeRouter, member: ObjectNode) -> Self:
        """Make the check of one of a router's nodes."""
        return cls(router.service, member.name, router.catalog.entry if router.proving else None, Us(), member)

    @property
    def fields(self) -> Sequence[str]:
        """Path of the fields that we write, for who else owns them."""
        raise NotImplementedError

    def rights(self) -> Sequence[Right]:
        """Everything that the router asks of the API server."""
        raise NotImplementedError

    def own(self, found: Json) -> Iterator[Finding]:
        """What this kind of object may have wrong."""
        raise NotImplementedError

    def findings(self) -> Iterator[Finding]:
        """Everything that is found, the API server first: without it the rest cannot be asked."""
        try:
            yield from self._rights()
            found = self.member.cluster.get(self.member.kind, self.member.target)
            yield from self._stamp(found)
            yield from self.own(found)
            yield from self._others(found)
        except ClusterTrouble as trouble:
            yield self.finding(f"cluster-{trouble.kind}", trouble.fact, trouble.mend)
        yield from self.proof_request(self.member.entry)

    def _rights(self) -> Iterator[Finding]:
        for right in self.rights():
            if lacking := right.lacking(self.member.cluster):
                fact = f"we may not {', '.join(lacking)} {right.resource} in namespace {self.member.cluster.namespace}"
                level: Level = "warning" if right.optional else "error"
                rule = f"add to its Role: {right.rule() | {'verbs': lacking}}; see include/kubernetes"
                yield self.finding("may-not", fact, rule, level)

    def _stamp(self, found: Json) -> Iterator[Finding]:
        try:
            reading = self.member.bare(found)
        except (Trouble, ValueError) as trouble:
            yield self.finding("stamp-garbled", str(trouble), self.member.mend_stamp)
            return
        if reading.split is None:
            yield self.finding("no-split", reading.detail, self.mend_split)
        elif reading.changed_by_hand:
            yield from self._by_whom(found, reading)

    def _by_whom(self, found: Json, reading: NodeReading) -> Iterator[Finding]:
        if owner := kube_gitops.wrote_after_us(found, self.fields):
            at = f" at {owner.at:%H:%M:%S} UTC" if owner.at else ""
            fact = f"{self.member.says}: {owner.manager or 'somebody'} wrote {reading.split}{at} over our {reading.stamped_split}"
            yield self.finding("written-by-another", fact, "keep it from that, then bluegreen restore")

    def _others(self, found: Json) -> Iterator[Finding]:
        if tool := kube_gitops.keeper(found, self.fields):
            fact = f"{tool} keeps {self.member.says}: at its next look it may put back what is in git"
            yield self.finding(
                "kept-by-another",
                fact,
                kube_gitops.mend(tool, self.member.kind.group, self.member.kind.name),
                "warning",
            )
