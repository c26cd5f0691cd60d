"""Whether a Service really routes by its selector's color, and shares can be made of its pods."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Self

from bluegreen.clusters.objects import AUTOSCALERS, DEPLOYMENTS, ENDPOINT_SLICES, PODS, SERVICES, Json
from bluegreen.clusters.trouble import ClusterTrouble
from bluegreen.core.colors import Color
from bluegreen.core.ports import Finding
from bluegreen.routers import kube_pods
from bluegreen.routers.kube_check import ObjectCheck, Right
from bluegreen.routers.kube_nodes import KubeRouter, ObjectNode
from bluegreen.routers.kube_sizes import MEND_AUTOSCALER, Scales, Sizes

if TYPE_CHECKING:
    from bluegreen.routers.kube_service import ServiceNode


@dataclass(frozen=True)
class ServiceCheck(ObjectCheck):
    """
    The check of one node.

    :param shares: the canary steps of the service file, in per cent
    """

    member: ServiceNode
    shares: Sequence[int] = ()

    mend_split = "write the color that is live into the selector: kubectl patch, or bluegreen restore where it is ours"

    @classmethod
    def of(cls, router: KubeRouter, member: ObjectNode) -> Self:
        """Make the check of one of a router's nodes."""
        shares = tuple(step.share for step in router.catalog.release.canary)
        return replace(super().of(router, member), shares=shares)

    @property
    def fields(self) -> Sequence[str]:
        """Path of the selector: it has one owner as a whole."""
        return ("spec", "selector")

    def rights(self) -> Sequence[Right]:
        """Everything that the router asks of the API server."""
        router = self.member.router
        always = (
            Right(("get", "patch"), SERVICES, names=(router.service,)),
            Right(("list", "watch"), PODS),
            Right(("list", "watch"), ENDPOINT_SLICES),
        )
        rights = [*always]
        if router.canary:
            rights.append(Right(("get", "patch"), DEPLOYMENTS, "scale", tuple(router.canary.deployments.values())))
            rights.append(Right(("list",), AUTOSCALERS))
        if router.connections:
            rights.append(Right(("get", "create"), PODS, "exec", optional=True))
        return rights

    def own(self, found: Json) -> Iterator[Finding]:
        """What a Service may have wrong."""
        spec, name = found["spec"], self.member.says
        if not spec.get("selector") or spec.get("type") == "ExternalName":
            mend = "give it a selector, or use a router that writes weights: istio, gateway_api"
            yield self.finding("no-selector", f"{name} has no selector: its endpoints are made elsewhere", mend)
            return
        if spec.get("sessionAffinity") == "ClientIP":
            fact = f"{name} has sessionAffinity ClientIP: clients stay on their pod, and a share cannot be proven"
            yield self.finding("session-affinity", fact, "sessionAffinity: None, or no canary steps", "warning")
        pods = self.member.pods(found)
        for fact in kube_pods.unreached(found, pods).values():
            yield self.finding("port-of-no-pod", f"{name}: {fact}", kube_pods.MEND_UNREACHED)
        if self.member.scales:
            yield from self._deployments(self.member.scales.names)
            yield from self._autoscalers(self.member.scales)
            yield from self._pods_of_no_color(spec["selector"])
            yield from self._steps(found, pods)
        elif self.shares:
            fact = f"release.canary has {_percent(self.shares)}, and the selector of {name} gives all or nothing"
            mend = "write release.canary: [], give router.canary.deployments, or use a router with weights"
            yield self.finding("canary-too-fine", fact, mend)

    def _deployments(self, names: Mapping[Color, str]) -> Iterator[Finding]:
        router, cluster = self.member.router, self.member.cluster
        for color, name in names.items():
            try:
                scale = cluster.get(DEPLOYMENTS, name, "scale")
            except ClusterTrouble as trouble:
                yield self.finding(f"deployment-{trouble.kind}", trouble.fact, trouble.mend)
                continue
            label = f"{router.label}={router.values[color]}"
            if label not in str(scale["status"].get("selector", label)).split(","):
                fact = f"Deployment {name} does not select {label}: its size would make no share of {color}"
                yield self.finding("deployment-of-no-color", fact, f"add {label} to its selector and its pods")

    def _autoscalers(self, scales: Scales) -> Iterator[Finding]:
        try:
            found = list(scales.autoscalers())
        except ClusterTrouble:
            return  # that we may not is said by the rights
        for fact in found:
            yield self.finding("autoscaler-moves-the-share", fact, MEND_AUTOSCALER)

    def _pods_of_no_color(self, selector: Mapping[str, str]) -> Iterator[Finding]:
        router = self.member.router
        others = {key: value for key, value in selector.items() if key != router.label}
        known = set(router.values.values())
        pods = self.member.cluster.list(PODS, kube_pods.selector_text(others)).items if others else ()
        odd = [
            pod["metadata"]["name"]
            for pod in pods
            if (pod["metadata"].get("labels") or {}).get(router.label) not in known
        ]
        if not others or odd:
            which = f"{len(odd)} pods of no color such as {odd[0]}" if odd else "every pod of the namespace"
            fact = f"without {router.label} the selector of {self.member.says} takes {which}, too"
            yield self.finding(
                "pods-of-no-color", fact, "give the selector a label that the pods of both colors alone have"
            )

    def _steps(self, found: Json, pods: Mapping[Color, Sequence[Json]]) -> Iterator[Finding]:
        """Hold the canary steps against the pods that there are now."""
        many = {color: len([p for p in own if kube_pods.is_there(p)]) for color, own in pods.items()}
        at = self.member.selected(found)
        live = next((color for color in Color if self.member.router.values[color] == at), None)
        if live is None:
            return  # a canary is under way: its own color has not all its pods
        sizes = Sizes(many[live], max(many.values()))
        if bad := [share for share in self.shares if sizes.pods_for(share) is None]:
            made = ", ".join(str(share) for share in sizes.shares) or "none"
            fact = f"release.canary has {_percent(bad)}; {sizes.live} pods of {live} and as many others make {made} %"
            mend = "write shares that pods make into release.canary, or use a router with weights: istio, gateway_api"
            yield self.finding("canary-too-fine", fact, mend)


def _percent(shares: Sequence[int]) -> str:
    return ", ".join(f"{share} %" for share in shares)
