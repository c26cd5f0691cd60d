"""A service in a namespace of a real control plane, deployed to by an account that may no more than the manifests allow."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import yaml

from bluegreen.catalog.models import Service
from bluegreen.checks.health import ask_color
from bluegreen.core.colors import Color
from bluegreen.core.errors import SecretMissing
from bluegreen.core.ports import Credentials, Deployer
from bluegreen.deployers.registry import make_deployer
from demo.kubernetes.namespace import Account, Namespace, deployment, service
from demo.kubernetes.net import missing
from demo.processes import wait_until
from tests.rigs import kube_roles
from tests.rigs.deploy_targets import make_service
from tests.rigs.kube_roles import KubeRoles
from tests.rigs.kube_shared import shared, shared_net
from tools.kubernetes.programs import PROGRAMS, lacking

CHART = Path(__file__).with_name("charts") / "shop"
PASSWORD = "hunter2-of-the-chart"  # noqa: S105 - what must be shown nowhere
RigT = TypeVar("RigT", bound="KubeRig")
RBAC = Path(__file__).resolve().parents[2] / "include" / "kubernetes"
ACCOUNT, CONNECTION = "bluegreen-deployer", "shop_cluster"
REVISION = "deployment.kubernetes.io/revision"


def missing_helm() -> str:
    """Say why no chart can be deployed here; empty where one can."""
    return missing() or lacking("helm")


@dataclass
class KubeRig:
    """
    The service ``shop``: a Deployment and a Service a color, whose cluster addresses are its targets.

    :param account: whom the deployer logs in as
    :param passwords: connections beside the cluster's, by id
    """

    service: Service
    namespace: Namespace
    account: Account
    roles: KubeRoles
    passwords: Mapping[str, str] = field(default_factory=dict)
    can: frozenset[str] = frozenset({"roles"})
    bad: str = "crash"
    stuck: str = "shop-worker-blue-.* did not end within 10 s"
    login: dict[str, Any] | None = None

    def __post_init__(self) -> None:
        self.runs, self.moves, self.stick = self.roles.runs, self.roles.moves, self.roles.stick

    def secrets(self, connection_id: str) -> Credentials:
        """The Secrets port."""
        if connection_id == CONNECTION:
            return Credentials(extra={"kube_config": yaml.safe_dump(self.login or self.account.config())})
        if connection_id in self.passwords:
            return Credentials("somebody", self.passwords[connection_id])
        raise SecretMissing(f"no connection {connection_id}", part=connection_id, next_step="none")

    def deployer(self, **deploy: Any) -> Deployer:
        """Make a deployer as another worker would; ``deploy`` replaces keys of the section."""
        return make_deployer(self.changed(**deploy), self.secrets)

    def changed(self, **deploy: Any) -> Service:
        """Return the service with other keys in its deploy section; None takes one out."""
        whole = self.service.model_dump(mode="json", exclude_unset=True)
        whole["deploy"] = {key: value for key, value in {**whole["deploy"], **deploy}.items() if value is not None}
        return Service.model_validate(whole)

    def of(self, color: Color) -> dict[str, Any]:
        """Return a color's Deployment."""
        return self.namespace.get("Deployment", f"shop-{color}")

    def calls(self) -> list[dict[str, Any]]:
        """The deployer's calls by the API server's own log, where a watch is told twice: its begin and its end."""
        told = self.namespace.plane.calls(self.namespace.name)
        ours = [one for one in told if one["user"].get("username", "").endswith(f":{ACCOUNT}")]
        return list({one["auditID"]: one for one in ours}.values())

    def deploys(self) -> int:
        """Tell how many times green got other pods since the rig was made."""
        return int(self.of(Color.GREEN)["metadata"]["annotations"][REVISION]) - 1


@dataclass
class HelmRig(KubeRig):
    """The same by Helm releases, of a chart of Deployment, Service and Secret."""

    can: frozenset[str] = frozenset({"roles", "charts"})

    def deploys(self) -> int:
        """Tell how many revisions green's release got since the rig was made."""
        return len(self.history(Color.GREEN)) - 1

    def history(self, color: Color) -> list[dict[str, Any]]:
        """Return the revisions of a color's release."""
        found: list[dict[str, Any]] = json.loads(self.helm("history", f"shop-{color}", "--output", "json"))
        return found

    def helm(self, *words: str) -> str:
        """Run Helm as the administrator."""
        config = ["--kubeconfig", str(self.namespace.plane.kubeconfig), "--namespace", self.namespace.name]
        done = subprocess.run([helm(), *words, *config], capture_output=True, text=True, check=False, timeout=120)
        assert done.returncode == 0, done.stderr
        return done.stdout


def helm() -> str:
    """Return the program."""
    return str(PROGRAMS["helm"].find())


@contextmanager
def helm_rig(_: Path, **deploy: Any) -> Iterator[HelmRig]:
    """Make the service by its chart in a namespace of its own; ``deploy`` replaces keys of its deploy section."""
    plane, _net = shared(), shared_net()
    with plane.namespace() as namespace:
        roles, account = KubeRoles(namespace), allowed(namespace, "deployer-helm")
        words = {
            "type": "helm", "image": None, "program": [helm()], "chart": str(CHART), "ready_within": "30s",
            "releases": {str(color): f"shop-{color}" for color in Color},
            "set": {"image.tag": "$VERSION", "color": "$COLOR"}, "secrets": {"password": "shop_password"},
        }  # fmt: skip
        made = _service({c: [f"http://{c}.example"] for c in Color}, namespace, **words | deploy)
        rig = HelmRig(made, namespace, account, roles, {"shop_password": PASSWORD})
        for color in Color:
            rig.helm("install", f"shop-{color}", str(CHART), "--set", f"color={color}", "--wait")
        targets = {c: {"targets": [f"http://{_address(namespace, c)}"]} for c in Color}
        rig.service = Service.model_validate(made.model_dump(mode="json", exclude_unset=True) | {"colors": targets})
        yield _reachable(rig)


def _service(urls: Mapping[Color, list[str]], namespace: Namespace, **deploy: Any) -> Service:
    return make_service(urls, section(namespace, **deploy), health={"timeout": "5s"})


def _reachable(rig: RigT) -> RigT:
    """Wait until kube-proxy sends requests to both colors."""
    colors = rig.service.colors
    wait_until(lambda: all(one.ok for c in colors for one in ask_color(rig.service, c)), 30, "kube-proxy's rules")
    return rig


def _address(namespace: Namespace, color: Color) -> str:
    return str(namespace.get("Service", f"shop-{color}")["spec"]["clusterIP"])


@contextmanager
def kube_rig(_: Path, **deploy: Any) -> Iterator[KubeRig]:
    """Make the service in a namespace of its own; ``deploy`` replaces keys of its deploy section."""
    plane, _net = shared(), shared_net()
    with plane.namespace() as namespace:
        roles = KubeRoles(namespace)
        for color in Color:
            namespace.apply(web(color), service(f"shop-{color}", color=str(color), part="web"))
        for color in Color:
            namespace.wait_ready(f"shop-{color}", 2)
        account = allowed(namespace)
        urls = {c: [f"http://{_address(namespace, c)}"] for c in Color}
        yield _reachable(KubeRig(_service(urls, namespace, **deploy), namespace, account, roles))


def web(color: Color, replicas: int = 2) -> dict[str, Any]:
    """Return the Deployment of a color, at version 0."""
    found = deployment(f"shop-{color}", replicas, color=str(color), part="web")
    found["spec"]["template"]["spec"]["containers"][0]["image"] = "shop:0"
    return found


def section(namespace: Namespace, **deploy: Any) -> dict[str, Any]:
    """Return the deploy section."""
    whole = {
        "type": "kubernetes",
        "cluster": {"connection": CONNECTION, "namespace": namespace.name},
        "deployments": {str(color): f"shop-{color}" for color in Color},
        "image": "shop:$VERSION",
        "ready_within": "60s",
        "timeout": "10s",
        "roles": kube_roles.section("10s"),
    }
    return {key: value for key, value in {**whole, **deploy}.items() if value is not None}


def allowed(namespace: Namespace, *more: str) -> Account:
    """
    Make the account of ``include/kubernetes/deployer.yaml``.

    :param more: other files there, without their ending
    """
    for name in ("deployer", *more):
        text = (RBAC / f"{name}.yaml").read_text().replace("namespace: shop", f"namespace: {namespace.name}")
        namespace.kubectl("apply", "-f", "-", told=text)
    return Account(namespace, ACCOUNT)
