"""What ``bluegreen check`` finds in the objects of each Kubernetes router."""

from __future__ import annotations

from typing import Any

import pytest

from bluegreen.core.colors import Color
from bluegreen.core.errors import RouterRefused
from demo.processes import wait_until
from tests.kubernetes.steps import (
    BLUE,
    canary,
    claim,
    codes,
    fact,
    restore,
    stands,
    switch,
)
from tests.rigs.kube_routers import SERVICE, pods_of

pytestmark = pytest.mark.kubernetes


def test_check_of_a_service(service_rig: Any) -> None:
    rig, node = service_rig, service_rig.nodes[0]
    assert codes(rig, release={"canary": [{"share": 10}]}) == set()
    plain = {"router": {"canary": None}}
    assert codes(rig, **plain) == {"canary-too-fine"}
    assert codes(rig, **plain, release={"canary": []}) == set()
    assert "7 %" in fact(rig, "canary-too-fine", release={"canary": [{"share": 7}]})
    node.patch("Service", SERVICE, {"spec": {"selector": {"color": None}}})
    assert "no-split" in codes(rig, **plain)
    assert "has no color" in fact(rig, "no-split", **plain)
    node.patch("Service", SERVICE, {"spec": {"selector": {"color": "purple"}}})
    assert "no-split" in codes(rig)
    assert "color: purple, which is no color" in fact(rig, "no-split")
    node.patch("Service", SERVICE, {"spec": {"selector": {"color": "blue"}, "sessionAffinity": "ClientIP"}})
    assert codes(rig) == {"session-affinity"}
    node.patch("Service", SERVICE, {"spec": {"sessionAffinity": "None"}})
    hpa = {"scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "shop-green"}, "maxReplicas": 5}
    node.apply({"kind": "HorizontalPodAutoscaler", "metadata": {"name": "h"}, "spec": hpa})
    try:
        assert codes(rig) == {"autoscaler-moves-the-share"}
        assert "h scales Deployment shop-green" in fact(rig, "autoscaler-moves-the-share")
    finally:
        node.delete("HorizontalPodAutoscaler", "h")
    other = {"app": SERVICE, "color": "purple"}
    odd = pods_of(Color.BLUE, 1)
    odd["metadata"]["name"] = "odd"
    odd["spec"]["selector"]["matchLabels"] = odd["spec"]["template"]["metadata"]["labels"] = other
    node.apply(odd)
    try:
        wait_until(lambda: "pods-of-no-color" in codes(rig), 10, "the odd pod to be there")
        assert "1 pods of no color such as odd-" in fact(rig, "pods-of-no-color")
    finally:
        node.delete("Deployment", "odd")
        wait_until(lambda: not node.list("Pod", "color=purple"), 20, "the odd pod to be gone")
    swapped = {"blue": "shop-green", "green": "shop-blue"}
    assert "deployment-of-no-color" in codes(rig, router={"canary": {"deployments": swapped}})
    node.patch("Service", SERVICE, {"spec": {"selector": None}})
    assert {"no-selector", "no-split"} <= codes(rig, router={"canary": None})


def test_check_of_a_virtual_service(router_rigs: Any) -> None:
    rig = router_rigs("istio")
    rig.reset()
    node = rig.nodes[0]
    assert codes(rig) == set()

    def routes(change: Any) -> None:
        found = node.get("VirtualService", SERVICE)["spec"]["http"]
        change(found)
        node.patch("VirtualService", SERVICE, {"spec": {"http": found}})

    def weights(blue: int, green: int) -> Any:
        def change(found: Any) -> None:
            found[1]["route"][0]["weight"], found[1]["route"][1]["weight"] = blue, green

        return change

    routes(weights(0, 0))
    assert codes(rig) == {"no-split"}
    assert "route web has weights 0/0" in fact(rig, "no-split")
    routes(weights(100, 0))
    routes(lambda found: found[0].pop("match"))
    assert codes(rig) == {"route-not-split"}
    assert "route testers sends all its requests to green" in fact(rig, "route-not-split")
    claim_refused(rig, "route testers sends all its requests to green, whatever the split is")
    routes(lambda found: found[0].update(match=[{"headers": {"x-tester": {"exact": "yes"}}}]))
    both = found_routes(node)
    routes(lambda found: found.append({**both[1], "name": "api", "route": [dict(one) for one in both[1]["route"]]}))
    assert codes(rig) == set()
    routes(lambda found: found[3]["route"][0].update(weight=60) or found[3]["route"][1].update(weight=40))
    assert "they differ: route web 100/0, route api 60/40" in fact(rig, "no-split")
    assert codes(rig, router={"routes": ["web"]}) == {"route-unlisted"}
    assert "it has no http route www" in fact(rig, "no-split", router={"routes": ["www"]})
    routes(lambda found: found.pop(3))
    routes(lambda found: found[1]["route"].pop(1))
    assert "no http route carries both colors" in fact(rig, "no-split")
    assert "does not carry both colors" in fact(rig, "no-split", router={"routes": ["web"]})
    rig.put_right(node)
    subsets = [{"name": "blue", "labels": {"color": "blue"}}]
    node.patch("DestinationRule", SERVICE, {"spec": {"subsets": subsets}})
    try:
        assert "subset-missing" in codes(rig)
        claim_refused(rig, r"DestinationRule shop has no subset green for green")
        node.delete("DestinationRule", SERVICE)
        assert "destination-rule-missing" in codes(rig)
    finally:
        node.apply(*(one for one in rig.objects(node) if one["kind"] == "DestinationRule"))
    assert codes(rig, router={"destination_rule": None}) == {"subsets-not-checked"}
    node.delete("Service", SERVICE)
    try:
        assert "destination-missing" in codes(rig)
    finally:
        node.apply(*(one for one in rig.objects(node) if one["kind"] == "Service"))


@pytest.mark.parametrize("others", [[{"host": "legacy"}], [{"host": SERVICE, "subset": "blue"}]])
def test_a_route_of_three_is_found_and_refused_and_keeps_no_traffic_from_its_way_back(
    router_rigs: Any, others: list[Any]
) -> None:
    rig = started(router_rigs, "istio")
    three = [{"destination": one, "weight": 0} for one in (*both_subsets(), *others)]
    three[0]["weight"] = 100
    claim(rig.router())
    canary(rig.router())
    for node in rig.nodes:
        add = {"name": "api", "match": [{"uri": {"prefix": "/api"}}], "route": three}
        node.patch("VirtualService", SERVICE, {"spec": {"http": [*found_routes(node), add]}})
    assert codes(rig) == {"route-not-split"}
    assert "route api sends its requests to blue, green, " in fact(rig, "route-not-split")
    with pytest.raises(RouterRefused, match=r"route api .*nothing was touched; give it one destination of each color"):
        switch(rig.router())
    restore(rig.router())
    stands(rig, BLUE, 3)
    assert found_routes(rig.nodes[0])[-1]["route"] == three


@pytest.mark.parametrize(
    ("kind", "match"), [("tcp", {"port": 5432}), ("tls", {"port": 443, "sniHosts": ["shop.test"]})]
)
def test_a_route_of_connections_to_a_color_is_found_and_refused(router_rigs: Any, kind: str, match: Any) -> None:
    rig = started(router_rigs, "istio")
    blue, green = both_subsets()

    def routes(*destinations: Any) -> None:
        weight = 100 // len(destinations)
        sent = [{"destination": one, "weight": weight} for one in destinations]
        rig.nodes[0].patch("VirtualService", SERVICE, {"spec": {kind: [{"match": [match], "route": sent}]}})

    whole = {**green, "host": f"{SERVICE}.{rig.nodes[0].name}.svc.cluster.local"}
    for destinations, says in (((blue,), "blue"), ((blue, green), "blue and green"), ((whole,), "green")):
        routes(*destinations)
        assert codes(rig) == {"route-not-split"}
        claim_refused(rig, f"{kind} route 0 sends its connections to {says}, whatever the split is")
    routes({"host": "database"})
    assert codes(rig) == set()


def test_a_route_of_both_colors_that_is_not_listed_stays_where_it_is_and_is_warned_of(router_rigs: Any) -> None:
    rig, listed = started(router_rigs, "istio"), {"router": {"routes": ["web"]}}
    for node in rig.nodes:
        routes = found_routes(node)
        add = {**routes[1], "name": "api", "match": [{"uri": {"prefix": "/api"}}]}
        node.patch("VirtualService", SERVICE, {"spec": {"http": [routes[0], add, *routes[1:]]}})
    assert codes(rig) == set()
    found = [one for one in rig.router(**listed).check() if " one," in one.where]
    assert [(one.code, one.level) for one in found] == [("route-unlisted", "warning")]
    assert "route api carries both colors and is not in router.routes" in found[0].fact
    claim(rig.router(**listed))
    canary(rig.router(**listed))
    weights = [[one["weight"] for one in route["route"]] for route in found_routes(rig.nodes[0])[1:3]]
    assert weights == [[100, 0], [90, 10]]


def started(router_rigs: Any, kind: str) -> Any:
    rig = router_rigs(kind)
    rig.reset()
    return rig


def both_subsets() -> list[dict[str, str]]:
    return [{"host": SERVICE, "subset": str(color)} for color in Color]


def found_routes(node: Any) -> Any:
    return node.get("VirtualService", SERVICE)["spec"]["http"]


def claim_refused(rig: Any, says: str) -> None:
    with pytest.raises(RouterRefused, match=rf"{says}.*nothing was touched"):
        claim(rig.router())


def test_check_of_an_http_route(router_rigs: Any) -> None:
    rig = router_rigs("gateway_api")
    rig.reset()
    node = rig.nodes[0]
    wait_until(lambda: codes(rig) == set(), 10, "Traefik to have taken the route")

    def spec(**change: Any) -> None:
        node.patch("HTTPRoute", SERVICE, {"spec": change})

    good = node.get("HTTPRoute", SERVICE)["spec"]
    spec(rules=[good["rules"][1], {"backendRefs": [{"name": "shop-green", "port": 80}]}])
    wait_until(lambda: codes(rig) == {"rule-not-split"}, 10, "the rule to be found")
    claim_refused(rig, "sends all its requests to green, whatever the split is")
    three = [
        {"name": f"shop-{color}", "port": 80, "weight": weight}
        for color, weight in (("blue", 90), ("green", 0), ("blue", 10))
    ]
    spec(rules=[good["rules"][1], {"backendRefs": three}])
    wait_until(lambda: codes(rig) == {"rule-not-split"}, 10, "the rule of three to be found")
    claim_refused(rig, "rule 1 sends its requests to blue, green, blue, whatever the split is")
    spec(rules=[{"backendRefs": [{"name": "shop-blue", "port": 80}, {"name": "nobody", "port": 80}]}])
    wait_until(lambda: "no-split" in codes(rig), 10, "no split")
    assert "no rule has both colors" in fact(rig, "no-split")
    assert "ResolvedRefs: False, BackendNotFound" in fact(rig, "not-in-force")
    spec(rules=good["rules"], parentRefs=[])
    wait_until(lambda: codes(rig) == {"no-parent"}, 10, "no parent")
    spec(parentRefs=[{"name": "nobody"}])
    wait_until(lambda: codes(rig) == {"not-in-force"}, 10, "no gateway of that name")
    assert f"no controller has taken it for Gateway {node.name}/nobody" in fact(rig, "not-in-force")
    spec(parentRefs=[{**good["parentRefs"][0], "sectionName": "nobody"}])
    wait_until(lambda: "Accepted: False" in fact(rig, "not-in-force"), 10, "Traefik to refuse it")
    spec(parentRefs=good["parentRefs"])
    ports = {"blue": {"name": "shop-blue", "port": 80}, "green": {"name": "shop-green", "port": 81}}
    assert "backend-without-port" in codes(rig, router={"backends": ports})
    assert "Service shop-green of green has no port 81, only 80" in fact(
        rig, "backend-without-port", router={"backends": ports}
    )
    ports = {"blue": {"name": "shop-blue", "port": 80}, "green": {"name": "nobody", "port": 80}}
    assert "backend-missing" in codes(rig, router={"backends": ports}) or "may-not" in codes(
        rig, router={"backends": ports}
    )


def test_any_port_of_a_colors_service_is_the_colors(router_rigs: Any) -> None:
    rig = started(router_rigs, "gateway_api")
    node = rig.nodes[0]
    web = node.get("HTTPRoute", SERVICE)["spec"]["rules"][1]

    def beside(*refs: Any) -> None:
        admin = {"matches": [{"path": {"type": "PathPrefix", "value": "/admin"}}], "backendRefs": list(refs)}
        node.patch("HTTPRoute", SERVICE, {"spec": {"rules": [web, admin]}})

    beside({"name": "shop-blue", "port": 8080})
    assert "rule-not-split" in codes(rig)
    claim_refused(rig, "rule 1 sends all its requests to blue, whatever the split is")
    beside({"name": "shop-blue", "port": 8080, "weight": 60}, {"name": "shop-green", "port": 8080, "weight": 40})
    assert "they differ: rule 0 100/0, rule 1 60/40" in fact(rig, "no-split")
