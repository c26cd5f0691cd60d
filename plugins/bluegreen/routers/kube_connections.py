"""
Clients' open connections to pods, as the kernel of each pod tells them.

A Service moves no connection that is open: what keeps its connection stays on its pod after a switch, and nothing in the
API says so.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from datetime import timedelta

from bluegreen.clusters.objects import Cluster, Json
from bluegreen.clusters.pod_commands import run_in_pod
from bluegreen.clusters.trouble import ClusterTrouble
from bluegreen.core.deadlines import Deadline
from bluegreen.routers import kube_pods

COMMAND = ("cat", "/proc/net/tcp", "/proc/net/tcp6")
_ESTABLISHED = "01"
_HEAD = "local_address"
_ROW = re.compile(r"^ *\d+: [0-9A-F]+:([0-9A-F]{4}) ([0-9A-F]+):[0-9A-F]{4} ([0-9A-F]{2}) ", re.MULTILINE)


def open_connections(cluster: Cluster, service: Json, pods: Sequence[Json], container: str | None) -> int:
    """
    Count established connections to the ports that a Service sends requests to, over pods.

    :param service: the Service
    :param container: which container has ``cat``; None for each pod's first one
    :raises ClusterTrouble: a pod does not tell
    """
    return sum(
        established(_tables(cluster, str(pod["metadata"]["name"]), container), target_ports(service, pod))
        for pod in pods
    )


def target_ports(service: Json, pod: Json) -> frozenset[int]:
    """Return the numbers of a pod's ports that a Service sends requests to; one with a name has its number in the pod."""
    named = kube_pods.named_ports(pod)
    wanted = [port.get("targetPort") or port["port"] for port in service["spec"].get("ports") or ()]
    return frozenset(filter(None, (port if isinstance(port, int) else named.get(port) for port in wanted)))


def established(tables: str, ports: Collection[int]) -> int:
    """
    Count other hosts' established connections to these ports.

    :param tables: ``/proc/net/tcp`` and ``tcp6``; columns as in the kernel's Documentation/networking/proc_net_tcp
    """
    return sum(
        int(port, 16) in ports and state == _ESTABLISHED and not _loopback(remote)
        for port, remote, state in _ROW.findall(tables)
    )


def _loopback(address: str) -> bool:
    # Words of four bytes, the least one first: 127.0.0.1 is 0100007F; in the other table it ends ::ffff:127.0.0.1, or is ::1.
    return address.endswith("7F") if len(address) == 8 or "FFFF0000" in address else address == f"{'0' * 24}01000000"


def _tables(cluster: Cluster, pod: str, container: str | None) -> str:
    said: list[str] = []
    try:
        run_in_pod(cluster, pod, container, COMMAND, Deadline(timedelta(seconds=cluster.timeout)), said.append)
    except ClusterTrouble as trouble:
        raise (_untold(pod, trouble.fact) if trouble.kind == "refused" else trouble) from trouble
    tables = "".join(said)
    if _HEAD not in tables:  # a kernel without IPv6 has one table only, and `cat` an error for the other
        raise _untold(pod, f"{' '.join(COMMAND)} said {tables.strip()[:200]!r}")
    return tables


def _untold(pod: str, why: str) -> ClusterTrouble:
    mend = "name a container that has `cat` in router.connections.container"
    return ClusterTrouble("refused", f"pod {pod} does not tell its connections: {why}", mend)
