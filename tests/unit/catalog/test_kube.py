"""What a service file may say of Kubernetes, and what is said of what it may not."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from bluegreen.catalog.load import load_way_back, read_text
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
        ("kube_service", {"nodes": [NODE, NODE | {"name": "us"}]}, "eu and us are one object"),
        ("istio", {"settle_within": "0s"}, "router.settle_within: found '0s', allowed greater than 0 seconds"),
        ("istio", {"nodes": [NODE | {"timeout": "0s"}]}, "found '0s', allowed greater than 0 seconds"),
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


# How long writes are waited for, and who keeps the lease meanwhile: nobody


def nodes(count: int) -> list[dict[str, Any]]:
    return [NODE | {"name": f"n{number}", "namespace": f"shop{number}"} for number in range(count)]


def test_nodes_may_be_one_namespace_of_several_clusters_or_several_of_one() -> None:
    assert len(read("istio", nodes=[NODE, NODE | {"name": "us", "connection": "prod_us"}]).router.nodes) == 2
    assert len(read("istio", nodes=nodes(2)).router.nodes) == 2


@pytest.mark.parametrize("release", [{}, {"canary": []}, None])
@pytest.mark.parametrize(
    ("count", "within", "said", "less"),
    [(1, "60s", "1m", "1m"), (3, "20s", "20s for each of 3 nodes in turn, 1m in all", "20s")],
)  # fmt: skip
def test_a_wait_that_outlasts_the_lease_is_refused(count: int, within: str, said: str, less: str, release: Any) -> None:
    for kind in ROUTERS:
        whole = yaml.safe_load(file(kind, nodes=nodes(count), settle_within=within))
        whole |= {"release": release or {}}
        if release is None:
            del whole["release"]
        with pytest.raises(CatalogError) as raised:
            read_text(yaml.safe_dump(whole), Path("shop.yaml"))
        assert raised.value.key == "release"
        found = f"lease is 1m, and router.settle_within {said}: a guard would put back what is only slow"
        allowed = f"give router.settle_within less than {less}, or a lease of more than 1m"
        assert f"{found}; {allowed}" in str(raised.value)
        assert read_text(yaml.safe_dump(whole | {"release": {"lease": "61s"}}), Path("shop.yaml"))


@pytest.mark.parametrize(
    ("lease", "count", "each"),
    [("60s", 1, 30), ("60s", 2, 15), ("60s", 4, 7.5), ("10m", 1, 30), ("10s", 2, 2.5)],
)
def test_what_is_not_said_is_shared_by_the_nodes_and_never_outlasts_the_lease(
    lease: str, count: int, each: float
) -> None:
    whole = yaml.safe_load(file("istio", nodes=nodes(count))) | {"release": {"lease": lease}}
    service = read_text(yaml.safe_dump(whole), Path("shop.yaml"))
    assert service.router.settles_within(service.release.lease) == timedelta(seconds=each)
    assert read("istio", settle_within="1ms").router.settles_within(timedelta(minutes=1)) == timedelta(milliseconds=1)


def test_a_longer_lease_in_a_part_that_is_not_read_keeps_no_broken_file_from_its_way_back(tmp_path: Path) -> None:
    whole = yaml.safe_load(file("istio", settle_within="90s")) | {"release": {"lease": "5m"}, "smoke": "broken"}
    path = tmp_path / f"{whole['service']}.yaml"
    path.write_text(yaml.safe_dump(whole))
    found = load_way_back(path)
    assert found
    assert found.router.settle_within == timedelta(seconds=90)
