"""The plain Service: all or nothing by its selector, shares by the number of its pods."""

from __future__ import annotations

from typing import Any

import pytest

from bluegreen.core.colors import Color, Split
from bluegreen.core.errors import RouterRefused, TrafficConflict, UnsupportedSplit
from bluegreen.core.stamp import Phase
from demo.processes import wait_until
from tests.kubernetes.steps import (
    BLUE,
    GREEN,
    TENTH,
    canary,
    claim,
    codes,
    fact,
    mark,
    restore,
    stands,
    switch,
)
from tests.rigs.kube_routers import SERVICE

pytestmark = pytest.mark.kubernetes


def test_a_selector_alone_gives_all_or_nothing(service_rig: Any) -> None:
    rig, plain = service_rig, {"router": {"canary": None}}
    router = rig.router(**plain)
    assert router.limits.finest_step == 100
    claim(router)
    with pytest.raises(UnsupportedSplit, match=r"a Service's selector gives all or nothing; .*istio, gateway_api"):
        canary(rig.router(**plain))
    with pytest.raises(UnsupportedSplit):
        rig.router(**plain).foresee(TENTH)
    stands(rig, BLUE, 1)
    done = rig.router(**plain).shift(GREEN, (1, "run@1"), mark(2, Phase.SWITCHED))
    assert (done.live, done.settled) == (Color.GREEN, True)
    assert [(n.list("Pod", "color=green").__len__()) for n in rig.nodes] == [9, 9]


def test_the_true_step_is_known_from_the_pods(service_rig: Any) -> None:
    router = service_rig.router()
    router.read()
    assert router.limits.finest_step == 10
    router.foresee(TENTH)
    with pytest.raises(
        UnsupportedSplit, match=r"shop: one: wanted 93/7: beside 9 pods of blue, up to 9 of green make 10, 18"
    ):
        router.foresee(Split(93, 7))


def test_shares_grow_and_the_live_color_keeps_its_size(service_rig: Any) -> None:
    rig = service_rig
    claim(rig.router())
    sizes = []
    for epoch, share in enumerate((10, 25, 50, 100), start=2):
        phase = Phase.SWITCHED if share == 100 else Phase.CANARY
        rig.router().shift(Split.giving(Color.GREEN, share), (epoch - 1, "run@1"), mark(epoch, phase))
        sizes.append([rig.nodes[0].get("Deployment", f"shop-{c}")["spec"]["replicas"] for c in Color])
    assert sizes == [[9, 1], [9, 3], [9, 9], [9, 9]]
    restore(rig.router())
    assert [rig.nodes[0].get("Deployment", f"shop-{c}")["spec"]["replicas"] for c in Color] == [9, 9]


def test_a_color_gets_its_size_back_on_the_way_back(service_rig: Any) -> None:
    rig = service_rig
    claim(rig.router())
    canary(rig.router())
    assert rig.nodes[0].get("Deployment", "shop-green")["spec"]["replicas"] == 1
    restore(rig.router())
    assert [n.get("Deployment", "shop-green")["spec"]["replicas"] for n in rig.nodes] == [9, 9]


def test_who_resizes_the_canary_moves_the_split(service_rig: Any) -> None:
    rig = service_rig
    claim(rig.router())
    canary(rig.router())
    rig.nodes[0].kubectl("scale", "deployment/shop-green", "--replicas=3")
    reading = rig.router().read()
    assert [(n.node, n.split) for n in reading.foreign] == [("one", Split(75, 25))]
    with pytest.raises(TrafficConflict, match="by hand"):
        switch(rig.router())


def test_a_color_whose_pods_lack_the_services_named_port_gets_no_traffic(service_rig: Any) -> None:
    rig, node = service_rig, service_rig.nodes[0]
    before = node.get("Service", SERVICE)["spec"]["ports"]
    try:
        name_port(node, blue="web", green="http")
        node.patch("Service", SERVICE, {"spec": {"ports": [{"name": "http", "port": 80, "targetPort": "web"}]}})
        wait_until(rig.settled, 60, "pods with other names of ports")
        assert codes(rig) == {"port-of-no-pod"}
        assert "9 ready pods of green have no container port web, where port 80 leads" in fact(rig, "port-of-no-pod")
        claim(rig.router())
        for step in (canary, lambda router: router.shift(GREEN, (1, "run@1"), mark(2, Phase.SWITCHED))):
            with pytest.raises(
                RouterRefused, match=r"9 ready pods of green have no container port web.*nothing was touched"
            ):
                step(rig.router())
        stands(rig, BLUE, 1)
        name_port(node, green="web")
        wait_until(rig.settled, 60, "pods with the port")
        assert codes(rig) == set()
        rig.router().shift(GREEN, (1, "run@1"), mark(2, Phase.SWITCHED))
        restore(rig.router())
        stands(rig, BLUE, 3)
    finally:
        node.patch("Service", SERVICE, {"spec": {"ports": before}})


def name_port(node: Any, **names: str) -> None:
    for color, name in names.items():
        template = node.get("Deployment", f"{SERVICE}-{color}")["spec"]["template"]["spec"]
        template["containers"][0]["ports"] = [{"containerPort": 8080, "name": name}]
        node.patch("Deployment", f"{SERVICE}-{color}", {"spec": {"template": {"spec": template}}})


def test_min_healthy_is_held_before_the_full_switch(service_rig: Any) -> None:
    rig = service_rig
    for node in rig.nodes:
        node.turn("not-ready", "color=green", 6)
    changes: dict[str, Any] = {"router": {"canary": None}, "release": {"min_healthy": 4, "canary": []}}
    changes["colors"] = {c: {"targets": [f"http://{c}{n}.test" for n in range(4)]} for c in Color}
    wait_until(lambda: all(n.health[Color.GREEN].ready == 3 for n in rig.router().read().nodes), 10, "three ready pods")
    claim(rig.router(**changes))
    with pytest.raises(RouterRefused, match=r"only 3 of 9 pods of green is ready.* release.min_healthy is 4"):
        rig.router(**changes).shift(GREEN, (1, "run@1"), mark(2, Phase.SWITCHED))
