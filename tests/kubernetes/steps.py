"""What tests of a Kubernetes router do with it, and how they look at what came of it."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import yaml

from bluegreen.core.colors import Color, Split
from bluegreen.core.stamp import Phase, Stamp
from tests.rigs.kube_routers import ROOT, SERVICE

BLUE, GREEN, TENTH = Split(100, 0), Split(0, 100), Split(90, 10)
LEASE = datetime(2026, 11, 23, 7, tzinfo=UTC)


def mark(epoch: int, phase: Phase) -> Stamp:
    return Stamp(epoch, "run@1", str(phase), phase, Color.BLUE, lease=LEASE if phase.transitional else None)


def claim(router: Any) -> Any:
    return router.shift(BLUE, None, mark(1, Phase.CLAIMED))


def canary(router: Any) -> Any:
    return router.shift(TENTH, (1, "run@1"), mark(2, Phase.CANARY))


def switch(router: Any) -> Any:
    return router.shift(GREEN, (2, "run@1"), mark(3, Phase.SWITCHED))


def restore(router: Any) -> Any:
    found = router.read().stamp
    return router.shift(BLUE, found.identity, mark(found.epoch + 1, Phase.RESTORED))


def stands(rig: Any, split: Split, epoch: int) -> None:
    reading = rig.router().read()
    assert [(n.split, n.epoch, n.settled) for n in reading.nodes] == [(split, epoch, True)] * 2, reading.nodes


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


def manifest(rig: Any) -> list[Any]:
    return list(yaml.safe_load_all((ROOT / "include/kubernetes" / rig.manifest).read_text()))


def codes(rig: Any, **changes: Any) -> set[str]:
    return {one.code for one in rig.router(**changes).check() if " one," in one.where}


def fact(rig: Any, code: str, **changes: Any) -> str:
    return next(one.fact for one in rig.router(**changes).check() if one.code == code)


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
