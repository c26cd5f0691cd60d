"""The guide's own manifests, as they stand: a version goes to the idle Deployment, and the Service is switched to it and back."""

from __future__ import annotations

from typing import Any

import pytest

from bluegreen.catalog import models
from bluegreen.core.colors import Color, Split
from bluegreen.core.errors import DeployError
from bluegreen.core.ports import Credentials, Deployed
from bluegreen.core.stamp import Phase
from bluegreen.deployers.registry import make_deployer
from bluegreen.routers.registry import make_router
from demo.kubernetes.namespace import Account
from tests.kubernetes.steps import (
    claim,
    mark,
    restore,
    switch,
)
from tests.rigs.kube_deploy import ACCOUNT, RBAC
from tests.rigs.kube_routers import ROOT

pytestmark = pytest.mark.kubernetes
GUIDE = ROOT / "benchmarks/guide"


@pytest.fixture
def guide(shop: Any) -> Any:
    """The guide's three manifests, and an account with the very Role that is shipped, by the guide's names."""
    for name in ("service.yaml", "deployment-blue.yaml", "deployment-green.yaml"):
        shop.kubectl("apply", "-f", "-", told=(GUIDE / name).read_text())
    role = (RBAC / "deployer.yaml").read_text().replace("[shop-blue, shop-green,", "[app-blue, app-green,")
    shop.kubectl("apply", "-f", "-", told=role)
    for color in Color:
        shop.wait_ready(f"app-{color}", 3)
    return shop


def deployer_of(guide: Any) -> Any:
    deploy = {
        "type": "kubernetes", "cluster": {"connection": "x", "namespace": guide.name}, "ask": "pods",
        "deployments": {color: f"app-{color}" for color in Color}, "image": "myapp:$VERSION", "ready_within": "60s",
    }  # fmt: skip
    node = {"name": "production", "namespace": guide.name, "entry": "127.0.0.1:1"}
    service = models.Service.model_validate(
        {
            "service": "app",
            "entry": {"url": "http://app.test"},
            "router": {"type": "kube_service", "nodes": [node], "service": "app-service", "label": "version"},
            "colors": {color: {"targets": [f"http://{color}.test"]} for color in Color},
            "deploy": deploy,
            "release": {"canary": []},
        }
    )
    return make_deployer(service, lambda _: Credentials(extra={"kube_config": Account(guide, ACCOUNT).config()}))


def container(spec: Any) -> Any:
    """The only container of a pod, as the manifests have it."""
    (found,) = spec["containers"]
    return found


def test_a_version_is_deployed_to_the_guides_idle_deployment_and_the_live_one_stays_as_it_is(
    plane: Any, guide: Any
) -> None:
    before = {color: guide.get("Deployment", f"app-{color}") for color in Color}
    pods = {color: {pod["metadata"]["uid"] for pod in guide.list("Pod", f"version={color}")} for color in Color}
    assert deployer_of(guide).deploy(Color.GREEN, "v2.1.0", 1, "run@1") == Deployed("v2.1.0", 3, 3)
    after = {color: guide.get("Deployment", f"app-{color}") for color in Color}

    # Green: its image, and all else of the guide's as it stands.
    assert container(after[Color.GREEN]["spec"]["template"]["spec"]) == container(
        before[Color.GREEN]["spec"]["template"]["spec"]
    ) | {"image": "myapp:v2.1.0"}
    assert (after[Color.GREEN]["spec"]["selector"], after[Color.GREEN]["spec"]["replicas"]) == (
        before[Color.GREEN]["spec"]["selector"], 3,
    )  # fmt: skip
    new = guide.list("Pod", "version=green")
    assert [container(pod["spec"])["image"] for pod in new] == ["myapp:v2.1.0"] * 3
    assert not pods[Color.GREEN] & {pod["metadata"]["uid"] for pod in new}

    # Blue: nothing of it, and nobody asked for it to be written.
    blue = after[Color.BLUE]
    assert (blue["spec"], blue["metadata"]["generation"]) == (before[Color.BLUE]["spec"], 1)
    assert {pod["metadata"]["uid"] for pod in guide.list("Pod", "version=blue")} == pods[Color.BLUE]
    assert guide.kubectl("get", "service", "app-service", "-o", "jsonpath={.spec.selector.version}") == "blue"
    assert sorted(guide.endpoints("app-service")) == sorted(
        pod["status"]["podIP"] for pod in guide.list("Pod", "version=blue")
    )
    who = f"system:serviceaccount:{guide.name}:{ACCOUNT}"
    asked = [event for event in plane.calls(guide.name) if event["user"].get("username") == who]
    written = {event["objectRef"]["name"] for event in asked if event["verb"] not in ("get", "list", "watch")}
    assert written == {"app-green"}


def test_a_version_that_does_not_come_up_leaves_the_guides_deployments_as_they_were(guide: Any) -> None:
    before = {color: guide.get("Deployment", f"app-{color}")["spec"] for color in Color}
    with pytest.raises(DeployError, match="Deployment app-green is given back what it was before"):
        deployer_of(guide).deploy(Color.GREEN, "crash", 1, "run@1")
    assert {color: guide.get("Deployment", f"app-{color}")["spec"] for color in Color} == before
    guide.wait_ready("app-green", 3)


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
