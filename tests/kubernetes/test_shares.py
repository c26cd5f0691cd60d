"""Shares of a plain Service, which are numbers of pods: whose sizes count, for how long, and who else may give some."""

from __future__ import annotations

import json
from typing import Any

import pytest

from bluegreen.core.colors import Color, Split
from bluegreen.core.errors import RouterRefused, RouterUnreachable, UnsupportedSplit
from bluegreen.core.evidence import Proof
from bluegreen.core.stamp import Phase, Stamp
from bluegreen.release.move import move
from bluegreen.release.plan import Request, dry_run, plan
from bluegreen.release.ports import Ports
from bluegreen.routers import kube_service
from demo.processes import wait_until
from tests.kubernetes.steps import (
    BLUE,
    GREEN,
    LEASE,
    TENTH,
    canary,
    claim,
    mark,
    restore,
    stands,
    switch,
)
from tests.rigs.kube_routers import SERVICE

pytestmark = pytest.mark.kubernetes

SCALER = {"apiVersion": "apps/v1", "kind": "Deployment"}
SKIPPED = {"skip_reason": "nobody counts requests here"}


def ports_of(rig: Any, **changes: Any) -> Ports:
    """The service at rest on blue; nothing is proven, as there is no entry."""
    router = rig.router(**changes)
    adopted = Stamp(1, "adopted@1", "adopt", Phase.SETTLED, versions={Color.BLUE: "1"})
    router.shift(BLUE, None, adopted)
    return Ports(
        service=router.catalog, router=router, deployer=None, log=lambda _: None,
        prove=lambda split: Proof(str(split), None, "there is no entry"),
    )  # type: ignore[arg-type]  # fmt: skip


def sizes(rig: Any) -> list[tuple[int, int]]:
    """Blue's and green's pods on each node, as their Deployments ask for."""
    return [
        tuple(node.get("Deployment", f"{SERVICE}-{color}")["spec"]["replicas"] for color in Color) for node in rig.nodes
    ]


def scale(rig: Any, color: Color, pods: int) -> None:
    for node in rig.nodes:
        node.kubectl("scale", f"deployment/{SERVICE}-{color}", f"--replicas={pods}")
    for node in rig.nodes:
        node.wait_ready(f"{SERVICE}-{color}", pods)
    wait_until(lambda: rig.router().read().settled, 20, "the endpoints to be those of the pods")


def noted(rig: Any, **sizes: Any) -> None:
    """Write over what stands beside the stamps."""
    for node in rig.nodes:
        node.patch("Service", SERVICE, {"metadata": {"annotations": {kube_service.SIZES: json.dumps(sizes)}}})


# An autoscaler


@pytest.fixture
def autoscaler(service_rig: Any) -> Any:
    """Let one size a color's Deployment on the second node; it has no metrics, and so changes nothing by itself."""
    node = service_rig.nodes[1]

    def make(color: Color) -> None:
        target = {**SCALER, "name": f"{SERVICE}-{color}"}
        spec = {"scaleTargetRef": target, "minReplicas": 1, "maxReplicas": 20}
        node.apply({"kind": "HorizontalPodAutoscaler", "metadata": {"name": "sizer"}, "spec": spec})

    yield make
    if node.list("HorizontalPodAutoscaler"):
        node.delete("HorizontalPodAutoscaler", "sizer")


SAYS = (
    r"shop: two: wanted 90/10: HorizontalPodAutoscaler sizer scales Deployment shop-{color}, and would move the canary's "
    r"share; nothing was moved; a share on a plain Service is a number of pods: take the autoscaler out, or use istio"
)


@pytest.mark.parametrize("color", list(Color))
def test_plan_refuses_shares_that_an_autoscaler_would_move(service_rig: Any, autoscaler: Any, color: Color) -> None:
    rig = service_rig
    ports = ports_of(rig, release={"canary": [{"share": 10}]})
    asked = Request("run", "2", "tests", skip=["watch"], **SKIPPED)
    autoscaler(color)
    for refused in (plan, dry_run):
        with pytest.raises(UnsupportedSplit, match=SAYS.format(color=color)):
            refused(ports, asked)
    found = ports.router.read()
    assert [(node.split, node.stamp.release) for node in found.nodes] == [(BLUE, "adopted@1")] * 2
    assert sizes(rig) == [(9, 9)] * 2
    assert dry_run(ports, Request("run", "2", "tests", skip=["watch", "canary"], **SKIPPED))  # no share is made
    rig.nodes[1].delete("HorizontalPodAutoscaler", "sizer")
    assert plan(ports, asked).release == "run@2"


def test_an_autoscaler_that_came_after_the_plan_stops_the_share(service_rig: Any, autoscaler: Any) -> None:
    rig = service_rig
    claim(rig.router())
    autoscaler(Color.GREEN)
    with pytest.raises(UnsupportedSplit, match=SAYS.format(color="green")):
        canary(rig.router())
    stands(rig, BLUE, 1)
    assert sizes(rig) == [(9, 9)] * 2
    rig.router().shift(GREEN, (1, "run@1"), mark(2, Phase.SWITCHED))
    restore(rig.router())
    stands(rig, BLUE, 3)


def test_who_may_not_look_for_autoscalers_is_told_the_rule_and_gets_back_all_the_same(service_rig: Any) -> None:
    rig = service_rig
    claim(rig.router())
    canary(rig.router())
    for node in rig.nodes:
        rules = [r for r in node.get("Role", "bluegreen-router-shop")["rules"] if r["apiGroups"] != ["autoscaling"]]
        node.patch("Role", "bluegreen-router-shop", {"rules": rules})

    def asked() -> RouterRefused | None:
        try:
            rig.router().foresee(TENTH)
        except RouterRefused as error:
            return error
        return None

    wait_until(lambda: asked() is not None, 10, "the API server to take the Role")
    error = asked()
    assert error is not None
    assert "may not list horizontalpodautoscalers in namespace" in error.fact
    assert '{apiGroups: ["autoscaling"], resources: ["horizontalpodautoscalers"], verbs: ["list"]}' in error.next_step
    with pytest.raises(RouterRefused, match="may not list horizontalpodautoscalers"):
        rig.router().shift(Split(75, 25), (2, "run@1"), mark(3, Phase.CANARY))
    switch(rig.router())
    restore(rig.router())
    stands(rig, BLUE, 4)


# Whose sizes


def test_what_a_release_noted_counts_no_more_once_it_is_over(service_rig: Any) -> None:
    rig = service_rig
    claim(rig.router())
    canary(rig.router())
    restore(rig.router())
    assert sizes(rig) == [(9, 9)] * 2
    scale(rig, Color.GREEN, 1)  # its owner's: the very number that the canary had

    def later(epoch: int, phase: Phase, split: Split) -> None:
        before = rig.router().read().stamp.identity
        live = Color.BLUE if epoch < 7 else Color.GREEN
        lease = LEASE if phase.transitional else None
        rig.router().shift(split, before, Stamp(epoch, f"run@{epoch // 7 + 2}", str(phase), phase, live, lease=lease))
        assert sizes(rig) == [(9, 1)] * 2, phase

    later(4, Phase.CLAIMED, BLUE)
    later(5, Phase.SWITCHED, GREEN)
    later(6, Phase.SETTLED, GREEN)  # green is live, with the number of pods that it was once given
    later(7, Phase.CLAIMED, GREEN)
    later(8, Phase.RESTORED, GREEN)


def test_what_another_release_noted_is_not_given(service_rig: Any) -> None:
    rig = service_rig
    claim(rig.router())
    canary(rig.router())
    noted(rig, release="run@0", green=[9, 9, 1])
    restore(rig.router())
    assert sizes(rig) == [(9, 1)] * 2


def test_the_live_color_is_never_resized(service_rig: Any) -> None:
    rig = service_rig
    claim(rig.router())
    canary(rig.router())
    noted(rig, release="run@1", blue=[12, 9], green=[9, 9, 1])
    restore(rig.router())
    assert sizes(rig) == [(9, 9)] * 2


def test_after_the_full_switch_the_new_color_is_its_owners(service_rig: Any) -> None:
    rig = service_rig
    claim(rig.router())
    canary(rig.router())
    switch(rig.router())
    scale(rig, Color.GREEN, 1)  # live by now, and the very number of its canary
    rig.router().renew((3, "run@1"), LEASE)
    assert sizes(rig) == [(9, 1)] * 2
    rig.router().shift(GREEN, (3, "run@1"), mark(4, Phase.SETTLED))
    assert sizes(rig) == [(9, 1)] * 2


def test_a_share_that_nobody_came_to_scale_leaves_the_size_known(service_rig: Any, at_step: Any) -> None:
    """The writer dies between its mark and its scaling: the color has the last share's pods still."""
    rig = service_rig
    claim(rig.router())
    canary(rig.router())
    at_step(2, rig.wires[0].cut)
    with pytest.raises(RouterUnreachable):
        rig.router().shift(Split(50, 50), (2, "run@1"), mark(3, Phase.CANARY))
    rig.wires[0].mend()
    assert sizes(rig) == [(9, 1)] * 2
    assert json.loads(rig.nodes[0].get("Service", SERVICE)["metadata"]["annotations"][kube_service.SIZES]) == {
        "release": "run@1", "green": [9, 1, 9],
    }  # fmt: skip
    restore(rig.router())
    assert sizes(rig) == [(9, 9)] * 2


def test_the_moves_of_one_run_are_one_release(service_rig: Any) -> None:
    rig = service_rig
    ports = ports_of(rig)
    first = move(ports, "green", run="moves", by="first", share=10)
    again = move(ports, "green", run="moves", by="second", share=10)
    assert [done.reading.stamp.identity for done in (first, again)] == [(2, "moves@2"), (3, "moves@2")]
    assert sizes(rig) == [(9, 1)] * 2
    restore(rig.router())
    assert sizes(rig) == [(9, 9)] * 2


def test_a_color_that_has_fewer_pods_than_the_live_one_does_not_get_all_the_traffic(service_rig: Any) -> None:
    rig = service_rig
    scale(rig, Color.GREEN, 3)
    claim(rig.router())
    canary(rig.router())
    with pytest.raises(
        RouterRefused,
        match=r"shop: one: green has 3 pods at its full size, and blue has 9; nothing was touched; put it back, and scale green",
    ):
        switch(rig.router())
    stands(rig, TENTH, 2)
    restore(rig.router())
    assert sizes(rig) == [(9, 3)] * 2


# How long


def test_pods_and_endpoints_of_a_node_are_waited_for_together_no_longer_than_settle_within(
    service_rig: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody renews the lease meanwhile: ``catalog.kube.KubeSection.need_lease`` reckons with this."""
    waited: list[tuple[str, Any]] = []

    def noting(cluster: Any, kind: Any, holds: Any, deadline: Any, **words: Any) -> Any:
        waited.append((kind.plural, deadline))
        return wait_for(cluster, kind, holds, deadline, **words)

    wait_for = kube_service.wait_for
    monkeypatch.setattr(kube_service, "wait_for", noting)
    claim(service_rig.router())
    waited.clear()
    canary(service_rig.router())
    assert [kind for kind, _ in waited] == ["pods", "endpointslices"] * 2
    (first, second), (third, fourth) = ([deadline for _, deadline in waited[at : at + 2]] for at in (0, 2))
    assert first is second
    assert third is fourth
    assert (first.span.total_seconds(), third.span.total_seconds()) == (20, 20)
