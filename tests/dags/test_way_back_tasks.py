"""The tasks that put traffic back while everything around them is slow or broken."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bluegreen.core.errors import NotProven, RouterRefused, TrafficConflict
from bluegreen.core.evidence import Proof
from bluegreen.release.shift import settle, shift
from tests.dags.test_operators import context
from tests.unit.release.world import claimed

TASKS = ["RollbackOperator", "SafeOperator"]


@pytest.fixture
def world():
    return claimed()


def made(name, monkeypatch, ports):
    from bluegreen.operators import ending

    operator = getattr(ending, name)(task_id=name, service="shop")
    monkeypatch.setattr(type(operator), "way_back_ports", lambda *_: ports)
    return operator


@pytest.mark.parametrize("name", TASKS)
def test_traffic_goes_back_although_airflow_tells_nothing_of_the_run(world, monkeypatch, name):
    shift(world.ports(), world.release, "canary_1", 10, world.release.epoch)
    found = context()

    class Silent:
        @property
        def tasks(self):
            raise RuntimeError("API server: 500, database is locked")

    found["dag"] = Silent()
    assert made(name, monkeypatch, world.ports()).execute(found)["outcome"] == "restored"
    assert world.splits() == {"100/0"}
    assert world.nodes[0].stamp.why.startswith(f"{name}: the r")  # the release failed, the run ended


@pytest.mark.parametrize("name", TASKS)
@pytest.mark.parametrize("kind", [RouterRefused, TrafficConflict])
def test_whatever_a_router_says_the_way_back_is_tried_again(world, monkeypatch, name, kind):
    from airflow.sdk.exceptions import AirflowFailException

    shift(world.ports(), world.release, "canary_1", 10, world.release.epoch)
    ports, told = world.ports(), [kind("no", service="shop", next_step="wait")] * 99
    write = ports.router.shift

    def refuse(*arguments):
        if told:
            raise told.pop()
        return write(*arguments)

    monkeypatch.setattr(ports.router, "shift", refuse)
    with pytest.raises(Exception, match="no") as raised:
        made(name, monkeypatch, ports).execute(context())
    assert not isinstance(raised.value, AirflowFailException)  # which would not be tried again
    told.clear()
    assert made(name, monkeypatch, ports).execute(context())["outcome"] == "restored"


def test_a_proof_that_fails_once_does_not_end_the_safety_net(world, monkeypatch):
    from airflow.sdk.exceptions import AirflowFailException

    settle(world.ports(), world.release, shift(world.ports(), world.release, "switch", 100, world.release.epoch).epoch)
    late = replace(world.ports(), prove=lambda split: Proof(str(split), False, "1 of 50 answers came too late"))
    with pytest.raises(Exception, match="1 of 50") as raised:
        made("SafeOperator", monkeypatch, late).execute(context())
    assert not isinstance(raised.value, AirflowFailException)
    assert NotProven.retryable is False  # everywhere else a person looks at once
    assert made("SafeOperator", monkeypatch, world.ports()).execute(context())["outcome"] == "finished"
