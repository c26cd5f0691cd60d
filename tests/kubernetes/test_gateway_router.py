"""HTTPRoutes and GRPCRoutes: controllers that are late, and Linkerd's form."""

from __future__ import annotations

import json
from typing import Any

import pytest

from bluegreen.core.colors import Color
from bluegreen.core.errors import NotSettled
from demo.processes import wait_until
from tests.kubernetes.steps import (
    BLUE,
    TENTH,
    canary,
    claim,
    codes,
    linkerd_says,
    manifest,
    restore,
    route_said,
    seen,
    share_in,
    stands,
    switch,
)
from tests.rigs.kube_routers import SERVICE

pytestmark = pytest.mark.kubernetes


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
