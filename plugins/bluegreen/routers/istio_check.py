"""Whether a VirtualService's routes really carry both colors, and the DestinationRule knows their subsets."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bluegreen.clusters.objects import DESTINATION_RULES, ENDPOINT_SLICES, PODS, SERVICES, VIRTUAL_SERVICES, Json
from bluegreen.clusters.trouble import ClusterTrouble
from bluegreen.core.colors import Color
from bluegreen.core.ports import Finding
from bluegreen.routers.kube_check import ObjectCheck, Right

if TYPE_CHECKING:
    from bluegreen.routers.istio_weights import IstioNode


@dataclass(frozen=True)
class IstioCheck(ObjectCheck):
    """The check of one node."""

    member: IstioNode

    mend_split = "give each of these routes both destinations with weights that sum to 100, such as 100 and 0"

    @property
    def fields(self) -> Sequence[str]:
        """Path of the list that has the weights: it has one owner as a whole."""
        return ("spec", "http")

    def rights(self) -> Sequence[Right]:
        """Everything that the router asks of the API server."""
        router = self.member.router
        own = Right(("get", "patch"), VIRTUAL_SERVICES, names=(router.virtual_service,))
        services = tuple(dict.fromkeys(self.member.service_of(color) for color in Color))
        if len(services) == 2:
            return own, Right(("list",), ENDPOINT_SLICES), Right(("get",), SERVICES, names=services, optional=True)
        if router.destination_rule is None:
            return (own,)
        rule = Right(("get",), DESTINATION_RULES, names=(router.destination_rule,))
        return own, rule, Right(("get",), SERVICES, names=services), Right(("list",), PODS)

    def own(self, found: Json) -> Iterator[Finding]:
        """What a VirtualService may have wrong."""
        for fact, mend in self.member.staying(found):
            yield self.finding("route-not-split", fact, mend)
        for fact in self.member.unlisted(found):
            mend = "list it in router.routes; else take one of its colors out, or see that it may stay"
            yield self.finding("route-unlisted", fact, mend, "warning")
        yield from self._subsets()
        yield from self._services()

    def _subsets(self) -> Iterator[Finding]:
        router = self.member.router
        wanted = {color: one.subset for color, one in router.destinations.items() if one.subset}
        if wanted and router.destination_rule is None:
            fact = (
                f"nobody says whether the subsets {', '.join(wanted.values())} are there: Istio answers 503 where not"
            )
            yield self.finding("subsets-not-checked", fact, "name router.destination_rule", "warning")
        if not wanted or router.destination_rule is None:
            return
        try:
            for fact, mend in self.member.missing_subsets():
                yield self.finding("subset-missing", fact, mend)
        except ClusterTrouble as trouble:
            yield self.finding(f"destination-rule-{trouble.kind}", trouble.fact, trouble.mend)

    def _services(self) -> Iterator[Finding]:
        for name in dict.fromkeys(filter(None, (self.member.service_of(color) for color in Color))):
            try:
                self.member.cluster.get(SERVICES, name)
            except ClusterTrouble as trouble:
                if trouble.kind == "missing":
                    yield self.finding("destination-missing", trouble.fact, "make it, or mend router.destinations")
