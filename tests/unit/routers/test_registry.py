from __future__ import annotations

from importlib import import_module
from typing import Any, NoReturn

import pytest

from bluegreen.catalog import models
from bluegreen.core.ports import CatchesUp, Counts, Readies, Renews
from bluegreen.routers.haproxy import HAProxyRouter
from bluegreen.routers.nginx import NginxRouter
from bluegreen.routers.registry import ROUTERS, make_router

SERVICE = {
    "service": "shop",
    "entry": {"url": "https://shop.example"},
    "router": {
        "type": "haproxy",
        "nodes": [{"name": "lb1", "socket": "/run/x.sock", "map": "/etc/x.map", "entry": "10.0.0.5:80"}],
        "backends": {"blue": "shop-blue", "green": "shop-green"},
    },
    "colors": {"blue": {"targets": ["http://10.0.1.1:80"]}, "green": {"targets": ["http://10.0.2.1:80"]}},
    "deploy": {"type": "command", "command": ["deploy"]},
}


def no_secret(connection_id: str) -> NoReturn:
    raise AssertionError(f"a router on this host needs no {connection_id}")


def test_a_service_gets_its_router_with_all_powers() -> None:
    router = make_router(models.Service.model_validate(SERVICE), no_secret)
    assert isinstance(router, HAProxyRouter)
    assert [member.name for member in router.members] == ["lb1"]
    assert all(isinstance(router, power) for power in (Renews, CatchesUp, Counts, Readies))
    assert router._entry == models.Entry(url="https://shop.example")


@pytest.mark.parametrize("kind", ROUTERS)
def test_every_kind_can_be_imported_and_made(kind: str) -> None:
    module, _, name = ROUTERS[kind].partition(":")
    assert callable(getattr(import_module(module), name).of)


def test_every_kind_of_the_catalog_has_a_class() -> None:
    schema: Any = models.Service.model_json_schema()["$defs"]
    kinds = {
        one["properties"]["type"]["const"]
        for name, one in schema.items()
        if name.endswith("Router") and "type" in one["properties"]
    }
    assert kinds == ROUTERS.keys()


def test_a_service_behind_nginx_gets_its_router_also_from_a_frozen_release() -> None:
    node = {"name": "lb1", "include": "/etc/nginx/bluegreen/shop.conf", "entry": "10.0.0.5:80"}
    node |= {"status": "http://127.0.0.1:9145/shop", "log": "/var/log/nginx/shop.log"}
    service = models.Service.model_validate(
        SERVICE | {"router": SERVICE["router"] | {"type": "nginx", "nodes": [node]}}
    )
    router = make_router(models.Service.model_validate(service.frozen()), no_secret)
    assert isinstance(router, NginxRouter)
    assert all(isinstance(router, power) for power in (Renews, CatchesUp, Counts))
    assert not isinstance(router, Readies)  # nginx has no drain that could be taken back
    assert router.members[0].config["servers"] == {
        "shop-blue": ["http://10.0.1.1:80"],
        "shop-green": ["http://10.0.2.1:80"],
    }
    assert router.members[0].config["command"] == ["nginx"]
