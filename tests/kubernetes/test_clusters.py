"""The client on a real API server: comparisons, server-side apply, watches that break and expire, and what each costs."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
import requests

from bluegreen.clusters.access import access_of
from bluegreen.clusters.objects import (
    CONFIG_MAPS,
    DEPLOYMENTS,
    EVENTS,
    PODS,
    SERVICES,
    Cluster,
    Kind,
    comparing,
)
from bluegreen.clusters.trouble import ClusterTrouble
from bluegreen.clusters.waits import Waited, wait_for
from bluegreen.core.deadlines import Deadline
from bluegreen.core.ports import Credentials
from demo.kubernetes.namespace import deployment
from demo.processes import LOOPBACK, wait_until

pytestmark = pytest.mark.kubernetes


def cluster_of(config: Any, namespace: str, timeout: float = 5.0) -> Cluster:
    return Cluster(access_of("rig", lambda _: Credentials(extra={"kube_config": config})), namespace, timeout)


@pytest.fixture
def cluster(plane: Any, shop: Any) -> Cluster:
    return cluster_of(plane.config(), shop.name)


def words(name: str, **data: str) -> dict[str, Any]:
    return {"metadata": {"name": name}, "data": data}


def kind_of(ask: Callable[[], Any]) -> str:
    with pytest.raises(ClusterTrouble) as error:
        ask()
    assert error.value.fact
    assert error.value.mend
    return error.value.kind


def test_objects_are_made_read_listed_and_deleted(cluster: Cluster) -> None:
    made = cluster.create(CONFIG_MAPS, {**words("a", color="blue"), "kind": "ConfigMap", "apiVersion": "v1"})
    assert cluster.get(CONFIG_MAPS, "a")["data"] == {"color": "blue"}
    assert "a" in {one["metadata"]["name"] for one in cluster.list(CONFIG_MAPS).items}
    assert cluster.list(CONFIG_MAPS, "color=green").items == ()
    assert kind_of(lambda: cluster.create(CONFIG_MAPS, words("a"))) == "conflict"
    assert kind_of(lambda: cluster.delete(CONFIG_MAPS, "a", {"uid": "other"})) == "conflict"
    cluster.delete(CONFIG_MAPS, "a", {"uid": made["metadata"]["uid"]})
    assert kind_of(lambda: cluster.get(CONFIG_MAPS, "a")) == "missing"
    assert cluster.calls == {"create": 2, "get": 2, "list": 2, "delete": 2}


def test_a_patch_holds_as_a_whole_or_not_at_all(cluster: Cluster) -> None:
    made = cluster.create(CONFIG_MAPS, words("a", color="blue", other="x"))
    change = {"op": "replace", "path": "/data/color", "value": "green"}
    wrong = {"op": "test", "path": "/data/other", "value": "y"}
    assert kind_of(lambda: cluster.patch(CONFIG_MAPS, "a", [change, wrong])) == "conflict"
    assert cluster.get(CONFIG_MAPS, "a")["data"]["color"] == "blue"
    cluster.patch(CONFIG_MAPS, "a", [comparing(made), change])
    assert kind_of(lambda: cluster.patch(CONFIG_MAPS, "a", [comparing(made), change])) == "conflict"
    gone = {"op": "replace", "path": "/nothing/at/all", "value": "x"}
    assert kind_of(lambda: cluster.patch(CONFIG_MAPS, "a", [gone])) == "conflict"
    bad = {"op": "add", "path": "/spec/ports/0/port", "value": 70000}
    spec = {"selector": {"a": "b"}, "ports": [{"port": 80}]}
    cluster.create(SERVICES, {"metadata": {"name": "s"}, "spec": spec})
    assert kind_of(lambda: cluster.patch(SERVICES, "s", [bad])) == "refused"


def test_an_apply_owns_what_it_says_and_takes_nothing_over_unless_forced(cluster: Cluster, shop: Any) -> None:
    cluster.apply(CONFIG_MAPS, "a", {"data": {"ours": "1"}})
    shop.patch("ConfigMap", "a", {"data": {"theirs": "1"}})
    cluster.apply(CONFIG_MAPS, "a", {"data": {"ours": "2"}})
    assert cluster.get(CONFIG_MAPS, "a")["data"] == {"ours": "2", "theirs": "1"}
    theirs = {"data": {"ours": "2", "theirs": "2"}}
    assert kind_of(lambda: cluster.apply(CONFIG_MAPS, "a", theirs)) == "conflict"
    cluster.apply(CONFIG_MAPS, "a", theirs, force=True)
    stale = {"metadata": {"resourceVersion": "1"}, "data": {"ours": "3"}}
    assert kind_of(lambda: cluster.apply(CONFIG_MAPS, "a", stale)) == "conflict"


def test_a_kind_that_the_cluster_does_not_know(cluster: Cluster) -> None:
    with pytest.raises(ClusterTrouble, match=r"the cluster knows no things\.nobody\.example"):
        cluster.get(Kind("nobody.example", "v1", "things", "Thing"), "a")


def test_a_quota_and_a_namespace_that_goes_refuse_with_what_to_do(cluster: Cluster, plane: Any, shop: Any) -> None:
    shop.apply({"kind": "ResourceQuota", "metadata": {"name": "q"}, "spec": {"hard": {"count/configmaps": "1"}}})
    wait_until(lambda: shop.get("ResourceQuota", "q").get("status", {}).get("used"), 10, "the quota to count")
    with pytest.raises(ClusterTrouble) as error:  # the cluster's own certificate authority is one
        cluster.create(CONFIG_MAPS, words("a"))
    assert (error.value.kind, "exceeded quota" in error.value.fact) == ("refused", True)
    assert "quota" in error.value.mend
    with plane.namespace() as going:
        going.apply(words("held") | {"kind": "ConfigMap"})
        going.patch("ConfigMap", "held", {"metadata": {"finalizers": ["rig.bluegreen/held"]}})
        plane.ask("DELETE", f"api/v1/namespaces/{going.name}")
        there = cluster_of(plane.config(), going.name)
        with pytest.raises(ClusterTrouble, match="being terminated") as late:
            there.create(CONFIG_MAPS, words("late"))
        assert (late.value.kind, "the namespace is being deleted" in late.value.mend) == ("refused", True)
        going.patch("ConfigMap", "held", {"metadata": {"finalizers": []}})


def test_what_we_may_is_asked_without_trying(plane: Any, shop: Any) -> None:
    ours = cluster_of(shop.account("few", ("", "pods", "list")).config(), shop.name)
    wait_until(lambda: ours.may("list", PODS), 10, "the API server to take the Role")
    assert [ours.may("list", PODS), ours.may("delete", PODS), ours.may("patch", DEPLOYMENTS, "a", "scale")] == [
        True,
        False,
        False,
    ]


# Waits


def waiting(cluster: Cluster, holds: Callable[[Any], bool], seconds: float = 30, **which: str) -> list[Waited]:
    """Wait in a thread; what comes out stands in the list."""
    ended: list[Waited] = []
    deadline = Deadline(timedelta(seconds=seconds))
    thread = threading.Thread(target=lambda: ended.append(wait_for(cluster, CONFIG_MAPS, holds, deadline, **which)))
    thread.start()
    ended_thread.append(thread)
    return ended


ended_thread: list[threading.Thread] = []


def joined() -> None:
    ended_thread.pop().join(60)


def test_a_wait_ends_with_the_change_and_asks_once(cluster: Cluster, shop: Any) -> None:
    cluster.create(CONFIG_MAPS, words("a", color="blue"))
    cluster.calls.clear()
    ended = waiting(cluster, lambda seen: seen["a"]["data"]["color"] == "green", name="a")
    wait_until(lambda: cluster.calls["watch"], 10, "the watch")
    shop.patch("ConfigMap", "a", {"data": {"other": "x"}})
    shop.patch("ConfigMap", "a", {"data": {"color": "green"}})
    joined()
    assert ended[0].held
    assert cluster.calls == {"get": 1, "watch": 1}


def test_a_wait_sees_what_comes_and_what_goes(cluster: Cluster, shop: Any) -> None:
    shop.apply(words("b") | {"kind": "ConfigMap", "metadata": {"name": "b", "labels": {"app": "x"}}})
    ended = waiting(cluster, lambda seen: set(seen) == {"c"}, labels="app=x")
    wait_until(lambda: cluster.calls["watch"], 10, "the watch")
    shop.apply({"kind": "ConfigMap", "metadata": {"name": "c", "labels": {"app": "x"}}})
    shop.delete("ConfigMap", "b")
    joined()
    assert ended[0].held


def test_a_wait_is_over_at_its_deadline_and_says_what_it_saw(cluster: Cluster) -> None:
    cluster.create(CONFIG_MAPS, words("a", color="blue"))
    waited = wait_for(cluster, CONFIG_MAPS, lambda _: False, Deadline(timedelta(seconds=1)), name="a")
    assert (waited.held, waited.seen["a"]["data"]) == (False, {"color": "blue"})


def test_a_wait_goes_on_after_the_connection_broke(plane: Any, shop: Any) -> None:
    with plane.wire() as wire:
        cluster = cluster_of(plane.config(port=wire.port), shop.name)
        cluster.create(CONFIG_MAPS, words("a", color="blue"))
        ended = waiting(cluster, lambda seen: seen["a"]["data"]["color"] == "green", name="a")
        wait_until(lambda: cluster.calls["watch"], 10, "the watch")
        wire.cut()
        shop.patch("ConfigMap", "a", {"data": {"color": "green"}})
        time.sleep(0.5)  # it is asked meanwhile, and does not answer
        wire.mend()
        joined()
    assert ended[0].held
    assert cluster.calls["get"] == 1  # it goes on from where it was


def test_a_wait_that_never_had_an_answer_says_why(plane: Any, shop: Any) -> None:
    with plane.wire() as wire:
        cluster = cluster_of(plane.config(port=wire.port), shop.name)
        wire.cut()
        deadline = Deadline(timedelta(seconds=1))
        assert kind_of(lambda: wait_for(cluster, CONFIG_MAPS, lambda _: True, deadline, name="a")) == "unreachable"


def test_a_watch_of_what_is_not_kept_any_more_is_begun_anew(cluster: Cluster, plane: Any, shop: Any) -> None:
    """Events are not in the API server's cache: what etcd has compacted is gone for a watch."""
    event = {"metadata": {"name": "e"}, "involvedObject": {"kind": "Pod", "namespace": shop.name}, "reason": "r"}
    cluster.create(EVENTS, event)
    old = cluster.list(EVENTS).version
    for number in range(3):
        shop.patch("Event", "e", {"message": f"later {number}"})
    revision = int(cluster.list(EVENTS).version)
    answer = requests.post(
        f"http://{LOOPBACK}:{plane._etcd_port}/v3/kv/compaction", json={"revision": str(revision)}, timeout=10
    )
    assert answer.ok, answer.text
    assert kind_of(lambda: list(cluster.watch(EVENTS, old, 2))) == "expired"

    class Stale(Cluster):
        first = True

        def list(self, kind: Kind, labels: str = "") -> Any:
            found = super().list(kind, labels)
            was, self.first = self.first, False
            return type(found)((), old) if was else found

    stale = Stale(cluster.access, shop.name)
    waited = wait_for(stale, EVENTS, lambda seen: "e" in seen, Deadline(timedelta(seconds=10)))
    assert (waited.held, stale.calls["list"]) == (True, 2)


def test_a_deaf_api_server_costs_no_more_than_the_timeout(plane: Any, shop: Any) -> None:
    with plane.wire() as wire:
        cluster = cluster_of(plane.config(port=wire.port), shop.name, timeout=0.5)
        cluster.list(CONFIG_MAPS)
        wire.freeze()
        with pytest.raises(ClusterTrouble, match=r"cannot list configmaps in namespace .*timed out") as error:
            cluster.list(CONFIG_MAPS)
    assert error.value.kind == "unreachable"


def test_a_pods_log_is_read_as_text(cluster: Cluster, shop: Any) -> None:
    shop.apply(deployment("a", 1))
    shop.wait_ready("a", 1)
    pod = shop.list("Pod", "app=a")[0]["metadata"]["name"]
    assert "starting" in cluster.text(PODS, pod, "log", {"tailLines": "5"})
