"""
What follows a release on a real Airflow: the old color is kept, then retired by itself; and roles, real processes, that
go with the traffic and back with it.
"""

from __future__ import annotations

from datetime import datetime

import pytest

from bluegreen.core.colors import Color
from tests.rigs.deploy_targets import Processes
from tests.system.conftest import eventually

RETIRE = "retire__shop"


@pytest.fixture
def before(stack):
    status = stack.status()
    return Color(status["live"]), status["deployed"][status["live"]]["version"]


def write(stack, deploy=None, **release):
    sections = stack.shop.service()
    changes = {"deploy": sections["deploy"] | (deploy or {}), "release": sections["release"] | release}
    stack.write(**changes)


def retires_of(stack, run):
    """The retire's runs that a release has started."""
    return [found for found in stack.api.runs(RETIRE) if run.run_id in found["dag_run_id"]]


def version_on(stack, color):
    return stack.status()["deployed"][color]["version"]


def test_the_old_color_is_retired_by_itself_and_then_there_is_no_way_back(stack, before):
    write(stack, keep_old="30s")
    run = stack.release()
    assert run.ended() == "success", run.note()
    assert "did not succeed" not in run.note()
    (waits,) = retires_of(stack, run)
    assert (waits["state"], version_on(stack, before[0])) == ("queued", before[1])
    kept = stack.status()["kept_until"]
    assert datetime.fromisoformat(waits["run_after"]) == datetime.fromisoformat(kept)
    assert f"to {before[0]} ({before[1]}), kept until" in stack.bluegreen("status", "shop").stdout
    ended = stack.end_of(RETIRE, waits["dag_run_id"])
    late = datetime.fromisoformat(ended["start_date"]) - datetime.fromisoformat(waits["run_after"])
    print(f"the run that waited began {late.total_seconds():.2f} s after its time")  # noqa: T201 - a figure for people
    assert (ended["state"], late.total_seconds() >= 0) == ("success", True)
    status = stack.status()
    assert (status["stamp"]["back_to"], status["deployed"][before[0]]["ready"], status["faults"]) == ("-", 0, [])
    assert stack.phase() == "settled"

    back = stack.api.trigger("rollback__shop", {"reason": "too late"})["dag_run_id"]
    assert stack.end_of("rollback__shop", back)["state"] == "failed"
    sentence = (
        f"retired {before[1]} on {before[0]}: admin: keep_old (30s) is over; release the version you want instead"
    )
    assert sentence in stack.api.task_log("rollback__shop", back, "rollback")
    assert version_on(stack, before[0].other) == run.version


def test_a_later_release_leaves_nothing_to_retire_for_the_one_before(stack, before):
    write(stack, keep_old="45s")
    first = stack.release()
    assert first.ended() == "success", first.note()
    (waits,) = retires_of(stack, first)
    write(stack, keep_old="1h")
    second = stack.release()
    assert stack.end_of(RETIRE, waits["dag_run_id"])["state"] == "success"
    assert stack.api.tasks(RETIRE, waits["dag_run_id"]) == {"retire": "skipped"}
    assert "another release came: nothing to retire" in stack.api.task_log(RETIRE, waits["dag_run_id"], "retire")
    assert second.ended() == "success", second.note()
    assert version_on(stack, before[0].other) == first.version  # the way back of the second one


@pytest.fixture
def processes(stack, before, tmp_path):
    """A worker and a cron job that run on the live color, as somebody started them, and a service file that names them."""
    with Processes(tmp_path) as processes:
        for role in ("worker", "cron"):
            processes.start(role, *before)
        fence = {"fence": str(tmp_path / "fences")}  # nobody has moved them yet
        write(stack, {"roles": processes.section("2s")} | fence)
        yield processes


def where(processes):
    return processes.runs("worker"), processes.runs("cron")


def test_roles_move_at_the_switch_and_back_with_the_traffic_even_late(stack, before, processes):
    live, idle = before[0], before[0].other
    run = stack.release(watch="5m")
    run.reaches("canary_1_watch", "deferred")
    assert where(processes) == ({live}, {live})
    run.reaches("watch", "deferred")
    assert where(processes) == ({idle}, {idle})
    assert f"start worker on {idle} {run.version}" in processes.moves()
    processes.stick("worker", idle)
    run.mark("watch", "failed")
    eventually(lambda: stack.phase() == "restored", "the traffic to go back, whatever the worker does")
    eventually(lambda: processes.runs("cron") == {live}, "the cron job to go back, whatever the worker does")
    assert processes.runs("worker") == {idle}
    processes.stick("worker", idle, sticks=False)
    eventually(lambda: where(processes) == ({live}, {live}), "the worker to go back")
    assert run.ended() == "failed"
    assert f"start worker on {live} {before[1]}" in processes.moves()


def test_a_worker_that_does_not_stop_puts_the_release_back_and_the_note_says_it(stack, before, processes):
    live = before[0]
    processes.stick("worker", live)
    run = stack.release()
    assert run.ended() == "failed"
    assert f"shop: worker on {live}: deploy.roles.worker.stop: " in run.note()
    assert "did not end within 2 s and was killed" in run.note()
    assert (stack.status()["live"], stack.phase()) == (live, "restored")
    assert where(processes) == ({live}, {live})
    assert not any(f"start worker on {live.other}" in move for move in processes.moves())
