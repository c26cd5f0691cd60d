"""A human in the middle, on a real Airflow under load: yes, no, silence, a stranger, a dead Airflow, a second release."""

from __future__ import annotations

import os
import re
import subprocess
import time
from datetime import UTC, datetime, timedelta

import pytest

from bluegreen.catalog.load import load_service
from bluegreen.core.env_secrets import EnvironmentSecrets
from bluegreen.release.plan import Request, plan
from bluegreen.release.wiring import ports_for
from demo.rest import AirflowApi, ApiError
from demo.shop import ROOT
from tests.system.conftest import eventually

TASKS = {"before_canary": "approve_canary", "before_switch": "approve_switch"}
# Airflow fails a task that is answered in its first second: scripts wait.
NOT_BEFORE = timedelta(seconds=2.5)


def live(stack):
    status = stack.status()
    return status["live"], status["deployed"][status["live"]]["version"]


@pytest.fixture
def asks(stack):
    """Let the service file ask people, and wait until Airflow has read it."""

    def write(concurrent="queue", deploy=None, **gates):
        service = stack.shop.service()
        release = service["release"] | {"approvals": gates, "concurrent": concurrent}
        stack.write(release=release, deploy=service["deploy"] | (deploy or {}))
        wanted = {TASKS[gate] for gate in gates}
        eventually(lambda: set(stack.api.task_ids(stack.dag)) & set(TASKS.values()) == wanted, "the DAG to ask")
        runs = 1 if concurrent == "queue" else 2
        eventually(lambda: stack.api.get(f"dags/{stack.dag}")["max_active_runs"] == runs, "the DAG's runs")

    return write


def as_user(stack, name):
    return AirflowApi(stack.airflow.url, *stack.airflow.logins[name])


def waits(run, task):
    """Wait until a task asks, and may be answered; returns the question."""
    run.reaches(task, "awaiting_input")
    asked = run.stack.api.question(run.stack.dag, run.run_id, task)
    created = datetime.fromisoformat(asked["created_at"])
    time.sleep(max(0.0, (created + NOT_BEFORE - datetime.now(UTC)).total_seconds()))
    return asked


def answer(run, task, option, comment=None, user="release"):
    return as_user(run.stack, user).answer(run.stack.dag, run.run_id, task, option, comment)


def left(run, task):
    return run.stack.api.xcom(run.stack.dag, run.run_id, task)


def test_everybody_says_yes_and_the_release_goes_live(stack, asks):
    asks(before_canary={"by": ["release"]}, before_switch={"by": ["release", "admin"], "deadline": "5m"})
    idle = {"blue": "green", "green": "blue"}[live(stack)[0]]
    run = stack.release()
    asked = waits(run, "approve_canary")
    assert (stack.phase(), stack.status()["live"]) == ("claimed", live(stack)[0])
    assert asked["subject"] == f"shop {run.version}: 10 % of the traffic?"
    assert f"{idle} runs `{run.version}`, 2 of 2 targets are healthy" in asked["body"]
    assert "prewarming: 300 requests, 0 failed" in asked["body"]
    answer(run, "approve_canary", "Approve", "the tests look well")
    asked = waits(run, "approve_switch")
    assert stack.phase() == "held"
    assert "its watch: **healthy**" in asked["body"]
    assert "UTC: release, admin" in stack.status()["stamp"]["why"]
    answer(run, "approve_switch", "Approve", "go")
    assert run.ended() == "success", run.note()
    assert live(stack) == (idle, run.version)
    given = left(run, "approve_switch")
    assert (given["chosen"], given["by"], given["comment"]) == ("Approve", "release", "go")
    assert left(run, "approve_canary")["comment"] == "the tests look well"


def test_a_no_before_the_switch_puts_the_canary_back(stack, asks):
    asks(before_switch={"by": ["release"]})
    before, run = live(stack), stack.release()
    waits(run, "approve_switch")
    answer(run, "approve_switch", "Reject", "checkout is too slow")
    assert run.ended() == "failed"
    assert run.note().startswith("NOT promoted: shop: approve_switch: refused by release: checkout is too slow")
    assert (live(stack), stack.phase()) == (before, "restored")
    assert (run.tasks()["approve_switch"], run.tasks()["switch"]) == ("failed", "upstream_failed")
    assert left(run, "approve_switch")["chosen"] == "Reject"


def test_a_no_before_the_canary_leaves_all_traffic_where_it_is(stack, asks):
    asks(before_canary={})
    before, run = live(stack), stack.release()
    waits(run, "approve_canary")
    answer(run, "approve_canary", "Reject")
    assert run.ended() == "failed"
    assert "approve_canary: refused by release" in run.note()
    assert run.tasks()["canary_1"] == "upstream_failed"
    assert (live(stack), stack.phase()) == (before, "restored")


def test_nobody_answers_and_the_traffic_goes_back(stack, asks):
    asks(before_switch={"by": ["release"], "deadline": "20s"})
    before, run = live(stack), stack.release()
    assert run.ended() == "failed"
    assert "approve_switch: nobody answered within 20s" in run.note()
    assert (live(stack), stack.phase()) == (before, "restored")
    assert left(run, "approve_switch")["by"] is None


def test_an_answer_of_one_who_may_not_changes_nothing(stack, asks):
    asks(before_switch={"by": ["release"]})
    run = stack.release()
    waits(run, "approve_switch")
    for stranger in ("admin", "viewer"):
        with pytest.raises(ApiError) as refused:
            answer(run, "approve_switch", "Approve", user=stranger)
        assert refused.value.status == 403
    assert (run.tasks()["approve_switch"], stack.phase()) == ("awaiting_input", "held")
    answered_as_the_manual_says(run)
    assert run.ended() == "success", run.note()
    assert left(run, "approve_switch")["comment"] == "looks well"


def answered_as_the_manual_says(run):
    """Run the lines of docs/operations.md for scripts, to the letter."""
    manual = (ROOT / "docs/operations.md").read_text()
    block = re.search(r"```sh\n(curl .*?)```", manual, re.DOTALL)[1]
    api = as_user(run.stack, "release")
    api.get("dags")
    token = api._session.headers["Authorization"].removeprefix("Bearer ")
    told = {"AIRFLOW_URL": run.stack.airflow.url, "RUN": run.run_id, "TOKEN": token}
    done = subprocess.run(
        ["bash", "-ec", block], env=os.environ | told, capture_output=True, text=True, check=False, timeout=30
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("state", ["success", "skipped"])
def test_an_approval_that_is_marked_by_hand_does_not_promote(stack, asks, state):
    asks(before_switch={"by": ["release"]})
    before, run = live(stack), stack.release()
    waits(run, "approve_switch")
    run.mark("approve_switch", state)
    assert run.ended() == "failed"
    assert "approve_switch holds no approval" in run.note()
    assert (live(stack), stack.phase()) == (before, "restored")


def test_all_of_airflow_dies_while_the_canary_is_held_and_the_guard_puts_it_back(stack, asks):
    asks(before_switch={"by": ["release"], "deadline": "30s"})
    before, run = live(stack), stack.release()
    run.reaches("approve_switch", "awaiting_input")
    stack.kill_airflow()
    assert stack.phase() == "held"
    assert "restored" not in stack.bluegreen("guard").stdout  # it is not the deadline yet
    eventually(lambda: "ran out" in stack.bluegreen("guard").stdout, "the deadline")
    assert live(stack) == before
    stack.start_airflow()
    assert run.ended() == "failed"
    assert (live(stack), stack.phase()) == (before, "restored")


def test_a_rollback_while_somebody_is_asked_wins_over_a_later_yes(stack, asks):
    asks(before_switch={"by": ["release"]})
    before, run = live(stack), stack.release()
    waits(run, "approve_switch")
    back = stack.api.trigger("rollback__shop", {"reason": "the phones ring"})["dag_run_id"]
    assert stack.end_of("rollback__shop", back)["state"] == "success"
    assert live(stack) == before
    assert run.tasks()["approve_switch"] == "awaiting_input"
    answer(run, "approve_switch", "Approve")
    assert run.ended() == "failed"
    assert "finished:" in run.note()
    assert live(stack) == before


def test_a_cleared_approval_of_a_release_that_is_over_asks_nobody(stack, asks):
    asks(before_switch={"by": ["release"]})
    before, run = live(stack), stack.release()
    waits(run, "approve_switch")
    answer(run, "approve_switch", "Reject")
    assert run.ended() == "failed"
    stack.api.clear_tasks(stack.dag, run.run_id, ["approve_switch"])
    run.reaches("approve_switch", "failed")
    assert "finished:" in run.log("approve_switch")
    assert run.ended() == "failed"
    assert live(stack) == before


def test_a_second_release_is_refused_by_the_name_of_the_first_and_harms_it_not(stack, asks):
    asks("refuse", before_canary={})
    first = stack.release()
    waits(first, "approve_canary")
    second = stack.release()
    assert second.ended() == "failed"
    assert f"held by {first.run_id}@" in second.note()
    answer(first, "approve_canary", "Approve")
    assert first.ended() == "success", first.note()
    assert live(stack)[1] == first.version


def test_a_hotfix_takes_over_while_the_first_waits_and_a_late_yes_moves_nothing(stack, asks):
    asks("supersede", before_canary={})
    first = stack.release()
    waits(first, "approve_canary")
    hotfix = stack.release()
    waits(hotfix, "approve_canary")
    answer(first, "approve_canary", "Approve")
    assert first.ended() == "failed"
    assert f"does not hold the service any more, {hotfix.run_id}@" in first.note()
    assert stack.phase() == "claimed"  # and the end of the first has not touched it
    answer(hotfix, "approve_canary", "Approve")
    assert hotfix.ended() == "success", hotfix.note()
    assert live(stack)[1] == hotfix.version


def test_a_hotfix_takes_over_in_the_middle_of_a_deploy_and_waits_for_its_end(stack, asks):
    slow = ["sh", "-c", 'sleep 5; exec "$@"', "slow", *stack.shop.service()["deploy"]["command"]]
    asks("supersede", deploy={"command": slow})
    first = stack.release()
    first.reaches("deploy", "running")
    hotfix = stack.release()
    assert hotfix.ended() == "success", hotfix.note()
    assert live(stack)[1] == hotfix.version
    assert first.ended() == "failed"
    assert f"does not hold the service any more, {hotfix.run_id}@" in first.note()


def test_a_claim_of_a_run_that_airflow_does_not_know_holds_nobody_up(stack, asks):
    asks("refuse")
    ports = ports_for(load_service(stack.shop.services_folder, "shop"), EnvironmentSecrets())
    plan(ports, Request(run="ghost", version=stack.version(), by="tests"))
    assert stack.status()["stamp"]["release"].startswith("ghost@")
    run = stack.release()
    assert run.ended() == "success", run.note()
    assert live(stack)[1] == run.version
