"""What each Kubernetes router does with its own objects, with kubectl as a second witness, and what it costs."""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import pytest
import yaml

from bluegreen.core.colors import Color
from bluegreen.core.stamp import Phase, Stamp
from bluegreen.release.move import move
from bluegreen.release.wiring import ports_for
from demo.kubernetes.plane import PlaneError
from demo.processes import wait_until
from tests.kubernetes.steps import (
    BLUE,
    GREEN,
    canary,
    claim,
    mark,
    restore,
    seen,
    share_in,
    stands,
    switch,
)
from tests.rigs.kube_routers import SERVICE

pytestmark = pytest.mark.kubernetes


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
