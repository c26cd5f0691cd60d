"""Containers of a real kubelet behind a real Service: what is proven on kwok's pods holds for them."""

from __future__ import annotations

import http.client
import threading
from collections import Counter

import pytest

from bluegreen.core.colors import Color
from bluegreen.core.ports import Credentials
from bluegreen.release.drain import drain
from bluegreen.release.ports import Ports
from bluegreen.routers.registry import make_router
from demo.kubernetes.namespace import service
from demo.kubernetes.roles import account_of
from demo.processes import wait_until
from tests.rigs import kube_node
from tests.rigs.deploy_targets import make_service

pytestmark = pytest.mark.kubernetes


@pytest.fixture(scope="session")
def node(plane):
    if reason := kube_node.missing():
        pytest.skip(reason)
    return kube_node.shared_node()


class Load:
    """Clients that keep their connections, as browsers and proxies do."""

    def __init__(self, address, clients=4):
        self.address, self.colors, self.failed = address, [], []
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run) for _ in range(clients)]

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _run(self):
        connection = http.client.HTTPConnection(*self.address, timeout=5)
        while not self._stop.wait(0.002):
            try:
                connection.request("GET", "/")
                answer = connection.getresponse()
                answer.read()
            except (OSError, http.client.HTTPException) as error:
                self.failed.append(repr(error))
                connection.close()
                continue
            if answer.status != 200:
                self.failed.append(answer.status)
            self.colors.append(answer.headers["X-Release-Color"])


def test_no_request_of_kept_connections_fails_while_a_service_is_switched_and_the_old_color_ends(node, shop):
    blue, green = (node.deployment(f"shop-{color}", 2, color=color) for color in ("blue", "green"))
    shop.apply(blue, green, service("shop", color="blue"))
    shop.wait_ready("shop-blue", 2)
    shop.wait_ready("shop-green", 2)
    wait_until(lambda: reached(node, shop) == {"blue"}, 20, "the Service to be real")
    with Load(node.net.address(shop, "shop")) as load:
        wait_until(lambda: len(load.colors) > 200, 10, "requests")
        shop.patch("Service", "shop", {"spec": {"selector": {"color": "green"}}})
        wait_until(lambda: reached(node, shop) == {"green"}, 10, "new connections to get green")
        # Those that were open stay where they are until their pod tells them to go.
        assert load.colors[-1] == "blue"
        shop.kubectl("scale", "deployment/shop-blue", "--replicas=0")
        wait_until(lambda: not shop.list("Pod", "color=blue"), 60, "blue to end")
        wait_until(lambda: set(load.colors[-50:]) == {"green"}, 10, "all clients to be on green")
    assert load.failed == []
    assert set(Counter(load.colors)) == {"blue", "green"}


class Kept:
    """Clients that keep their connection open to where their first request went."""

    def __init__(self, address, number):
        self.clients = [http.client.HTTPConnection(*address, timeout=5) for _ in range(number)]

    def colors(self):
        found = []
        for client in self.clients:
            client.request("GET", "/")
            answer = client.getresponse()
            answer.read()
            found.append(answer.headers["X-Release-Color"])
        return found

    def close(self, number):
        for client in self.clients[:number]:
            client.close()
        del self.clients[:number]


EXEC = "router-service-connections.yaml"


def ports_of(shop, log, *files, **connections):
    """The ports of a service behind the Service ``shop``, as an account that may what the shipped Roles say, and nothing else."""
    node = {"name": "one", "connection": "x", "namespace": shop.name, "entry": "127.0.0.1:1"}
    router = {"type": "kube_service", "nodes": [node], "service": "shop", "connections": connections}
    made = make_service(
        {color: [f"http://{color}.test"] for color in Color}, router=router, release={"drain": "300ms", "canary": []}
    )
    config = account_of(shop, "bluegreen", "router-service.yaml", *files, service="shop").config()
    kube = make_router(made, lambda _: Credentials(extra={"kube_config": config}))
    kube.proving = False
    return Ports(service=made, router=kube, deployer=None, prove=None, log=log.append)


def test_the_drain_sees_connections_that_stay_on_the_old_color_until_they_end(node, shop):
    shop.apply(
        *(node.deployment(f"shop-{color}", 2, color=str(color)) for color in Color), service("shop", color="blue")
    )
    for color in Color:
        shop.wait_ready(f"shop-{color}", 2)
    wait_until(lambda: reached(node, shop) == {"blue"}, 20, "the Service to be real")
    log = []
    ports = ports_of(shop, log, EXEC)
    kept = Kept(node.net.address(shop, "shop"), 5)
    assert set(kept.colors()) == {"blue"}
    shop.patch("Service", "shop", {"spec": {"selector": {"color": "green"}}})
    wait_until(lambda: reached(node, shop) == {"green"}, 10, "new connections to get green")
    assert set(kept.colors()) == {"blue"}
    # Probes and the requests that looked come and go.
    wait_until(lambda: ports.router.connections(Color.BLUE) == 5, 10, "the kept ones alone to be open")
    found = drain(ports, Color.BLUE)
    assert (found.unit, found.color) == ("connections", Color.BLUE)
    assert found.in_flight >= 5
    assert found.seconds >= 0.3
    assert f"drained blue: {found.in_flight} open connections after" in log[-1]
    kept.close(2)
    wait_until(lambda: ports.router.connections(Color.BLUE) == 3, 10, "two to be gone")
    kept.close(3)
    wait_until(lambda: drain(ports, Color.BLUE).in_flight == 0, 10, "all to be gone")


def test_connections_that_may_not_or_cannot_be_counted_are_unknown_and_the_drain_says_why(node, shop):
    made = node.deployment("shop-blue", 1, color="blue")
    containers = made["spec"]["template"]["spec"]["containers"]
    containers.append({"name": "bare", "image": kube_node.PAUSE, "imagePullPolicy": "Never"})
    shop.apply(made, service("shop", color="blue"))
    shop.wait_ready("shop-blue", 1)
    log = []
    assert drain(ports_of(shop, log), Color.BLUE).in_flight is None
    assert f"system:serviceaccount:{shop.name}:bluegreen may not create pods/exec/" in log[0]
    assert 'resources: ["pods/exec"], verbs: ["create"]' in log[0]
    assert "not drained: connections that are open to blue stay there" in log[-1]
    (warned,) = [one for one in ports_of(shop, log).router.check() if one.code == "may-not"]
    assert (warned.level, "pods/exec" in warned.fact) == ("warning", True)
    looks = [{"apiGroups": [""], "resources": ["pods/exec"], "verbs": ["get"]}]
    half = ports_of(shop, log, EXEC)
    shop.patch("Role", "bluegreen-router-shop-connections", {"rules": looks})
    wait_until(half.router.check, 10, "the API server to take the Role")
    log.clear()
    assert drain(half, Color.BLUE).in_flight is None
    assert 'resources: ["pods/exec"], verbs: ["create"]' in log[0]
    log.clear()
    bare = ports_of(shop, log, EXEC, container="bare")
    wait_until(lambda: not bare.router.check(), 10, "the API server to take the Role")
    assert drain(bare, Color.BLUE).in_flight is None
    assert "executable file not found" in log[0]
    assert log[0].count("name a container that has `cat` in router.connections.container") == 1
    app = ports_of(shop, log, EXEC, container="app")
    assert app.router.connections(Color.BLUE) is not None


def test_a_container_that_crashes_says_why(node, shop):
    shop.apply(node.deployment("shop", 1, color="green", fault="crash"))
    wait_until(lambda: "CrashLoopBackOff" in shop.kubectl("get", "pods"), 60, "the kubelet to lose patience")
    assert "cannot read its configuration" in shop.kubectl("logs", "deployment/shop")
    (pod,) = shop.list("Pod")
    assert pod["status"]["containerStatuses"][0]["lastState"]["terminated"]["exitCode"] == 3


def test_a_container_that_is_not_ready_gets_no_requests_and_an_image_that_is_not_there_none_either(node, shop):
    bad = node.deployment("shop-bad", 1, color="green", fault="unready")
    none = node.deployment("shop-none", 1, color="green")
    none["spec"]["template"]["spec"]["containers"][0]["image"] = "rig.test/missing:1"
    shop.apply(bad, none, service("shop", color="green"))
    wait_until(lambda: "Running" in shop.kubectl("get", "pods", "-l", "app=shop-bad"), 30, "the container")
    wait_until(lambda: "ErrImageNeverPull" in shop.kubectl("get", "pods"), 30, "the kubelet's word for it")
    wait_until(lambda: "Readiness probe failed" in shop.kubectl("get", "events"), 30, "a probe")
    assert shop.endpoints("shop") == []


def reached(node, shop):
    try:
        return {node.net.request(shop, "shop").headers.get("x-release-color") for _ in range(20)}
    except OSError:
        return set()
