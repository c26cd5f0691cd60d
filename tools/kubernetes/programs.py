"""Which programs there are, which Go module each is built from, and where a built one lies."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

MODULES = Path(__file__).parent / "modules"
FLAGS = ("-trimpath", "-ldflags=-s -w")
_STAMP = "k8s.io/component-base/version"


def cache() -> Path:
    """Return the folder of what is built; it is outside the repository, and shared by all its checkouts."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "bluegreen" / "kubernetes"


def find_go() -> str | None:
    """Return the Go command, also where a bare machine's PATH lacks its usual place."""
    return shutil.which("go") or shutil.which("/usr/local/go/bin/go")


@dataclass(frozen=True)
class Module:
    """
    A folder with a go.mod and a go.sum of ours; they pin everything down to the last dependency.

    :param name: of the folder
    :param source: the module whose version counts; none where the source is in the folder itself
    """

    name: str
    source: str

    @property
    def folder(self) -> Path:
        """Where its go.mod is."""
        return MODULES / self.name

    @cached_property
    def version(self) -> str:
        """What its go.mod requires, as ``v1.37.2``."""
        if not self.source:
            return "v1"
        found = re.search(rf"{re.escape(self.source)} (v\S+)", (self.folder / "go.mod").read_text())
        if found is None:
            raise RuntimeError(f"{self.folder / 'go.mod'} does not require {self.source}")
        return found[1]

    @cached_property
    def key(self) -> str:
        """A short digest of all that decides what comes out."""
        text = "".join(file.read_text() for file in sorted(self.folder.iterdir()))
        return hashlib.sha256((text + " ".join(FLAGS)).encode()).hexdigest()[:10]


@dataclass(frozen=True)
class Program:
    """
    One program.

    :param package: what is built, without the module's path
    :param group: ``plane`` is what the tests of routers and deployers need, ``node`` and ``istio`` are for real requests
    """

    name: str
    module: Module
    package: str
    group: str

    @property
    def path(self) -> Path:
        """Where it lies when it is built; another version lies elsewhere."""
        return cache() / "built" / f"{self.name}-{self.module.version.split('-')[-1]}-{self.module.key}"

    @property
    def link(self) -> Path:
        """Its name for people and for ``KUBEBUILDER_ASSETS``: what was built last."""
        return cache() / "bin" / self.name

    @property
    def flags(self) -> list[str]:
        """Options of ``go build``; Kubernetes' programs compare their versions, which a plain build leaves at v0.0.0."""
        if self.module is not KUBERNETES:
            return list(FLAGS)
        major, minor, _ = self.module.version.removeprefix("v").split(".")
        stamps = {"gitVersion": self.module.version, "gitMajor": major, "gitMinor": minor}
        words = " ".join(f"-X {_STAMP}.{name}={value}" for name, value in stamps.items())
        return [FLAGS[0], f"{FLAGS[1]} {words}"]

    def find(self) -> Path | None:
        """Return the program: envtest's where ``KUBEBUILDER_ASSETS`` has it, else the built one."""
        assets = os.environ.get("KUBEBUILDER_ASSETS")
        places = [Path(assets) / self.name] if assets else []
        return next((place for place in [*places, self.path] if os.access(place, os.X_OK)), None)


@dataclass(frozen=True)
class Definitions:
    """
    Custom resource definitions that a module brings.

    :param files: pattern of them in the module
    """

    name: str
    module: Module
    files: str
    group: str = "plane"

    @property
    def path(self) -> Path:
        """The folder they lie in when they are taken."""
        return cache() / "crds" / f"{self.name}-{self.module.version}"

    def find(self) -> Path | None:
        """Return their folder where it is there."""
        return self.path if self.path.is_dir() else None


KUBERNETES = Module("kubernetes", "k8s.io/kubernetes")
_ETCD = Module("etcd", "go.etcd.io/etcd/server/v3")
_KWOK = Module("kwok", "sigs.k8s.io/kwok")
_HELM = Module("helm", "helm.sh/helm/v4")
_CONTAINERD = Module("containerd", "github.com/containerd/containerd/v2")
_CNI = Module("cni", "github.com/containernetworking/plugins")
ISTIO = Module("istio", "istio.io/istio")

PROGRAMS = {
    program.name: program
    for program in (
        Program("kube-apiserver", KUBERNETES, "cmd/kube-apiserver", "plane"),
        Program("etcd", _ETCD, "", "plane"),
        Program("kwok", _KWOK, "cmd/kwok", "plane"),
        Program("helm", _HELM, "cmd/helm", "plane"),
        Program("kube-controller-manager", KUBERNETES, "cmd/kube-controller-manager", "plane"),
        Program("kube-scheduler", KUBERNETES, "cmd/kube-scheduler", "plane"),
        Program("kubelet", KUBERNETES, "cmd/kubelet", "node"),
        Program("kube-proxy", KUBERNETES, "cmd/kube-proxy", "node"),
        Program("containerd", _CONTAINERD, "cmd/containerd", "node"),
        Program("containerd-shim-runc-v2", _CONTAINERD, "cmd/containerd-shim-runc-v2", "node"),
        Program("ctr", _CONTAINERD, "cmd/ctr", "node"),
        Program("bridge", _CNI, "plugins/main/bridge", "node"),
        Program("host-local", _CNI, "plugins/ipam/host-local", "node"),
        Program("loopback", _CNI, "plugins/main/loopback", "node"),
        Program("portmap", _CNI, "plugins/meta/portmap", "node"),
        Program("shop", Module("shop", ""), ".", "node"),
        Program("pilot-discovery", ISTIO, "pilot/cmd/pilot-discovery", "istio"),
    )
}
"""By name, in the order in which they are built: what most tests wait for comes first, the slowest last."""


DEFINITIONS = {
    each.name: each
    for each in (
        Definitions("gateway-api", Module("istio", "sigs.k8s.io/gateway-api"), "config/crd/standard/*.yaml"),
        Definitions("istio-api", Module("istio", "istio.io/api"), "kubernetes/customresourcedefinitions.gen.yaml"),
    )
}
"""By name; in the versions that our ``pilot-discovery`` is built with."""

PARTS: dict[str, Program | Definitions] = {**DEFINITIONS, **PROGRAMS}


def lacking(*names: str) -> str:
    """Say which of these parts are not there and what to do, as the reason of a skip; empty where all are."""
    absent = [name for name in names if PARTS[name].find() is None]
    return f"not built: {', '.join(absent)}; `make kubernetes` builds them where Go is" if absent else ""
