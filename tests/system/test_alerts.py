"""People hear of a release from a real Airflow: each event once, and of one that takes longer than its deadline."""

from __future__ import annotations

from bluegreen.core.notice import SEVERITY
from tests.rigs.webhook import SECRET
from tests.system.conftest import eventually

ALL = {"channels": [{"connection": "shop_hook", "events": list(SEVERITY)}]}


def told(stack, run_id):
    return [(post["event"], post["by"]) for post in stack.hook.got if post["run"] == run_id]


def test_a_good_release_tells_its_start_and_its_end(stack):
    stack.write(notify=ALL)
    run = stack.release()
    assert run.ended() == "success", run.note()
    assert told(stack, run.run_id) == [("started", "admin"), ("finished", "admin")]
    assert "webhook shop_hook was told (started)" in run.log("plan")
    assert SECRET not in run.log("plan") + run.log("finish")


def test_a_release_that_is_not_over_by_its_deadline_is_told_of_once_and_goes_on(stack):
    whole = stack.shop.service()["release"]
    stack.write(notify=ALL, release=whole | {"deadline": "2s"}, description="has a deadline")
    eventually(lambda: stack.api.get(f"dags/{stack.dag}")["description"] == "has a deadline", "Airflow to parse it")
    run = stack.release(canary_watch="25s")
    assert run.ended() == "success", run.note()
    events = told(stack, run.run_id)
    assert events.count(("overdue", "Airflow")) == 1, events
    assert events[-1] == ("finished", "admin")
    (post,) = [post for post in stack.hook.got if post["run"] == run.run_id and post["event"] == "overdue"]
    assert post["was"] in ("claimed", "canary"), post
    assert "not ended 2s after it was asked for" in post["why"]
