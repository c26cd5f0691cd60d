"""What the Airflow edge tells people: that somebody is asked, a conflict, and a run that hangs."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from datetime import timedelta

import pytest

from bluegreen.core.colors import Color
from bluegreen.core.errors import NotServing, TrafficConflict
from tests.dags.test_approvals import approver, asked, holder, left
from tests.dags.test_approvals import world as approving  # noqa: F401 - a fixture
from tests.dags.test_integrity import parsed, services
from tests.dags.test_operators import context
from tests.unit.release.test_events import Told
from tests.unit.release.world import claimed


@pytest.fixture
def told():
    return Told()


def test_people_who_are_asked_are_told_so_once(approving, told, monkeypatch):  # noqa: F811 - the fixture
    ports = replace(approving.ports(), tell=told)
    monkeypatch.setattr("bluegreen.operators.approve.ports_for", lambda *_: ports)
    held = holder().execute(context(left(approving)))
    asked(approver(), context(left(approving, hold=held)), monkeypatch)
    (notice,) = told
    assert (notice.event, notice.by, notice.was, notice.version) == ("waiting", "approve_switch", "held", "2")
    assert notice.why.endswith("Until 12:30:00 UTC: bob")
    assert notice.release == approving.release.release


@pytest.fixture
def taken(told, monkeypatch):
    """A release that another one has taken the service from."""
    world = claimed()
    plan = world.release
    for node in world.nodes:
        node.stamp = replace(node.stamp, epoch=node.stamp.epoch + 1, release="run-9@9")
    monkeypatch.setattr("bluegreen.edge.ports_for", lambda *_: replace(world.ports(), tell=told))
    return plan


def test_a_conflict_of_a_release_is_told_and_fails_the_task(taken, told):
    from airflow.sdk.exceptions import AirflowFailException

    from bluegreen.edge import airflow_errors

    found = context({("plan", "return_value"): taken.as_json()})
    with pytest.raises(AirflowFailException), airflow_errors(found):
        raise TrafficConflict("run-9@9 holds it", service="shop", part="router", next_step="look")
    (notice,) = told
    assert (notice.event, notice.run, notice.release) == ("conflict", "run-1", taken.release)
    with pytest.raises(AirflowFailException), airflow_errors(found):
        raise NotServing("is dead", service="shop", part=Color.BLUE, next_step="look")
    assert len(told) == 1


def test_a_conflict_of_a_run_that_never_claimed_is_not_told(taken, told):
    from airflow.sdk.exceptions import AirflowFailException

    from bluegreen.edge import airflow_errors

    with pytest.raises(AirflowFailException), airflow_errors(context()):
        raise TrafficConflict("held by run-9@9", service="shop", part="plan", next_step="wait")
    assert told == []


def test_telling_of_a_conflict_never_hides_it(taken, monkeypatch):
    from airflow.sdk.exceptions import AirflowFailException

    from bluegreen.edge import airflow_errors

    def broken(*_):
        raise OSError("disk")

    monkeypatch.setattr("bluegreen.edge.ports_for", broken)
    found = context({("plan", "return_value"): taken.as_json()})
    with pytest.raises(AirflowFailException, match="run-9@9 holds it"), airflow_errors(found):
        raise TrafficConflict("run-9@9 holds it", service="shop", part="router", next_step="look")


def test_a_deadline_stands_in_the_dag_as_airflow_keeps_it(tmp_path, monkeypatch):
    from airflow.serialization.serialized_objects import DagSerialization

    services(tmp_path, shop={"release": {"deadline": "2h"}}, pay={})
    monkeypatch.setenv("BLUEGREEN_SERVICES", str(tmp_path))
    bag = parsed()
    assert bag.import_errors == {}
    assert bag.dags["release__pay"].deadline is None
    (alert,) = bag.dags["release__shop"].deadline
    assert alert.interval == timedelta(hours=2)
    assert alert.callback.path == "bluegreen.triggers.overdue.tell_people"
    assert alert.callback.kwargs == {"service": "shop", "after": "2h"}
    assert "tell_people" in json.dumps(DagSerialization.to_dict(bag.dags["release__shop"]))
    assert all(dag.deadline is None for name, dag in bag.dags.items() if not name.startswith("release__"))


def test_what_the_deadline_calls_tells_the_services_channels(told, tmp_path, monkeypatch):
    from airflow.triggers.callback import CallbackTrigger

    world = claimed()
    services(tmp_path, shop={})
    monkeypatch.setenv("BLUEGREEN_SERVICES", str(tmp_path))
    monkeypatch.setattr("bluegreen.triggers.overdue.ports_for", lambda *_: replace(world.ports(), tell=told))
    kwargs = {"service": "shop", "after": "2h", "context": {"dag_run": {"dag_run_id": "run-1"}}}

    async def said():
        trigger = CallbackTrigger("bluegreen.triggers.overdue.tell_people", kwargs)
        return [event.payload async for event in trigger.run()]

    assert asyncio.run(said())[-1] == {"state": "success", "body": "run-1"}
    (notice,) = told
    assert (notice.event, notice.was, notice.release) == ("overdue", "claimed", world.release.release)
    assert "not ended 2h after it was asked for" in notice.why
