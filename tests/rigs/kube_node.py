"""
A real node: kubelet, containerd, runc and CNI plugins on this machine, with pods that are real containers.

    node = shared_node()
    shop.apply(node.deployment("shop-blue", 3, color="blue", version="1"), service("shop", color="blue"))
    shop.wait_ready("shop-blue", 3)
    node.net.request(shop, "shop")

It lives in the network namespace of ``demo/kubernetes/net.py``, beside kube-proxy, and in mount and process namespaces of its own:
whatever it starts or mounts ends with them. Pods get to it only by asking for it, as ``deployment`` does; all others stay
kwok's. Its image is one static program (``tools/kubernetes/modules/shop``), imported from a tar.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import tarfile
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from demo.kubernetes import namespace
from demo.kubernetes.net import ClusterNet
from demo.kubernetes.net import missing as missing_net
from demo.processes import Process, wait_until
from tests.rigs.kube_shared import shared_net
from tools.kubernetes.programs import PROGRAMS, lacking

NAME = "real-1"
IMAGE, PAUSE = "rig.test/shop:1", "rig.test/pause:1"
_PLUGINS = ("bridge", "host-local", "loopback", "portmap")
_PARTS = ("kubelet", "containerd", "containerd-shim-runc-v2", "ctr", "shop", *_PLUGINS)
_TAINT = {"key": "rig.bluegreen/real", "value": "yes", "effect": "NoSchedule"}
_TOOLS = ("runc", "nsenter", "unshare", "mount")
_CONTAINERD = """\
version = 3
root = "{folder}/containerd"
state = "{folder}/state"
disabled_plugins = ["io.containerd.internal.v1.opt", "io.containerd.nri.v1.nri"]
[grpc]
address = "{folder}/containerd.sock"
[plugins."io.containerd.cri.v1.images".pinned_images]
sandbox = "{pause}"
[plugins."io.containerd.cri.v1.runtime"]
restrict_oom_score_adj = true
[plugins."io.containerd.cri.v1.runtime".cni]
bin_dirs = ["{folder}/bin"]
conf_dir = "{folder}/cni"
[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
"""
# A kubelet sets these switches of the kernel; this machine's are not its to set, so it gets files in their place.
_SWITCHES = (
    "vm/overcommit_memory=1 vm/panic_on_oom=0 kernel/panic=10 kernel/panic_on_oops=1"
    " kernel/keys/root_maxkeys=1000000 kernel/keys/root_maxbytes=25000000"
)
_START = """\
set -e
ip -brief address  # which namespace it is in, for whoever reads the log
for switch in {switches}; do
  name=${{switch%=*}}
  echo "${{switch#*=}}" > {folder}/switches/$(basename $name)
  mount --bind {folder}/switches/$(basename $name) /proc/sys/$name
done
# What containerd and a kubelet leave outside of their own folders.
for place in /run /var/log; do mount -t tmpfs tmpfs $place; done
export PATH="{folder}/bin:$PATH"
containerd --config {folder}/containerd.toml &
until ctr --address {folder}/containerd.sock version >/dev/null 2>&1; do sleep 0.1; done
ctr --address {folder}/containerd.sock --namespace k8s.io images import {folder}/images.tar
exec kubelet --config={folder}/kubelet.yaml --kubeconfig={kubeconfig} --hostname-override={name} --node-ip={address} \
 --root-dir={folder}/kubelet --cert-dir={folder}/certs \
 --register-with-taints={taint}
"""


def missing() -> str:
    """Say why there is no real node here; empty where there is one."""
    absent = [name for name in _TOOLS if not shutil.which(name)]
    told = f"there is no {' and no '.join(absent)}: apt-get install runc util-linux" if absent else ""
    return missing_net() or lacking(*_PARTS) or told


class Node:
    """The node and what tests ask of it; its pods' addresses are reached like kwok's."""

    def __init__(self, net: ClusterNet) -> None:
        self.net, self.plane = net, net.plane
        self.folder = self.plane.folder / "node"
        self.address = f"{self.plane.net}.255.2"
        self.group = f"/{net.name}"
        self.process: Process | None = None

    def start(self) -> None:
        """Start it and wait until it is ready for pods."""
        for name in ("bin", "cni", "switches"):
            (self.folder / name).mkdir(parents=True)
        for name in _PARTS:
            (self.folder / "bin" / name).symlink_to(str(PROGRAMS[name].find()))
        (self.folder / "containerd.toml").write_text(_CONTAINERD.format(folder=self.folder, pause=PAUSE))
        (self.folder / "cni" / "10-rig.conflist").write_text(json.dumps(self._cni()))
        (self.folder / "kubelet.yaml").write_text(yaml.safe_dump(self._kubelet()))
        write_images(self.folder / "images.tar", Path(str(PROGRAMS["shop"].find())))
        make_group(self.group)
        taint = "{key}={value}:{effect}".format(**_TAINT)
        config = self.plane.folder / "parts.kubeconfig"
        words = {"folder": self.folder, "kubeconfig": config, "name": NAME, "address": self.address, "taint": taint}
        words["switches"] = _SWITCHES
        (self.folder / "start.sh").write_text(_START.format(**words))
        # The first process of a process namespace takes all others with it.
        apart = ["unshare", "--mount", "--propagation", "private", "--pid", "--fork", "--kill-child", "--mount-proc"]
        command = ["nsenter", f"--net=/run/netns/{self.net.name}", *apart, "bash", self.folder / "start.sh"]
        self.process = Process(command, self.folder / "log").start()
        try:
            wait_until(self._ready, 90, "the node to be ready", interval_s=0.2)
        except TimeoutError as error:
            raise AssertionError(f"{error}; its log ends with: {self.process.tail(40)}") from error

    def stop(self) -> None:
        """End everything of it, and the groups that its containers were in."""
        if self.process:
            self.process.kill()
        for top in Path("/sys/fs/cgroup").glob(f"*{self.group}"):
            wait_until(lambda top=top: _removed(top), 10, f"the control group {top} to be empty")

    def deployment(
        self, name: str, replicas: int = 2, *, color: str, version: str = "1", fault: str = ""
    ) -> dict[str, Any]:
        """
        Return a Deployment of real containers here; its pods bear the labels ``app`` and ``color``.

        :param fault: ``errors=0.3``, ``unready`` or ``crash``
        """
        made = namespace.deployment(name, replicas, color=color)
        pod = made["spec"]["template"]["spec"]
        values = {"RELEASE_COLOR": color, "RELEASE_VERSION": version, "FAULT": fault}
        probe = {"httpGet": {"path": "/health", "port": 8080}, "periodSeconds": 1}
        container = pod["containers"][0]
        container |= {"image": IMAGE, "imagePullPolicy": "Never", "readinessProbe": probe}
        container["env"] = [{"name": key, "value": value} for key, value in values.items()]
        toleration = {"key": _TAINT["key"], "operator": "Exists"}
        pod |= {"nodeSelector": {"kubernetes.io/hostname": NAME}, "tolerations": [toleration]}
        return made

    def _cni(self) -> dict[str, Any]:
        ranges = [[{"subnet": f"{self.plane.net}.128.0/24"}]]
        ipam = {"type": "host-local", "ranges": ranges, "routes": [{"dst": "0.0.0.0/0"}]}
        ipam["dataDir"] = str(self.folder / "addresses")
        bridge = {"type": "bridge", "bridge": "cni0", "isGateway": True, "hairpinMode": True, "ipam": ipam}
        return {"cniVersion": "1.0.0", "name": "rig", "plugins": [bridge]}

    def _kubelet(self) -> dict[str, Any]:
        return {
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "authentication": {"anonymous": {"enabled": True}, "webhook": {"enabled": False}},
            "authorization": {"mode": "AlwaysAllow"},
            "containerRuntimeEndpoint": f"unix://{self.folder}/containerd.sock",
            "cgroupDriver": "cgroupfs",
            "cgroupRoot": self.group,
            "failCgroupV1": False,
            "failSwapOn": False,
            "enforceNodeAllocatable": [],
            "evictionHard": {"memory.available": "1Mi"},
            "makeIPTablesUtilChains": False,
            "localStorageCapacityIsolation": False,
            "podLogsDir": str(self.folder / "logs"),
            "readOnlyPort": 0,
            "resolvConf": "",
            "volumePluginDir": str(self.folder / "plugins"),
            "healthzPort": 0,
            "clusterDomain": "cluster.local",
            "shutdownGracePeriod": "0s",
        }

    def _ready(self) -> bool:
        assert self.process
        assert self.process.alive, f"the node ended: {self.process.tail()}"
        nodes = [each for each in self.plane.ask("GET", "api/v1/nodes")["items"] if each["metadata"]["name"] == NAME]
        # A kubelet that has much to do at first tells its address later; without it nobody gets a container's log.
        if not any(node["status"].get("addresses") for node in nodes):
            return False
        conditions = [each for node in nodes for each in node["status"].get("conditions", [])]
        return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)


def write_images(tar: Path, program: Path) -> None:
    """Write the images of the shop and of the pause container: one static program, which the shop has as ``cat``, too."""
    layers = {"app.tar": _packed({"app": program.read_bytes()}, mode=0o755), "cat.tar": _linked("bin/cat", "/app")}
    files, manifests = dict(layers), []
    for tag, command, names in ((IMAGE, ["/app"], [*layers]), (PAUSE, ["/app", "pause"], ["app.tar"])):
        config: dict[str, Any] = {"architecture": "amd64", "os": "linux", "config": {"Entrypoint": command}}
        digests = [f"sha256:{hashlib.sha256(layers[name]).hexdigest()}" for name in names]
        config["rootfs"] = {"type": "layers", "diff_ids": digests}
        text = json.dumps(config).encode()
        name = f"{hashlib.sha256(text).hexdigest()}.json"
        files[name] = text
        manifests.append({"Config": name, "RepoTags": [tag], "Layers": names})
    tar.write_bytes(_packed({**files, "manifest.json": json.dumps(manifests).encode()}))


def _linked(name: str, target: str) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        told = tarfile.TarInfo(name)
        told.type, told.linkname = tarfile.SYMTYPE, target
        tar.addfile(told)
    return packed.getvalue()


def _packed(files: dict[str, bytes], mode: int = 0o644) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        for name, content in files.items():
            told = tarfile.TarInfo(name)
            told.size, told.mode = len(content), mode
            tar.addfile(told, io.BytesIO(content))
    return packed.getvalue()


def make_group(name: str) -> None:
    """Make a control group in each hierarchy; one for processors takes nobody before it has some."""
    for top in (path for path in Path("/sys/fs/cgroup").iterdir() if (path / "cgroup.procs").exists()):
        group = top / name.strip("/")
        group.mkdir(exist_ok=True)
        for file in ("cpuset.cpus", "cpuset.mems"):
            if (top / file).exists():
                (group / file).write_text((top / file).read_text())


def _removed(top: Path) -> bool:
    """A control group can be removed once its processes are gone, the innermost first."""
    for folder, _, _ in os.walk(top, topdown=False):
        with suppress(OSError):
            Path(folder).rmdir()
    return not top.exists()


@cache
def shared_node() -> Node:
    """Return the node of this process's control plane; it ends with the process."""
    node = Node(shared_net())
    node.plane.before_stop.append(node.stop)
    node.start()
    return node
