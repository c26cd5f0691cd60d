"""Markers against a real HTTP server, with the payloads that Grafana, Datadog and New Relic document; none fails a release."""

from __future__ import annotations

import json
import time
from dataclasses import replace

import pytest
from pydantic import TypeAdapter

from bluegreen.catalog.markers import Marker
from bluegreen.core.errors import SecretMissing
from bluegreen.core.ports import Credentials
from bluegreen.release.markers import Mark, marked, telling
from bluegreen.release.restore import restore
from bluegreen.release.shift import shift
from tests.rigs.deploy_targets import Reply, Site
from tests.unit.release.world import claimed

KEY = "k3y-of-nobody"
MARK = Mark("finish", "shop", "run-1", "1.5.0", "shop: 1.5.0 is live on green")


def secrets(_):
    return Credentials("", KEY)


def marker(kind, url):
    more = {"entity": "MXxBUE0"} if kind == "newrelic" else {}
    return TypeAdapter(Marker).validate_python({"type": kind, "url": url, "connection": "key", **more})


def send(kind, reply=None, mark=MARK, secrets=secrets):
    said = []
    with Site(lambda _: reply or Reply()) as site:
        marked([marker(kind, site.url)], secrets, mark, said.append)()
        return site.asked, said


def test_grafana_gets_an_annotation():
    (asked,), said = send("grafana")
    body = json.loads(asked.body)
    assert abs(body.pop("time") / 1000 - time.time()) < 10
    assert body == {"tags": ["bluegreen", "service:shop", "event:finish"], "text": "shop: 1.5.0 is live on green"}
    assert (asked.path, asked.headers["Authorization"]) == ("/api/annotations", f"Bearer {KEY}")
    assert said == ["marker grafana (finish): taken"]


def test_datadog_gets_an_event_of_its_run():
    (asked,), _ = send("datadog", Reply(202))
    body = json.loads(asked.body)
    assert abs(body.pop("date_happened") - time.time()) < 10
    assert body == {
        "title": "shop: finish 1.5.0",
        "text": "shop: 1.5.0 is live on green",
        "tags": ["bluegreen", "service:shop", "event:finish"],
        "alert_type": "success",
        "aggregation_key": "shop run-1",
    }
    assert (asked.path, asked.headers["DD-API-KEY"]) == ("/api/v1/events", KEY)


def test_new_relic_gets_a_change_on_its_entity():
    (asked,), said = send("newrelic", Reply(body='{"data": {"changeTrackingCreateDeployment": {"deploymentId": "1"}}}'))
    body = json.loads(asked.body)
    change = body["variables"]["deployment"]
    assert abs(change.pop("timestamp") / 1000 - time.time()) < 10
    assert change == {
        "version": "1.5.0",
        "entityGuid": "MXxBUE0",
        "deploymentType": "BLUE_GREEN",
        "description": "shop: 1.5.0 is live on green",
        "groupId": "run-1",
    }
    assert "changeTrackingCreateDeployment(deployment: $deployment)" in body["query"]
    assert (asked.path, asked.headers["API-Key"]) == ("/graphql", KEY)
    assert said == ["marker newrelic (finish): taken"]


@pytest.mark.parametrize(
    ("kind", "reply", "says"),
    [
        ("grafana", Reply(403, body=KEY), "not taken: it answered 403"),
        ("grafana", Reply(302, {"Location": "/elsewhere"}), "not taken: it answered 302"),
        ("datadog", Reply(cut=True), "not taken: broken connection"),
        ("newrelic", Reply(body=json.dumps({"errors": [{"message": KEY}]})), "not taken: New Relic names errors"),
        ("newrelic", Reply(body="<html>"), "not taken: JSONDecodeError"),
    ],
)
def test_what_is_not_taken_is_one_line_without_the_key(kind, reply, says):
    asked, (said,) = send(kind, reply)
    assert said.startswith(f"marker {kind} (finish): {says}")
    assert (len(asked), KEY in said) == (1, False)


def test_a_connection_that_is_missing_sends_nothing():
    def missing(name):
        raise SecretMissing("no such connection", part=name, next_step="add it")

    asked, said = send("grafana", secrets=missing)
    assert (asked, said) == ([], ["marker grafana (finish): not sent: key: no such connection; add it"])


def test_several_that_hang_take_three_seconds_together():
    said = []
    with Site(lambda _: Reply(hang=8)) as site:
        began = time.monotonic()
        marked([marker("grafana", site.url)] * 3, secrets, MARK, said.append)()
    assert time.monotonic() - began < 4
    assert said
    assert not any("taken" in line and "not taken" not in line for line in said)


def test_only_who_moved_the_traffic_marks_and_a_webhook_that_breaks_keeps_it_not():
    world = claimed()
    shift(world.ports(), world.release, "canary_1", 10, world.release.epoch)

    def broken(_):
        raise OSError

    with Site(lambda _: Reply()) as site:
        tell = telling(broken, [marker("grafana", site.url)], secrets, world.said.append)
        for by in ("watch", "safe"):
            restore(replace(world.ports(), tell=tell), "it failed", by, world.release.run)
    (asked,) = site.asked
    assert json.loads(asked.body)["tags"][-1] == "event:restore"
    assert world.splits() == {"100/0"}
