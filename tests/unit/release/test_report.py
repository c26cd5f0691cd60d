"""The report, from parts as the steps leave them: real values of the use cases, through JSON as XCom holds them."""

from __future__ import annotations

import asyncio
import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from bluegreen.core.colors import Color
from bluegreen.core.evidence import NodeProof, Proof
from bluegreen.release import last_answer
from bluegreen.release.adopt import adopt
from bluegreen.release.drain import drain
from bluegreen.release.last_answer import looked_at, looked_at_beside
from bluegreen.release.plan import dry_run, plan
from bluegreen.release.report import LARGEST, Ran, Step, report
from bluegreen.release.report_file import VARIABLE, file_name, reports_folder, write
from bluegreen.release.report_text import markdown
from bluegreen.release.restore import restore
from bluegreen.release.rollback import rollback
from bluegreen.release.shift import settle, shift
from bluegreen.release.tally import tally
from bluegreen.release.watch import watch
from tests.rigs.people import as_nobody
from tests.unit.release.test_watch import RealTime, canary
from tests.unit.release.world import World, claimed, request


def as_xcom(value):
    return json.loads(json.dumps(value, default=str))


def ran(outcome, reason, release=None, reading=None, **more):
    return Ran(
        kind=more.pop("kind", "release"),
        service="shop",
        run=more.pop("run", release.run if release else "run-1"),
        outcome=outcome,
        reason=reason,
        by="ann",
        plan=as_xcom(release.as_json()) if release else None,
        reading=as_xcom(reading.as_json()) if reading else None,
        **more,
    )


@pytest.fixture
def world():
    return claimed()


@pytest.fixture
def good(world):
    """A release that went well."""
    ports, release = world.ports(), world.release
    first = shift(ports, release, "canary_1", 10, release.epoch)
    second = shift(ports, release, "switch", 100, first.epoch)
    done = settle(ports, release, second.epoch)
    counted = {"at": "2026-11-23T12:00:00+00:00", "nodes": {"one": {"blue": {"requests": 1000, "errors": 2}}}}
    counted["nodes"]["one"]["green"] = {"requests": 50, "errors": 0}
    ended = json.loads(json.dumps(counted))
    ended["nodes"]["one"]["blue"]["requests"] += 400
    ended["nodes"]["one"]["green"] = {"requests": 350, "errors": 3}
    steps = [
        Step("plan", "success"),
        Step("prewarm", "skipped", left_out="hotfix 4711"),
        Step("approve_canary", "success", {"chosen": "Approve", "by": "bob", "at": "12:00", "comment": "go"}),
        Step("canary_1", "success", as_xcom(first.as_json())),
        Step("switch", "success", as_xcom(second.as_json())),
        Step("watch", "success", by_hand="watch without a verdict: I saw it myself"),
        Step("finish", "success", as_xcom(done.as_json() | {"drained": drain(ports, Color.BLUE).as_json()})),
    ]
    return report(
        ran("promoted", "2 is live", release, ports.router.read(), begun=counted, ended=ended, written="x"), steps
    )


def test_a_good_release_tells_each_shift_its_counts_and_its_people(good):
    told = good.as_json()
    assert (told["schema"], told["outcome"], told["version"], told["old_version"]) == (1, "promoted", "2", "1")
    rows = [(s["phase"], s["split"], s["by"]) for s in told["shifts"]]
    assert rows == [
        ("claimed", "100/0", "plan"),
        ("canary", "90/10", "canary_1"),
        ("switched", "0/100", "switch"),
        ("settled", "0/100", "finish"),
    ]
    epochs = [s["epoch"] for s in told["shifts"]]
    assert epochs == list(range(epochs[0], epochs[0] + 4))
    assert all(s["at"].startswith("2026-11-23T12:00:00") for s in told["shifts"])
    assert [s["proof"] and s["proof"]["says"] for s in told["shifts"]] == [None, "proven", "proven", "proven"]
    assert told["requests"]["colors"] == {
        "blue": {"requests": 400, "errors": 0},
        "green": {"requests": 300, "errors": 3},
    }
    assert told["requests"]["nodes_unsure"] == []
    assert told["approvals"] == [
        {"step": "approve_canary", "chosen": "Approve", "by": "bob", "at": "12:00", "comment": "go"}
    ]
    assert told["by_hand"] == ["watch without a verdict: I saw it myself"]
    assert told["skipped"] == [{"step": "prewarm", "why": "hotfix 4711"}]
    assert told["drained"]["color"] == "blue"
    assert told["way_back"] is None
    assert (told["now"]["live"], told["now"]["versions"]["green"]) == ("green", "2")


def test_a_person_reads_how_it_ended_first_and_what_serves_second(good):
    lines = [line for line in markdown(good.as_json()).splitlines() if line]
    assert lines[0] == "# promoted: 2 is live"
    assert lines[1].startswith("**Now:** green (2) has all traffic; all nodes agree; settled at epoch")
    text = "\n".join(lines)
    assert "approve_canary: Approve by bob at 12:00: go" in text
    assert "left out prewarm: hotfix 4711" in text
    assert "| green | 300 | 3 | 1.00 % |" in text


def test_a_node_that_counted_anew_or_is_gone_makes_the_counts_unsure(world):
    counts = {"blue": {"requests": 9, "errors": 0}, "green": {"requests": 0, "errors": 0}}
    less = {"blue": {"requests": 8, "errors": 0}, "green": {"requests": 0, "errors": 0}}
    begun = {"at": "a", "nodes": {"one": counts, "two": counts, "three": counts}}
    ended = {"at": "b", "nodes": {"one": counts, "two": less}}
    told = report(ran("promoted", "x", world.release, begun=begun, ended=ended), []).as_json()
    assert told["requests"]["nodes_unsure"] == ["three", "two"]
    assert "**Not sure:** without three, two." in markdown(told)


@pytest.fixture
def bad():
    """A release whose canary failed: what the watch left, and what was measured beside it."""
    world = RealTime()
    ports, spec = canary(world, lasts=30)
    begun = tally(ports)
    world.errors[Color.GREEN] = 0.5
    end = as_xcom(asyncio.run(watch(ports, spec)).model_dump(mode="json"))
    again = as_xcom(restore(ports, "it failed", "rollback", spec.run).as_json())
    steps = [Step("canary_1_watch", "failed", None, end, "error_rate 50 %"), Step("rollback", "success", again)]
    steps.append(Step("switch", "upstream_failed"))
    made = Ran(
        "release", "shop", spec.run, "not promoted", "error_rate 50 %", "ann",
        plan={"release": spec.release, "epoch": spec.epoch - 1, "live": "blue", "idle": "green", "version": "2"},
        reading=as_xcom(ports.router.read().as_json()), begun=as_xcom(begun), ended=as_xcom(tally(ports)),
    )  # fmt: skip
    return report(made, steps).as_json()


def test_a_bad_release_tells_verdict_restored_and_last_bad_answer(bad):
    back = bad["way_back"]
    assert (back["outcome"], back["by"]) == ("restored", "canary_1_watch")
    assert back["verdict_at"] < back["restored_at"]
    assert back["last_answer"]["known"]
    assert back["last_answer"]["color"] == "green"
    assert [s["phase"] for s in bad["shifts"]] == ["claimed", "unknown", "restored"]  # no canary_1 told of it here
    assert bad["shifts"][2]["by"] == "canary_1_watch"
    (seen,) = bad["watches"]
    assert seen["says"] == "unhealthy"
    assert seen["colors"]["green"]["errors"] > 0
    assert bad["requests"]["colors"]["green"]["requests"] > 0
    assert bad["errors"] == [{"step": "canary_1_watch", "error": "error_rate 50 %"}]
    text = markdown(bad)
    assert text.startswith("# NOT promoted: error_rate 50 %\n\n**Now:** blue (1) has all traffic; all nodes agree")
    assert "| switch | upstream_failed |" in text


COUNTED = {color: {"requests": n, "errors": e} for color, n, e in (("blue", 882, 0), ("green", 108, 16))}
NOTHING = {color: {"requests": 0, "errors": 0} for color in COUNTED}


@pytest.mark.parametrize(
    ("colors", "sources", "seen"),
    [
        (NOTHING, {"pods": COUNTED}, "| pods: blue 882 (0 failed), green 108 (16 failed) |"),
        (COUNTED, {}, "| blue 882 (0 failed), green 108 (16 failed) |"),
        (COUNTED, {"pods": NOTHING}, "green 108 (16 failed); pods: blue 0 (0 failed), green 0 (0 failed) |"),
        (NOTHING, {}, "| blue 0 (0 failed), green 0 (0 failed) |"),
    ],
    ids=["a source only", "the router only", "both", "nobody"],
)
def test_a_watch_tells_who_counted_how_many_requests(bad, colors, sources, seen):
    watched = {**bad["watches"][0], "colors": colors, "sources": sources}
    assert seen in markdown({**bad, "watches": [watched]})


def test_where_the_router_counts_none_the_report_says_who_did(bad):
    silent = {**bad, "requests": None}
    assert "Not known: the router counted nothing" in markdown(silent)
    watched = {**bad["watches"][0], "colors": NOTHING, "sources": {"pods": COUNTED}}
    assert "what others counted stands with the watches" in markdown({**silent, "watches": [watched]})


def test_a_run_that_was_killed_names_the_write_that_no_step_told_of(world):
    ports, release = world.ports(), world.release
    shift(ports, release, "canary_1", 10, release.epoch)  # its task died before it could return
    restore(ports, "the run ended", "guardian", release.run)
    told = report(ran("not promoted", "by hand", release, ports.router.read()), [Step("canary_1", "failed")]).as_json()
    assert [(s["phase"], s["why"]) for s in told["shifts"]][1] == ("unknown", "its step was ended before it could tell")
    assert told["way_back"]["by"] == "guardian"
    assert told["way_back"]["restored_at"] == told["shifts"][-1]["at"]
    assert not told["way_back"]["last_answer"]["known"]
    assert "unknown: who restored did not look" in markdown(told)


def test_what_an_earlier_attempt_of_a_cleared_run_left_is_not_told(world):
    ports, first = world.ports(), world.release
    old = as_xcom(shift(ports, first, "canary_1", 10, first.epoch).as_json())
    restore(ports, "cleared", "tests", first.run)
    second = plan(ports, request())
    word = {"release": first.release, "says": "unhealthy", "restored": {"outcome": "restored", "at": "x", "says": "x"}}
    steps = [Step("canary_1", "failed", old), Step("canary_1_watch", "failed", None, word)]
    told = report(ran("not promoted", "x", second, ports.router.read()), steps).as_json()
    assert told["watches"] == []
    assert [s["phase"] for s in told["shifts"]] == ["claimed"]
    assert told["way_back"] is None


def test_a_dry_run_and_a_refused_run_say_that_nothing_was_written():
    world = World()
    adopt(world.ports(), "tests", "begin", "1")
    lines = dry_run(world.ports(), request())
    told = report(ran("dry run", "nothing was touched", version="2", changes=lines), []).as_json()
    assert told["changes"] == lines
    assert "**Nothing was written to the router.**" in markdown(told)
    refused = [Step("plan", "failed", error="version 1 is live already")]
    told = report(ran("not promoted", "version 1 is live already", reading=world.ports().router.read()), refused)
    assert told.as_json()["shifts"] == []
    assert markdown(told.as_json()).startswith("# NOT promoted: version 1 is live already")


def test_a_rollback_tells_what_moved_and_by_whom(world):
    ports, release = world.ports(), world.release
    settle(ports, release, shift(ports, release, "switch", 100, release.epoch).epoch)
    found, last = looked_at_beside(ports, lambda: rollback(ports, "back-1", "checkout is broken", "ann"))
    value = as_xcom(found.as_json() | {"last_answer": last.as_json()})
    made = ran("rolled back", "checkout is broken", kind="rollback", run="back-1", reading=found.reading)
    told = report(made, [Step("rollback", "success", value)]).as_json()
    assert (told["version"], told["old_version"], told["now"]["live"]) == ("2", "1", "blue")
    assert [(s["phase"], s["split"]) for s in told["shifts"]] == [("restored", "100/0")]
    assert told["way_back"]["last_answer"] == last.as_json()
    assert last.says == "none was counted after the restore began"


class Fading(RealTime):
    """Green answers on for a while after the traffic was taken from it."""

    def __init__(self, seconds, in_flight=0):
        super().__init__()
        self.seconds, self.running, self.left_at, self.last = seconds, in_flight, None, None

    def counter(self, node, color, n):
        found = super().counter(node, color, n)
        if color is Color.BLUE or node.split.share(color):
            return found
        now = self.ports().clock()
        self.left_at = self.left_at or now
        more = int(min(now - self.left_at, self.seconds) * 1000)
        return replace(found, requests=found.requests + more, in_flight=self.running)


def bad_canary(world):
    ports, spec = canary(world)

    async def back():
        return await asyncio.to_thread(restore, ports, "bad", "tests", spec.run)

    found, last = asyncio.run(looked_at(ports, back))
    return found, last


@pytest.mark.parametrize("seconds", [0.5, 1.4])
def test_the_last_answer_is_measured_after_the_restore_as_long_as_there_are_some(seconds):
    found, last = bad_canary(Fading(seconds))
    assert last.known
    assert seconds - 0.05 <= (last.at - found.at).total_seconds() <= seconds + 0.5


def test_requests_that_still_run_after_a_while_make_it_unsure(monkeypatch):
    monkeypatch.setattr(last_answer, "LONGEST", 1.5)
    _, last = bad_canary(Fading(0, in_flight=2))
    assert (last.known, last.says) == (False, "6 requests still ran on it 1.5 s after the restore")


def test_a_node_that_does_not_count_any_more_makes_it_unsure():
    world = RealTime()
    ports, spec = canary(world)
    world.flows = False
    _, last = looked_at_beside(ports, lambda: restore(ports, "bad", "tests", spec.run))
    assert (last.known, last.says) == (False, "not sure: one did not count all the time")


def test_a_router_that_does_not_count_says_so(world):
    class Dumb:
        def __init__(self, router):
            self.limits, self.read, self.shift, self.check = router.limits, router.read, router.shift, router.check

    shift(world.ports(), world.release, "canary_1", 10, world.release.epoch)
    ports = replace(world.ports(), router=Dumb(world.ports().router))
    found, last = looked_at_beside(ports, lambda: restore(ports, "bad", "tests", world.release.run))
    assert found.outcome == "restored"
    assert (last.known, last.says) == (False, "unknown: the router does not count")
    assert tally(ports)["nodes"] == {}


def test_a_restore_that_moved_nothing_waits_for_no_last_answer_and_one_that_fails_raises(world):
    ports = world.ports()
    restore(ports, "bad", "tests", world.release.run)
    assert looked_at_beside(ports, lambda: restore(ports, "bad", "tests", world.release.run))[1] is None
    with pytest.raises(ZeroDivisionError):
        looked_at_beside(ports, lambda: 1 / 0)


# -- the files


@pytest.fixture
def small(world):
    return report(ran("promoted", "x", world.release), [])


def test_both_files_are_written_whole_and_leave_nothing_beside_them(small, tmp_path):
    path = write(replace(small, run="manual__2026-11-23T12:00:00+00:00"), tmp_path / "reports")
    assert path.name == "manual__2026-11-23T12%3A00%3A00%2B00%3A00.md"
    assert sorted(p.suffix for p in path.parent.iterdir()) == [".json", ".md"]
    assert json.loads(path.with_suffix(".json").read_text())["run"] == "manual__2026-11-23T12:00:00+00:00"
    assert path.stat().st_mode & 0o777 == 0o644


def test_a_second_report_of_a_run_replaces_the_first(small, tmp_path):
    write(small, tmp_path)
    path = write(replace(small, reason="again"), tmp_path)
    assert "again" in path.read_text()
    assert len(list(path.parent.iterdir())) == 2


def test_a_write_that_breaks_leaves_the_old_file_and_nothing_else(small, tmp_path, monkeypatch):
    path = write(small, tmp_path)
    before = path.with_suffix(".json").read_text()

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        write(replace(small, reason="again"), tmp_path)
    assert path.with_suffix(".json").read_text() == before
    assert len(list(path.parent.iterdir())) == 2


def test_a_folder_that_cannot_be_written_is_an_error_of_the_operating_system(small, tmp_path):
    tmp_path.chmod(0o755)
    for parent in list(tmp_path.parents)[:3]:
        parent.chmod(0o755)
    with pytest.raises(Exception, match=r"PermissionError|Permission denied"):
        as_nobody(lambda: write(small, tmp_path / "reports"))


def test_no_two_runs_share_a_file():
    long = "x" * 240
    runs = [
        "a:b",
        "a+b",
        "a_b",
        "a%3Ab",
        ".",
        "..",
        ".hidden",
        "rollback@a",
        "rollback__a",
        "A",
        long + "1",
        long + "2",
    ]
    names = [file_name(kind, run) for run in runs for kind in ("release", "rollback")]
    assert len(set(names)) == len(names)
    assert all(len(name) < 240 and "/" not in name and not name.startswith(".") for name in names)
    assert file_name("release", "../../etc/passwd") == "%2E.%2F..%2Fetc%2Fpasswd"


def test_the_folder_is_named_or_beside_airflows_files(monkeypatch):
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.setenv("AIRFLOW_HOME", "/srv/airflow")
    assert reports_folder() == Path("/srv/airflow/reports")
    monkeypatch.setenv(VARIABLE, "/srv/reports")
    assert reports_folder() == Path("/srv/reports")


def test_a_report_of_a_hundred_nodes_is_cut_to_its_bound(world):
    nodes = tuple(NodeProof(f"node-{n}", {Color.BLUE: 45, Color.GREEN: 5}, {}) for n in range(300))
    done = shift(world.ports(), world.release, "canary_1", 10, world.release.epoch)
    done = replace(done, proof=Proof("90/10", True, "x" * 9000, nodes))
    steps = [Step(f"step_{n}", "success", as_xcom(done.as_json()), error="e" * 5000) for n in range(60)]
    told = report(ran("not promoted", "y" * 9000, world.release), steps).as_json()
    assert len(json.dumps(told)) <= LARGEST + 100
    assert told["shortened"]
    assert "Long lists and texts were cut." in markdown(told)
    assert not report(ran("promoted", "x", world.release), []).as_json()["shortened"]


def test_what_people_wrote_breaks_no_table_and_is_no_html(world):
    steps = [Step("deploy", "failed", error="a | b\n<script>alert(1)</script>")]
    text = markdown(report(ran("not promoted", "x", world.release), steps).as_json())
    assert "| deploy | failed | a \\| b &lt;script>alert(1)&lt;/script> |" in text
