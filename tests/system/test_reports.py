"""Every run leaves a report whose figures agree with what the users' side saw; people are told once of each way back."""

from __future__ import annotations

import json
from datetime import UTC, datetime

from bluegreen.release.report_file import file_name
from demo.shop import BAD
from tests.rigs.webhook import SECRET


def report_of(stack, run_id, kind="release"):
    """Return both files of a run; the XCom says the same."""
    path = stack.airflow.home / "reports" / stack.shop.name / file_name(kind, run_id)
    told = json.loads(path.with_name(path.name + ".json").read_text())
    dag, task = (stack.dag, "verdict") if kind == "release" else ("rollback__shop", "rollback")
    assert stack.api.xcom(dag, run_id, task, "report") == told
    return told, path.with_name(path.name + ".md").read_text()


def seconds(text):
    return datetime.fromisoformat(text).timestamp()


def seen_by_load(stack, since, until, color):
    """Count what the load got from a color: answers that ended in the window, and the 5xx among them."""
    series = stack.load.wait_for_next().series
    ended = [
        r for r in stack.load.records() if since <= r.start + r.latency_s < until and series[r.series].color == color
    ]
    return len(ended), sum(r.status >= 500 for r in ended)


def agrees(stack, told, tolerance=30):
    """30 requests are 0.3 s of the load: what ran while the counters were asked for at both ends."""
    counted = told["requests"]
    since, until = seconds(counted["since"]), seconds(counted["until"])
    assert counted["nodes_unsure"] == []
    load = {color: seen_by_load(stack, since, until, color) for color in ("blue", "green")}
    ours = sum(c["requests"] for c in counted["colors"].values()) - counted["proofs"]
    assert abs(ours - sum(n for n, _ in load.values())) <= tolerance, (counted, load)
    assert ours > 300
    for color, counts in counted["colors"].items():
        assert abs(counts["errors"] - load[color][1]) <= 3, (counted, load)
    return counted


def posts(stack, run_id):
    return [told for told in stack.hook.got if told["run"] == run_id]


def test_a_good_release_and_its_rollback_leave_figures_that_agree_with_the_load(stack):
    before = stack.status()
    run = stack.release()
    assert run.ended() == "success", run.note()
    told, text = report_of(stack, run.run_id)
    assert (told["outcome"], told["by"], told["version"]) == ("promoted", "admin", run.version)
    assert [s["phase"] for s in told["shifts"]] == ["claimed", "canary", "switched", "settled"]
    assert [s["proof"]["says"] for s in told["shifts"][1:]] == ["proven"] * 3
    assert {node["node"] for node in told["shifts"][1]["proof"]["nodes"]} == {"lb1", "lb2"}
    assert [watch["says"] for watch in told["watches"]] == ["healthy", "healthy"]
    assert agrees(stack, told)["proofs"] >= 900  # 300 a node for the canary, 50 a node for switch, settle and safe
    assert told["steps"]["rollback"] == "skipped"
    assert told["way_back"] is None
    assert text.startswith(f"# promoted: admin: {run.version} is live on")
    assert posts(stack, run.run_id) == []

    back = stack.api.trigger("rollback__shop", {"reason": "checkout is broken"})["dag_run_id"]
    assert stack.end_of("rollback__shop", back)["state"] == "success"
    told, text = report_of(stack, back, "rollback")
    assert (told["outcome"], told["by"], told["now"]["live"]) == ("rolled back", "admin", before["live"])
    assert told["way_back"]["last_answer"]["known"], told["way_back"]
    assert text.startswith("# rolled back: checkout is broken\n\n**Now:** " + before["live"])
    (post,) = posts(stack, back)
    assert (post["event"], post["live"], post["by"]) == ("rolled_back", before["live"], "admin")


def test_a_bad_release_tells_its_last_bad_answer_as_the_load_saw_it_and_posts_once(stack):
    run = stack.release(BAD, canary=[50], canary_watch="60s")
    assert run.ended() == "failed"
    told, text = report_of(stack, run.run_id)
    assert [s["phase"] for s in told["shifts"]] == ["claimed", "canary", "restored"]
    agrees(stack, told)
    back = told["way_back"]
    assert back["by"] == "canary_1_watch"
    assert back["last_answer"]["known"], back
    saw = max(one.last_end for one in stack.load.wait_for_next().series if one.version == BAD)
    measured = seconds(back["last_answer"]["at"] or back["verdict_at"])
    assert abs(saw - measured) < 0.5, (back, datetime.fromtimestamp(saw, UTC))
    assert seconds(back["verdict_at"]) <= seconds(back["restored_at"])
    assert text.startswith("# NOT promoted: shop: canary_1_watch: error_rate")
    # Watch trigger, rollback task and teardown all confirmed it: the one that moved has told.
    before, post = posts(stack, run.run_id)
    assert (before["event"], before["by"], before["version"]) == ("unhealthy", "canary_1_watch", BAD)
    assert (post["event"], post["by"], post["was"], post["version"]) == ("restored", "canary_1_watch", "canary", BAD)
    for where in (*map(run.log, ("canary_1_watch", "rollback", "safe", "verdict")), json.dumps(told), text):
        assert SECRET not in where


def test_a_run_marked_failed_by_hand_leaves_its_report_and_posts_once(stack):
    run = stack.release(canary_watch="5m")
    run.reaches("canary_1_watch", "deferred")
    stack.api.mark_run(stack.dag, run.run_id, "failed")
    assert run.ended() == "failed"
    told, text = report_of(stack, run.run_id)
    assert (told["outcome"], told["reason"]) == ("not promoted", "the run was ended by hand")
    assert (told["way_back"]["by"], told["way_back"]["outcome"]) == ("safe", "restored")
    assert told["steps"]["switch"] == "skipped"
    assert "NOT promoted: the run was ended by hand" in text
    (post,) = posts(stack, run.run_id)
    assert (post["event"], post["by"]) == ("restored", "safe")


def test_a_dry_run_and_a_refused_one_leave_theirs(stack):
    dry = stack.release(dry_run=True)
    assert dry.ended() == "success"
    told, _ = report_of(stack, dry.run_id)
    assert told["outcome"] == "dry run"
    assert any("switched" in line for line in told["changes"])
    refused = stack.release(skip=["smoke"])
    assert refused.ended() == "failed"
    told, text = report_of(stack, refused.run_id)
    assert "has no reason" in told["reason"]
    assert "**Nothing was written to the router.**" in text
    assert posts(stack, dry.run_id) + posts(stack, refused.run_id) == []
