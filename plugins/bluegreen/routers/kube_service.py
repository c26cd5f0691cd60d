"""
A plain Service: its selector says the color, and one patch switches it.

A share is made of pods: the selector loses its color, so that pods of both get requests, and the new color is scaled to
its share of the live one, which keeps its size. Each such step is compared and marked first (``moving`` beside the
stamp), then scaled, then put in force, so that a late writer scales nothing. The way back narrows the selector, which
needs nothing of the new color; its old size comes after that, as far as it can be had.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from typing import cast

from bluegreen.catalog import models
from bluegreen.catalog.kube import KubeNode, KubeServiceRouter
from bluegreen.clusters.objects import ENDPOINT_SLICES, PODS, SERVICES, Cluster, Json, escaped
from bluegreen.clusters.status import is_ready, is_running
from bluegreen.clusters.trouble import ClusterTrouble
from bluegreen.clusters.waits import Seen, wait_for
from bluegreen.core.colors import Color, Split
from bluegreen.core.deadlines import Deadline
from bluegreen.core.errors import NotSettled, UnsupportedSplit
from bluegreen.core.ports import Limits
from bluegreen.core.reading import NodeReading
from bluegreen.core.stamp import Stamp
from bluegreen.routers import kube_pods
from bluegreen.routers.kube_connections import open_connections
from bluegreen.routers.kube_nodes import ARRIVES_WITHIN, Healths, KubeRouter, ObjectNode, Operation, Routed
from bluegreen.routers.kube_service_check import ServiceCheck
from bluegreen.routers.kube_sizes import MEND_AUTOSCALER, Making, Scales, Sized, Sizes, full_size
from bluegreen.routers.nodes import Version, Write

SIZES = "bluegreen.dev/sizes"
"""Annotation: ``release`` that made a share, and for each color of which it made one its ``kube_sizes.Sized``."""
BOTH = "*"
"""What ``moving`` says while the selector takes pods of both colors."""


class ServiceNode(ObjectNode):
    """One Service in one namespace."""

    kind = SERVICES

    def __init__(self, service: models.Service, router: KubeServiceRouter, node: KubeNode, cluster: Cluster) -> None:
        super().__init__(service, router, node, cluster)
        self.router = router
        self.scales = Scales(cluster, router.canary.deployments) if router.canary else None
        self.sizes: Sizes | None = None
        self.unreached: Mapping[Color, str] = {}

    @property
    def target(self) -> str:
        """The Service's name."""
        return self.router.service

    def routed(self, found: Json, fields: Mapping[str, str]) -> Routed:
        """Read the selector; where it takes both colors, the share of their pods."""
        at = self.selected(found)
        stamped = Split.parse(fields["split"]) if fields else None
        if stamped and at == fields.get("moving"):
            return Routed(stamped, f"{stamped} is being made: its pods are scaled first")
        colors = {value: color for color, value in self.router.values.items()}
        if at in colors:
            return Routed(Split.whole_on(colors[at]))
        if at != BOTH:
            return Routed(None, f"the selector has {self.router.label}: {at}, which is no color")
        if self.scales is None:
            return Routed(None, f"the selector has no {self.router.label}: pods of both colors get requests")
        try:
            return Routed(self.scales.split(stamped, fields.get("scaled")))
        except ClusterTrouble as trouble:
            if trouble.kind == "unreachable" or stamped is None:
                raise
            # A Deployment that is gone keeps the traffic from no way back: that needs the selector only.
            return Routed(stamped, f"the share cannot be told: {trouble.fact}")

    def selected(self, found: Json) -> str:
        """Return the label's value in the selector, or ``BOTH`` where it takes pods of both colors."""
        return str((found["spec"].get("selector") or {}).get(self.router.label, BOTH))

    def edits(self, found: Json, split: Split) -> Sequence[Operation]:
        """Narrow the selector to a color, or widen it to both; fails where it is not what it was."""
        at, wanted = self.selected(found), self.router.values[split.whole] if split.whole else BOTH
        path = f"/spec/selector/{escaped(self.router.label)}"
        if at == wanted:
            return ()
        tested = () if at == BOTH else ({"op": "test", "path": path, "value": at},)
        return (
            *tested,
            {"op": "remove", "path": path} if wanted == BOTH else {"op": "add", "path": path, "value": wanted},
        )

    def pods(self, found: Json) -> dict[Color, list[Json]]:
        """Return the pods that the Service could send requests to, by color."""
        label, values = self.router.label, self.router.values
        others = {key: value for key, value in (found["spec"].get("selector") or {}).items() if key != label}
        either = f"{label} in ({','.join(sorted(values.values()))})"
        items = self.cluster.list(PODS, ",".join(filter(None, [kube_pods.selector_text(others), either]))).items
        return {color: [pod for pod in items if kube_pods.has_labels(pod, {label: values[color]})] for color in Color}

    def look(self, found: Json) -> tuple[str, Healths]:
        """Hold the Service's endpoints against the pods that it is to send requests to."""
        pods = self.pods(found)
        health = {color: kube_pods.health_of(own) for color, own in pods.items()}
        live = max(Color, key=lambda color: (self.selected(found) == self.router.values[color], health[color].total))
        self.sizes = Sizes(health[live].total, health[live.other].total)
        self.unreached = kube_pods.unreached(found, pods)
        slices = self.cluster.list(ENDPOINT_SLICES, kube_pods.slices_selector(self.target)).items
        return self._astray(found, pods, slices), health

    def wait_in_force(self, found: Json, deadline: Deadline) -> str:
        """Wait until the endpoints are those of the pods that are to get requests."""
        pods = self.pods(found)

        def holds(seen: Seen) -> bool:
            nonlocal pods
            if self._astray(found, pods, seen.values()):
                pods = self.pods(found)  # they come and go meanwhile
            return not self._astray(found, pods, seen.values())

        slices = kube_pods.slices_selector(self.target)
        waited = wait_for(self.cluster, ENDPOINT_SLICES, holds, deadline, labels=slices)
        return "" if waited.held else self.look(found)[0]

    def put(self, write: Write, version: Version, deadline: Deadline) -> Json:
        """Write at once what needs no pods; else mark, scale, and put in force."""
        if self.scales is None:
            return super().put(write, version, deadline)
        found = self.cluster.get(self.kind, self.target)
        making = self._making(found, write)
        if making and not making.done(widened=self.selected(found) == BOTH):
            return self._make(making, found, write, version, deadline)
        done = self.swap(write, version, lambda now: self.edits(now, write.split), making.words if making else {})
        if write.split.whole:
            at, sizes = self.selected(found), self.sizes_of(found)
            self.scales.back_to_full({c: size for c, size in sizes.items() if at != self.router.values[c]})
        return done

    def connections(self, color: Color) -> int | None:
        """Count what is open to the running pods of a color; None where the service file does not ask for it."""
        counted = self.router.connections
        if counted is None:
            return None
        with self.errors():
            found = self.cluster.get(self.kind, self.target)
            running = [pod for pod in self.pods(found)[color] if kube_pods.is_there(pod) and is_running(pod)]
            return open_connections(self.cluster, found, running, counted.container)

    def foresee(self, to: Split) -> None:
        """Refuse a share that could not be made with as many pods of the new color as of the live one."""
        if to.whole is not None:
            return
        with self.errors():
            self._need_canary(to)
            found = self.cluster.get(self.kind, self.target)
            pods = {color: kube_pods.health_of(own).total for color, own in self.pods(found).items()}
        live = max(Color, key=lambda color: (self.selected(found) == self.router.values[color], to.share(color)))
        if self.selected(found) != BOTH:  # else a share stands: what made it can make it again
            sizes = Sizes(pods[live], max(pods.values()))
            sizes.need(self.service, self.name, to, live.other)

    def require_targets(self, node: NodeReading, to: Split) -> None:
        """Refuse a share that no number of pods makes, and more traffic for a color without pods enough, or without a port."""
        if to.whole is None and node.split is not None and to != node.split:
            self._need_share(node, to)
        shared = self.scales is not None and node.split is not None and node.split.whole is None
        if to.whole and shared and not node.changed_by_hand:  # which is a conflict, and told as one
            self._need_size(to.whole)
        super().require_targets(node, to)
        for color, fact in self.unreached.items():  # as this very reading saw them
            if to.share(color) > (node.split or to).share(color):
                raise self.refused(f"{self.says}: {fact}", kube_pods.MEND_UNREACHED)

    def pods_before(self, node: NodeReading, share: int) -> int:
        """One is enough for a share, and for a full switch out of one: its pods are waited for when it is made."""
        made = self.scales is not None and node.split is not None and node.split.whole is None
        return 1 if made else super().pods_before(node, share)

    def sizes_of(self, found: Json) -> Mapping[Color, Sized]:
        """
        Return what was noted of each color of which a share was made.

        They count while the release that made the share is under way, and no longer: after that sizes are their
        owner's. The color that was live before is never among them: nobody makes a share of it.
        """
        stamp = Stamp.from_fields(self.fields(found))
        try:
            said = json.loads((found["metadata"].get("annotations") or {}).get(SIZES, "{}"))
            if stamp is None or not stamp.phase.transitional or said.pop("release", None) != stamp.release:
                return {}
            sizes = {Color(color): (int(full), *map(int, given)) for color, (full, *given) in said.items()}
        except (ValueError, TypeError, AttributeError):
            return {}  # somebody wrote over it: the sizes of today are taken for whole
        return {color: size for color, size in sizes.items() if color is not stamp.back_to}

    def _need_share(self, node: NodeReading, to: Split) -> None:
        with self.errors():
            self._need_canary(to)
            found = self.cluster.get(self.kind, self.target)
            moving = node.stamp if node.stamp and node.stamp.phase.transitional else None
            self._share(found, to, moving.back_to if moving else None)

    def _need_size(self, color: Color) -> None:
        """Refuse all traffic for a color that had fewer pods than the other one when its share was made of them."""
        with self.errors():
            found, now = self.cluster.get(self.kind, self.target), cast("Scales", self.scales).both()
        full, other = full_size(color, now[color], self.sizes_of(found)), now[color.other]
        if full < other:
            fact = f"{color} has {full} pods at its full size, and {color.other} has {other}"
            raise self.refused(fact, f"put it back, and scale {color} before the next release")

    def _need_canary(self, to: Split) -> None:
        if self.scales is None:
            fact = f"wanted {to}: a Service's selector gives all or nothing"
            step = "give router.canary.deployments, or use a router with weights: istio, gateway_api"
            raise self._unsupported(fact, step)
        if moves := next(self.scales.autoscalers(), None):
            raise self._unsupported(f"wanted {to}: {moves}", MEND_AUTOSCALER)

    def _unsupported(self, fact: str, step: str) -> UnsupportedSplit:
        return UnsupportedSplit(fact, service=self.service, part=self.name, next_step=f"nothing was moved; {step}")

    def _share(self, found: Json, to: Split, back_to: Color | None) -> Making:
        """
        Return which color is scaled to its share: never the one that the traffic would go back to.

        :param back_to: that one
        :raises UnsupportedSplit: no number of pods makes it
        """
        fields, at = self.fields(found), self.selected(found)
        colors = {value: color for color, value in self.router.values.items()}
        if at in colors:
            # It is the one without traffic; the other one only to undo a full switch.
            may = [colors[at].other, *([colors[at]] if back_to is colors[at].other else [])]
        else:
            may = [Color(fields["scaled"])] if "scaled" in fields else sorted(Color, key=to.share)
        now, given = cast("Scales", self.scales).both(), self.sizes_of(found)
        choices = [(color, Sizes(now[color.other], full_size(color, now[color], given))) for color in may]
        made = (one for one in choices if one[1].pods_for(to.share(one[0])) is not None)
        color, sizes = next(made, choices[0])
        return Making(color, sizes.need(self.service, self.name, to, color), now[color], sizes.full)

    def _making(self, found: Json, write: Write) -> Making | None:
        """Return how many pods the split needs of the color that is scaled; None where the selector alone does it."""
        split, stamp = write.split, write.stamp
        # An undo to what was there before we came, or a way back: one write, which asks nothing of the new color.
        if stamp is None or (split.whole and stamp.phase.way_back):
            return None
        if split.whole is None:
            return self._share(found, split, stamp.back_to)
        given = self.sizes_of(found)
        if split.whole not in given or self.selected(found) == self.router.values[split.whole]:
            return None  # no share was made of it, or it has all the traffic already
        now = cast("Scales", self.scales).pods(split.whole)
        full = full_size(split.whole, now, given)
        return None if now >= full else Making(split.whole, full, now, full)

    def _make(self, making: Making, found: Json, write: Write, version: Version, deadline: Deadline) -> Json:
        scales, color = cast("Scales", self.scales), making.color
        # Pods that take all requests must not go before others take some.
        first = write.split if write.split.whole is None and self.selected(found) == self.router.values[color] else None
        words = making.words | {"moving": BOTH if first else self.selected(found)}
        release = {"release": write.stamp.release if write.stamp else ""}

        def mark(now: Json) -> Sequence[Operation]:
            sizes = {**self.sizes_of(now), color: making.size}
            text = json.dumps(release | {str(each): size for each, size in sizes.items()})
            noted = {"op": "add", "path": f"/metadata/annotations/{escaped(SIZES)}", "value": text}
            return (noted, *(self.edits(now, first) if first else ()))

        self.swap(write, version, mark, words)
        marked = NodeReading("", split=write.split, stamp=write.stamp).version
        scales.give(color, making.pods)
        self._wait_pods(found, making, write.split, deadline)
        return self.swap(write, marked, lambda now: self.edits(now, write.split), making.words)

    def _wait_pods(self, found: Json, making: Making, split: Split, deadline: Deadline) -> None:
        labels = kube_pods.selector_text(
            (found["spec"].get("selector") or {}) | {self.router.label: self.router.values[making.color]}
        )
        wanted = max(making.pods, self.min_healthy) if split.whole else making.pods

        def holds(seen: Seen) -> bool:
            ready = sum(is_ready(pod) for pod in seen.values())
            return ready >= wanted if split.whole else ready == wanted

        waited = wait_for(self.cluster, PODS, holds, deadline, labels=labels)
        if not waited.held:
            ready = sum(is_ready(pod) for pod in waited.seen.values())
            fact = f"{ready} pods of {making.color} are ready, {wanted} make {split}"
            step = f"see `kubectl -n {self.cluster.namespace} get pods`; router.settle_within is {self.settle_within}"
            raise NotSettled(fact, service=self.service, part=self.name, next_step=step)

    def _astray(self, found: Json, pods: Mapping[Color, list[Json]], slices: Iterable[Json]) -> str:
        at = self.selected(found)
        wanted = [pod for color, own in pods.items() if at in (BOTH, self.router.values[color]) for pod in own]
        ready = {one.name for one in kube_pods.endpoints_of(slices) if one.ready}
        if others := ready - {pod["metadata"]["name"] for pod in wanted}:
            return f"{len(others)} of its endpoints are not pods that its selector takes"
        late = {pod["metadata"]["name"] for pod in wanted if is_ready(pod)} - ready
        return f"{len(late)} ready pods are not among its endpoints yet" if late else ""


class ServiceRouter(KubeRouter):
    """A service behind a Service in one or more clusters; see ``KubeRouter``."""

    node_type = ServiceNode
    check_type = ServiceCheck

    @property
    def limits(self) -> Limits:
        """As far as is known: the step of a share is told by the first reading."""
        seen = [member.sizes.step for member in self._own if member.scales and member.sizes]
        return Limits(
            finest_step=max(seen, default=100),
            follow_within=timedelta(seconds=30),  # until every node's kube-proxy has it, as Argo Rollouts waits
            arrives_within=ARRIVES_WITHIN,
            share_by="pods",
        )

    @property
    def _own(self) -> Sequence[ServiceNode]:
        return cast("Sequence[ServiceNode]", self.members)

    def foresee(self, to: Split) -> None:
        """Refuse a share that no number of pods makes, with as many of the new color as of the live one."""
        for member in self._own:
            member.foresee(to)

    def connections(self, color: Color) -> int | None:
        """Count clients' open connections to a color; see ``core.ports.KeepsConnections``."""
        told = [member.connections(color) for member in self._own]
        return None if None in told else sum(filter(None, told))

    def _need_step(self, to: Split) -> None:
        """Each node has said it already, by its own pods."""
