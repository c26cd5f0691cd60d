"""One release, end to end: good, bad, dry, refused, rolled back. The fixture holds that no request failed by it."""

from __future__ import annotations

import time

import pytest
import requests

from demo.rest import ApiError
from demo.shop import BAD
from tests.system.conftest import eventually


def live(stack):
    status = stack.status()
    return status["live"], status["deployed"][status["live"]]["version"]


def test_a_good_version_goes_live_and_the_note_says_so(stack):
    idle = {"blue": "green", "green": "blue"}[live(stack)[0]]
    run = stack.release()
    assert run.ended() == "success", run.note()
    assert live(stack) == (idle, run.version)
    assert stack.phase() == "settled"
    assert run.note().startswith(f"promoted: admin: {run.version} is live on {idle}")
    assert set(run.tasks().values()) == {"success", "skipped"}
    assert run.tasks()["rollback"] == "skipped"


def test_a_version_that_fails_under_traffic_puts_itself_back(stack):
    before = live(stack)
    run = stack.release(BAD, canary_watch="60s")
    assert run.ended() == "failed"
    assert live(stack) == before
    assert stack.phase() == "restored"
    assert "NOT promoted: shop: canary_1_watch: error_rate" in run.note()
    assert run.tasks()["switch"] == "upstream_failed"
    end = stack.api.xcom(stack.dag, run.run_id, "canary_1_watch", "end")
    assert end["restored"]["outcome"] == "restored"  # by the trigger itself, not by the rollback task


def test_a_version_that_does_not_start_never_gets_traffic(stack):
    before = live(stack)
    run = stack.release("1.6.2-crash")
    assert run.ended() == "failed"
    assert live(stack) == before
    assert run.tasks()["deploy"] == "failed"
    assert run.tasks()["canary_1"] == "upstream_failed"
    assert "crash-on-start" in run.log("deploy")
    assert stack.phase() == "restored"


def test_a_dry_run_shows_the_exact_changes_and_touches_nothing(stack):
    before = stack.status()
    run = stack.release(dry_run=True)
    assert run.ended() == "success"
    changes = stack.api.xcom(stack.dag, run.run_id, "plan", "changes")
    epoch = int(before["stamp"]["epoch"])
    assert any(line.startswith(f"epoch {epoch + 3}: write") and "switched" in line for line in changes), changes
    assert stack.status()["stamp"] == before["stamp"]


def test_steps_that_are_left_out_with_a_reason_are_skipped(stack):
    run = stack.release(skip=["prewarm", "canary"], skip_reason="hotfix 4711")
    assert run.ended() == "success", run.note()
    assert {t: s for t, s in run.tasks().items() if s == "skipped"}.keys() >= {"prewarm", "canary_1", "canary_1_watch"}
    assert "hotfix 4711" in run.log("prewarm")


def test_leaving_out_without_a_reason_is_refused(stack):
    run = stack.release(skip=["smoke"])
    assert run.ended() == "failed"
    assert "has no reason" in run.note()


def test_a_version_that_is_live_already_is_refused_before_anything_is_touched(stack):
    before = stack.status()
    run = stack.release(live(stack)[1])
    assert run.ended() == "failed"
    assert "is live already" in run.note()
    assert stack.status()["stamp"] == before["stamp"]


@pytest.mark.parametrize(
    ("conf", "sentence"),
    [
        ({}, "Invalid input for param version: No value passed"),
        ({"version": ""}, "Invalid input for param version: '' should be non-empty"),
        ({"version": 15}, "Invalid input for param version: 15 is not of type 'string'"),
        ({"version": "1 5"}, "Invalid input for param version: '1 5' does not match"),
        ({"version": "9", "canary": [101]}, "101 is greater than the maximum of 99"),
        ({"version": "9", "canary": [5, 50]}, "[5, 50] is too long"),
        ({"version": "9", "canary": "10"}, "'10' is not of type 'array'"),
        ({"version": "9", "skip": ["deploy"]}, "'deploy' is not one of"),
        ({"version": "9", "watch": "soon"}, "'soon' does not match"),
        ({"version": "9", "dry_run": "yes"}, "'yes' is not of type 'boolean'"),
    ],
)
def test_wrong_params_answer_4xx_with_a_sentence(stack, conf, sentence):
    with pytest.raises(ApiError) as refused:
        stack.api.trigger(stack.dag, conf)
    assert refused.value.status == 400
    assert sentence in refused.value.detail


def test_without_a_token_nothing_starts(stack):
    answer = requests.post(
        f"{stack.airflow.url}/api/v2/dags/{stack.dag}/dagRuns", json={"logical_date": None}, timeout=10
    )
    assert answer.status_code == 401


def test_a_second_release_waits_for_the_first(stack):
    first = stack.release()
    second = stack.release()
    first.reaches("canary_1_watch", "deferred")
    assert stack.api.run(stack.dag, second.run_id)["state"] == "queued"
    assert first.ended() == "success", first.note()
    assert second.ended() == "success", second.note()
    assert live(stack)[1] == second.version


def rollback(stack, reason="the test asks"):
    run = stack.api.trigger("rollback__shop", {"reason": reason})["dag_run_id"]
    return stack.end_of("rollback__shop", run)["state"]


def test_a_rollback_during_the_canary_stops_the_release(stack):
    before = live(stack)
    run = stack.release(canary_watch="5m")
    run.reaches("canary_1_watch", "deferred")
    assert rollback(stack) == "success"
    assert live(stack) == before
    assert run.ended() == "failed"
    assert live(stack) == before
    assert "the test asks" in stack.status()["stamp"]["why"]


def test_a_rollback_before_the_first_shift_means_stop_and_stay(stack):
    before = live(stack)
    run = stack.release()
    run.reaches("deploy", "running")
    assert rollback(stack) == "success"
    assert run.ended() == "failed"
    assert live(stack) == before
    assert "finished: start a new release" in run.note() or "finished:" in run.note()


def test_a_rollback_after_the_release_goes_back_and_a_second_one_is_refused(stack):
    before = live(stack)
    run = stack.release()
    assert run.ended() == "success", run.note()
    assert rollback(stack) == "success"
    assert live(stack) == before
    assert rollback(stack) == "failed"
    assert stack.api.runs("rollback__shop", limit=1)[0]["note"].startswith("NOT rolled back: shop: ")
    assert live(stack) == before


def test_a_rollback_comes_through_while_every_worker_slot_is_taken(stack):
    before = live(stack)
    run = stack.release(canary_watch="5m")
    run.reaches("canary_1_watch", "deferred")
    sleepers = stack.api.trigger("sleepers")["dag_run_id"]
    eventually(
        lambda: sum(t["state"] == "running" for t in stack.api.task_instances("sleepers", sleepers)) >= 3, "sleepers"
    )
    time.sleep(1)
    assert rollback(stack) == "success"
    assert live(stack) == before
    assert stack.api.run("sleepers", sleepers)["state"] == "running"  # it did not wait for them
    stack.api.mark_run("sleepers", sleepers, "failed")


def test_every_task_links_to_what_happened_and_to_the_entry(stack):
    run = stack.release(dry_run=True)
    run.ended()
    links = stack.api.links(stack.dag, run.run_id, "verdict")
    assert links["What happened"].endswith(f"/runs/{run.run_id}/tasks/verdict")
    assert links["Entry"] == "http://shop.test"
