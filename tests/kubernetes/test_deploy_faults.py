"""Each fault that a deploy to Kubernetes may meet, on a real control plane: what is said, and what is there afterwards."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest
import yaml

from bluegreen.clusters.objects import Cluster
from bluegreen.core.colors import Color
from bluegreen.core.errors import DeployError, DeployFenced
from bluegreen.core.ports import Deployed
from bluegreen.deployers.kube_marks import FORMER
from bluegreen.hosts import host_files
from demo.kubernetes.namespace import deployment
from demo.kubernetes.plane import PlaneError
from demo.processes import wait_until
from tests.rigs import kube_deploy
from tests.rigs.kube_deploy import RBAC, allowed, kube_rig, web

pytestmark = pytest.mark.kubernetes
ONE, TWO = "run-one@1", "run-two@2"


@pytest.fixture
def rig(tmp_path):
    if reason := kube_deploy.missing():
        pytest.skip(reason)
    with kube_rig(tmp_path, roles=None, ready_within="20s") as rig:
        yield rig


def image(rig):
    return rig.of(Color.GREEN)["spec"]["template"]["spec"]["containers"][0]["image"]


def fails(rig, version="2.0", epoch=1, release=ONE, **deploy):
    with pytest.raises(DeployError) as raised:
        rig.deployer(**deploy).deploy(Color.GREEN, version, epoch, release)
    assert not isinstance(raised.value, DeployFenced)
    assert rig.deployer().status(Color.BLUE) == Deployed(None, 2, 2) or rig.deployer().status(Color.BLUE).ready == 2
    return str(raised.value)


@contextmanager
def meanwhile(work) -> Iterator[None]:
    """Do something beside the test's own steps, and fail with what it fails with."""
    failed = []

    def run():
        try:
            work()
        except BaseException as error:  # noqa: BLE001 - told below
            failed.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        thread.join()
    assert failed == []


# The version


def test_an_image_that_does_not_exist(rig):
    said = fails(rig, "missing", ready_within="4s")
    assert "ImagePullBackOff Back-off pulling image" in said
    assert f"next: ImagePullBackOff: kubectl -n {rig.namespace.name} describe pod shop-green-" in said
    assert "no traffic was moved" in said
    assert image(rig) == "shop:0"


def test_a_crash_loop_ends_the_wait_early_and_shows_the_containers_last_lines(rig):
    began = time.monotonic()
    said = fails(rig, "crash", ready_within="10m")
    assert time.monotonic() - began < 120  # of 10 min
    assert "log of shop-green-" in said
    assert "fault: cannot read its configuration" in said
    assert "ended with 3 (Error), 3 restarts" in said
    assert f"kubectl -n {rig.namespace.name} logs shop-green-" in said
    assert image(rig) == "shop:0"


def test_pods_that_are_ready_and_then_die_are_not_up(rig):
    rig.namespace.patch("Deployment", "shop-green", {"spec": {"minReadySeconds": 3}})

    def die():
        new = "color=green,app.kubernetes.io/version=2.0"
        wait_until(lambda: rig.namespace.ready(new) > 0, 20, "a ready pod")
        rig.namespace.turn("crash-loop", new)

    with meanwhile(die):
        said = fails(rig)
    assert "CrashLoopBackOff" in said
    assert image(rig) == "shop:0"


def test_no_progress_is_told_by_the_deployments_own_deadline(rig):
    rig.namespace.patch("Deployment", "shop-green", {"spec": {"progressDeadlineSeconds": 2}})
    said = fails(rig, "missing", ready_within="10m")
    assert "no progress within its progressDeadlineSeconds of 2 s" in said
    # The same release may try again: the condition is of before.
    assert rig.deployer().deploy(Color.GREEN, "2.0", 1, ONE) == Deployed("2.0", 2, 2)


def test_a_pod_that_no_node_has_room_for_shows_what_nodes_have(rig):
    resources = {"resources": {"requests": {"cpu": "1000", "memory": "1Gi"}}}
    container = rig.of(Color.GREEN)["spec"]["template"]["spec"]["containers"][0] | resources
    rig.namespace.apply(deployment_with(container))
    allowed(rig.namespace, "deployer-nodes")
    text = ""

    def told():
        nonlocal text
        text = rig.deployer().diagnose(Color.GREEN)
        return "Insufficient cpu" in text

    wait_until(told, 20, "the scheduler's words")
    assert "asks for 1000 cpu, 1024 Mi memory" in text
    assert "node kwok-1: " in text
    assert "pods left" in text
    assert "next: no node has room for a pod: kubectl" in text


def deployment_with(container):
    found = deployment("shop-green", 2, color="green", part="web")
    found["spec"]["template"]["spec"]["containers"] = [container]
    return found


# The namespace


def test_a_quota_that_is_exceeded(rig):
    quota = {"kind": "ResourceQuota", "metadata": {"name": "small"}, "spec": {"hard": {"pods": "4"}}}
    rig.namespace.apply(quota)
    wait_until(
        lambda: rig.namespace.get("ResourceQuota", "small").get("status", {}).get("used"), 20, "the quota's count"
    )
    said = fails(rig, ready_within="5s")
    assert "exceeded quota: small" in said
    assert f"next: quota exceeded: kubectl -n {rig.namespace.name} describe quota" in said
    text = rig.deployer().diagnose(Color.GREEN)
    assert "quota small: 4 of 4 pods" in text
    assert image(rig) == "shop:0"


def test_a_paused_deployment_is_refused_before_anything_is_touched(rig):
    rig.namespace.patch("Deployment", "shop-green", {"spec": {"paused": True}})
    before = rig.of(Color.GREEN)
    said = fails(rig)
    assert "Deployment shop-green is paused: nothing that is written to it would run; nothing was touched" in said
    assert f"kubectl -n {rig.namespace.name} rollout resume deployment/shop-green" in said
    now = rig.of(Color.GREEN)
    assert (now["spec"], now["metadata"]["annotations"]) == (before["spec"], before["metadata"]["annotations"])


def test_a_deployment_that_is_paused_while_it_is_waited_for(rig):
    def pause():
        wait_until(lambda: image(rig) == "shop:missing", 20, "the new image")
        rig.namespace.patch("Deployment", "shop-green", {"spec": {"paused": True}})

    with meanwhile(pause):
        assert "it is paused" in fails(rig, "missing", ready_within="5m")


def test_a_namespace_that_is_going(rig, tmp_path):
    name = rig.namespace.name
    keep = {"kind": "ConfigMap", "metadata": {"name": "keep", "finalizers": ["example.org/keep"]}}
    rig.namespace.apply(keep)
    allowed(rig.namespace, "deployer-manifests")
    rig.namespace.plane.ask("DELETE", f"api/v1/namespaces/{name}")
    (tmp_path / "new.yaml").write_text(
        yaml.safe_dump_all(
            [
                {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "new-$COLOR"}},
                {"apiVersion": "apps/v1", **deployment("shop-$COLOR", 2, color="$COLOR", part="web")},
            ]
        )
    )
    rig.login = rig.namespace.plane.config()  # the account goes with the namespace
    with pytest.raises(DeployError) as raised:
        rig.deployer(image=None, manifests=[str(tmp_path / "new.yaml")]).deploy(Color.GREEN, "2.0", 1, ONE)
    rig.namespace.patch("ConfigMap", "keep", {"metadata": {"finalizers": None}})
    assert "being terminated" in str(raised.value) or "is being deleted" in str(raised.value)


# The login


def test_a_token_that_is_over(rig):
    rig.login = rig.account.config(expired=True)
    with pytest.raises(DeployError, match=r"401, the login is not accepted; renew the login: its token is expired"):
        rig.deployer().deploy(Color.GREEN, "2.0", 1, ONE)
    assert "401" in rig.deployer().diagnose(Color.GREEN)  # which raises nothing


@pytest.mark.parametrize(
    ("verb", "resource"),
    [
        ("get", "deployments"), ("watch", "deployments"), ("patch", "deployments"), ("list", "pods"),
        ("list", "horizontalpodautoscalers"),
    ],
)  # fmt: skip
def test_what_may_not_be_done_is_named_with_the_rule_that_lacks(rig, verb, resource):
    rig.namespace.patch("Role", "bluegreen-deployer", {"rules": without(verb, resource)})
    wait_until(lambda: not may(rig, verb, resource), 10, "the rule to be gone")
    with pytest.raises(DeployError) as raised:
        rig.deployer().deploy(Color.GREEN, "2.0", 1, ONE)
    said = str(raised.value)
    assert f"bluegreen-deployer may not {verb} {resource}" in said
    assert f'resources: ["{resource}"], verbs: ["{verb}"]' in said
    assert "include/kubernetes" in said


def may(rig, verb, resource):
    which = "deployments/shop-green" if resource == "deployments" else resource
    user = f"system:serviceaccount:{rig.namespace.name}:bluegreen-deployer"
    try:
        return "yes" in rig.namespace.kubectl("auth", "can-i", verb, which, f"--as={user}")
    except PlaneError:
        return False


def without(verb, resource):
    _, role, _ = yaml.safe_load_all((RBAC / "deployer.yaml").read_text())
    left = [
        rule if resource not in rule["resources"] else rule | {"verbs": [one for one in rule["verbs"] if one != verb]}
        for rule in role["rules"]
    ]
    return [rule for rule in left if rule["verbs"]]


def start_a_job(rig):
    """Start a job of green's timetable that takes a while."""
    rig.namespace.kubectl("create", "job", "by-hand", "--from=cronjob/shop-cron-green")
    job = rig.namespace.get("Job", "by-hand")["metadata"]
    # One that the controller has not started itself it does not count, and the next full minute is far.
    active = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "namespace": rig.namespace.name,
        "name": "by-hand",
        "uid": job["uid"],
    }
    path = rig.namespace.path("CronJob", "shop-cron-green", "status")
    rig.namespace.plane.ask("PATCH", path, {"status": {"active": [active]}}, "application/merge-patch+json")


def test_a_timetable_is_stopped_when_its_job_has_ended(tmp_path):
    if reason := kube_deploy.missing():
        pytest.skip(reason)
    with kube_rig(tmp_path) as rig:
        rig.deployer().run_roles(Color.GREEN, 1, ONE, {})
        start_a_job(rig)
        rig.deployer().run_roles(Color.BLUE, 2, TWO, {})
        assert rig.namespace.get("Job", "by-hand")["status"].get("succeeded") == 1
        assert rig.runs("cron") == {Color.BLUE}


def let_go_when_watched(rig):
    """Keep the worker's pods until somebody waits for their end: nobody has to watch for what is over already."""
    seen = ("watch", "pods")
    wait_until(
        lambda: seen in [(one["verb"], one["objectRef"]["resource"]) for one in rig.calls()], 60, "a watch of pods"
    )
    start_a_job(rig)
    rig.roles.stick("worker", Color.GREEN, sticks=False)


def test_no_right_is_given_that_is_not_used(tmp_path):
    if reason := kube_deploy.missing():
        pytest.skip(reason)
    with kube_rig(tmp_path, config=["shop-config"]) as rig:
        rig.namespace.apply({"kind": "ConfigMap", "metadata": {"name": "shop-config"}, "data": {"a": "1"}})
        rig.deployer().deploy(Color.GREEN, "2.0", 1, ONE)
        rig.deployer().run_roles(Color.GREEN, 2, ONE, {})
        rig.roles.stick("worker", Color.GREEN)
        with ThreadPoolExecutor(1) as thread:
            let_go = thread.submit(let_go_when_watched, rig)
            rig.deployer().run_roles(Color.BLUE, 3, TWO, {})
            let_go.result()
        fails(rig, "crash", 4, TWO)
        rig.deployer().retire(Color.GREEN, 5)
        calls = rig.calls()
    used = {
        (call["verb"], "/".join(filter(None, (call["objectRef"]["resource"], call["objectRef"].get("subresource")))))
        for call in calls
    }
    _, role, _ = yaml.safe_load_all((RBAC / "deployer.yaml").read_text())
    given = {(verb, resource) for rule in role["rules"] for resource in rule["resources"] for verb in rule["verbs"]}
    assert used == given - {("get", "pods")}  # what kubectl needs for a person's next command
    assert {call["responseStatus"]["code"] for call in calls} <= {200, 201, 409, 422}


# The API server


@pytest.fixture
def wired(rig):
    with rig.namespace.plane.wire() as wire:
        rig.login = rig.account.config(port=wire.port)
        rig.wire = wire
        yield rig


def before_call(monkeypatch, number, do):
    """Do something before the call to the API server of that number, from 0; return what tells how many there were."""
    calls = []
    for name in ("_call", "watch"):
        honest = getattr(Cluster, name)

        def counted(self, *words, _honest=honest, **named):
            calls.append(words)
            if len(calls) == number + 1:
                do()
            return _honest(self, *words, **named)

        monkeypatch.setattr(Cluster, name, counted)
    return calls


def test_an_api_server_that_is_gone_for_a_moment_at_any_step_is_waited_for(wired, monkeypatch):
    number, calls = 0, [None]
    while number < len(calls):
        with monkeypatch.context() as patch:
            calls = before_call(patch, number, lambda: gone_for(wired.wire, 0.4))
            version = f"2.{number}"
            up = wired.deployer().deploy(Color.GREEN, version, number + 1, f"run@{number + 1}")
        assert up == Deployed(version, 2, 2), number
        number += 1
    assert number > 10


def gone_for(wire, seconds):
    wire.cut()
    threading.Timer(seconds, wire.mend).start()


def test_an_api_server_that_does_not_come_back_is_an_error_and_a_repeated_task_goes_on(wired, monkeypatch):
    for number in range(0, 14, 3):
        with monkeypatch.context() as patch:
            before_call(patch, number, wired.wire.cut)
            with pytest.raises(DeployError) as raised:
                wired.deployer(timeout="500ms", ready_within="3s").deploy(Color.GREEN, f"2.{number}", number + 1, ONE)
        wired.wire.mend()
        said = str(raised.value)
        assert "cannot" in said or "not healthy" in said, (number, said)
        assert wired.deployer().deploy(Color.GREEN, f"2.{number}", number + 1, ONE).version == f"2.{number}"


def test_an_api_server_that_answers_nothing_is_given_up_in_time_and_asked_again(wired):
    wired.wire.freeze()
    threading.Timer(1.5, wired.wire.mend).start()
    place = {"connection": kube_deploy.CONNECTION, "namespace": wired.namespace.name, "timeout": "500ms"}
    assert wired.deployer(cluster=place).deploy(Color.GREEN, "2.0", 1, ONE) == Deployed("2.0", 2, 2)


# Others


def test_an_object_that_is_deleted_while_it_is_waited_for(rig):
    def delete():
        wait_until(lambda: image(rig) == "shop:missing", 20, "the new image")
        rig.namespace.delete("Deployment", "shop-green")

    with (
        meanwhile(delete),
        pytest.raises(DeployError, match=r"Deployment shop-green was deleted while it was deployed"),
    ):
        rig.deployer().deploy(Color.GREEN, "missing", 1, ONE)


def test_an_object_that_is_not_there(rig):
    rig.namespace.delete("Deployment", "shop-green")
    with pytest.raises(DeployError, match=r"there is no Deployment shop-green; nothing was touched; make it once"):
        rig.deployer().deploy(Color.GREEN, "2.0", 1, ONE)
    assert rig.deployer().status(Color.GREEN) == Deployed(None, 0, 0)
    rig.deployer().retire(Color.GREEN, 1)


def test_somebody_elses_marks_are_not_read_as_ours(rig):
    broken = {"metadata": {"annotations": {"bluegreen.dev/fence": "mine"}}}
    rig.namespace.patch("Deployment", "shop-green", broken)
    with pytest.raises(DeployError, match=r"the annotation bluegreen.dev/fence of shop-green is none of ours"):
        rig.deployer().deploy(Color.GREEN, "2.0", 1, ONE)


@pytest.mark.parametrize("text", ["rubbish", "[]", '{"a": 1}'])
def test_what_cannot_be_given_back_hides_no_failure(rig, text):
    rig.namespace.patch("Deployment", "shop-green", {"metadata": {"annotations": {FORMER: text}}})
    with pytest.raises(DeployError) as raised:
        rig.deployer(ready_within="6s").deploy(Color.GREEN, "missing", 9, ONE)
    said = str(raised.value)
    assert "next: ImagePullBackOff: kubectl" in said
    assert (
        "Deployment shop-green has what failed; the annotation bluegreen.dev/former cannot be read, so nothing" in said
    )
    assert f"kubectl -n {rig.namespace.name} rollout undo deployment/shop-green, and take it off" in said


def test_a_large_deployment_that_kubectl_applied_is_deployed_to(rig):
    made = {"apiVersion": "apps/v1", **web(Color.GREEN)}
    large = [{"name": f"LARGE{number}", "value": "x" * 1000} for number in range(150)]
    made["spec"]["template"]["spec"]["containers"][0]["env"] = large
    rig.namespace.kubectl("apply", "-f", "-", told=yaml.safe_dump(made))
    rig.namespace.wait_ready("shop-green", 2)
    assert rig.deployer().deploy(Color.GREEN, "2.0", 1, ONE).version == "2.0"
    with pytest.raises(
        DeployError, match=r"it was too large to be kept: kubectl -n .* rollout undo deployment/shop-green"
    ):
        rig.deployer(ready_within="6s").deploy(Color.GREEN, "missing", 2, TWO)


class Killed(BaseException):
    """Nobody catches it, as nobody catches kill -9."""


def at_border(monkeypatch, number, do):
    """Do something at the border of that number between two steps of a write, from 0; return those that there were."""
    passed = []

    def border(name):
        passed.append(name)
        if len(passed) == number + 1:
            do()

    monkeypatch.setattr(host_files, "checkpoint", border)
    return passed


def kill():
    raise Killed


def test_a_deploy_that_is_killed_at_any_write_is_completed_by_its_repeated_task(rig, monkeypatch):
    killed = number = 0
    while killed == number:
        epoch, version = number + 1, f"2.{number}"
        with monkeypatch.context() as patch:
            at_border(patch, number, kill)
            try:
                rig.deployer().deploy(Color.GREEN, version, epoch, f"run@{epoch}")
            except Killed:
                killed += 1
        up = rig.deployer().deploy(Color.GREEN, version, epoch, f"run@{epoch}")
        assert up == Deployed(version, 2, 2), number
        number += 1
    assert killed >= 6


def test_what_a_killed_deploy_left_half_way_is_not_what_a_later_failure_goes_back_to(rig, monkeypatch):
    rig.deployer().deploy(Color.GREEN, "1.0", 1, ONE)
    with monkeypatch.context() as patch:
        patch.setattr(host_files, "checkpoint", lambda _: kill() if image(rig) == "shop:missing" else None)
        with pytest.raises(Killed):
            rig.deployer().deploy(Color.GREEN, "missing", 2, TWO)
    assert image(rig) == "shop:missing"
    fails(rig, "crash", 3, "run-three@3")
    assert image(rig) == "shop:1.0"


def test_a_newer_claim_at_any_write_keeps_its_color_and_the_older_one_stops(rig, monkeypatch):
    fenced = number = 0
    while fenced == number:
        older, newer = 2 * number + 1, 2 * number + 2

        def overtake(newer=newer):
            with monkeypatch.context() as patch:
                patch.setattr(host_files, "checkpoint", lambda _: None)
                rig.deployer().deploy(Color.GREEN, f"new.{newer}", newer, f"run@{newer}")

        with monkeypatch.context() as patch:
            passed = at_border(patch, number, overtake)
            try:
                rig.deployer().deploy(Color.GREEN, f"old.{older}", older, f"run@{older}")
            except DeployFenced as error:
                assert f"epoch {newer} of run@{newer}" in str(error)  # noqa: PT017 - it need not be raised at the end
                fenced += 1
        if len(passed) > number:
            assert rig.deployer().status(Color.GREEN) == Deployed(f"new.{newer}", 2, 2), number
        number += 1
    # After the last border the older one has ended well, and the newer one came after it.
    assert number - 1 >= 5
