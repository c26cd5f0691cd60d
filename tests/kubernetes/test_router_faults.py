"""Faults by name, against routers over a real control plane."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from bluegreen.core.colors import Color
from bluegreen.core.errors import NotSettled, RouterError, RouterRefused, RouterUnreachable, TrafficConflict
from bluegreen.core.stamp import Phase
from demo.kubernetes import pods
from demo.processes import wait_until
from tests.kubernetes.steps import (
    BLUE,
    GREEN,
    TENTH,
    canary,
    claim,
    mark,
    restore,
    stands,
    switch,
)

pytestmark = pytest.mark.kubernetes

KINDS = ("kube_service", "istio", "gateway_api")


# The API server


@pytest.mark.parametrize("at", range(1, 13))
def test_an_api_server_that_goes_away_at_any_step_leaves_one_truth(rig: Any, at_step: Any, at: int) -> None:
    claim(rig.router())
    passed = at_step(at, lambda: [wire.cut() for wire in rig.wires])
    if at > rig.steps:
        canary(rig.router())
        assert len(passed) == rig.steps
        return
    try:
        told = canary(rig.router())
    except RouterUnreachable as error:
        assert (error.service, bool(error.part), bool(error.next_step)) == ("shop", True, True)  # noqa: PT017
    else:  # all was written; what cannot be read back is said
        assert len(told.unreachable) == 2
    for wire in rig.wires:
        wire.mend()
    for node in rig.router().read().nodes:
        assert (node.epoch, node.split) in ((1, BLUE), (2, TENTH)), node
        assert not node.changed_by_hand
    restore(rig.router())
    stands(rig, BLUE, rig.router().read().stamp.epoch)


@pytest.mark.parametrize("at", range(1, 9))
def test_a_way_back_whose_api_server_goes_away_is_repeated(rig: Any, at_step: Any, at: int) -> None:
    claim(rig.router())
    canary(rig.router())
    passed = at_step(at, lambda: [wire.cut() for wire in rig.wires])
    with suppress(RouterUnreachable):
        restore(rig.router())
    for wire in rig.wires:
        wire.mend()
    assert passed
    again = rig.router().read()
    if again.stamp.phase is Phase.RESTORED:
        rig.router().catch_up()
    else:
        restore(rig.router())
    stands(rig, BLUE, 3)


def test_a_slow_api_server_is_waited_for(rig: Any) -> None:
    for wire in rig.wires:
        wire.delay = 0.15
    claim(rig.router())
    canary(rig.router())
    restore(rig.router())
    for wire in rig.wires:
        wire.delay = 0
    stands(rig, BLUE, 3)


def test_an_api_server_that_is_deaf_is_unreachable_and_the_other_node_goes_back(rig: Any) -> None:
    claim(rig.router())
    canary(rig.router())
    rig.wires[0].freeze()
    nodes = [{**node.model_dump(mode="json"), "timeout": "500ms"} for node in rig.catalog().router.nodes]

    def impatient() -> Any:
        return rig.router(router={"nodes": nodes})

    with pytest.raises(RouterUnreachable, match=r"shop: one: .*nothing was moved"):
        switch(impatient())
    reading = restore(impatient())
    assert [node.node for node in reading.unreachable] == ["one"]
    assert (reading.nodes[1].split, reading.nodes[1].stamp.phase) == (BLUE, Phase.RESTORED)


# Who may not


def test_a_rule_that_is_taken_away_in_the_middle_is_named_and_the_shift_undone(rig: Any, at_step: Any) -> None:
    claim(rig.router())
    at_step(1, lambda: rig.refuse_writes(1))  # before the first node is written
    with pytest.raises(RouterRefused) as error:
        canary(rig.router())
    node = rig.nodes[1]
    assert error.value.part == "two"
    assert f"system:serviceaccount:{node.name}:bluegreen may not patch {rig.resource()}/shop in namespace" in str(
        error.value
    )
    rule = f'{{apiGroups: ["{rig.group()}"], resources: ["{rig.resource()}"], verbs: ["patch"]}}'
    assert f"add the rule {rule} to its Role" in error.value.next_step
    stands(rig, BLUE, 1)


def test_pods_that_may_not_be_seen_stop_the_way_forward_but_not_the_way_back(rig: Any) -> None:
    claim(rig.router())
    canary(rig.router())
    for node in rig.nodes:
        role = node.get("Role", "bluegreen-router-shop")
        rules = [rule for rule in role["rules"] if rule["resources"][0] not in ("pods", "endpointslices")]
        node.patch("Role", "bluegreen-router-shop", {"rules": rules})
    wait_until(lambda: all(n.health is None for n in rig.router().read().nodes), 10, "the API server to take the Role")
    assert "may not list" in rig.router().read().nodes[0].detail
    with pytest.raises(RouterRefused, match=r"cannot be seen.*may not list.*nothing was touched"):
        switch(rig.router())
    written = restore(rig.router())
    assert [(n.split, n.stamp.phase) for n in written.nodes] == [(BLUE, Phase.RESTORED)] * 2


def test_a_token_that_ran_out_is_told_and_the_other_node_goes_back(rig: Any) -> None:
    claim(rig.router())
    canary(rig.router())
    good = rig.configs[0]
    try:
        rig.configs[0] = rig.account(0).config(port=rig.wires[0].port, expired=True)
        with pytest.raises(
            RouterRefused, match=r"401, the login is not accepted; renew the login: its token is expired"
        ):
            switch(rig.router())
        reading = restore(rig.router())
        assert [(node.node, node.refused) for node in reading.unreachable] == [("one", True)]
        assert reading.nodes[1].split == BLUE
        findings = {(one.code, one.level) for one in rig.router().check()}
        assert ("cluster-forbidden", "error") in findings
    finally:
        rig.configs[0] = good
    rig.router().catch_up()
    stands(rig, BLUE, 3)


def test_a_login_plugin_that_hangs_holds_up_no_other_nodes_way_back(rig: Any, tmp_path: Path) -> None:
    claim(rig.router())
    canary(rig.router())
    good, user = rig.configs[0], "client.authentication.k8s.io/v1"
    hangs = {"apiVersion": user, "command": "sh", "args": ["-c", f"until [ -e {tmp_path}/go ]; do sleep 0.2; done"]}
    try:
        rig.configs[0] = good | {"users": [{**one, "user": {"exec": hangs}} for one in good["users"]]}
        back = rig.router().shift(BLUE, (2, "run@1"), mark(3, Phase.RESTORED))
        assert [(node.node, node.reachable, node.epoch) for node in back.nodes] == [("one", False, 0), ("two", True, 3)]
        assert "the login did not answer within" in back.nodes[0].error
    finally:
        (tmp_path / "go").touch()
        rig.configs[0] = good
    rig.router().catch_up()
    stands(rig, BLUE, 3)


# Others who write


def test_what_others_write_beside_the_split_is_no_conflict(rig: Any, at_step: Any) -> None:
    claim(rig.router())
    at_step(1, lambda: rig.nodes[0].patch(rig.kind, "shop", {"metadata": {"labels": {"team": "shop"}}}))
    canary(rig.router())
    stands(rig, TENTH, 2)
    assert rig.nodes[0].get(rig.kind, "shop")["metadata"]["labels"] == {"team": "shop"}


def test_who_writes_the_split_in_between_stops_the_shift(rig: Any, at_step: Any) -> None:
    claim(rig.router())
    at_step(1, lambda: rig.by_hand(0, 100))
    with pytest.raises(TrafficConflict, match=r"shop: one: expected 100/0, epoch 1 .*, found 0/100, epoch 1"):
        canary(rig.router())
    reading = rig.router().read()
    assert (reading.nodes[0].split, reading.nodes[1].split) == (GREEN, BLUE)
    assert [node.node for node in reading.foreign] == ["one"]


def test_a_controller_that_keeps_its_own_weights_is_found_by_name(rig: Any) -> None:
    """As Flux and Argo CD's self-healing do: whatever is in git is forced back."""
    claim(rig.router())
    switched = rig.router().shift(GREEN, (1, "run@1"), mark(2, Phase.SWITCHED))
    assert switched.settled
    for found in rig.objects(rig.nodes[0]):
        if found["kind"] == rig.kind and found["metadata"]["name"] == "shop":
            rig.keep(rig.nodes[0], found, manager="kustomize-controller")
    reading = rig.router().read()
    assert [node.node for node in reading.foreign] == ["one"]
    assert "one changed by hand to 100/0" in reading.says()
    findings = {one.code: one for one in rig.router().check() if " one," in one.where}
    assert "kustomize-controller wrote 100/0" in findings["written-by-another"].fact
    assert "over our 0/100" in findings["written-by-another"].fact
    assert "Flux keeps" in findings["kept-by-another"].fact
    assert "ssa: IfNotPresent" in findings["kept-by-another"].mend
    restore(rig.router())
    stands(rig, BLUE, 3)


# Objects that go


@pytest.mark.parametrize("at", [1, 2])
def test_an_object_that_is_deleted_in_between(rig: Any, at_step: Any, at: int) -> None:
    claim(rig.router())
    node = rig.nodes[0]
    at_step(at, lambda: node.delete(rig.kind, "shop"))
    try:
        with suppress(RouterError) if at == 2 else pytest.raises(RouterError, match="shop: one: "):
            canary(rig.router())
        says = str(rig.router().read().nodes[0].error)
        assert f"there is no {rig.resource()}/shop in namespace {node.name}; make it" in says
        restored = restore(rig.router())
        assert (restored.nodes[1].split, restored.nodes[1].stamp.phase) == (BLUE, Phase.RESTORED)
        assert "cluster-missing" in {one.code for one in rig.router().check()}
    finally:
        node.apply(*(one for one in rig.objects(node) if one["kind"] == rig.kind and one["metadata"]["name"] == "shop"))


def test_the_way_back_in_a_namespace_that_is_being_deleted(rig: Any) -> None:
    claim(rig.router())
    canary(rig.router())
    with rig.plane.namespace() as going:
        going.apply(*rig.objects(going))
        rig.hold(going)
        account, node = going.account("bluegreen"), {"name": "going", "namespace": going.name, "entry": "127.0.0.1:1"}
        rig.grant(going)
        config = account.config()
        rig.plane.ask("DELETE", f"api/v1/namespaces/{going.name}")
        try:
            other = rig.only(node, config)
            written = other.shift(BLUE, None, mark(1, Phase.RESTORED))
            assert (written.nodes[0].split, written.nodes[0].stamp.phase) == (BLUE, Phase.RESTORED)
        finally:
            rig.let_go(going)


def test_a_canarys_deployment_that_is_deleted_keeps_the_traffic_from_no_way_back(service_rig: Any) -> None:
    claim(service_rig.router())
    canary(service_rig.router())
    node = service_rig.nodes[0]
    node.delete("Deployment", "shop-green")
    try:
        (one, _) = service_rig.router().read().nodes
        assert (one.split, one.settled) == (TENTH, False)
        assert "the share cannot be told: there is no deployments/scale/shop-green" in one.detail
        with pytest.raises(RouterError):
            switch(service_rig.router())
        restore(service_rig.router())
        stands(service_rig, BLUE, service_rig.router().read().stamp.epoch)
        assert node.get("Service", "shop")["spec"]["selector"]["color"] == "blue"
    finally:
        node.apply(*(o for o in service_rig.objects(node) if o["metadata"]["name"] == "shop-green"))


# Pods


@pytest.mark.parametrize("state", ["not-ready", "crash-loop", "dead"])
def test_half_of_green_dead_does_not_keep_the_traffic_from_its_way_back(rig: Any, state: str) -> None:
    """Argo Rollouts' and Flagger's bug: there the old color is not gone back to while the new one is not whole."""
    claim(rig.router())
    canary(rig.router())
    switch(rig.router())
    for node in rig.nodes:
        node.turn(state, "color=green", count=rig.servers // 2 + 1)
    reading = restore(rig.router())
    assert [(n.split, n.stamp.phase) for n in reading.nodes] == [(BLUE, Phase.RESTORED)] * 2
    wait_until(lambda: rig.router().read().settled, 20, "the way back to be in force")


def test_all_of_green_dead_does_not_either(rig: Any) -> None:
    claim(rig.router())
    canary(rig.router())
    for node in rig.nodes:
        node.turn("not-ready", "color=green")
    restore(rig.router())
    stands(rig, BLUE, 3)


def test_a_color_that_was_ready_and_died_gets_no_more(rig: Any) -> None:
    claim(rig.router())
    canary(rig.router())
    for node in rig.nodes:
        node.turn("not-ready", "color=green")
    wait_until(lambda: all(n.health[Color.GREEN].ready == 0 for n in rig.router().read().nodes), 10, "green to be down")
    with pytest.raises(
        RouterRefused, match=r"none of \d pods of green is ready, wanted 100 % for green.*nothing was touched"
    ):
        switch(rig.router())
    assert {n.split for n in rig.router().read().nodes} == {TENTH}


def test_pods_that_do_not_come_up_for_the_full_switch_undo_it(service_rig: Any) -> None:
    rig = service_rig
    claim(rig.router())
    canary(rig.router())
    template = {"spec": {"template": {"metadata": {"annotations": {pods.STATE: "crash-loop"}}}}}
    for node in rig.nodes:
        # The one that runs stays; those to come crash.
        node.patch("Deployment", "shop-green", {"spec": {"paused": True}})
        node.patch("Deployment", "shop-green", template)
        replicas = next(one for one in node.list("ReplicaSet") if one["metadata"]["name"].startswith("shop-green"))
        node.patch("ReplicaSet", replicas["metadata"]["name"], template)
    try:
        with pytest.raises(NotSettled, match=r"shop: one: 1 pods of green are ready, 9 make 0/100"):
            switch(rig.router(router={"settle_within": "2s"}))
        reading = rig.router().read()
        assert [(n.epoch, n.split) for n in reading.nodes] == [(2, TENTH)] * 2
        restore(rig.router())
        assert [n.split for n in rig.router().read().nodes] == [BLUE] * 2
    finally:
        for node in rig.nodes:
            node.delete("Deployment", "shop-green")
        for node in rig.nodes:
            wait_until(lambda node=node: not node.list("Pod", "color=green"), 30, "green to be gone")
            node.apply(*(one for one in rig.objects(node) if one["metadata"]["name"] == "shop-green"))
