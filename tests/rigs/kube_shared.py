"""
What tests of Kubernetes share: one control plane in a process, and what stands on it, each started when first wanted.

    with shared().namespace() as shop:
        shop.apply(deployment)
"""

from __future__ import annotations

import atexit
from functools import cache
from typing import TypeVar

from demo.kubernetes.front import Front
from demo.kubernetes.net import ClusterNet
from demo.kubernetes.plane import ControlPlane
from demo.kubernetes.traefik import Gateway

FrontT = TypeVar("FrontT", bound=Front)
_planes: list[ControlPlane] = []


@cache
def shared() -> ControlPlane:
    """
    Return the control plane of this process.

    ``stop_shared`` ends it: pytest calls that when a session ends (``tests/conftest.py``), others when they end.
    """
    plane = ControlPlane()
    _planes.append(plane)
    plane.start()
    return plane


@cache
def shared_net() -> ClusterNet:
    """Return its network; it ends before the plane does."""
    net = ClusterNet(shared())
    net.start()
    net.plane.before_stop.append(net.stop)
    return net


@cache
def shared_front(kind: type[FrontT]) -> FrontT:
    """Return what takes requests before its pods; it ends before the network does."""
    front = kind(shared_net())
    front.plane.before_stop.append(front.stop)
    front.start()
    return front


def shared_gateway() -> Gateway:
    """Return its Gateway."""
    return shared_front(Gateway)


@atexit.register
def stop_shared() -> None:
    """End the control plane of this process, if it has one, and all that stands on it."""
    while _planes:
        _planes.pop().stop()
