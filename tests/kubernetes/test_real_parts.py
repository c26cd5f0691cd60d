"""The rig itself: what it makes of pods, Services and accounts is what kubectl, a second witness, sees too."""

from __future__ import annotations

import json
import time

import pytest
import requests

from demo.kubernetes import pods
from demo.kubernetes.namespace import deployment, service
from demo.kubernetes.plane import ControlPlane, PlaneError, control_plane, run_kubectl
from demo.processes import wait_until
from tools.kubernetes.programs import KUBERNETES

pytestmark = pytest.mark.kubernetes
SHOP_ONLY = (("", "services", "get,patch"), ("", "pods", "list"))


def seen(shop, *words):
    return json.loads(shop.kubectl("get", *words, "-o", "json"))


def get_services(plane, port, token, shop):
    url = f"https://127.0.0.1:{port}/api/v1/namespaces/{shop.name}/services"
    headers = {"Authorization": f"Bearer {token}"}
    return requests.get(url, headers=headers, verify=str(plane.ca), timeout=2)


def test_the_parts_are_of_the_version_that_is_pinned(plane):
    told = json.loads(plane.kubectl("version", "-o", "json"))
    assert told["serverVersion"]["gitVersion"] == KUBERNETES.version
    assert (
        f"{told['serverVersion']['major']}.{told['serverVersion']['minor']}"
        == KUBERNETES.version[1:].rpartition(".")[0]
    )


def test_a_deployments_pods_are_ready_and_stand_behind_their_service(shop):
    shop.apply(deployment("shop-blue", 3, color="blue"), deployment("shop-green", 1, color="green"))
    shop.apply(service("shop", color="blue"))
    shop.wait_ready("shop-blue", 3)
    shop.wait_ready("shop-green", 1)
    blue = {pod["status"]["podIP"] for pod in seen(shop, "pods", "-l", "color=blue")["items"]}
    green = {pod["status"]["podIP"] for pod in seen(shop, "pods", "-l", "color=green")["items"]}
    wait_until(lambda: set(shop.endpoints("shop")) == blue, 10, "the endpoints of blue")
    shop.patch("Service", "shop", {"spec": {"selector": {"color": "green"}}})
    wait_until(lambda: set(shop.endpoints("shop")) == green, 10, "the endpoints of green")
    assert (len(blue), len(green)) == (3, 1)


@pytest.mark.parametrize(
    ("state", "status", "stays"),
    [
        ("not-ready", "Running", True),
        ("crash-loop", "CrashLoopBackOff", True),
        ("image-pull", "ImagePullBackOff", True),
        ("dead", "OOMKilled", False),
    ],
)
def test_a_pod_turns_bad_on_demand_and_leaves_its_service(shop, state, status, stays):
    shop.apply(deployment("shop", 3, color="blue"), service("shop", color="blue"))
    shop.wait_ready("shop", 3)
    wait_until(lambda: len(shop.endpoints("shop")) == 3, 10, "three endpoints")
    (name,) = shop.turn(state, "color=blue", 1)
    address = shop.get("Pod", name)["status"]["podIP"]
    assert f" {status} " in shop.kubectl("get", "pod", name)
    wait_until(lambda: address not in shop.endpoints("shop"), 10, "its address to leave the Service")
    if stays:
        shop.turn("ready", "color=blue")
        wait_until(lambda: address in shop.endpoints("shop"), 10, "its address to come back")
    else:
        wait_until(lambda: len(shop.endpoints("shop")) == 3, 10, "another pod in its place")


@pytest.mark.parametrize(
    ("image", "reason"), [("shop:missing", "ImagePullBackOff"), ("shop:crash", "CrashLoopBackOff")]
)
def test_an_image_may_be_bad_by_its_name(shop, image, reason):
    bad = deployment("shop", 1)
    bad["spec"]["template"]["spec"]["containers"][0]["image"] = image
    bad["spec"]["progressDeadlineSeconds"] = 2
    shop.apply(bad)
    wait_until(lambda: reason in shop.kubectl("get", "pods"), 10, reason)

    def given_up():
        conditions = shop.get("Deployment", "shop")["status"].get("conditions", [])
        return any(each.get("reason") == "ProgressDeadlineExceeded" for each in conditions)

    wait_until(given_up, 20, "the Deployment to say that it does not get on")


def test_pods_are_slow_to_start_and_to_end_where_they_say_so(shop):
    slow = deployment("shop", 1)
    slow["spec"]["template"]["metadata"]["annotations"] = {pods.AFTER: "1500ms", pods.ENDS_AFTER: "1500ms"}
    began = time.monotonic()
    shop.apply(slow)
    shop.wait_ready("shop", 1)
    assert time.monotonic() - began >= 1.5
    began = time.monotonic()
    shop.kubectl("scale", "deployment/shop", "--replicas=0", "--timeout=10s")
    wait_until(lambda: not shop.list("Pod"), 20, "the pod to be gone")
    assert time.monotonic() - began >= 1.4


def test_a_job_ends_and_its_pod_with_it(shop):
    template = {"spec": {"restartPolicy": "Never", "containers": [{"name": "smoke", "image": "smoke:1"}]}}
    shop.apply({"kind": "Job", "metadata": {"name": "smoke"}, "spec": {"template": template}})
    shop.kubectl("wait", "--for=condition=Complete", "--timeout=20s", "job/smoke")


def test_logs_and_commands_of_a_pod_are_to_be_had(shop):
    shop.apply(deployment("shop", 1))
    shop.wait_ready("shop", 1)
    assert shop.kubectl("logs", "deployment/shop").splitlines() == list(pods.LOG)
    assert shop.kubectl("exec", "deployment/shop", "--", "sh", "-c", "echo in $POD").strip() == "in rig"
    # kwok has no better word for it than an internal error; a kubelet gives the code.
    with pytest.raises(PlaneError, match="exit status 7"):
        shop.kubectl("exec", "deployment/shop", "--", "sh", "-c", "exit 7")


def test_a_pod_that_asks_too_much_finds_no_node(shop):
    greedy = deployment("shop", 1)
    greedy["spec"]["template"]["spec"]["containers"][0]["resources"] = {"requests": {"cpu": "1000"}}
    shop.apply(greedy)
    wait_until(lambda: "Insufficient cpu" in shop.kubectl("get", "events"), 20, "the scheduler's words")
    assert shop.ready() == 0


def test_an_account_may_do_what_its_role_says_and_nothing_else(shop):
    shop.apply(service("shop", color="blue"))
    told = shop.account("robot", *SHOP_ONLY).kubeconfig()
    assert told.stat().st_mode & 0o077 == 0
    assert "shop" in run_kubectl(told, "get", "service", "shop")
    for words in (("get", "services"), ("delete", "service", "shop"), ("get", "services", "--namespace=default")):
        with pytest.raises(PlaneError, match=r"\(Forbidden\).*cannot (list|delete) resource"):
            run_kubectl(told, *words)


def test_a_token_that_is_over_is_refused(shop):
    account = shop.account("robot", *SHOP_ONLY)
    with pytest.raises(PlaneError, match="Unauthorized"):
        run_kubectl(account.kubeconfig(expired=True), "get", "pods")
    assert run_kubectl(account.kubeconfig(), "get", "pods") == ""


def test_the_audit_log_counts_every_call_of_a_namespace(plane, shop):
    account = shop.account("robot", *SHOP_ONLY)
    for _ in range(3):
        run_kubectl(account.kubeconfig(), "get", "pods")
    mine = [each for each in plane.calls(shop.name) if each["user"].get("username", "").endswith(":robot")]
    assert [(each["verb"], each["objectRef"]["resource"]) for each in mine] == [("list", "pods")] * 3


def test_a_wire_can_be_cut_frozen_slowed_and_mended(plane, shop):
    with plane.wire() as wire:
        assert get_services(plane, wire.port, plane.token, shop).ok
        wire.cut()
        with pytest.raises(requests.ConnectionError):
            get_services(plane, wire.port, plane.token, shop)
        wire.mend()
        assert get_services(plane, wire.port, plane.token, shop).ok
        wire.freeze()
        with pytest.raises(requests.Timeout):
            get_services(plane, wire.port, plane.token, shop)
        wire.mend()
        wire.delay = 0.3
        began = time.monotonic()
        assert get_services(plane, wire.port, plane.token, shop).ok
        assert time.monotonic() - began >= 0.3


@pytest.mark.parametrize(("name", "kind"), [("gateway-api", "httproutes"), ("istio-api", "virtualservices")])
def test_objects_of_meshes_and_gateways_can_be_made(plane, shop, name, kind):
    before = (plane.net, plane.services, plane.before_stop)
    plane._installed.discard(name)
    plane.install(name)
    assert (plane.net, plane.services, plane.before_stop) == before
    assert seen(shop, kind)["items"] == []


def test_the_api_server_comes_back_with_everything_after_a_crash():
    with control_plane() as plane, plane.namespace() as shop:
        shop.apply(service("shop", color="blue"))
        before = shop.get("Service", "shop")
        plane.processes["kube-apiserver"].kill()
        with pytest.raises(requests.ConnectionError):
            shop.get("Service", "shop")
        plane.start_api()
        assert shop.get("Service", "shop") == before
        processes, folder = list(plane.processes.values()), plane.folder
    assert not any(process.alive for process in processes)
    assert not folder.exists()


def test_a_plane_that_cannot_start_leaves_nothing(monkeypatch):
    monkeypatch.setattr(ControlPlane, "_kwok", lambda _: ["--no-such-flag"])
    made = []
    honest = ControlPlane.start
    monkeypatch.setattr(ControlPlane, "start", lambda plane: made.append(plane) or honest(plane))
    with pytest.raises(RuntimeError, match="kwok ended"), control_plane():
        pass
    (plane,) = made
    assert not any(process.alive for process in plane.processes.values())
    assert not plane.folder.exists()
