"""What a service file may say of Kubernetes, and what is said of what it may not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from bluegreen.catalog.load import read_text
from bluegreen.catalog.models import Service
from bluegreen.catalog.section import connections
from bluegreen.core.colors import Color
from bluegreen.core.errors import CatalogError
from tests.unit.catalog.test_bad_files import GOOD
from tests.unit.catalog.test_schema import errors

NODE = {"name": "eu", "connection": "prod_eu", "namespace": "shop", "entry": "10.0.0.5:80"}
ROUTERS: dict[str, dict[str, Any]] = {
    "kube_service": {"service": "shop"},
    "istio": {"virtual_service": "shop", "destinations": {"blue": {"host": "b"}, "green": {"host": "g"}}},
    "gateway_api": {
        "route": "shop",
        "backends": {"blue": {"name": "b", "port": 80}, "green": {"name": "g", "port": 80}},
    },
}


def file(kind: str, /, **changes: Any) -> str:
    whole = yaml.safe_load(GOOD)
    router = {"type": kind, "nodes": [NODE], **ROUTERS[kind], **changes}
    return yaml.safe_dump(whole | {"router": {key: value for key, value in router.items() if value is not None}})


def read(kind: str, /, **changes: Any) -> Service:
    return read_text(file(kind, **changes), Path("shop.yaml"))


def refused(kind: str, /, **changes: Any) -> str:
    with pytest.raises(CatalogError) as raised:
        read(kind, **changes)
    return str(raised.value)


@pytest.mark.parametrize("kind", ROUTERS)
def test_a_short_section_is_enough(kind: str) -> None:
    service = read(kind)
    assert service.router.type == kind
    assert service.router.client_cookie is None
    assert Service.model_validate(service.frozen()) == service
    assert errors(file(kind)) == []
    assert connections(service) == {"prod_eu"}


def test_defaults_are_the_usual_names() -> None:
    router = read("kube_service").router
    assert (router.label, router.values) == ("color", {Color.BLUE: "blue", Color.GREEN: "green"})
    assert router.canary is None
    assert read("gateway_api").router.kind == "HTTPRoute"


@pytest.mark.parametrize(
    ("kind", "changes", "says"),
    [
        ("kube_service", {"service": "Shop"}, "found 'Shop', allowed a Kubernetes name"),
        ("kube_service", {"service": None}, "the key 'service' is missing"),
        ("kube_service", {"label": "a/b/c"}, "allowed the key of a Kubernetes label"),
        ("kube_service", {"values": {"blue": "a", "green": "a"}}, "blue and green need one of their own each"),
        ("kube_service", {"canary": {"deployments": {"blue": "a"}}}, "it needs both colors, blue and green"),
        ("kube_service", {"nodes": [NODE, NODE]}, "node names must differ"),
        ("kube_service", {"nodes": []}, "the list is empty"),
        ("kube_service", {"nodes": [{**NODE, "connection": "a b"}]}, "allowed the id of an Airflow connection"),
        ("istio", {"routes": []}, "the list is empty"),
        ("istio", {"destination_rule": "shop"}, "give both a subset, or take it out"),
        ("gateway_api", {"kind": "TCPRoute"}, "found 'TCPRoute', allowed"),
        (
            "gateway_api",
            {"backends": {"blue": {"name": "b", "port": 0}, "green": {"name": "g", "port": 80}}},
            "1 to 65535",
        ),
        ("gateway_api", {"rout": "shop"}, "unknown key 'rout'; did you mean 'route'?"),
    ],
)
def test_a_wrong_section_is_refused_with_what_is_allowed(kind: str, changes: dict[str, Any], says: str) -> None:
    assert says in refused(kind, **changes)
