"""What takes real requests before a control plane's pods: a gateway of its own, in a namespace of its own."""

from __future__ import annotations

import secrets
from typing import ClassVar

from demo.kubernetes.namespace import Namespace
from demo.kubernetes.net import ClusterNet
from demo.processes import LOOPBACK, free_port
from demo.traffic import Answer, fresh_request


class Front:
    """One gateway, whose object is named ``rig``; every namespace's routes may use it."""

    kind: ClassVar[str]

    def __init__(self, net: ClusterNet, port: int | None = None) -> None:
        self.net, self.plane = net, net.plane
        self.port = port or free_port()
        self.namespace = Namespace(self.plane, f"{self.kind}-{secrets.token_hex(3)}")

    @property
    def entry(self) -> str:
        """Where requests go, each with the name of its service: see ``host``."""
        return f"{LOOPBACK}:{self.port}"

    def start(self) -> None:
        """Start it and wait until it takes requests."""
        raise NotImplementedError

    def stop(self) -> None:
        """Stop it, as far as it was started."""
        raise NotImplementedError

    def host(self, namespace: Namespace) -> str:
        """Return the name that requests for a namespace's routes bear."""
        return f"{namespace.name}.test"

    def request(self, namespace: Namespace, path: str = "/") -> Answer:
        """Send one request over a fresh connection."""
        return fresh_request(self.port, path, name=self.host(namespace))
