"""Which rig tests which kind of deployer. One that cannot run here says why instead of being left out."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

from tests.rigs import kube_deploy
from tests.rigs.deploy_targets import DeployRig, command_rig
from tests.rigs.kube_deploy import helm_rig, kube_rig
from tests.rigs.ssh_deploy import far_hosts_rig
from tests.rigs.sshd import missing_sshd

RIGS: dict[str, Callable[[Path], AbstractContextManager[DeployRig]]] = {
    "command": command_rig,
    "helm": helm_rig,
    "kubernetes": kube_rig,
    "ssh": far_hosts_rig,
}


def missing(kind: str) -> str:
    """Say why a rig cannot run on this machine; empty when it can."""
    asked = {"ssh": missing_sshd, "kubernetes": kube_deploy.missing, "helm": kube_deploy.missing_helm}
    return asked[kind]() if kind in asked else ""
