"""Which class makes which kind of router. A new kind is a line here."""

from __future__ import annotations

from pkgutil import resolve_name
from typing import cast

from bluegreen.catalog.models import Service
from bluegreen.core.ports import Router, Secrets

ROUTERS = {
    "haproxy": "bluegreen.routers.haproxy:HAProxyRouter",
    "nginx": "bluegreen.routers.nginx:NginxRouter",
    "kube_service": "bluegreen.routers.kube_service:ServiceRouter",
    "istio": "bluegreen.routers.istio_weights:IstioWeightsRouter",
    "gateway_api": "bluegreen.routers.gateway_api:GatewayRouter",
}
"""Type in the service file -> module and class, imported when a service wants it."""


def make_router(service: Service, secrets: Secrets) -> Router:
    """Make the router of a service; ``secrets`` is for kinds that log in somewhere."""
    return cast("Router", resolve_name(ROUTERS[service.router.type]).of(service, secrets))
