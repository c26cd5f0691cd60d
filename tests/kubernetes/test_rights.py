"""What a Kubernetes router may do: the Roles that are shipped, and what is said where one is not enough."""

from __future__ import annotations

import json
from typing import Any

import pytest

from bluegreen.clusters.objects import SERVICES, Cluster
from bluegreen.clusters.trouble import ClusterTrouble
from demo.processes import wait_until
from tests.kubernetes.steps import (
    manifest,
)
from tests.rigs.kube_routers import SERVICE

pytestmark = pytest.mark.kubernetes


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
