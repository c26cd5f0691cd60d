"""All that a demo's services stand on: control plane, network with pods that answer, and a gateway."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from demo.kubernetes.net import ClusterNet, cluster_net
from demo.kubernetes.plane import ControlPlane, control_plane
from demo.kubernetes.traefik import Gateway


@dataclass(frozen=True)
class Cluster:
    """It runs."""

    plane: ControlPlane
    net: ClusterNet
    gateway: Gateway


@contextmanager
def cluster(folder: Path, gateway_port: int, failing: Mapping[str, float]) -> Iterator[Cluster]:
    """
    Start it all, and end it all.

    :param folder: its files; logs stay there
    :param failing: version -> share of its answers to ``/checkout`` that are a 500
    """
    with control_plane(folder) as plane, cluster_net(plane, failing) as net:
        gateway = Gateway(net, gateway_port)
        try:
            gateway.start()
            yield Cluster(plane, net, gateway)
        finally:
            gateway.stop()
