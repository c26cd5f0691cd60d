"""Deployments on a real control plane: what is written, what is left alone, how many pods there are, and what smoke tests run."""

from __future__ import annotations

import json
import re
import threading
from collections import Counter
from datetime import timedelta
from pathlib import Path

import pytest
import yaml

from bluegreen.checks.health import ask_color
from bluegreen.checks.smoke import smoke
from bluegreen.core.colors import Color
from bluegreen.core.errors import CheckFailed, DeployError
from bluegreen.core.ports import Deployed, RunsInside, TellsCalls
from bluegreen.deployers import kube_bodies, kube_colors
from bluegreen.deployers.kube_marks import CONFIG, FENCE, FORMER, RELEASE, VERSION_LABEL
from demo.kubernetes import pods
from demo.kubernetes.namespace import deployment
from demo.processes import wait_until
from tests.rigs import kube_deploy
from tests.rigs.kube_deploy import allowed, kube_rig, web

pytestmark = pytest.mark.kubernetes
ONE, TWO, THREE = "run-one@1", "run-two@2", "run-three@3"


@pytest.fixture
def rig(tmp_path):
    if reason := kube_deploy.missing():
        pytest.skip(reason)
    with kube_rig(tmp_path, roles=None) as rig:
        yield rig


@pytest.fixture
def log():
    return []


def logging_to(rig, lines, **deploy):
    deployer = rig.deployer(**deploy)
    deployer._log = lines.append
    return deployer


def template(found):
    return found["spec"]["template"]


# By an image


def test_image_env_and_marks_are_set_and_nothing_else(rig):
    env = {"ENVIRONMENT": "$COLOR", "RELEASE": "${SERVICE}-$VERSION"}
    rig.deployer(env=env).deploy(Color.GREEN, "2.0", 1, ONE)
    found = rig.of(Color.GREEN)
    container = template(found)["spec"]["containers"][0]
    assert container["image"] == "shop:2.0"
    assert container["ports"] == [{"containerPort": 8080, "protocol": "TCP"}]
    assert {one["name"]: one["value"] for one in container["env"]} == {"ENVIRONMENT": "green", "RELEASE": "shop-2.0"}
    assert template(found)["metadata"]["labels"][VERSION_LABEL] == "2.0"
    assert template(found)["metadata"]["annotations"] == {RELEASE: ONE}
    assert found["spec"]["selector"] == {"matchLabels": web(Color.GREEN)["spec"]["selector"]["matchLabels"]}
    assert json.loads(found["metadata"]["annotations"][FENCE])["done"] == "2.0"
    assert FORMER not in found["metadata"]["annotations"]


def test_what_a_release_does_not_set_any_more_is_gone(rig):
    rig.deployer(env={"OLD": "1", "BOTH": "1"}).deploy(Color.GREEN, "1.0", 1, ONE)
    rig.deployer(env={"BOTH": "2"}).deploy(Color.GREEN, "2.0", 2, TWO)
    assert template(rig.of(Color.GREEN))["spec"]["containers"][0]["env"] == [{"name": "BOTH", "value": "2"}]


def test_every_release_makes_pods_of_its_own_and_notes_the_config_that_they_read(rig):
    def config(text):
        rig.namespace.apply({"kind": "ConfigMap", "metadata": {"name": "shop-config"}, "data": {"a": text}})

    hashes = []
    for epoch, text in enumerate(["1", "2", "1"], start=1):
        config(text)
        rig.deployer(config=["shop-config"]).deploy(Color.GREEN, "2.0", epoch, f"run@{epoch}")
        hashes.append(template(rig.of(Color.GREEN))["metadata"]["annotations"][CONFIG])
    assert rig.deploys() == 3
    assert hashes[0] == hashes[2] != hashes[1]


def test_other_containers_stay_and_one_that_cannot_be_told_is_asked_for(rig):
    two = web(Color.GREEN)
    two["spec"]["template"]["spec"]["containers"].append({"name": "proxy", "image": "proxy:1"})
    rig.namespace.apply(two)
    rig.namespace.wait_ready("shop-green", 2)
    with pytest.raises(
        DeployError, match=r"has the containers app, proxy, not one only; nothing was touched; give deploy"
    ):
        rig.deployer().deploy(Color.GREEN, "2.0", 1, ONE)
    assert FENCE not in rig.of(Color.GREEN)["metadata"].get("annotations", {})
    rig.deployer(container="app").deploy(Color.GREEN, "2.0", 1, ONE)
    images = [one["image"] for one in template(rig.of(Color.GREEN))["spec"]["containers"]]
    assert images == ["shop:2.0", "proxy:1"]


@pytest.mark.parametrize(
    ("version", "said"), [("1.0+build", "can be no label of a pod"), ("v" * 64, "at most 63 letters, digits")]
)
def test_a_version_that_no_pod_can_bear_is_refused_before_anything_is_touched(rig, version, said):
    with pytest.raises(DeployError, match=said):
        rig.deployer().deploy(Color.GREEN, version, 1, ONE)
    assert rig.deploys() == 0


# When it counts as up


def test_pods_that_still_end_answer_nobody_once_it_is_deployed(rig):
    slow = web(Color.GREEN)
    slow["spec"]["template"]["metadata"]["annotations"] = {pods.ENDS_AFTER: "5s"}
    rig.namespace.apply(slow)
    rig.namespace.wait_ready("shop-green", 2)
    for epoch in (1, 2, 3):
        rig.deployer().deploy(Color.GREEN, f"{epoch}.0", epoch, f"run@{epoch}")
        answers = Counter(one.version for _ in range(100) for one in ask_color(rig.service, Color.GREEN))
        assert answers == {f"{epoch}.0": 100}


@pytest.mark.timeout(60)
def test_a_color_without_pods_is_not_asked_on_end(rig, monkeypatch):
    rig.deployer().retire(Color.GREEN, 1)
    monkeypatch.setattr(kube_colors, "FOLLOWED", timedelta(hours=1))
    rig.deployer().deploy(Color.GREEN, "2.0", 2, TWO)


# By manifests


def manifests(folder: Path, *objects) -> list[str]:
    (folder / "shop.yaml").write_text(yaml.safe_dump_all([{"apiVersion": "v1", **one} for one in objects]))
    return [str(folder / "shop.yaml")]


def new_web(**spec):
    made = deployment("new-$COLOR", 1, color="$COLOR", part="new")
    made["spec"]["template"]["spec"]["containers"][0]["image"] = "shop:$VERSION"
    made["spec"] |= spec
    return {**made, "apiVersion": "apps/v1"}


NEW = {"deployments": {"blue": "new-blue", "green": "new-green"}, "image": None, "ask": "pods"}


@pytest.fixture
def by_manifests(rig):
    allow(rig, "new-blue", "new-green", "new-worker-blue", "new-worker-green", "new-cron-blue", "new-cron-green")
    return rig


def allow(rig, *names):
    """Let the account change these, too, as one does who follows the manifests."""
    for file in ("deployer", "deployer-manifests"):
        text = (kube_deploy.RBAC / f"{file}.yaml").read_text()
        text = text.replace("resourceNames: [shop-blue,", f"resourceNames: [{', '.join(names)}, shop-blue,")
        text = text.replace("resourceNames: [shop-cron-blue,", f"resourceNames: [{', '.join(names)}, shop-cron-blue,")
        rig.namespace.kubectl("apply", "-f", "-", told=text)


def test_manifests_are_made_and_changed_and_what_they_leave_out_goes(by_manifests, tmp_path):
    rig = by_manifests
    config = {"kind": "ConfigMap", "metadata": {"name": "new-config-$COLOR"}, "data": {"v": "$VERSION", "old": "1"}}
    container = new_web()["spec"]["template"]["spec"]["containers"][0] | {"env": [{"name": "OLD", "value": "1"}]}
    first = new_web()
    first["spec"]["template"]["spec"]["containers"] = [container]
    files = manifests(tmp_path, first, config)
    assert rig.deployer(manifests=files, **NEW).deploy(Color.GREEN, "1.0", 1, ONE) == Deployed("1.0", 1, 1)
    config["data"].pop("old")
    manifests(tmp_path, new_web(), config)
    assert rig.deployer(manifests=files, **NEW).deploy(Color.GREEN, "2.0", 2, TWO) == Deployed("2.0", 1, 1)
    seen = json.loads(rig.namespace.kubectl("get", "deployment/new-green", "configmap/new-config-green", "-o", "json"))
    made, mapped = seen["items"]
    assert mapped["data"] == {"v": "2.0"}
    assert "env" not in template(made)["spec"]["containers"][0]
    assert template(made)["metadata"]["annotations"][CONFIG]
    assert FORMER not in made["metadata"]["annotations"]
    assert not [one for one in rig.namespace.list("Deployment") if one["metadata"]["name"] == "new-blue"]


def test_a_manifest_of_both_colors_is_refused_as_it_would_touch_what_is_live(by_manifests, tmp_path):
    for shared in (
        {"kind": "Service", "metadata": {"name": "shop"}, "spec": {"selector": {"color": "$COLOR"}}},
        {**new_web(), "metadata": {"name": "shop-blue"}},
    ):
        files = manifests(tmp_path, new_web(), shared)
        with pytest.raises(DeployError, match=r"would be the other color's, too: a deploy must not touch what is live"):
            by_manifests.deployer(manifests=files, **NEW).deploy(Color.GREEN, "1.0", 1, ONE)
    assert not [one for one in by_manifests.namespace.list("Deployment") if "new" in one["metadata"]["name"]]


@pytest.mark.parametrize(
    ("manifest", "said"),
    [
        (
            {"kind": "Namespace", "metadata": {"name": "x-$COLOR"}},
            r"v1 Namespace x-green is nothing that a release appl",
        ),
        (
            {"kind": "ConfigMap", "metadata": {"name": "x-$COLOR", "namespace": "y"}},
            r"is in namespace y, the service in",
        ),
        ({"kind": "ConfigMap"}, r"holds what is no object with a name"),
    ],
)
def test_a_manifest_that_a_release_has_no_business_with_is_refused(by_manifests, tmp_path, manifest, said):
    files = manifests(tmp_path, new_web(), manifest)
    with pytest.raises(DeployError, match=rf"{said}.*; nothing was touched"):
        by_manifests.deployer(manifests=files, **NEW).deploy(Color.GREEN, "1.0", 1, ONE)


def test_a_manifest_of_a_wrong_shape_is_refused_before_anything_is_touched(by_manifests, tmp_path):
    rig = by_manifests
    files = manifests(tmp_path, new_web())
    rig.deployer(manifests=files, **NEW).deploy(Color.GREEN, "1.0", 1, ONE)
    before = rig.namespace.get("Deployment", "new-green")["metadata"]["annotations"]
    secret = {"kind": "Secret", "metadata": {"name": "x-$COLOR"}, "stringData": {"password": 8812345678}}
    for odd, said in (
        (new_web(replicas="3"), r"document 1: Deployment new-\$COLOR: spec\.replicas is a text, wanted a whole number"),
        (
            secret,
            r"document 1: Secret x-\$COLOR: stringData\.password is a whole number, wanted a text; nothing was touch",
        ),
    ):
        manifests(tmp_path, odd, new_web())
        with pytest.raises(DeployError, match=said) as raised:
            rig.deployer(manifests=files, **NEW).deploy(Color.GREEN, "2.0", 2, TWO)
        assert "8812345678" not in str(raised.value)
    assert rig.namespace.get("Deployment", "new-green")["metadata"]["annotations"] == before


def test_a_broken_manifest_shows_no_line_of_it(by_manifests, tmp_path):
    (tmp_path / "shop.yaml").write_text("stringData: {password: hunter2-hunter2\n")
    with pytest.raises(DeployError, match=r"shop\.yaml, line 2 is no YAML") as raised:
        by_manifests.deployer(manifests=[str(tmp_path / "shop.yaml")], **NEW).deploy(Color.GREEN, "1.0", 1, ONE)
    assert "hunter2" not in str(raised.value)


def test_roles_that_are_made_by_a_deploy_do_not_run_and_those_that_run_stay(by_manifests, tmp_path):
    rig = by_manifests
    worker = {**deployment("new-worker-$COLOR", 3, color="$COLOR"), "apiVersion": "apps/v1"}
    pod = {"restartPolicy": "Never", "containers": [{"name": "app", "image": "shop:$VERSION"}]}
    spec = {"schedule": "0 3 * * *", "jobTemplate": {"spec": {"template": {"spec": pod}}}}
    cron = {"apiVersion": "batch/v1", "kind": "CronJob", "metadata": {"name": "new-cron-$COLOR"}, "spec": spec}
    roles = {
        "worker": {"deployments": {"blue": "new-worker-blue", "green": "new-worker-green"}, "timeout": "20s"},
        "cron": {"cron_jobs": {"blue": "new-cron-blue", "green": "new-cron-green"}},
    }
    deployer = rig.deployer(manifests=manifests(tmp_path, worker, cron, new_web()), roles=roles, **NEW)
    deployer.deploy(Color.GREEN, "1.0", 1, ONE)

    def runs():
        scaled = rig.namespace.get("Deployment", "new-worker-green")["spec"]["replicas"]
        return scaled, not rig.namespace.get("CronJob", "new-cron-green")["spec"]["suspend"]

    assert runs() == (0, False)
    deployer.run_roles(Color.GREEN, 2, ONE, {Color.GREEN: "1.0"})
    assert runs() == (1, True)
    # A second deploy to a color whose roles run, as after a restore that went wrong: what runs is not its business.
    deployer.deploy(Color.GREEN, "2.0", 3, TWO)
    assert runs() == (1, True)


# Sizes


def test_the_new_color_has_at_least_as_many_pods_as_the_live_one(rig):
    rig.deployer().retire(Color.GREEN, 1)
    rig.namespace.kubectl("scale", "deployment/shop-blue", "--replicas=5")
    assert rig.deployer().deploy(Color.GREEN, "2.0", 2, TWO) == Deployed("2.0", 5, 5)
    rig.namespace.kubectl("scale", "deployment/shop-blue", "--replicas=3")
    assert rig.deployer().deploy(Color.GREEN, "3.0", 3, THREE).total == 5  # never fewer than it has


def test_a_number_in_the_service_file_is_the_least(rig):
    assert rig.deployer(replicas=4).deploy(Color.GREEN, "2.0", 1, ONE).total == 4


def autoscaler(least):
    target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "shop-green"}
    spec = {"scaleTargetRef": target, "minReplicas": least, "maxReplicas": 9}
    return {"kind": "HorizontalPodAutoscaler", "metadata": {"name": "green"}, "spec": spec}


def test_an_autoscalers_least_is_respected_and_its_number_not_lowered(rig):
    rig.namespace.apply(autoscaler(3))
    rig.deployer().retire(Color.GREEN, 1)
    assert rig.deployer().deploy(Color.GREEN, "2.0", 2, TWO).total == 3
    scale = rig.namespace.path("Deployment", "shop-green", "scale")
    rig.namespace.plane.ask("PATCH", scale, {"spec": {"replicas": 6}}, "application/merge-patch+json")
    rig.namespace.wait_ready("shop-green", 6)
    assert rig.deployer().deploy(Color.GREEN, "3.0", 3, THREE).total == 6


def test_a_color_that_was_retired_says_what_it_had(rig):
    rig.deployer().retire(Color.GREEN, 1)
    assert rig.deployer().status(Color.GREEN) == Deployed(None, 0, 2)
    assert rig.of(Color.GREEN)["spec"]["replicas"] == 0


def test_leave_leaves_all_as_it_is(rig, log):
    logging_to(rig, log, retire="leave").retire(Color.GREEN, 1)
    assert rig.of(Color.GREEN)["spec"]["replicas"] == 2
    assert log == ["shop: green: retire is leave: all goes on running"]


def budget(name, least, **labels):
    spec = {"minAvailable": least, "selector": {"matchLabels": labels}}
    return {"kind": "PodDisruptionBudget", "metadata": {"name": name}, "spec": spec}


def test_a_budget_of_both_colors_forbids_a_retire_that_would_break_it(rig):
    rig.namespace.apply(budget("both", 3, part="web"), budget("green", 2, color="green"))
    wait_until(
        lambda: rig.namespace.get("PodDisruptionBudget", "both")["status"].get("currentHealthy") == 4, 20, "4 pods"
    )
    with pytest.raises(
        DeployError, match=r"PodDisruptionBudget both forbids it: 3 healthy pods are wanted, 2 would be left"
    ):
        rig.deployer().retire(Color.GREEN, 1)
    assert rig.deployer().status(Color.GREEN).ready == 2
    rig.namespace.kubectl("scale", "deployment/shop-blue", "--replicas=3")
    wait_until(lambda: rig.namespace.get("PodDisruptionBudget", "both")["status"]["currentHealthy"] == 5, 20, "5 pods")
    rig.deployer().retire(Color.GREEN, 1)
    assert rig.of(Color.GREEN)["spec"]["replicas"] == 0


# What does not come up


def test_what_does_not_come_up_is_given_back_what_it_was(rig):
    rig.deployer(env={"A": "1"}).deploy(Color.GREEN, "1.0", 1, ONE)
    before = rig.of(Color.GREEN)["spec"]
    with pytest.raises(
        DeployError, match=r"CrashLoopBackOff(?s:.*)Deployment shop-green is given back what it was before"
    ):
        rig.deployer(env={"B": "2"}, replicas=4).deploy(Color.GREEN, "crash", 2, TWO)
    assert rig.of(Color.GREEN)["spec"] == before
    rig.namespace.wait_ready("shop-green", 2)
    assert rig.deployer().status(Color.GREEN) == Deployed("1.0", 2, 2)
    assert FORMER not in rig.of(Color.GREEN)["metadata"]["annotations"]


def test_what_was_too_large_to_be_kept_is_not_given_back_but_the_command_that_is_named_does(rig):
    rig.deployer(env={"LARGE": "x" * kube_bodies.TOO_LONG}).deploy(Color.GREEN, "1.0", 1, ONE)
    before = template(rig.of(Color.GREEN))
    with pytest.raises(
        DeployError, match="Deployment shop-green has what failed, it was too large to be kept: kubectl"
    ) as raised:
        rig.deployer().deploy(Color.GREEN, "crash", 2, TWO)
    assert template(rig.of(Color.GREEN)) != before
    command = re.search(r"kept: kubectl -n (\S+) (rollout undo deployment/shop-green)", str(raised.value))
    assert command
    assert command[1] == rig.namespace.name
    rig.namespace.kubectl(*command[2].split())
    assert template(rig.of(Color.GREEN)) == before


def test_a_color_whose_pods_crashed_comes_up_with_a_version_that_does_not(rig):
    def green(replicas):
        crashing = {"spec": {"containers": [{"name": "app", "image": "shop:crash"}]}}
        rig.namespace.patch("Deployment", "shop-green", {"spec": {"replicas": replicas, "template": crashing}})

    green(0)
    wait_until(lambda: not rig.namespace.list("Pod", "color=green"), 20, "the pods that were well to be gone")
    green(2)
    wait_until(lambda: "CrashLoopBackOff" in rig.namespace.kubectl("get", "pods"), 20, "the crash loop")
    # Longer than it takes until the pods are looked at.
    slow = {"metadata": {"annotations": {pods.AFTER: "12s"}}}
    rig.namespace.patch("Deployment", "shop-green", {"spec": {"template": slow}})
    found = rig.deployer().deploy(Color.GREEN, "2.0", 1, ONE)
    assert (found.version, found.ready, found.total) == ("2.0", 2, 2)


def test_what_was_not_there_before_is_scaled_to_0(by_manifests, tmp_path):
    files = manifests(tmp_path, new_web())
    with pytest.raises(DeployError, match=r"Deployment new-green, which was not there before, is scaled to 0"):
        by_manifests.deployer(manifests=files, **NEW).deploy(Color.GREEN, "crash", 1, ONE)
    assert by_manifests.namespace.get("Deployment", "new-green")["spec"]["replicas"] == 0
    up = by_manifests.deployer(manifests=files, **NEW).deploy(Color.GREEN, "1.0", 1, ONE)
    assert up == Deployed("1.0", 1, 1)


def test_a_target_that_does_not_answer_as_wanted_keeps_ready_pods_from_being_enough(rig):
    wanted = rig.changed(ready_within="4s").model_copy(
        update={"health": rig.service.health.model_copy(update={"status": 204})}
    )
    rig.service = wanted
    with pytest.raises(DeployError, match=r"not healthy at 2\.0 within 4 s:\n  http://\S+: HTTP 200"):
        rig.deployer().deploy(Color.GREEN, "2.0", 1, ONE)
    assert template(rig.of(Color.GREEN))["spec"]["containers"][0]["image"] == "shop:0"


def test_pods_alone_are_asked_where_targets_cannot_be_reached(rig):
    rig.service = rig.service.model_copy(
        update={"colors": {c: rig.service.colors[c].model_copy(update={"targets": (f"http://127.0.0.1:{9 + n}",)})
                           for n, c in enumerate(Color)}}
    )  # fmt: skip
    assert rig.deployer(ask="pods").deploy(Color.GREEN, "2.0", 1, ONE) == Deployed("2.0", 2, 2)
    assert rig.deployer().status(Color.GREEN) == Deployed("2.0", 2, 2)  # the label, as no target answers


def test_calls_are_few_and_told_and_waits_are_watches(rig, monkeypatch):
    deployer = rig.deployer()
    assert isinstance(deployer, TellsCalls)
    assert deployer.calls == {}  # no login is asked for before it is needed
    rolled, roll = [], deployer._roll
    monkeypatch.setattr(deployer, "_roll", lambda *words: rolled.append(words) or roll(*words))
    deployer.deploy(Color.GREEN, "2.0", 1, ONE)
    told = deployer.calls
    wait_until(lambda: len(rig.calls()) >= sum(told.values()), 10, "the audit log")
    seen = [("apply" if "force=true" in one["requestURI"] else one["verb"], one) for one in rig.calls()]
    assert told == Counter(verb for verb, _ in seen)
    # A write that a controller came before is refused, read and tried again.
    refused = [verb for verb, one in seen if one["responseStatus"]["code"] in (409, 422)]
    assert set(refused) <= {"apply", "patch"}
    verbs = Counter(told) - Counter(refused)
    assert (verbs["apply"], verbs["patch"], verbs["watch"]) == (1, 2, 1)
    # The targets can only be asked, not watched: where they said something else the Deployment is looked at again.
    assert verbs.total() - len(refused) - len(rolled) <= 14, (verbs, refused, rolled)


# Smoke tests where the color runs


@pytest.fixture
def smoking(rig):
    allowed(rig.namespace, "deployer-smoke")
    assert isinstance(rig.deployer(), RunsInside)
    return rig


def smoked(rig, lines, *tests):
    whole = rig.service.model_dump(mode="json", exclude_unset=True) | {"smoke": list(tests)}
    service = type(rig.service).model_validate(whole)
    deployer = rig.deployer()
    deployer._log = lines.append
    return smoke(service, Color.GREEN, "0", log=lines.append, inside=deployer)


def test_a_command_runs_in_a_ready_pod_and_its_output_is_told_without_secrets(smoking, log):
    script = "echo one; echo password=hunter2 >&2"
    done = smoked(smoking, log, {"exec": ["sh", "-c", script], "name": "the script"})
    assert [(one["test"], one["ok"]) for one in done] == [("GET /health", True), ("the script", True)]
    assert done[1]["target"].startswith("shop-green-")
    told = "\n".join(log)
    assert ": one" in told
    assert "password=***" in told
    assert "hunter2" not in told


def test_a_command_runs_in_each_pod_where_that_is_asked_for(smoking, log):
    done = smoked(smoking, log, {"exec": ["true"], "pods": "all"})
    assert len({one["target"] for one in done if one["test"] == "exec true"}) == 2


def test_a_command_that_does_not_end_in_time_fails_the_test(smoking, log):
    with pytest.raises(CheckFailed, match=r"exec sh .*expected code 0, it did not end within 1 s"):
        smoked(smoking, log, {"exec": ["sh", "-c", "sleep 30"], "timeout": "1s"})


def test_a_command_where_no_pod_is_ready_says_so(smoking):
    smoking.deployer().retire(Color.GREEN, 1)
    with pytest.raises(DeployError, match="green: has no ready pod"):
        smoking.deployer().run_command(Color.GREEN, ["true"], timedelta(seconds=5))


def job(folder, image="smoke:1", **spec):
    pod = {"restartPolicy": "Never", "containers": [{"name": "smoke", "image": image}]}
    body = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "smoke-$COLOR"}}
    path = folder / "job.yaml"
    path.write_text(yaml.safe_dump(body | {"spec": {"template": {"spec": pod}, **spec}}))
    return str(path)


def test_a_job_completes_and_is_deleted(smoking, tmp_path, log):
    done = smoked(smoking, log, {"job": job(tmp_path), "timeout": "20s"})
    assert [(one["target"], one["test"], one["ok"]) for one in done[1:]] == [("Job smoke-green", "job job.yaml", True)]
    assert smoking.namespace.list("Job") == []


def test_a_job_that_fails_stays_with_its_last_lines_and_the_next_one_takes_its_place(smoking, tmp_path, log):
    failing = job(tmp_path, "smoke:crash", activeDeadlineSeconds=2)
    with pytest.raises(CheckFailed, match=r"job job\.yaml .*it failed: DeadlineExceeded"):
        smoked(smoking, log, {"job": failing, "timeout": "20s"})
    assert [one["metadata"]["name"] for one in smoking.namespace.list("Job")] == ["smoke-green"]
    assert smoked(smoking, log, {"job": job(tmp_path), "timeout": "20s"})[1]["ok"]


@pytest.mark.parametrize("instance", [None, "pay-green", "shop-blue"])
def test_a_job_of_somebody_else_is_not_deleted(smoking, tmp_path, log, instance):
    made = yaml.safe_load(Path(job(tmp_path)).read_text().replace("$COLOR", "green"))
    if instance:  # another service's smoke test
        labels = {"app.kubernetes.io/managed-by": "bluegreen", "app.kubernetes.io/instance": instance}
        made["metadata"]["labels"] = labels
    smoking.namespace.apply(made)
    with pytest.raises(DeployError, match="there is a Job smoke-green that is not ours"):
        smoked(smoking, log, {"job": job(tmp_path)})
    assert len(smoking.namespace.list("Job")) == 1


def test_two_deploys_of_one_claim_at_the_same_time_end_as_one(rig):
    found, failed = [], []

    def run():
        try:
            found.append(rig.deployer().deploy(Color.GREEN, "2.0", 1, ONE))
        except Exception as error:  # noqa: BLE001 - told below
            failed.append(error)

    threads = [threading.Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (found, failed) == ([Deployed("2.0", 2, 2)] * 2, [])
