"""The demo's services on Kubernetes: one behind a plain Service, one behind an HTTPRoute; both deployed to by their image."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from demo.app import parse_faults
from demo.kubernetes import pods
from demo.kubernetes.cluster import Cluster, cluster
from demo.kubernetes.namespace import Account, Namespace, deployment, service
from demo.kubernetes.roles import account_of
from demo.load import Load
from demo.processes import LOOPBACK, wait_until
from demo.shop import FAULTS, FIRST, LOAD_PATHS, release_section, write_service
from demo.traffic import fresh_request

COLORS = ("blue", "green")
ACCOUNT = "bluegreen"
TO_TRY = "# to release in Airflow's UI: 1.7.0; crash, whose pods end at once; missing, which has no image"
FAILING = {version: parse_faults(faults).get("errors", 0) for version, faults in FAULTS.items()}


@dataclass
class KubeService:
    """
    One service in a namespace of its own, blue live and nothing on green.

    :param services_folder: the catalog that it is in
    """

    cluster: Cluster
    name: str
    services_folder: Path
    namespace: Namespace = field(init=False)
    account: Account = field(init=False)
    database: ClassVar[None] = None
    behind: ClassVar[str]
    roles: ClassVar[tuple[str, ...]]
    size: ClassVar[int]
    looked_at: ClassVar[str]
    load_headers: ClassVar[dict[str, str]] = {}

    @property
    def address(self) -> tuple[str, int]:
        """Where requests go."""
        raise NotImplementedError

    @property
    def entries(self) -> list[str]:
        """How a person asks it."""
        raise NotImplementedError

    @property
    def looks(self) -> list[str]:
        """What to type for a look at it."""
        config = f"export KUBECONFIG={self.cluster.plane.kubeconfig}"
        return [TO_TRY, config, f".venv/bin/kubectl --namespace {self.name} get {self.looked_at}"]

    @property
    def connections(self) -> dict[str, str]:
        """The Airflow connection to the cluster, as a variable of the environment."""
        config = self.cluster.plane.folder / f"{self.name}-{ACCOUNT}.kubeconfig"
        told = {"conn_type": "kubernetes", "extra": {"kube_config_path": str(config)}}
        return {f"AIRFLOW_CONN_{self._connection.upper()}": json.dumps(told)}

    def start(self, version: str = FIRST) -> KubeService:
        """Make its objects with a version on blue, write the service file, and wait for its first answer."""
        self.services_folder.mkdir(parents=True, exist_ok=True)
        self.namespace = self.cluster.plane.make_namespace(self.name)
        self.account = account_of(self.namespace, ACCOUNT, *self.roles, "deployer.yaml", service=self.name)
        self.account.kubeconfig()
        self.namespace.apply(*self.objects(version))
        self.namespace.wait_ready(f"{self.name}-blue", self.size)
        self.write_service_file()
        wait_until(self._answers, 30, f"the first answer of {self.name}")
        return self

    def stop(self) -> None:
        """Do nothing: it ends with its cluster."""

    def load(self, rate: float, connections: int = 20) -> Load:
        """Users of the service: requests a second."""
        name = f"{self.name}.test"
        return Load([self.address], name, connections, rate, LOAD_PATHS, headers=self.load_headers)

    def write_service_file(self, **changes: Any) -> Path:
        """Write the service file; ``changes`` replace whole sections."""
        return write_service(self.services_folder, self.service() | changes)

    def service(self) -> dict[str, Any]:
        """Return the service file's content."""
        host, port = self.address
        node = {"name": "demo", "connection": self._connection, "namespace": self.name, "entry": f"{host}:{port}"}
        counts = f"{self.cluster.net.counts}counts?namespace={self.name}&since=$since"
        return {
            "service": self.name,
            "description": f"The demo's {self.name}, behind {self.behind}",
            "owner": "team-shop",
            "tags": ["demo"],
            "entry": {"url": f"http://{self.name}.test/"},
            "router": {**self.router(), "nodes": [node]},
            "colors": {color: {"targets": [f"http://{self._host(color)}"]} for color in COLORS},
            "deploy": {
                "type": "kubernetes",
                "cluster": {"connection": self._connection, "namespace": self.name},
                "deployments": self._by_color,
                "image": f"{self.name}:$VERSION",
                "ready_within": "60s",
            },
            "sources": [
                {
                    "type": "http",
                    "name": "pods",
                    "url": counts,
                    "requests": "$color.requests",
                    "errors": "$color.errors",
                    "at": "at",
                    "interval": "1s",
                }
            ],
            "prewarm": {"paths": ["/api/products", "/api/users", "/api/categories"], "requests": 100},
            "smoke": [
                {"path": "/", "json": {"type(pod)": "string"}},
                {"path": "/api/products", "status": 200, "max_latency": "2s"},
            ],
            "release": release_section(source="pods"),
        }

    def router(self) -> dict[str, Any]:
        """Return the service file's ``router``, without its nodes."""
        raise NotImplementedError

    def objects(self, version: str) -> list[dict[str, Any]]:
        """Return a Deployment and a Service of each color."""
        found = [service(name, app=self.name, color=color) for color, name in self._by_color.items()]
        return [*found, *(self._deployment(color, version) for color in COLORS)]

    def _deployment(self, color: str, version: str) -> dict[str, Any]:
        found = deployment(self._by_color[color], self.size if color == "blue" else 0)
        labels = {"app": self.name, "color": color}
        found["spec"]["selector"]["matchLabels"] = labels
        # As an application should that is asked to end: it answers until every node knows, and closes its connections.
        found["spec"]["template"]["metadata"] = {"labels": labels, "annotations": {pods.ENDS_AFTER: "3s"}}
        found["spec"]["template"]["spec"]["containers"][0]["image"] = f"{self.name}:{version}"
        return found

    @property
    def _by_color(self) -> dict[str, str]:
        return {color: f"{self.name}-{color}" for color in COLORS}

    @property
    def _connection(self) -> str:
        return f"demo_{self.name}"

    def _host(self, color: str) -> str:
        return self.cluster.net.address(self.namespace, self._by_color[color])[0]

    def _answers(self) -> bool:
        host, port = self.address
        try:
            return fresh_request(port, host=host, name=f"{self.name}.test").status == 200
        except (OSError, IndexError):
            return False


class PlainService(KubeService):
    """
    Behind a Service, with shares that numbers of pods make.

    Its users make a new connection for each request: one that is kept stays on its pod, and sees no share.
    """

    behind = "a plain Service (kube-proxy), nine pods a color"
    roles = ("router-service.yaml",)
    size = 9
    looked_at = "services,deployments,pods"
    load_headers: ClassVar[dict[str, str]] = {"Connection": "close"}

    @property
    def address(self) -> tuple[str, int]:
        """See ``KubeService``."""
        return f"{self.cluster.plane.net}.0.80", 80

    @property
    def entries(self) -> list[str]:
        """See ``KubeService``."""
        return [f"http://{self.address[0]}/"]

    def router(self) -> dict[str, Any]:
        """See ``KubeService``."""
        return {"type": "kube_service", "service": self.name, "canary": {"deployments": self._by_color}}

    def objects(self, version: str) -> list[dict[str, Any]]:
        """See ``KubeService``."""
        found = service(self.name, app=self.name, color="blue")
        found["spec"]["clusterIP"] = self.address[0]
        return [*super().objects(version), found]


class RoutedService(KubeService):
    """Behind an HTTPRoute, whose weights are the shares."""

    behind = "an HTTPRoute of the Gateway API (Traefik), two pods a color"
    roles = ("router-gateway.yaml",)
    size = 2
    looked_at = "httproutes,deployments,pods"

    @property
    def address(self) -> tuple[str, int]:
        """See ``KubeService``."""
        return LOOPBACK, self.cluster.gateway.port

    @property
    def entries(self) -> list[str]:
        """See ``KubeService``."""
        return [f"http://{self.cluster.gateway.entry}/ with the header Host: {self.name}.test"]

    def router(self) -> dict[str, Any]:
        """See ``KubeService``."""
        backends = {color: {"name": name, "port": 80} for color, name in self._by_color.items()}
        return {"type": "gateway_api", "route": self.name, "backends": backends}

    def objects(self, version: str) -> list[dict[str, Any]]:
        """See ``KubeService``."""
        weights = {f"{self.name}-blue": 100, f"{self.name}-green": 0}
        return [*super().objects(version), self.cluster.gateway.route(self.namespace, self.name, weights)]


@contextmanager
def on_kubernetes(work: Path, ports: Sequence[int]) -> Iterator[list[KubeService]]:
    """
    Start a cluster, and give services that are not started yet.

    :param ports: one, of the gateway
    """
    with cluster(work / "kubernetes", ports[0], FAILING) as made:
        folder = work / "services"
        yield [PlainService(made, "shop", folder), RoutedService(made, "pay", folder)]
