"""The tasks about sessions and state: where they stand in a release, what they leave, and that no way back waits for them."""

from __future__ import annotations

import json
from contextlib import ExitStack

import pytest

from bluegreen.catalog.models import Service
from bluegreen.core.colors import Color
from bluegreen.release.report import Ran, Step, report
from bluegreen.release.report_text import markdown
from bluegreen.release.shift import settle, shift
from tests.dags.test_integrity import ASKING, parsed, services
from tests.dags.test_operators import context
from tests.rigs.session_app import PASSWORD, Memory, Signed
from tests.unit.release.test_sessions import JSON, USE, Shop, login
from tests.unit.release.world import SERVICE, claimed

SESSIONS = {"sessions": {"create": JSON, "use": USE}}
TRANSFER = {"type": "transfer", "transfer": ["true"], "check": ["true"], "reverse": ["true"]}


@pytest.fixture
def shop():
    with ExitStack() as stack:
        yield lambda *stores, **more: Shop(stack, *stores, **more)


def tasks(dag):
    return [task.task_id for task in dag.tasks][
        3 : -len(("outcome", "finish", "keep_old", "rollback", "safe", "verdict"))
    ]


def test_the_tasks_stand_where_the_service_file_has_the_sections_and_nowhere_else(tmp_path, monkeypatch):
    monkeypatch.setenv("BLUEGREEN_SERVICES", str(tmp_path))
    steps = {"canary": [{"share": 10}, {"share": 50}]}
    services(
        tmp_path,
        both=SESSIONS | {"state": TRANSFER, "release": ASKING | steps},
        whole=SESSIONS | {"release": {"canary": []}},
        less={"state": {"type": "stateless", "reason": "all of it is in Redis"}},
    )
    dags = parsed().dags
    assert tasks(dags["release__both"]) == [
        "smoke", "sessions", "approve_canary", "state_transfer", "canary_1", "canary_1_sessions", "canary_1_watch",
        "canary_2", "canary_2_watch", "hold", "approve_switch", "switch", "switch_sessions", "watch",
    ]  # fmt: skip
    assert tasks(dags["release__whole"]) == ["smoke", "sessions", "switch", "switch_sessions", "watch"]
    assert tasks(dags["release__less"]) == ["smoke", "canary_1", "canary_1_watch", "switch", "watch"]
    for task in dags["release__both"].tasks:
        assert task.doc_md
    watch = dags["release__both"].get_task("canary_1_watch")
    assert watch.upstream_task_ids == {"canary_1_sessions"}
    assert dags["release__both"].get_task("rollback").upstream_task_ids == {"outcome"}


def operator(one, monkeypatch, **more):
    from bluegreen.operators import stateful

    monkeypatch.setattr(stateful, "connection_secrets", login)
    monkeypatch.setattr(stateful.SessionsOperator, "ports", lambda *_: one.ports)
    return stateful.SessionsOperator(task_id="sessions", service="shop", **more)


def planned(plan, **more):
    return context(
        {("plan", "return_value"): plan.as_json()} | {(task, "return_value"): left for task, left in more.items()}
    )


def test_sessions_are_left_in_no_xcom(shop, monkeypatch):
    store = Memory()
    one = shop(store, store)
    made = planned(one.plan)
    value = operator(one, monkeypatch).execute(made)
    assert [line.count("is kept") for line in value["sessions"]] == [1, 1]
    told = json.dumps([value, made["ti"].pushed])
    assert not [secret for secret in (*store.users, PASSWORD) if secret in told]


def test_a_lost_session_fails_the_task_for_good_and_says_it_to_the_verdict(shop, monkeypatch):
    from airflow.sdk.exceptions import AirflowFailException

    one = shop(Signed("a"), Signed("b"))
    made = planned(one.plan)
    with pytest.raises(AirflowFailException, match="is lost on green"):
        operator(one, monkeypatch).execute(made)
    assert "is lost on green" in made["ti"].pushed["error"]


def test_after_a_canary_the_full_switch_tries_nothing_again(shop, monkeypatch):
    from airflow.sdk.exceptions import AirflowSkipException

    store = Memory()
    one = shop(store, store)
    made = planned(one.plan, switch={"epoch": 4}, canary_1={"epoch": 3})
    with pytest.raises(AirflowSkipException, match="tried after the first canary step"):
        operator(one, monkeypatch, shift="switch").execute(made)
    with pytest.raises(AirflowSkipException, match="canary_2 did not shift"):
        operator(one, monkeypatch, shift="canary_2", canary=1).execute(made)
    shift(one.ports, one.plan, "canary_1", 10, one.plan.epoch)
    assert len(operator(one, monkeypatch, shift="canary_1", canary=0).execute(made)["sessions"]) == 2


def test_what_is_allowed_stands_in_the_report(shop, monkeypatch):
    one = shop(Signed("a"), Signed("b"), sessions={"lost": "allow", "reason": "the secret leaked"})
    value = operator(one, monkeypatch).execute(planned(one.plan))
    told = report(Ran("release", "shop", "run-1", "promoted", "why", "ann"), [Step("sessions", "success", value)])
    assert len(told.as_json()["warnings"]) == 2
    assert "**Warning:** a session made on blue (through one) is lost on green" in markdown(told.as_json())
    assert "allowed: the secret leaked" in markdown(told.as_json())


@pytest.fixture
def world():
    return claimed()


@pytest.fixture
def stateful(world, tmp_path):
    """A plan whose state is brought back by a command that says so in a file."""

    def make(reverse="echo back >> reversed"):
        state = TRANSFER | {"reverse": ["sh", "-c", reverse], "cwd": str(tmp_path)}
        service = Service.model_validate(SERVICE.frozen() | {"state": state})
        return world.release.model_copy(update={"service": service})

    return make


def back(tmp_path):
    return (tmp_path / "reversed").read_text().count("back") if (tmp_path / "reversed").exists() else 0


def ending(world, monkeypatch, name, made):
    from bluegreen.operators import ending

    one = getattr(ending, name)(task_id=name, service="shop")
    monkeypatch.setattr(type(one), "way_back_ports", lambda *_: world.ports())
    return one.execute(made)


def test_that_a_transfer_began_is_known_however_it_ends(world, stateful, monkeypatch):
    from airflow.sdk.exceptions import AirflowFailException

    from bluegreen.operators.stateful import StateTransferOperator

    plan = stateful()
    monkeypatch.setattr(StateTransferOperator, "ports", lambda *_: world.ports(plan.service))
    monkeypatch.setattr("bluegreen.operators.stateful.transfer", lambda *_: 1 / 0)
    made = planned(plan)
    with pytest.raises((ZeroDivisionError, AirflowFailException)):
        StateTransferOperator(task_id="state_transfer", service="shop").execute(made)
    assert made["ti"].pushed["begun"] == plan.release


@pytest.mark.parametrize("begun", [True, False])
def test_state_comes_back_after_the_traffic_and_only_where_it_went_over(world, stateful, monkeypatch, tmp_path, begun):
    plan = stateful()
    shift(world.ports(), plan, "canary_1", 10, plan.epoch)
    made = planned(plan)
    if begun:
        made["ti"].left[("state_transfer", "begun")] = plan.release
    value = ending(world, monkeypatch, "RollbackOperator", made)
    assert (value["outcome"], value["warnings"], back(tmp_path)) == ("restored", [], int(begun))
    made["ti"].left[("rollback", "state_back")] = made["ti"].pushed.get("state_back")
    ending(world, monkeypatch, "SafeOperator", made)
    # Where rollback did it, the safety net does not do it again.
    assert back(tmp_path) == int(begun)


def test_state_stays_where_the_traffic_stranded(world, stateful, monkeypatch, tmp_path):
    plan = stateful()
    shift(world.ports(), plan, "switch", 100, plan.epoch)
    world.serve(Color.BLUE, ready=0)
    made = planned(plan)
    made["ti"].left[("state_transfer", "begun")] = plan.release
    assert ending(world, monkeypatch, "RollbackOperator", made)["outcome"] == "stranded"
    assert back(tmp_path) == 0


def test_where_only_the_safety_net_ran_it_brings_state_back(world, stateful, monkeypatch, tmp_path):
    plan = stateful()
    made = planned(plan)
    made["ti"].left[("state_transfer", "begun")] = plan.release
    ending(world, monkeypatch, "SafeOperator", made)
    assert back(tmp_path) == 1


def test_a_reverse_that_fails_is_told_and_keeps_no_traffic_from_its_way(world, stateful, monkeypatch):
    plan = stateful("echo no; exit 1")
    shift(world.ports(), plan, "canary_1", 10, plan.epoch)
    made = planned(plan)
    made["ti"].left[("state_transfer", "begun")] = plan.release
    value = ending(world, monkeypatch, "RollbackOperator", made)
    assert (value["outcome"], world.splits()) == ("restored", {"100/0"})
    assert value["warnings"][0].startswith("the traffic is on blue, but state.reverse failed")


def test_a_release_that_settled_brings_nothing_back_but_its_rollback_does(world, stateful, monkeypatch, tmp_path):
    from bluegreen.operators.way_back import RollbackNowOperator

    plan, ports = stateful(), world.ports()
    settle(ports, plan, shift(ports, plan, "switch", 100, plan.epoch).epoch)
    left = {("plan", "return_value"): plan.as_json(), ("state_transfer", "begun"): plan.release}
    made = context(left, reason="checkout is broken")
    ending(world, monkeypatch, "SafeOperator", made)
    assert back(tmp_path) == 0
    made["dag_run"].run_id, made["dag_run"].dag_id = "back-1", "rollback__shop"
    monkeypatch.setattr(RollbackNowOperator, "ports", lambda *_: ports)
    monkeypatch.setenv("BLUEGREEN_REPORTS", str(tmp_path / "reports"))
    value = RollbackNowOperator(task_id="rollback", service="shop").execute(made)
    assert (value["outcome"], back(tmp_path), world.runs[Color.BLUE]) == ("restored", 1, "1")
