"""
Two namespaces of a real control plane as the two nodes of a router: a Service, a VirtualService or an HTTPRoute.

Each node is reached by a service account with the very Role of ``include/kubernetes``, over a wire of its own.
"""

from __future__ import annotations

import json
import signal
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, ClassVar, Self

import yaml

from bluegreen.catalog import models
from bluegreen.core.colors import Color
from bluegreen.core.ports import Credentials
from bluegreen.routers.kube_nodes import KubeRouter
from bluegreen.routers.registry import make_router
from demo.kubernetes import net, pods, traefik
from demo.kubernetes.namespace import APPLY, Account, Namespace, deployment, service
from demo.kubernetes.roles import shipped
from demo.load import Load
from demo.processes import LOOPBACK, wait_until
from demo.traffic import Answer
from tests.rigs import kube_istio
from tests.rigs.kube_shared import shared, shared_gateway, shared_net
from tests.rigs.rig import Hook, hooked, killed_at, raced

ROOT = Path(__file__).parents[2]
SERVICE = "shop"
ACCOUNT = "bluegreen"


def _unknown_threads() -> set[int]:
    """Return the threads that Python does not know (any more)."""
    tasks = {int(task.name) for task in Path("/proc/self/task").iterdir()}
    return tasks - {each.native_id for each in threading.enumerate()}


_OTHERS = _unknown_threads()
"""Those that were there before any rig, such as the test runner's own."""


def _threads_ended() -> None:
    """
    Wait before a fork: a thread that was joined may still be in OpenSSL's own clean-up, whose lock the child would never get.

    Threads of other libraries that came later never end.
    """
    with suppress(TimeoutError):
        wait_until(lambda: _unknown_threads() <= _OTHERS, 2, "ended threads to be gone")


class KubeRig:
    """See ``tests/rigs/rig.py``. A kind gives its objects, its section of a service file and a change by hand."""

    lags = True
    """What routes requests follows a moment after the shift, and nothing says when."""
    warnings: frozenset[str] = frozenset()
    servers = 2
    shares: frozenset[int] | None = None
    """The shares that can be made; None for all."""
    steps = back_steps = 4
    manifest: ClassVar[str]
    kind: ClassVar[str]

    def __init__(self, name: str) -> None:
        self.name = name
        self.can = frozenset({"health"}) | (frozenset() if self.no_traffic() else {"traffic", "hitless"})

    @property
    def nobody(self) -> str:
        """What is said of green without a ready pod."""
        return f"none of {self.servers} pods of green is ready"

    def no_traffic(self) -> str:
        """Say why no real requests can be sent here; empty where they can."""
        raise NotImplementedError

    def request(self, node: Namespace) -> Answer:
        """Send one request through a node's entry, over a fresh connection."""
        raise NotImplementedError

    def address(self, node: Namespace) -> tuple[str, int]:
        """Return where such requests go."""
        raise NotImplementedError

    def host(self, node: Namespace) -> str:
        """Return the name that they bear."""
        return f"{node.name}.test"

    def objects(self, node: Namespace) -> list[dict[str, Any]]:
        """Everything of a node, as it is before the first release."""
        raise NotImplementedError

    def section(self) -> dict[str, Any]:
        """The service file's ``router``, without its nodes."""
        raise NotImplementedError

    def change(self, node: Namespace, share: int) -> None:
        """Give green a share past us."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        self._stack = ExitStack()
        self.plane = shared()
        self.workdir = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="bg-")))
        self.prepare()
        self.nodes: list[Namespace] = [self._stack.enter_context(self.plane.namespace()) for _ in range(2)]
        self.wires = [self._stack.enter_context(self.plane.wire()) for _ in range(2)]
        self.configs = []
        for node, wire in zip(self.nodes, self.wires, strict=True):
            account = node.account(ACCOUNT)
            self.grant(node)
            self.configs.append(account.config(port=wire.port))
            node.apply(*self.objects(node))
        self.reset()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def prepare(self) -> None:
        """Install what the cluster must know before there are namespaces."""

    def grant(self, node: Namespace, *, writing: bool = True) -> None:
        """Give our account the Role that is shipped, or the same without any write."""
        for found in shipped(node, ACCOUNT, self.manifest):
            for rule in found.get("rules", ()):
                rule["verbs"] = [verb for verb in rule["verbs"] if writing or verb != "patch"]
            node.apply(found)
        wait_until(lambda: self.may_write(node) == writing, 10, "the API server to take the Role")

    def may_write(self, node: Namespace) -> bool:
        """Ask the API server whether our account may write the object."""
        attributes = {"namespace": node.name, "verb": "patch", "resource": self.resource(), "name": SERVICE}
        group = json.loads(json.dumps(self.group()))
        spec = {
            "user": f"system:serviceaccount:{node.name}:{ACCOUNT}",
            "resourceAttributes": attributes | {"group": group},
        }
        path = "apis/authorization.k8s.io/v1/subjectaccessreviews"
        return bool(self.plane.ask("POST", path, {"spec": spec})["status"]["allowed"])

    def group(self) -> str:
        return ""

    def resource(self) -> str:
        return f"{self.kind.lower()}s"

    def catalog(self, **changes: Any) -> models.Service:
        """The service file."""
        nodes = [
            {"name": name, "connection": name, "namespace": node.name, "entry": "127.0.0.1:1"}
            for name, node in zip(("one", "two"), self.nodes, strict=True)
        ]
        return models.Service.model_validate(
            {
                "service": SERVICE,
                "entry": {"url": "http://shop.test"},
                "router": {**self.section(), "nodes": nodes, "settle_within": "20s", **changes.pop("router", {})},
                "colors": {color: {"targets": [f"http://{color}.test"]} for color in Color},
                "deploy": {"type": "command", "command": ["true"]},
                **changes,
            }
        )

    def through_entry(self, **changes: Any) -> models.Service:
        """The service file of the first node alone, whose entry is what takes real requests for it."""
        host, port = self.address(self.nodes[0])
        node = {**self.catalog().router.nodes[0].model_dump(mode="json"), "entry": f"{host}:{port}"}
        return self.catalog(router={"nodes": [node]}, entry={"url": f"http://{self.host(self.nodes[0])}"}, **changes)

    def secrets(self, connection: str) -> Credentials:
        """Our account of each node, as an Airflow connection of type kubernetes has it."""
        return Credentials(extra={"kube_config": json.dumps(self.configs[("one", "two").index(connection)])})

    def router(
        self, *, before: Mapping[int, Hook] | None = None, after: Mapping[int, Hook] | None = None, **changes: Any
    ) -> KubeRouter:
        router: Any = make_router(self.catalog(**changes), self.secrets)
        router.proving = False  # there is no entry here
        return hooked(router, before or {}, after or {}) if before or after else router

    def reset(self) -> None:
        for wire, node in zip(self.wires, self.nodes, strict=True):
            wire.mend()
            self.put_right(node)
        for node in self.nodes:
            self.grant(node)
        for node in self.nodes:
            self.wait_right(node)

    def put_right(self, node: Namespace) -> None:
        """Bring a node's objects to what they were."""
        for found in self.objects(node):
            if found["kind"] == self.kind and found["metadata"]["name"] == SERVICE:
                self.renew(node, found)
            elif found["kind"] == "Deployment":
                node.patch("Deployment", found["metadata"]["name"], {"spec": {"replicas": found["spec"]["replicas"]}})
        pods = node.list("Pod")
        if any("rig.bluegreen/pod" in (pod["metadata"].get("annotations") or {}) for pod in pods):
            node.turn("ready")

    def renew(self, node: Namespace, found: Mapping[str, Any]) -> None:
        """Put an object in place of the one that is there, as a whole."""
        there = node.get(found["kind"], found["metadata"]["name"])
        keep = {key: there["metadata"][key] for key in ("name", "namespace", "resourceVersion")}
        spec = {**there["spec"], **found["spec"]} if found["kind"] == "Service" else found["spec"]
        body = {"apiVersion": there["apiVersion"], "kind": found["kind"], "metadata": keep, "spec": spec}
        self.plane.ask("PUT", node.path(found["kind"], keep["name"]), body, fieldManager="rig")

    def wait_right(self, node: Namespace) -> None:
        """Wait until the pods of both colors are ready, and nothing else is there."""
        for color in Color:
            node.wait_ready(f"{SERVICE}-{color}", self.servers)
        wait_until(self.settled, 20, "the endpoints to be those of the pods")

    def settled(self) -> bool:
        reading = self.router().read()
        healths = [node.health[color] for node in reading.nodes if node.health for color in Color]
        return reading.settled and all((h.ready, h.total) == (self.servers, self.servers) for h in healths)

    def account(self, number: int) -> Account:
        """Our account of a node."""
        return Account(self.nodes[number], ACCOUNT)

    def keep(self, node: Namespace, found: Mapping[str, Any], manager: str) -> None:
        """Force what is in git back, as a GitOps controller does."""
        body = {"apiVersion": self.plane.ask("GET", node.path(self.kind, SERVICE))["apiVersion"], **found}
        path = node.path(self.kind, SERVICE)
        self.plane.ask("PATCH", path, yaml.safe_dump(body), APPLY, fieldManager=manager, force="true")

    def hold(self, node: Namespace) -> None:
        """Let the object outlive the deletion of its namespace for a while."""
        node.patch(self.kind, SERVICE, {"metadata": {"finalizers": ["rig.bluegreen/held"]}})

    def let_go(self, node: Namespace) -> None:
        node.patch(self.kind, SERVICE, {"metadata": {"finalizers": []}})

    def only(self, node: Mapping[str, Any], config: Mapping[str, Any]) -> KubeRouter:
        """Return a router over one other node."""
        service = self.catalog(router={"nodes": [{**node, "connection": "only"}]})
        made: Any = make_router(service, lambda _: Credentials(extra={"kube_config": json.dumps(config)}))
        made.proving = False
        return made

    def lose(self, number: int) -> None:
        self.wires[number].cut()

    def bring_back(self, number: int) -> None:
        self.wires[number].mend()

    def by_hand(self, number: int, share: int) -> None:
        self.change(self.nodes[number], share)

    def refuse_writes(self, number: int) -> None:
        self.grant(self.nodes[number], writing=False)

    def kill_writer(self, at: int, write: Callable[[Any], Any]) -> bool:
        _threads_ended()
        return killed_at(at, lambda: write(self.router()))

    def race(self, writes: list[Callable[[Any], Any]]) -> list[str]:
        _threads_ended()
        return raced(self.router, writes, read_first=True)

    def drain(self, color: Color) -> None:
        for node in self.nodes:
            node.turn("not-ready", f"color={color}")
        wait_until(lambda: all(self._ready(node, color) == 0 for node in self.nodes), 20, f"{color} to be not ready")

    def probe(self, number: int, count: int) -> Counter[str]:
        return Counter(self._color(self.nodes[number]) for _ in range(count))

    def _color(self, node: Namespace) -> str:
        try:
            return self.request(node).headers.get("x-release-color", "none")
        except (OSError, IndexError):
            return "none"

    def loads(self, **words: Any) -> list[Load]:
        """Load on the first node; all are shifted."""
        return [Load([self.address(self.nodes[0])], host_header=self.host(self.nodes[0]), **words | {"rate": 300})]

    def _ready(self, node: Namespace, color: Color) -> int:
        health = next(n.health for n in self.router().read().nodes if n.node == ("one", "two")[self.nodes.index(node)])
        return health[color].ready if health else 0


def pods_of(color: Color, count: int) -> dict[str, Any]:
    """The Deployment of a color: pods with the labels ``app`` and ``color``."""
    found = deployment(f"{SERVICE}-{color}", count)
    labels = {"app": SERVICE, "color": str(color)}
    found["spec"]["selector"]["matchLabels"] = labels
    found["spec"]["template"]["metadata"]["labels"] = labels
    # As an application should that is asked to end: it answers until every node knows, and closes its connections.
    found["spec"]["template"]["metadata"]["annotations"] = {pods.ENDS_AFTER: "3s"}
    return found


class KubeServiceRig(KubeRig):
    """A plain Service whose shares are made of nine pods a color."""

    manifest, kind = "router-service.yaml", "Service"
    servers = 9
    shares = frozenset({0, 10, 50, 100})
    steps, back_steps = 12, 8  # of the canary: mark, scale, put in force; of the way back: the selector, then sizes

    def no_traffic(self) -> str:
        return net.missing()

    def request(self, node: Namespace) -> Answer:
        return shared_net().request(node, SERVICE)

    def address(self, node: Namespace) -> tuple[str, int]:
        return shared_net().address(node, SERVICE)

    def loads(self, **words: Any) -> list[Load]:
        """Clients that keep their connections, which stay on their pods, and such as make a new one each time."""
        fresh = {"headers": {"Connection": "close"}}
        return [*super().loads(**words), *super().loads(**words, **fresh)]

    def prepare(self) -> None:
        if "traffic" in self.can:
            shared_net()

    def objects(self, node: Namespace) -> list[dict[str, Any]]:
        return [
            service(SERVICE, app=SERVICE, color="blue"),
            *(pods_of(color, self.servers) for color in Color),
        ]

    def section(self) -> dict[str, Any]:
        deployments = {str(color): f"{SERVICE}-{color}" for color in Color}
        return {"type": "kube_service", "service": SERVICE, "canary": {"deployments": deployments}}

    def change(self, node: Namespace, share: int) -> None:
        if share in (0, 100):
            node.patch("Service", SERVICE, {"spec": {"selector": {"color": "green" if share else "blue"}}})
            return
        pods = round(share * self.servers / (100 - share))
        node.patch("Deployment", f"{SERVICE}-green", {"spec": {"replicas": pods}})
        node.patch("Service", SERVICE, {"spec": {"selector": {"color": None}}})
        wait_until(lambda: node.ready("color=green") == pods, 30, f"{pods} pods of green")


class IstioRig(KubeRig):
    """A VirtualService with a route for testers, the one that carries the colors, and one that is none of ours."""

    manifest, kind = "router-istio.yaml", "VirtualService"

    def group(self) -> str:
        return "networking.istio.io"

    def no_traffic(self) -> str:
        return kube_istio.missing()

    def request(self, node: Namespace) -> Answer:
        return kube_istio.shared_istio().request(node)

    def address(self, node: Namespace) -> tuple[str, int]:
        return LOOPBACK, kube_istio.shared_istio().port

    def prepare(self) -> None:
        self.plane.install("istio-api")
        if "traffic" in self.can:
            kube_istio.shared_istio()

    def objects(self, node: Namespace) -> list[dict[str, Any]]:
        subsets = [{"name": str(color), "labels": {"color": str(color)}} for color in Color]
        colors = [{"destination": {"host": SERVICE, "subset": str(color)}} for color in Color]
        routes = [
            {
                "name": "testers",
                "match": [{"headers": {"x-tester": {"exact": "yes"}}}],
                "route": [colors[1]],
            },
            {
                "name": "web",
                "timeout": "3s",
                "route": [{**color, "weight": weight} for color, weight in zip(colors, (100, 0), strict=True)],
            },
            {"name": "rest", "match": [{"uri": {"prefix": "/old"}}], "route": [{"destination": {"host": "elsewhere"}}]},
        ]
        spec: dict[str, Any] = {"hosts": [self.host(node)], "http": routes}
        if "traffic" in self.can:
            spec["gateways"] = [f"{kube_istio.shared_istio().namespace.name}/rig"]
        return [
            service(SERVICE, app=SERVICE),
            *(pods_of(color, self.servers) for color in Color),
            {"kind": "DestinationRule", "metadata": {"name": SERVICE}, "spec": {"host": SERVICE, "subsets": subsets}},
            {"kind": "VirtualService", "metadata": {"name": SERVICE}, "spec": spec},
        ]

    def section(self) -> dict[str, Any]:
        destinations = {str(color): {"host": SERVICE, "subset": str(color)} for color in Color}
        return {
            "type": "istio",
            "virtual_service": SERVICE,
            "destinations": destinations,
            "destination_rule": SERVICE,
        }

    def change(self, node: Namespace, share: int) -> None:
        found = node.get("VirtualService", SERVICE)
        for one, weight in zip(found["spec"]["http"][1]["route"], (100 - share, share), strict=True):
            one["weight"] = weight
        node.patch("VirtualService", SERVICE, {"spec": {"http": found["spec"]["http"]}})


class GatewayRig(KubeRig):
    """An HTTPRoute behind a Gateway of Traefik's, which says of each generation that it has taken it."""

    manifest, kind = "router-gateway.yaml", "HTTPRoute"

    def group(self) -> str:
        return "gateway.networking.k8s.io"

    def no_traffic(self) -> str:
        return traefik.missing()

    def request(self, node: Namespace) -> Answer:
        return self.gateway.request(node)

    def address(self, node: Namespace) -> tuple[str, int]:
        return LOOPBACK, self.gateway.port

    @property
    def gateway(self) -> traefik.Gateway:
        return shared_gateway()

    def prepare(self) -> None:
        self.gateway.plane.install("gateway-api")

    def freeze(self, *, frozen: bool = True) -> None:
        """Let the controller do nothing, or go on: one that is late."""
        self.gateway.process.signal(signal.SIGSTOP if frozen else signal.SIGCONT)

    def reset(self) -> None:
        self.freeze(frozen=False)
        super().reset()

    def objects(self, node: Namespace) -> list[dict[str, Any]]:
        blue, green = ({"name": f"{SERVICE}-{color}", "port": 80} for color in Color)
        rules = [
            {"matches": [{"headers": [{"name": "x-tester", "value": "yes"}]}], "backendRefs": [green]},
            {"backendRefs": [{**blue, "weight": 100}, {**green, "weight": 0}]},
        ]
        return [
            *(service(f"{SERVICE}-{color}", app=SERVICE, color=str(color)) for color in Color),
            *(pods_of(color, self.servers) for color in Color),
            {
                "kind": "HTTPRoute",
                "metadata": {"name": SERVICE},
                "spec": {
                    "parentRefs": [{"name": "rig", "namespace": self.gateway.namespace.name}],
                    "hostnames": [self.host(node)],
                    "rules": rules,
                },
            },
        ]

    def section(self) -> dict[str, Any]:
        backends = {str(color): {"name": f"{SERVICE}-{color}", "port": 80} for color in Color}
        return {"type": "gateway_api", "route": SERVICE, "backends": backends}

    def change(self, node: Namespace, share: int) -> None:
        rules = node.get("HTTPRoute", SERVICE)["spec"]["rules"]
        for one, weight in zip(rules[1]["backendRefs"], (100 - share, share), strict=True):
            one["weight"] = weight
        node.patch("HTTPRoute", SERVICE, {"spec": {"rules": rules}})
