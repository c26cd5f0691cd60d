"""What each Kubernetes router does with its own objects, with kubectl as a second witness."""

from __future__ import annotations

import json
import re
import sys
import time
from typing import Any

import pytest
import yaml

from bluegreen.catalog import models
from bluegreen.clusters.objects import SERVICES, Cluster
from bluegreen.clusters.trouble import ClusterTrouble
from bluegreen.core.colors import Color, Split
from bluegreen.core.errors import NotSettled, RouterRefused, TrafficConflict, UnsupportedSplit
from bluegreen.core.ports import Credentials
from bluegreen.core.stamp import Phase, Stamp
from bluegreen.release.move import move
from bluegreen.release.wiring import ports_for
from bluegreen.routers.registry import make_router
from demo.kubernetes.plane import PlaneError
from demo.processes import wait_until
from tests.kubernetes.test_router_faults import BLUE, GREEN, TENTH, canary, claim, mark, restore, stands, switch
from tests.rigs.kube_routers import ROOT, SERVICE, pods_of

pytestmark = pytest.mark.kubernetes


def seen(rig: Any, number: int = 0) -> Any:
    """The object as kubectl shows it."""
    return json.loads(rig.nodes[number].kubectl("get", rig.resource(), SERVICE, "-o", "json"))


def share_in(rig: Any, found: Any) -> int:
    """Green's share, read by another eye than the router's."""
    if rig.kind == "VirtualService":
        routes = found["spec"]["http"]
        return next(r for r in routes if r["name"] == "web")["route"][1]["weight"]
    if rig.kind == "HTTPRoute":
        return found["spec"]["rules"][1]["backendRefs"][1]["weight"]
    selector = found["spec"]["selector"]
    if "color" in selector:
        return {"blue": 0, "green": 100}[selector["color"]]
    node = rig.nodes[0]
    pods = {color: len(json.loads(node.kubectl("get", "pods", "-l", f"color={color}", "-o", "json",
                                               "--field-selector=status.phase=Running"))["items"])
            for color in Color}  # fmt: skip
    return round(100 * pods[Color.GREEN] / sum(pods.values()))


def test_kubectl_sees_what_the_router_says(rig: Any) -> None:
    claim(rig.router())
    for step, share in ((canary, 10), (switch, 100), (restore, 0)):
        reading = step(rig.router())
        found = seen(rig)
        if share == 10 and rig.kind == "Service":
            wait_until(lambda: share_in(rig, seen(rig)) == 10, 20, "pods that end to be gone")
        assert (share_in(rig, found), reading.split.green) == (share, share)
        stamp = json.loads(found["metadata"]["annotations"]["bluegreen.dev/stamp"])
        assert (stamp["epoch"], stamp["phase"]) == (str(reading.stamp.epoch), str(reading.stamp.phase))
        assert stamp["split"] == str(reading.split)


def test_nothing_of_the_object_is_touched_but_weights_and_stamp(rig: Any) -> None:
    before = seen(rig)
    claim(rig.router())
    canary(rig.router())
    restore(rig.router())
    after = seen(rig)
    for found in (before, after):
        found.pop("status", None)
        for key in ("resourceVersion", "generation", "managedFields", "annotations"):
            found["metadata"].pop(key, None)
    assert after == before
    annotations = seen(rig)["metadata"]["annotations"].keys()
    assert annotations <= {"bluegreen.dev/stamp", "bluegreen.dev/sizes"}


def test_our_writes_bear_our_name(rig: Any) -> None:
    claim(rig.router())
    rig.router().shift(GREEN, (1, "run@1"), mark(2, Phase.SWITCHED))
    words = ("get", rig.resource(), SERVICE, "-o", "json", "--show-managed-fields")
    managers = json.loads(rig.nodes[0].kubectl(*words))["metadata"]["managedFields"]
    own = next(one for one in managers if one["manager"] == "bluegreen" and one["operation"] == "Update")
    assert "f:bluegreen.dev/stamp" in own["fieldsV1"]["f:metadata"]["f:annotations"]
    part = {"Service": "f:selector", "VirtualService": "f:http", "HTTPRoute": "f:rules"}[rig.kind]
    # The list, or the selector, has one owner as a whole: a server-side apply of ours would have to send all of it.
    assert own["fieldsV1"]["f:spec"][part] == {}


def test_an_unforced_apply_from_git_is_told_that_the_weights_are_ours(rig: Any) -> None:
    claim(rig.router())
    rig.router().shift(GREEN, (1, "run@1"), mark(2, Phase.SWITCHED))
    node = rig.nodes[0]
    git = next(one for one in rig.objects(node) if one["kind"] == rig.kind and one["metadata"]["name"] == SERVICE)
    git = {"apiVersion": seen(rig)["apiVersion"], **git}
    with pytest.raises(PlaneError, match=r'conflicts? with "bluegreen"'):
        node.kubectl("apply", "--server-side", "--field-manager=git", "-f", "-", told=yaml.safe_dump(git))
    stands(rig, GREEN, 2)


@pytest.mark.parametrize("label", ["tracked", "not"])
def test_flux_leaves_alone_what_is_annotated_and_argo_is_named_by_its_mark(rig: Any, label: str) -> None:
    claim(rig.router())
    marks = {"annotations": {"argocd.argoproj.io/tracking-id": "shop:x"}}
    if label == "not":
        marks = {
            "labels": {"kustomize.toolkit.fluxcd.io/name": "shop"},
            "annotations": {"kustomize.toolkit.fluxcd.io/ssa": "IfNotPresent"},
        }
    rig.nodes[0].patch(rig.kind, SERVICE, {"metadata": marks})
    found = [one for one in rig.router().check() if one.code == "kept-by-another"]
    assert len(found) == (label == "tracked")
    for one in found:
        assert "managedFieldsManagers: [bluegreen]" in one.mend
        assert one.level == "warning"


# Rights


def manifest(rig: Any) -> list[Any]:
    return list(yaml.safe_load_all((ROOT / "include/kubernetes" / rig.manifest).read_text()))


def test_the_role_that_is_shipped_is_what_the_router_asks_for(rig: Any) -> None:
    router = rig.router()
    wanted = [right.rule() for right in router.check_type.of(router, router.members[0]).rights()]
    role, binding = manifest(rig)

    def order(rules: list[Any]) -> list[str]:
        return sorted(json.dumps(rule | {"verbs": sorted(rule["verbs"])}, sort_keys=True) for rule in rules)

    assert order(role["rules"]) == order(wanted)
    assert binding["roleRef"]["name"] == role["metadata"]["name"]


def test_what_lies_outside_of_the_role_answers_403_with_the_missing_rule(rig: Any) -> None:
    cluster = rig.router().members[0].cluster
    who = f"system:serviceaccount:{rig.nodes[0].name}:bluegreen"
    for ask, what, rule in (
        (
            lambda: cluster.delete(SERVICES, SERVICE),
            "delete services/shop",
            'resources: ["services"], verbs: ["delete"]',
        ),
        (lambda: cluster.get(SERVICES, "other"), "get services/other", 'resources: ["services"], verbs: ["get"]'),
        (lambda: cluster.create(SERVICES, {"metadata": {"name": "x"}}), "create services", 'verbs: ["create"]'),
    ):
        with pytest.raises(ClusterTrouble) as error:
            ask()
        assert error.value.kind == "forbidden"
        assert error.value.fact == f"{who} may not {what} in namespace {rig.nodes[0].name}"
        assert rule in error.value.mend
    elsewhere = Cluster(cluster.access, "default")
    with pytest.raises(ClusterTrouble, match="in namespace default"):
        elsewhere.get(SERVICES, SERVICE)


@pytest.mark.parametrize("number", range(5))
def test_check_names_each_rule_that_is_missing(rig: Any, number: int) -> None:
    rules = manifest(rig)[0]["rules"]
    if number >= len(rules):
        return
    gone = rules.pop(number)
    for node in rig.nodes:
        node.patch("Role", "bluegreen-router-shop", {"rules": rules})
    resource = gone["resources"][0]

    def told() -> list[Any]:
        return [one for one in rig.router().check() if one.code == "may-not" and f" {resource} in " in one.fact]

    wait_until(lambda: len(told()) == 2, 10, f"check to miss {resource}")
    for one in told():
        assert all(verb in one.fact for verb in gone["verbs"]), one
        assert str(resource) in one.mend


# check


def codes(rig: Any, **changes: Any) -> set[str]:
    return {one.code for one in rig.router(**changes).check() if " one," in one.where}


def fact(rig: Any, code: str, **changes: Any) -> str:
    return next(one.fact for one in rig.router(**changes).check() if one.code == code)


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
    assert codes(rig) == {"route-of-one-color"}
    assert "route testers sends all its requests to green" in fact(rig, "route-of-one-color")
    claim_refused(rig, "route testers sends all its requests to green, whatever the split is")
    routes(lambda found: found[0].update(match=[{"headers": {"x-tester": {"exact": "yes"}}}]))
    both = found_routes(node)
    routes(lambda found: found.append({**both[1], "name": "api", "route": [dict(one) for one in both[1]["route"]]}))
    assert codes(rig) == set()
    routes(lambda found: found[3]["route"][0].update(weight=60) or found[3]["route"][1].update(weight=40))
    assert "they differ: route web 100/0, route api 60/40" in fact(rig, "no-split")
    assert codes(rig, router={"routes": ["web"]}) == set()
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
    wait_until(lambda: codes(rig) == {"rule-of-one-color"}, 10, "the rule to be found")
    claim_refused(rig, "sends all its requests to green, whatever the split is")
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
    assert {"backend-without-port", "no-split"} <= codes(rig, router={"backends": ports})
    assert "Service shop-green of green has no port 81, only 80" in fact(
        rig, "backend-without-port", router={"backends": ports}
    )
    ports = {"blue": {"name": "shop-blue", "port": 80}, "green": {"name": "nobody", "port": 80}}
    assert "backend-missing" in codes(rig, router={"backends": ports}) or "may-not" in codes(
        rig, router={"backends": ports}
    )


# The plain Service


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


# Gateway API


def test_a_controller_that_is_late_is_waited_for_and_a_write_that_it_does_not_take_is_undone(router_rigs: Any) -> None:
    rig = router_rigs("gateway_api")
    rig.reset()
    claim(rig.router())
    rig.freeze()
    with pytest.raises(NotSettled, match=r"shop: one: written, but Gateway .*/rig has not said Accepted of generation"):
        canary(rig.router(router={"settle_within": "1s"}))
    reading = rig.router().read()
    assert [(n.split, n.epoch, n.settled) for n in reading.nodes] == [(BLUE, 1, False), (BLUE, 1, True)]
    assert "has not said Accepted" in reading.nodes[0].detail
    rig.freeze(frozen=False)
    wait_until(lambda: rig.router().read().settled, 20, "the controller to take it")
    stands(rig, BLUE, 1)


def test_a_grpc_route_is_written_as_an_http_route(router_rigs: Any) -> None:
    rig = router_rigs("gateway_api")
    rig.reset()
    for node in rig.nodes:
        refs = [{"name": f"shop-{c}", "port": 80, "weight": weight} for c, weight in zip(Color, (100, 0), strict=True)]
        parent = {"name": "rig", "namespace": rig.gateway.namespace.name}
        spec = {"parentRefs": [parent], "hostnames": [f"grpc.{node.name}.test"], "rules": [{"backendRefs": refs}]}
        node.apply({"kind": "GRPCRoute", "metadata": {"name": "calls"}, "spec": spec})
        role = manifest(rig)[0]
        role["rules"][0] |= {"resources": ["grpcroutes"], "resourceNames": ["calls"]}
        node.patch("Role", "bluegreen-router-shop", {"rules": role["rules"]})
    changes = {"router": {"kind": "GRPCRoute", "route": "calls"}}
    wait_until(lambda: not rig.router(**changes).read().unreachable, 10, "the API server to take the Role")
    wait_until(lambda: all(n.settled for n in rig.router(**changes).read().nodes), 20, "Traefik to take the routes")
    claim(rig.router(**changes))
    done = canary(rig.router(**changes))
    assert (done.split, done.settled) == (TENTH, True)
    found = json.loads(rig.nodes[0].kubectl("get", "grpcroutes", "calls", "-o", "json"))
    assert [ref["weight"] for ref in found["spec"]["rules"][0]["backendRefs"]] == [90, 10]
    assert {one.code for one in rig.router(**changes).check()} == set()


def linkerd_says(plane: Any, node: Any, reason: str = "") -> None:
    """
    Write what Linkerd's policy controller writes, which is not run here: its group is ``core``, and no generation is said.

    :param reason: why it does not accept the route
    """
    said = {"message": "", "lastTransitionTime": "2026-11-29T00:00:00Z"}
    accepted = {**said, "type": "Accepted", "status": "False" if reason else "True", "reason": reason or "Accepted"}
    resolved = {**said, "type": "ResolvedRefs", "status": "True", "reason": "ResolvedRefs"}
    parent = {"group": "core", "kind": "Service", "name": SERVICE, "namespace": node.name, "port": 80}
    told = {"parentRef": parent, "controllerName": "linkerd.io/policy-controller", "conditions": [accepted, resolved]}
    route_said(plane, node, told)


def route_said(plane: Any, node: Any, *parents: Any) -> None:
    path = node.path("HTTPRoute", SERVICE, "status")
    plane.ask("PATCH", path, {"status": {"parents": list(parents)}}, "application/merge-patch+json")


@pytest.mark.parametrize("group", ["", "core"])
def test_linkerds_form_has_a_service_as_its_parent(router_rigs: Any, group: str) -> None:
    rig = router_rigs("gateway_api")
    rig.reset()
    parent = {"group": group, "kind": "Service", "name": SERVICE, "port": 80}
    for node in rig.nodes:
        rules = node.get("HTTPRoute", SERVICE)["spec"]["rules"]
        for ref in (ref for rule in rules for ref in rule["backendRefs"]):
            ref["group"] = group
        node.patch("HTTPRoute", SERVICE, {"spec": {"parentRefs": [parent], "hostnames": None, "rules": rules}})
        route_said(rig.plane, node)
    assert "no controller has taken it for Service" in rig.router().read().nodes[0].detail
    for node in rig.nodes:
        linkerd_says(rig.plane, node, "NoMatchingParent")
    assert "says Accepted: False, NoMatchingParent" in rig.router().read().nodes[0].detail
    for node in rig.nodes:
        linkerd_says(rig.plane, node)
    for step, share in ((claim, 0), (canary, 10), (switch, 100), (restore, 0)):
        reading = step(rig.router())
        assert (reading.settled, reading.split.green, share_in(rig, seen(rig))) == (True, share, share)
    assert codes(rig) == {"generation-untold"}


# Speed, and what it costs the API server


def test_a_switch_is_proven_through_the_entry(rig: Any, record_property: Any) -> None:
    if "traffic" not in rig.can:
        pytest.skip(rig.no_traffic())
    ports = ports_for(rig.through_entry(), rig.secrets)
    first = Stamp(1, "adopted@1", "adopt", Phase.SETTLED, versions={Color.BLUE: "1"})
    ports.router.shift(BLUE, None, first)
    ports.router.members[0].cluster.calls.clear()
    began = time.monotonic()
    done = move(ports, "green", run="moves", by="test")
    took, calls = time.monotonic() - began, ports.router.calls
    assert (done.proof.proven, done.reading.live, done.reading.stamp.phase) == (True, Color.GREEN, Phase.SETTLED)
    line = f"{rig.kind}: switched, settled, each proven, in {took:.2f} s; calls to the API server: {dict(calls)}"
    print(line, file=sys.stderr)  # noqa: T201 - figures for who looks
    record_property("seconds", round(took, 2))
    assert calls.total() < 100


def test_the_count_of_calls_is_what_the_api_server_has_seen(rig: Any) -> None:
    claim(rig.router())
    ours = rig.account(0).name
    who = f"system:serviceaccount:{rig.nodes[0].name}:{ours}"

    def audited() -> int:
        events = [e for e in rig.plane.calls(rig.nodes[0].name) if e["user"].get("username") == who]
        return sum(event["stage"] != "ResponseStarted" for event in events)  # of a watch that is both begun and ended

    before, router = audited(), rig.router()
    canary(router)
    counted = router.members[0].cluster.calls
    wait_until(lambda: audited() - before >= counted.total(), 10, "the audit log to be written")
    assert audited() - before == counted.total(), counted


# What people have already


def test_the_guides_three_manifests_work_as_they_stand(plane: Any, shop: Any) -> None:
    guide = ROOT / "benchmarks/guide"
    for name in ("service.yaml", "deployment-blue.yaml", "deployment-green.yaml"):
        shop.kubectl("apply", "-f", "-", told=(guide / name).read_text())
    for color in Color:
        shop.wait_ready(f"app-{color}", 3)
    account = shop.account(
        "bluegreen",
        ("", "services", "get,patch"), ("", "pods", "list,watch"), ("discovery.k8s.io", "endpointslices", "list,watch"),
        ("apps", "deployments/scale", "get,patch"), ("autoscaling", "horizontalpodautoscalers", "list"),
    )  # fmt: skip
    node = {"name": "production", "connection": "x", "namespace": shop.name, "entry": "127.0.0.1:1"}
    section = {"type": "kube_service", "nodes": [node], "service": "app-service", "label": "version"}
    section["canary"] = {"deployments": {"blue": "app-blue", "green": "app-green"}}
    service = models.Service.model_validate(
        {
            "service": "app",
            "entry": {"url": "http://app.test"},
            "router": section,
            "colors": {color: {"targets": [f"http://{color}.test"]} for color in Color},
            "deploy": {"type": "command", "command": ["true"]},
            "release": {"canary": [{"share": 25}]},
        }
    )
    router: Any = make_router(service, lambda _: Credentials(extra={"kube_config": account.config()}))
    router.proving = False
    assert list(router.check()) == []
    claim(router)
    router.shift(Split(75, 25), (1, "run@1"), mark(2, Phase.CANARY))
    assert shop.kubectl("get", "service", "app-service", "-o", "jsonpath={.spec.selector}") == '{"app":"myapp"}'
    switch(router)
    assert shop.kubectl("get", "service", "app-service", "-o", "jsonpath={.spec.selector.version}") == "green"
    assert sorted(shop.endpoints("app-service")) == sorted(
        p["status"]["podIP"] for p in shop.list("Pod", "version=green")
    )
    restore(router)
    assert shop.kubectl("get", "service", "app-service", "-o", "jsonpath={.spec.selector.version}") == "blue"


@pytest.mark.parametrize(
    ("name", "kind"), [("istio.yaml", "istio"), ("gateway.yaml", "gateway_api"), ("linkerd.yaml", "gateway_api")]
)
def test_the_examples_are_taken_by_the_api_server_and_by_the_router(
    plane: Any, shop: Any, name: str, kind: str
) -> None:
    plane.install("istio-api")
    plane.install("gateway-api")
    shop.apply(*(pods_of(color, 1) for color in Color))
    for file in dict.fromkeys(("gateway.yaml" if kind == "gateway_api" else name, name)):
        for found in yaml.safe_load_all((ROOT / "include/kubernetes" / file).read_text()):
            found["metadata"].pop("namespace")
            shop.kubectl("apply", "--validate=strict", "-f", "-", told=yaml.safe_dump(found))
    page = (ROOT / "docs" / ("linkerd.md" if name == "linkerd.yaml" else "kubernetes.md")).read_text()
    fences = [yaml.safe_load(one) for one in re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)]
    section = next(one["router"] for one in fences if one["router"]["type"] == kind)
    node = {**section["nodes"][0], "connection": "x", "namespace": shop.name}
    whole = yaml.safe_load((ROOT / "include/services/shop.yaml").read_text()) | {"router": {**section, "nodes": [node]}}
    router: Any = make_router(
        models.Service.model_validate(whole), lambda _: Credentials(extra={"kube_config": plane.config()})
    )
    router.proving = False
    # No gateway of that name is here, and no Linkerd.
    assert {one.code for one in router.check()} <= ({"not-in-force"} if kind == "gateway_api" else set())
    assert router.read().split == BLUE
    if name == "linkerd.yaml":
        linkerd_says(plane, shop)
    if name != "gateway.yaml":  # else nobody says that it has taken the route
        claim(router)
        assert (canary(router).split, switch(router).split, restore(router).split) == (TENTH, GREEN, BLUE)
