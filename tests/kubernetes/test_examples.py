"""The files in ``include/kubernetes`` and the sections in the docs, as they stand."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml

from bluegreen.catalog import models
from bluegreen.core.colors import Color
from bluegreen.core.ports import Credentials
from bluegreen.routers.registry import make_router
from tests.kubernetes.steps import (
    BLUE,
    GREEN,
    TENTH,
    canary,
    claim,
    linkerd_says,
    restore,
    switch,
)
from tests.rigs.kube_routers import ROOT, pods_of

pytestmark = pytest.mark.kubernetes


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
