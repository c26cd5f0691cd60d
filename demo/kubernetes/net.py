"""
A network for a control plane's pods, in a namespace of its own.

Each pod of kwok answers HTTP on its own address, and kube-proxy makes Services' cluster addresses real.

    with control_plane() as plane, cluster_net(plane) as net:
        net.request(shop, "shop")   # through the cluster address, as real kernel rules send it

What answers is ``pod_server.py``; Services, EndpointSlices, kube-proxy and its nftables rules are the real ones.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from itertools import count
from pathlib import Path

import yaml

from demo.kubernetes.namespace import Namespace
from demo.kubernetes.plane import NODES, ControlPlane
from demo.kubernetes.plane import missing as missing_plane
from demo.kubernetes.wire import Wire
from demo.processes import LOOPBACK, Process, wait_until
from demo.traffic import Answer, fresh_request
from tools.kubernetes.programs import PROGRAMS, lacking

ROOT = Path(__file__).resolve().parents[2]
POD_PORT, COUNTS_PORT = 8080, 8081
_NEW_NETWORK = 0x40000000  # CLONE_NEWNET
_numbers = count()


def missing() -> str:
    """Say why no network can be made here; empty where one can."""
    if reason := missing_plane() or lacking("kube-proxy"):
        return reason
    if os.geteuid() != 0:
        return "a network namespace is root's to make: run it as root"
    absent = [name for name in ("ip", "nft") if not shutil.which(name)]
    return f"there is no {' and no '.join(absent)}: apt-get install iproute2 nftables" if absent else ""


class ClusterNet:
    """
    The namespace, its processes and requests into it.

    This machine's side reaches the pods and the Services of the plane by a route; nothing else does.

    :param failing: version -> share of its answers to ``/checkout`` that are a 500
    """

    def __init__(self, plane: ControlPlane, failing: Mapping[str, float] | None = None) -> None:
        self.plane, self._failing = plane, failing or {}
        self.name = f"bg{os.getpid()}-{next(_numbers)}"
        self._stack = ExitStack()

    def start(self) -> None:
        """Make it all; what was made is undone where that fails."""
        with ExitStack() as stack:
            self._make(stack)
            listening = listen_in(self.name, self.plane.port)
            # The parts in there find the API server where their kubeconfig says: on their own loopback.
            stack.enter_context(Wire((LOOPBACK, self.plane.port), listening))
            self.pods = self._run(
                stack, "pod-server", sys.executable, "-m", "demo.kubernetes.pod_server", *self._pods()
            )
            self.proxy = self._run(stack, "kube-proxy", PROGRAMS["kube-proxy"].find(), self._proxy())
            wait_until(self._settled, 60, f"kube-proxy and the pods, see {self.plane.folder}", interval_s=0.1)
            self._stack = stack.pop_all()

    def stop(self) -> None:
        """End its processes, then the namespace and the route with it."""
        self._stack.close()

    @property
    def counts(self) -> str:
        """Where is told what the pods have answered: see ``counts.py``."""
        return f"http://{self.plane.net}.255.2:{COUNTS_PORT}/"

    def address(self, namespace: Namespace, service: str) -> tuple[str, int]:
        """Return a Service's cluster address and port."""
        spec = namespace.get("Service", service)["spec"]
        return spec["clusterIP"], spec["ports"][0]["port"]

    def request(self, namespace: Namespace, service: str, path: str = "/") -> Answer:
        """Send one request over a fresh connection to a Service's cluster address."""
        host, port = self.address(namespace, service)
        return fresh_request(port, path, host=host)

    def _make(self, stack: ExitStack) -> None:
        _sweep()
        net, here, there = (self.plane.net + part for part in (".0.0/16", ".255.1", ".255.2"))
        ip("netns", "add", self.name)
        stack.callback(ip, "netns", "delete", self.name)
        inside = ("-n", self.name)
        ip("link", "add", self.name, "type", "veth", "peer", "name", "eth0", "netns", self.name)
        ip("address", "add", f"{here}/30", "dev", self.name)
        ip("link", "set", self.name, "up")
        ip(*inside, "address", "add", f"{there}/30", "dev", "eth0")
        ip(*inside, "link", "set", "eth0", "up")
        ip(*inside, "link", "set", "lo", "up")
        # Every address of a pod is this namespace's own: one server answers for them all.
        ip(*inside, "route", "add", "local", self.plane.pods, "dev", "lo")
        # Services have no address; kube-proxy's rules turn them into pods' on the way to here.
        ip(*inside, "route", "add", "default", "via", here)
        # What no rule turns is refused on its way through, not dropped in silence.
        # All clients are one address here, and would share one refusal a second.
        switches = ("ip_forward=1", "icmp_ratelimit=0", "conf.all.send_redirects=0", "conf.eth0.send_redirects=0")
        ip("netns", "exec", self.name, "sysctl", "-qw", *(f"net.ipv4.{switch}" for switch in switches))
        ip("route", "add", net, "via", there, "dev", self.name)

    def _run(self, stack: ExitStack, name: str, *command: str | Path | None) -> Process:
        words = ["ip", "netns", "exec", self.name, *(str(word) for word in command)]
        process = Process(words, self.plane.folder / f"{name}.log", cwd=ROOT).start()
        stack.callback(process.stop)
        return process

    def _pods(self) -> list[str]:
        words = [str(self.plane.folder / "parts.kubeconfig"), f"--port={POD_PORT}", f"--counts-port={COUNTS_PORT}"]
        return [*words, *(f"--failing={version}={share}" for version, share in self._failing.items())]

    def _proxy(self) -> str:
        told = {
            "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
            "kind": "KubeProxyConfiguration",
            "mode": "nftables",
            "hostnameOverride": NODES[0],
            "clusterCIDR": self.plane.pods,
            "clientConnection": {"kubeconfig": f"{self.plane.folder}/parts.kubeconfig"},
            "healthzBindAddress": f"{LOOPBACK}:10256",
            # After rules that the kernel did not take, the next try is a sync period later: 30 s by default.
            "nftables": {"syncPeriod": "1s"},
            # Connections' limits are a machine's, which a network namespace may not set.
            "conntrack": {"maxPerCore": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
        }
        path = self.plane.folder / "kube-proxy.yaml"
        path.write_text(yaml.safe_dump(told))
        return f"--config={path}"

    def _settled(self) -> bool:
        for process in (self.proxy, self.pods):
            process.need_alive()
        rules = subprocess.run(
            ["ip", "netns", "exec", self.name, "nft", "list", "table", "ip", "kube-proxy"],
            capture_output=True,
            text=True,
            check=False,
        )
        return rules.returncode == 0 and "ready" in self.pods.tail(5)


@contextmanager
def cluster_net(plane: ControlPlane, failing: Mapping[str, float] | None = None) -> Iterator[ClusterNet]:
    """Make a plane's pods and Services reachable, see there; all is undone at the end."""
    net = ClusterNet(plane, failing)
    net.start()
    try:
        yield net
    finally:
        net.stop()


def ip(*words: str) -> str:
    """Run ``ip``; what it refuses is an error with its own words."""
    done = subprocess.run(["ip", *words], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"ip {' '.join(words)}: {done.stderr.strip()}")
    return done.stdout


def listen_in(namespace: str, port: int) -> socket.socket:
    """Return a socket that listens on the loopback of a network namespace; whoever holds it need not be in there."""

    def made() -> socket.socket:
        # Only this thread moves, and it ends with the call.
        with Path(f"/run/netns/{namespace}").open() as there:
            if ctypes.CDLL(None, use_errno=True).setns(there.fileno(), _NEW_NETWORK):
                raise OSError(ctypes.get_errno(), f"cannot enter network namespace {namespace}")
        return socket.create_server((LOOPBACK, port))

    with ThreadPoolExecutor(1) as pool:
        return pool.submit(made).result()


def _sweep() -> None:
    """Undo what a process that was killed has left: the namespace takes its link and the route with it."""
    for line in ip("netns", "list").splitlines():
        name = line.split()[0]
        owner = name.removeprefix("bg").partition("-")[0]
        if name.startswith("bg") and owner.isdigit() and not Path(f"/proc/{owner}").exists():
            with suppress(RuntimeError):
                ip("netns", "delete", name)
