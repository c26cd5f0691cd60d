"""Real requests through what decides where they go: kube-proxy, Traefik by Gateway API, Envoy by Istio's pilot."""

from __future__ import annotations

import socket
import time
from collections import Counter

import pytest
import requests

from demo.kubernetes.namespace import deployment, service
from demo.kubernetes.net import POD_PORT
from demo.kubernetes.net import missing as missing_net
from demo.kubernetes.traefik import missing as missing_traefik
from demo.processes import wait_until
from demo.traffic import fresh_request
from tests.rigs import kube_istio, kube_shared

pytestmark = pytest.mark.kubernetes


def needs(reason):
    if reason:
        pytest.skip(reason)


@pytest.fixture(scope="session")
def net(plane):
    needs(missing_net())
    return kube_shared.shared_net()


@pytest.fixture(scope="session")
def gateway(plane):
    needs(missing_traefik())
    return kube_shared.shared_gateway()


@pytest.fixture(scope="session")
def istio(plane):
    needs(kube_istio.missing())
    return kube_istio.shared_istio()


@pytest.fixture
def colors(shop):
    shop.apply(deployment("shop-blue", 3, color="blue"), deployment("shop-green", 2, color="green"))
    shop.apply(service("shop", color="blue"), service("shop-blue", color="blue"), service("shop-green", color="green"))
    shop.wait_ready("shop-blue", 3)
    shop.wait_ready("shop-green", 2)
    return shop


def by(header, ask, count):
    return Counter(ask().headers.get(header, "none") for _ in range(count))


def settle(ask, color):
    """A data plane follows its control plane within a moment; until then its answer may be anything, or none."""

    def answers():
        try:
            return set(by("x-release-color", ask, 20)) == {color}
        except (OSError, IndexError):
            return False

    wait_until(answers, 20, f"{color} to answer twenty times")
    assert set(by("x-release-color", ask, 50)) == {color}


def splits(ask, green, count=300):
    # 1 in 10,000 tests of a true split is outside of five deviations.
    found = by("x-release-color", ask, count)["green"]
    assert abs(found - count * green) <= 5 * (count * green * (1 - green)) ** 0.5 + 1


def test_what_pods_answer_is_counted_by_color_from_a_moment_on(net, colors):
    settle(lambda: net.request(colors, "shop"), "blue")

    def counts(since):
        answer = requests.get(f"{net.counts}counts", {"namespace": colors.name, "since": since}, timeout=5)
        return answer.json()

    before = counts(0)
    assert (before["blue"]["requests"] >= 50, before["green"]["requests"]) == (True, 0)
    for path in ("/", "/api/users", "/health"):  # the last is asked by machines, not by users
        net.request(colors, "shop", path)
    assert counts(0)["blue"] == {"requests": before["blue"]["requests"] + 2, "errors": 0}
    assert counts(time.time() + 1)["blue"]["requests"] == 0


def test_a_cluster_address_sends_to_every_ready_pod_of_its_selector(net, colors):
    def ask():
        return net.request(colors, "shop")

    settle(ask, "blue")
    blue = {pod["metadata"]["name"] for pod in colors.list("Pod", "color=blue")}
    wait_until(lambda: set(by("x-pod", ask, 50)) == blue, 10, "requests to reach every pod")
    (gone,) = colors.turn("not-ready", "color=blue", 1)
    wait_until(lambda: set(by("x-pod", ask, 30)) == blue - {gone}, 10, "requests to spare the pod that is not ready")
    colors.patch("Service", "shop", {"spec": {"selector": {"color": "green"}}})
    settle(ask, "green")


def test_a_service_without_ready_pods_refuses(net, colors):
    settle(lambda: net.request(colors, "shop"), "blue")
    colors.turn("not-ready", "color=blue")

    def refused():
        try:
            net.request(colors, "shop")
        except ConnectionRefusedError:
            return True
        return False

    wait_until(refused, 10, "the Service to refuse")


def test_a_kept_connection_stays_on_its_pod_until_that_ends(net, colors):
    settle(lambda: net.request(colors, "shop"), "blue")
    with socket.create_connection(net.address(colors, "shop"), 5) as kept:

        def ask():
            kept.sendall(b"GET / HTTP/1.1\r\nHost: shop.test\r\n\r\n")
            return kept.recv(65536).decode().lower()

        assert "x-release-color: blue" in ask()
        colors.patch("Service", "shop", {"spec": {"selector": {"color": "green"}}})
        settle(lambda: net.request(colors, "shop"), "green")
        assert "x-release-color: blue" in ask()
        colors.kubectl("scale", "deployment/shop-blue", "--replicas=0")
        wait_until(lambda: not colors.list("Pod", "color=blue"), 20, "blue's pods to be gone")
        wait_until(lambda: kept.recv(1) == b"", 5, "the connection to be closed")


def test_a_pods_own_address_says_whether_it_is_well(net, colors):
    address = colors.list("Pod", "color=blue")[0]["status"]["podIP"]

    def ask(path):
        return fresh_request(POD_PORT, path, host=address)

    wait_until(lambda: ask("/health").status == 200, 5, "its health")
    colors.turn("not-ready", "color=blue")
    wait_until(lambda: (ask("/health").status, ask("/").status) == (503, 200), 5, "its health to be bad")


def splits_as_written(ask, write):
    """Both ends and a share between, each once it is in force."""
    write(100, 0)
    settle(ask, "blue")
    write(70, 30)
    wait_until(lambda: by("x-release-color", ask, 50)["green"], 20, "green to get some")
    splits(ask, 0.3)
    write(0, 100)
    settle(ask, "green")


def test_an_http_routes_weights_split_real_requests(gateway, colors):
    def write(blue, green):
        colors.apply(gateway.route(colors, "shop", {"shop-blue": blue, "shop-green": green}))

    splits_as_written(lambda: gateway.request(colors), write)
    parents = colors.get("HTTPRoute", "shop")["status"]["parents"]
    assert {(each["type"], each["status"]) for each in parents[0]["conditions"]} >= {
        ("Accepted", "True"),
        ("ResolvedRefs", "True"),
    }


def test_a_virtual_services_weights_split_real_requests(istio, colors):
    def write(blue, green):
        colors.apply(istio.virtual_service(colors, "shop", {"blue": blue, "green": green}))

    colors.apply(istio.destination_rule("shop"), service("shop", tier="web"))
    for color, count in (("blue", 3), ("green", 2)):
        colors.apply(deployment(f"web-{color}", count, color=color, tier="web"))
        colors.wait_ready(f"web-{color}", count)
    splits_as_written(lambda: istio.request(colors), write)
