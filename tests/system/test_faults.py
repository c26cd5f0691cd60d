"""
Faults in the middle of a canary, on a real Airflow: whatever dies or is marked by hand, the traffic ends whole on a
color that serves, the run's state agrees with the router, and no request fails.
"""

from __future__ import annotations

import os
import signal
import time

import pytest

from tests.system.conftest import SHORT_LEASE, SLOW_PROOF, eventually


def truthful(stack, run, before, ends=("success", "failed")):
    """The run's state says what the router says, and is one of those."""
    state, status = run.ended(), stack.status()
    assert status["live"], status
    version = status["deployed"][status["live"]]["version"]
    if state == "success":
        assert (status["stamp"]["phase"], version) == ("settled", run.version), run.note()
    else:
        assert (status["stamp"]["phase"], (status["live"], version)) == ("restored", before), run.note()
    assert state in ends, run.note()


@pytest.fixture
def before(stack):
    status = stack.status()
    return status["live"], status["deployed"][status["live"]]["version"]


def in_canary(stack, **params):
    stack.write(**SLOW_PROOF)
    run = stack.release(**params)
    run.reaches("canary_1", "running")
    return run


def in_watch(stack, watch="5m", **changes):
    """``changes`` of the file's ``release`` section."""
    stack.write(release=stack.shop.service()["release"] | changes)
    run = stack.release(canary_watch=watch)
    run.reaches("canary_1_watch", "deferred")
    eventually(lambda: stack.phase() == "canary", "the canary")
    time.sleep(2)  # the trigger has begun
    return run


def processes_of(stack, run, task):
    pid = stack.api.task(stack.dag, run.run_id, task)["pid"]
    return next(found for found in stack.airflow.task_processes() if found.task == pid)


def test_kill_9_of_the_canary_task(stack, before):
    run = in_canary(stack)
    os.kill(processes_of(stack, run, "canary_1").task, signal.SIGKILL)
    truthful(stack, run, before, ["success"])  # the step is repeated, and knows its own write


def test_kill_9_of_the_worker(stack, before):
    run = in_canary(stack)
    os.kill(processes_of(stack, run, "canary_1").supervisor, signal.SIGKILL)
    truthful(stack, run, before)


def test_kill_9_of_the_triggerer_and_its_return(stack, before):
    run = in_watch(stack, "12s")
    stack.airflow.kill("triggerer")
    stack.airflow.start_component("triggerer")
    truthful(stack, run, before)


def test_kill_9_of_the_triggerer_for_good(stack, before):
    run = in_watch(stack, **SHORT_LEASE)
    stack.airflow.kill("triggerer")
    eventually(lambda: stack.phase() == "restored", "the guardian to restore")
    assert "guardian" in stack.status()["stamp"]["why"]
    assert stack.status()["live"] == before[0]
    stack.airflow.start_component("triggerer")
    truthful(stack, run, before, ["failed"])


def test_kill_9_of_the_scheduler_and_its_return(stack, before):
    run = in_watch(stack, "12s")
    stack.airflow.kill("scheduler")
    stack.airflow.start_component("scheduler")
    truthful(stack, run, before)


def test_kill_9_of_all_of_airflow_status_tells_the_truth_and_restore_puts_it_back(stack, before):
    run = in_watch(stack)
    stack.kill_airflow()
    status = stack.status()
    assert status["stamp"]["phase"] == "canary"
    assert status["live"] is None
    done = stack.bluegreen("restore", "shop", "--reason", "Airflow is down")
    assert "restored" in done.stdout, done.stderr
    assert stack.status()["live"] == before[0]
    stack.start_airflow()
    truthful(stack, run, before, ["failed"])


def test_the_guard_from_cron_restores_while_all_of_airflow_is_dead(stack, before):
    run = in_watch(stack, **SHORT_LEASE)
    stack.kill_airflow()
    assert "restored" not in stack.bluegreen("guard").stdout  # the lease still holds: nothing is done
    assert stack.phase() == "canary"
    eventually(lambda: "ran out" in stack.bluegreen("guard").stdout, "the lease to run out")
    assert stack.status()["live"] == before[0]
    stack.start_airflow()
    truthful(stack, run, before, ["failed"])


@pytest.mark.parametrize("state", ["failed", "success"])
def test_the_canary_task_is_marked_by_hand_while_it_runs(stack, before, state):
    run = in_canary(stack)
    run.mark("canary_1", state)
    truthful(stack, run, before, ["failed"])


def test_the_watch_is_marked_failed_by_hand(stack, before):
    run = in_watch(stack)
    run.mark("canary_1_watch", "failed")
    truthful(stack, run, before, ["failed"])


def test_the_watch_is_marked_success_by_hand_does_not_promote(stack, before):
    run = in_watch(stack)
    run.mark("canary_1_watch", "success")
    truthful(stack, run, before, ["failed"])
    assert "canary_1_watch left no healthy verdict" in run.note()


def test_the_watch_is_marked_success_by_hand_with_a_written_reason_promotes(stack, before):
    run = in_watch(stack)
    stack.api.add_xcom(stack.dag, run.run_id, "canary_1_watch", "promote", "ticket 4711, a known alarm")
    run.mark("canary_1_watch", "success")
    truthful(stack, run, before, ["success"])
    assert "ticket 4711" in run.note()


@pytest.mark.parametrize("state", ["failed", "success"])
@pytest.mark.parametrize("where", [in_canary, in_watch])
def test_the_run_is_marked_by_hand(stack, before, state, where):
    run = where(stack)
    stack.api.mark_run(stack.dag, run.run_id, state)
    eventually(lambda: stack.phase() == "restored", "the teardown")
    truthful(stack, run, before, ["failed"])


def test_the_canary_task_is_cleared_after_the_release_was_put_back(stack, before):
    run = in_watch(stack)
    run.mark("canary_1_watch", "failed")
    assert run.ended() == "failed"
    stack.api.clear_tasks(stack.dag, run.run_id, ["canary_1"])
    run.reaches("canary_1", "failed", "up_for_retry")
    assert "finished" in run.log("canary_1")
    truthful(stack, run, before)


def test_the_run_is_cleared_in_the_middle_of_its_canary(stack, before):
    run = in_watch(stack, "5s")
    stack.api.clear_run(stack.dag, run.run_id)
    truthful(stack, run, before)


def test_a_run_that_was_put_back_and_is_cleared_is_a_new_release(stack, before):
    run = in_watch(stack)
    run.mark("canary_1_watch", "failed")
    assert run.ended() == "failed"
    claimed = int(stack.status()["stamp"]["release"].rpartition("@")[2])
    stack.api.clear_run(stack.dag, run.run_id)
    eventually(lambda: int(stack.status()["stamp"]["release"].rpartition("@")[2]) > claimed, "a new claim")
    run.reaches("canary_1_watch", "deferred")
    run.mark("canary_1_watch", "failed")
    truthful(stack, run, before, ["failed"])


def test_the_dag_is_paused(stack, before):
    run = in_watch(stack, "10s", **SHORT_LEASE)
    stack.api.pause(stack.dag, paused=True)
    eventually(lambda: stack.phase() == "restored", "the guardian to restore")
    assert stack.status()["live"] == before[0]
    stack.api.pause(stack.dag, paused=False)
    truthful(stack, run, before, ["failed"])
    assert "guardian" in run.note()


def test_a_node_is_gone_when_the_release_begins(stack, before):
    stack.may_fail = True  # the load's own connections to the dead node
    stack.shop.nodes[1].stop()
    run = stack.release()
    assert run.ended() == "failed"
    assert "lb2" in run.note()
    stack.shop.nodes[1].start()
    assert stack.status()["live"] == before[0]


def test_a_node_dies_in_the_canary_and_comes_back_with_the_old_split(stack, before):
    stack.may_fail = True
    run = in_watch(stack)
    stack.shop.nodes[1].kill()
    run.mark("canary_1_watch", "failed")
    assert run.ended() == "failed"
    stack.shop.nodes[1].start()
    eventually(lambda: not stack.status()["faults"], "the guardian to bring the node up")
    truthful(stack, run, before, ["failed"])


def test_the_service_file_is_broken_by_an_edit(stack, before):
    run = in_watch(stack, "10s", **SHORT_LEASE)
    path = stack.shop.services_folder / "shop.yaml"
    path.write_text(path.read_text().replace("release:\n", "release:\n  canaries: []\n"))
    eventually(lambda: stack.phase() == "restored", "the guardian to restore")
    assert stack.status()["live"] == before[0]
    eventually(lambda: any("canaries" in text for text in stack.api.import_errors().values()), "the import error")
    stack.write()
    eventually(lambda: not stack.api.import_errors(), "the mended file")
    truthful(stack, run, before, ["failed"])
