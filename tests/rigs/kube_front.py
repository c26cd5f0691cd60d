"""What takes real requests before a control plane's pods: a gateway of its own, in a namespace of its own."""

from __future__ import annotations

import secrets
from typing import ClassVar, Self

from demo.processes import LOOPBACK, free_port
from tests.rigs.kube_namespace import Namespace
from tests.rigs.kube_net import ClusterNet, shared_net
from tests.rigs.traffic import Answer, fresh_request


class Front:
    """One gateway, whose object is named ``rig``; every namespace's routes may use it."""

    kind: ClassVar[str]

    def __init__(self, net: ClusterNet) -> None:
        self.net, self.plane = net, net.plane
        self.port = free_port()
        self.namespace = Namespace(self.plane, f"{self.kind}-{secrets.token_hex(3)}")

    @classmethod
    def begun(cls) -> Self:
        """Start it on this process's control plane, with which it ends."""
        front = cls(shared_net())
        front.plane.before_stop.append(front.stop)
        front.start()
        return front

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
