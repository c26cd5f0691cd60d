"""What deploys to Kubernetes decide without a cluster: rollouts, budgets, marks, words, differences, what nodes have."""

from __future__ import annotations

import json
from decimal import Decimal

import pytest

from bluegreen.clusters.annotations import annotated
from bluegreen.clusters.objects import DEPLOYMENTS, DISRUPTION_BUDGETS
from bluegreen.core.colors import Color
from bluegreen.core.errors import DeployError, DeployFenced
from bluegreen.deployers import kube_bodies
from bluegreen.deployers.helm_diff import MOST, difference
from bluegreen.deployers.kube_budgets import in_the_way
from bluegreen.deployers.kube_diagnosis import LONGEST, said
from bluegreen.deployers.kube_facts import KubeFacts
from bluegreen.deployers.kube_marks import FENCE, FORMER, ROLE, Claim, record_of, shown
from bluegreen.deployers.kube_resources import lines_of_nodes, quantity
from bluegreen.deployers.kube_rollout import hopeless, rollout, selector
from bluegreen.deployers.kube_words import filled, words_for


def found(generation=2, observed=2, wanted=2, progressing=None, paused=False, **counts):
    status = {"observedGeneration": observed, "replicas": wanted} | {
        f"{name}Replicas": counts.get(name, wanted) for name in ("updated", "ready", "available")
    }
    status |= {"replicas": counts["all"]} if "all" in counts else {}
    status["conditions"] = [progressing] if progressing else []
    spec = {"replicas": wanted, "template": {"spec": {"containers": [{"name": "app", "image": "shop:1"}]}}}
    spec |= {"paused": True} if paused else {}
    return {
        "kind": "Deployment",
        "metadata": {"name": "shop", "generation": generation},
        "spec": spec,
        "status": status,
    }


@pytest.mark.parametrize(
    ("item", "done"),
    [
        (found(), True),
        (found(observed=1), False),
        (found(updated=1), False),
        (found(ready=1), False),
        (found(available=1), False),
        (found(all=3), False),  # an old pod is still there
        (found(wanted=0), True),
        ({"metadata": {"generation": 1}, "spec": {}}, False),
    ],
)
def test_a_rollout_is_done_when_every_count_and_the_generation_say_so(item, done):
    assert rollout(item).done is done


LATE = {"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded", "lastUpdateTime": "1"}


def test_a_rollout_that_stopped_says_why_and_what_was_so_before_says_nothing():
    assert rollout(found(ready=1, progressing=LATE)).stopped.startswith(
        "no progress within its progressDeadlineSeconds"
    )
    assert rollout(found(ready=1, progressing=LATE), stale=LATE).stopped == ""
    assert rollout(found(observed=1, progressing=LATE)).stopped == ""
    assert rollout(found(ready=1, progressing=LATE | {"lastUpdateTime": "2"}), stale=LATE).stopped
    assert rollout(found(paused=True)).stopped == "it is paused"


@pytest.mark.parametrize(
    ("reason", "restarts", "no_hope"),
    [
        ("CrashLoopBackOff", 3, True), ("CrashLoopBackOff", 2, False), ("InvalidImageName", 0, True),
        ("ImagePullBackOff", 0, False), ("ContainerCreating", 0, False),
    ],
)  # fmt: skip
def test_only_what_no_time_mends_ends_a_wait_early(reason, restarts, no_hope):
    status = {"name": "app", "restartCount": restarts, "state": {"waiting": {"reason": reason}}}
    pod = {"metadata": {"name": "p"}, "status": {"containerStatuses": [status]}}
    assert bool(hopeless(pod)) is no_hope


def test_a_selector_is_asked_for_as_it_stands():
    expressions = [
        {"key": "a", "operator": "In", "values": ["1", "2"]}, {"key": "b", "operator": "Exists"},
        {"key": "c", "operator": "DoesNotExist"}, {"key": "d", "operator": "NotIn", "values": ["3"]},
    ]  # fmt: skip
    spec = {"selector": {"matchLabels": {"app": "shop"}, "matchExpressions": expressions}}
    assert selector({"spec": spec}) == "app=shop,a in (1,2),b,!c,d notin (3)"


class Budgets:
    def __init__(self, *budgets):
        self.budgets = budgets

    def all(self, kind, part):
        assert kind is DISRUPTION_BUDGETS
        return self.budgets


def of(**labels):
    return {"spec": {"template": {"metadata": {"labels": labels}}}}


def budget(healthy=4, **spec):
    return {"metadata": {"name": "b"}, "spec": spec, "status": {"currentHealthy": healthy}}


BOTH = {"matchLabels": {"app": "shop"}}


@pytest.mark.parametrize(
    ("one", "forbids"),
    [
        (budget(minAvailable=3, selector=BOTH), True),
        (budget(minAvailable=2, selector=BOTH), False),
        (budget(minAvailable="75%", selector=BOTH), False),
        (budget(maxUnavailable=1, selector=BOTH), False),
        (budget(minAvailable=3, selector={"matchLabels": {"color": "green"}}), False),
        (budget(minAvailable=3, selector={}), True),
        (budget(minAvailable=3, selector=None), False),
        (budget(minAvailable=3, selector={"matchExpressions": [{"key": "app", "operator": "Exists"}]}), True),
        (budget(minAvailable=3, selector={"matchExpressions": [{"key": "app", "operator": "DoesNotExist"}]}), False),
        (
            budget(
                minAvailable=3,
                selector={"matchExpressions": [{"key": "color", "operator": "In", "values": ["blue", "green"]}]},
            ),
            True,
        ),
        (
            budget(
                minAvailable=3,
                selector={"matchExpressions": [{"key": "color", "operator": "NotIn", "values": ["red"]}]},
            ),
            True,
        ),
    ],
)
def test_a_budget_forbids_what_would_break_it_for_the_live_color(one, forbids):
    green, blue = of(app="shop", color="green"), of(app="shop", color="blue")
    assert bool(list(in_the_way(Budgets(one), Color.GREEN, green, blue, 2))) is forbids
    assert list(in_the_way(Budgets(one), Color.GREEN, green, None, 2)) == []
    assert list(in_the_way(Budgets(one), Color.GREEN, green, blue, 0)) == []


def marked(claim, done=""):
    return {"kind": "X", "metadata": {"name": "x", "annotations": {FENCE: shown(claim.record(None, done))}}}


def test_a_claim_is_over_older_ones_and_its_own_and_no_other():
    one, two = Claim("shop", "green", 1, "a@1"), Claim("shop", "green", 2, "b@2")
    assert two.over(marked(one)).epoch == 1
    assert two.over(marked(two)).epoch == 2
    assert two.over({"metadata": {"name": "x"}}) is None
    for newer in (one, Claim("shop", "green", 2, "other@2"), Claim("shop", "green", 1, "")):
        with pytest.raises(DeployFenced, match=r"X x has epoch 2 of b@2"):
            newer.over(marked(two))
    retire = Claim("shop", "green", 2, "")
    assert retire.over(marked(two)).release == "b@2"
    assert retire.record(retire.over(marked(two))).release == "b@2"


def test_a_record_keeps_what_the_same_claim_had_done_and_forgets_it_for_another():
    one, two = Claim("shop", "green", 1, "a@1"), Claim("shop", "green", 2, "b@2")
    done = one.over(marked(one, "1.0"))
    assert one.record(done).done == "1.0"
    assert one.record(done).since == done.since
    assert two.record(done).done == ""


def noted(key=FENCE, **changed):
    whole = {
        "epoch": 5,
        "release": "a@5",
        "since": "2026-11-29T00:00:00.000+00:00",
        "process": "p",
        "done": "",
    } | changed
    return {"metadata": {"name": "x", "annotations": {key: json.dumps(whole)}}}


@pytest.mark.parametrize(
    ("item", "said"),
    [
        (noted(epoch="5"), "its epoch is no whole number"),
        (noted(epoch=None), "its epoch is no whole number"),
        (noted(epoch=True), "its epoch is no whole number"),
        (noted(release=None, done=1), "its release, done is no text"),
        (noted(since="x"), "Invalid isoformat string"),
        (noted(since="2026-11-29"), "its since has no time zone"),
        (noted(more=1), "unexpected keyword"),
        ({"metadata": {"name": "x", "annotations": {FENCE: "[]"}}}, "is none of ours"),
        ({"metadata": {"name": "x", "annotations": {FENCE: "rubbish"}}}, "is none of ours"),
    ],
)
def test_a_fence_that_is_none_is_told_whatever_is_wrong_with_it(item, said):
    assert Claim("shop", "green", 5, "a@5").over(noted()).epoch == 5
    with pytest.raises(
        DeployError, match=r"the annotation bluegreen\.dev/fence of x is none of ours: .*take it off"
    ) as raised:
        Claim("shop", "green", 5, "a@5").over(item)
    assert said in str(raised.value)


def test_a_roles_mark_names_a_color_or_nothing():
    for done in ("", "blue"):
        assert record_of(noted(ROLE, done=done), "shop", "worker", ROLE).done == done
    with pytest.raises(DeployError, match="its done is no color"):
        record_of(noted(ROLE, done="purple"), "shop", "worker", ROLE)


def test_annotations_are_patched_only_where_they_differ():
    empty = {"metadata": {}}
    assert annotated(empty, {"a/b": "1"}) == [
        {"op": "add", "path": "/metadata/annotations", "value": {}},
        {"op": "add", "path": "/metadata/annotations/a~1b", "value": "1"},
    ]
    assert annotated(empty, {"a": None}) == []
    assert annotated({"metadata": {"annotations": {"a": "1"}}}, {"a": "1"}) == []
    assert annotated({"metadata": {"annotations": {"a": "1"}}}, {"a": None}) == [
        {"op": "remove", "path": "/metadata/annotations/a"}
    ]


def test_words_are_filled_everywhere_and_nothing_else():
    words = words_for("shop", "green", "1.0")
    given = {"a-$COLOR": ["$VERSION", "${SERVICE}x", "$VERSIONS", "$(VERSION)", 3, None, {"x": "$HOME"}]}
    assert filled(given, words) == {"a-green": ["1.0", "shopx", "$VERSIONS", "$(VERSION)", 3, None, {"x": "$HOME"}]}
    with pytest.raises(DeployError, match="can be no label"):
        words_for("shop", "green", "1.0+x")


def test_a_former_spec_that_is_too_long_is_not_kept():
    item = found()
    item["metadata"]["annotations"] = {"mine": "1", FENCE: "x", "deployment.kubernetes.io/revision": "3"}
    kept = json.loads(kube_bodies.former_of(item))
    assert (kept["replicas"], kept["annotations"], "replicas" in kept["spec"]) == (2, {"mine": "1"}, False)
    item["metadata"]["annotations"][FORMER] = kube_bodies.former_of(item)
    assert kube_bodies.given_back(item)["spec"]["replicas"] == 2
    item["spec"]["template"]["spec"]["containers"][0]["env"] = [{"name": "A", "value": "x" * kube_bodies.TOO_LONG}]
    assert kube_bodies.former_of(item) == ""


@pytest.mark.parametrize(("others", "kept"), [(90_000, True), (110_000, False)])
def test_a_former_spec_has_the_room_that_other_annotations_leave(others, kept):
    item = found()
    item["spec"]["template"]["spec"]["containers"][0]["env"] = [{"name": "A", "value": "x" * 150_000}]
    item["metadata"]["annotations"] = {"kubectl.kubernetes.io/last-applied-configuration": "ä" * (others // 2)}
    item["metadata"]["annotations"][FORMER] = "y" * 200_000  # of a deploy before, which it replaces
    assert bool(kube_bodies.former_of(item)) is kept


@pytest.mark.parametrize(
    "text", ["rubbish", "[]", '{"a": 1}', '{"replicas": "x", "spec": {}, "labels": {}, "annotations": {}}']
)
def test_what_somebody_wrote_over_a_former_spec_is_none(text):
    with pytest.raises(ValueError):  # noqa: PT011 - of any text
        kube_bodies.given_back({"metadata": {"annotations": {FORMER: text}}})


def test_a_config_hash_does_not_know_of_order():
    def mapped(name, **data):
        return {"metadata": {"name": name}, "data": data}

    one, two = mapped("a", x="1", y="2"), mapped("b")
    assert kube_bodies.config_hash([one, two]) == kube_bodies.config_hash([two, mapped("a", y="2", x="1")])
    assert kube_bodies.config_hash([one]) != kube_bodies.config_hash([mapped("a", x="1", y="3")])
    assert kube_bodies.config_hash([]) == ""


def test_a_role_that_is_not_there_is_made_still_and_one_that_is_there_stays_as_it_is():
    for replicas, before in ((0, None), (3, {"spec": {"replicas": 3}}), (0, {"spec": {"replicas": 0}})):
        body = kube_bodies.kept_size(DEPLOYMENTS, before, {"spec": {"replicas": 5}})
        assert body["spec"]["replicas"] == replicas


SECRET = "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\ndata: {%s}\n---\n"  # noqa: S105 - a manifest
MAP = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\ndata: {%s}\n---\n"


def test_a_difference_shows_what_changes_and_nothing_of_secrets():
    before = SECRET % "a: aHVudGVyMg==, b: c2FtZQ==" + MAP % "x: old"
    after = SECRET % "a: bmV3LXB3, b: c2FtZQ==, n: bW9yZQ==" + MAP % "x: new"
    told = "\n".join(difference(before, after))
    assert "-  a: '*** (before)'" in told
    assert "+  a: '*** (after)'" in told
    assert "+  n: '*** (after)'" in told
    assert "-  x: old" in told
    assert "+  x: new" in told
    assert not any(word in told for word in ("aHVudGVyMg", "bmV3LXB3", "bW9yZQ", "c2FtZQ"))


def test_a_difference_of_nothing_and_of_very_much_says_so():
    assert list(difference(MAP % "x: y", MAP % "x: y")) == ["nothing in the manifests changes"]
    many = MAP % ", ".join(f"k{n}: '{n}'" for n in range(MOST * 2))
    told = list(difference("", many))
    assert len(told) == MOST + 1
    assert told[-1].startswith("and ")


def test_a_new_secret_shows_nothing_either():
    assert "aHVudGVy" not in "\n".join(difference("", SECRET % "a: aHVudGVy"))
    assert "aHVudGVy" not in "\n".join(difference(SECRET % "a: aHVudGVy", ""))


def test_nodes_say_what_they_have_left_the_emptiest_first():
    def node(name, taints=()):
        allocatable = {"cpu": "4", "memory": "8Gi", "pods": "110"}
        return {"metadata": {"name": name}, "spec": {"taints": list(taints)}, "status": {"allocatable": allocatable}}

    def pod(name, cpu, phase="Running"):
        requests = {"resources": {"requests": {"cpu": cpu, "memory": "1Gi"}}}
        return {"spec": {"nodeName": name, "containers": [requests, {}]}, "status": {"phase": phase}}

    taint = {"key": "gpu", "effect": "NoSchedule"}
    pods = [pod("a", "3500m"), pod("a", "100m", "Succeeded"), pod("b", "1")]
    told = list(lines_of_nodes([node("a"), node("b", [taint])], pods))
    assert told == [
        "node b: 3 cpu, 7168 Mi memory, 109 pods left; only for pods that tolerate gpu",
        "node a: 0.5 cpu, 7168 Mi memory, 109 pods left",
    ]
    assert quantity("500m") == Decimal("0.5")


def test_a_diagnosis_is_short_whatever_there_is(monkeypatch):
    pods = tuple(
        {
            "metadata": {"name": f"shop-{n}", "creationTimestamp": str(n)},
            "spec": {"containers": []},
            "status": {
                "phase": "Running",
                "containerStatuses": [
                    {
                        "name": f"c{m}",
                        "restartCount": 9,
                        "state": {"waiting": {"reason": "CrashLoopBackOff", "message": "x" * 500}},
                    }
                    for m in range(4)
                ],
            },
        }
        for n in range(500)
    )
    events = tuple(
        {
            "type": "Warning",
            "reason": "Bad",
            "message": "password=hunter2 " + "y" * 999,
            "involvedObject": {"kind": "Pod", "name": "p"},
        }
        for _ in range(500)
    )
    facts = KubeFacts("shop", found(ready=0), pods, {f"p{n} c": ["z"] * 15 for n in range(3)}, events)
    facts.missing = {"quota": "may not list resourcequotas"}
    told = said(facts)
    assert len(told) <= 200
    assert max(map(len, told)) <= LONGEST
    assert told[0] == "not had: quota: may not list resourcequotas"
    assert told[-1].startswith("next: CrashLoopBackOff: kubectl -n shop logs shop-0 -c c0 --previous")
    assert "hunter2" not in "\n".join(told)


def test_a_diagnosis_shows_no_password_that_is_known_in_any_of_its_lines():
    pod = {"metadata": {"name": "p"}, "spec": {"containers": []}, "status": {"message": "has hunter2  of shop"}}
    event = {"message": "exec hunter2  of shop", "involvedObject": {"kind": "Pod", "name": "p"}}
    facts = KubeFacts("shop", found(ready=0), (pod,), {"p app": ["login with hunter2  of shop"]}, (event,))
    told = "\n".join(said(facts, ["hunter2  of shop"]))
    assert "hunter2" in "\n".join(said(facts))
    assert told.count("***") == 3
    assert "hunter2" not in told


OOM = {
    "name": "app",
    "restartCount": 1,
    "ready": False,
    "state": {"running": {}},
    "lastState": {"terminated": {"reason": "OOMKilled", "exitCode": 137}},
}
NO_CONFIG = {
    "name": "app",
    "state": {"waiting": {"reason": "CreateContainerConfigError", "message": 'secret "x" not found'}},
}


@pytest.mark.parametrize(
    ("status", "line"),
    [
        (OOM, "next: OOMKilled: kubectl -n shop set resources deployment/shop -c app --limits=memory=…"),
        (NO_CONFIG, "next: CreateContainerConfigError: kubectl -n shop describe pod p (a ConfigMap or Secret that it"),
    ],
)
def test_each_known_symptom_has_its_next_command(status, line):
    pod = {"metadata": {"name": "p"}, "spec": {"containers": []}, "status": {"containerStatuses": [status]}}
    assert any(one.startswith(line) for one in said(KubeFacts("shop", found(ready=0), (pod,))))
