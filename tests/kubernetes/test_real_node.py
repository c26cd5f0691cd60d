"""Containers of a real kubelet behind a real Service: what is proven on kwok's pods holds for them."""

from __future__ import annotations

import http.client
import threading
from collections import Counter

import pytest

from demo.kubernetes.namespace import service
from demo.processes import wait_until
from tests.rigs import kube_node

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
