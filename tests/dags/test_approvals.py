"""The operators that ask people: what is asked, what an answer does, and that nothing but a yes lets a shift run."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest

from bluegreen.catalog.models import Prewarm, Service
from bluegreen.core.colors import Color
from bluegreen.core.stamp import Phase
from bluegreen.release.adopt import adopt
from bluegreen.release.plan import plan
from bluegreen.release.restore import restore
from bluegreen.release.shift import shift
from tests.dags.test_operators import context
from tests.unit.release.world import SERVICE, World, request

ASKS = {"before_canary": {}, "before_switch": {"by": ["bob"], "deadline": "30m"}}
HEALTHY = {"says": "healthy", "release": "run-1@2"}
YES = {"chosen": "Approve", "by": "bob", "release": "run-1@2"}


@pytest.fixture
def world(monkeypatch):
    """A release whose canary has 10 %; every operator works on it."""
    made = World()
    service = Service.model_validate(SERVICE.frozen() | {"release": SERVICE.frozen()["release"] | {"approvals": ASKS}})
    adopt(made.ports(), "tests", "begin", "1")
    made.release = plan(made.ports(service), request())
    made.runs[Color.GREEN] = "2"
    made.canary = shift(made.ports(), made.release, "canary_1", 10, made.release.epoch)
    for module in ("base", "approve"):
        monkeypatch.setattr(f"bluegreen.operators.{module}.ports_for", lambda *_: made.ports())
    return made


def left(world, **more):
    return {
        ("plan", "return_value"): world.release.as_json(),
        ("canary_1", "return_value"): world.canary.as_json(),
        ("canary_1_watch", "return_value"): HEALTHY,
        **{(task, "return_value"): value for task, value in more.items()},
    }


def holder():
    from bluegreen.operators.approve import HoldOperator

    return HoldOperator(task_id="hold", service="shop", after=["plan", "canary_1"], watches=["canary_1_watch"])


def approver(gate="before_switch", task="approve_switch"):
    from bluegreen.operators.approve import ApproveOperator

    return ApproveOperator(task_id=task, service="shop", gate=gate, watches=["canary_1_watch"], retries=2)


def switcher():
    from bluegreen.operators.traffic import ShiftOperator

    after = ["plan", "canary_1", "hold"]
    return ShiftOperator(task_id="switch", service="shop", after=after, watches=["canary_1_watch"])


def asked(operator, found, monkeypatch):
    """Let an operator ask; returns what Airflow was given."""
    from airflow.sdk.exceptions import TaskAwaitingInput

    monkeypatch.setattr(
        "airflow.providers.standard.operators.hitl.upsert_hitl_detail", lambda **form: given.update(form)
    )
    given: dict = {}
    found["task_instance"] = SimpleNamespace(id="1")
    with pytest.raises(TaskAwaitingInput) as waits:
        operator.execute(found)
    return given | {"timeout": waits.value.timeout}


def event(chosen="Approve", user="bob", minutes=1, comment="fine"):
    return {
        "chosen_options": [chosen],
        "params_input": {"comment": comment} if comment else {},
        "responded_at": datetime(2026, 11, 23, 12, tzinfo=UTC) + timedelta(minutes=minutes),
        "responded_by_user": {"id": user, "name": user} if user else None,
    }


def answered(world, given, task="approve_switch", gate="before_switch"):
    """Let an operator go on with an answer; returns what it left."""
    until = (world.time + timedelta(minutes=30)).isoformat()
    found = context(left(world) | {(task, "asked"): {"until": until}})
    approver(gate, task).execute_complete(found, given)
    return found["ti"].pushed


def test_the_hold_says_until_when_and_the_question_ends_then_however_often_it_is_asked(world, monkeypatch):
    held = holder().execute(context(left(world)))
    assert held["until"] == "2026-11-23T12:30:00+00:00"
    assert held["reading"]["stamp"]["phase"] == "held"
    found = context(left(world, hold=held))
    assert asked(approver(), found, monkeypatch)["timeout"] == timedelta(minutes=30)
    world.wait(1000)
    form = asked(approver(), found, monkeypatch)
    assert form["timeout"] == timedelta(seconds=800)
    assert (form["options"], form["defaults"]) == (["Approve", "Reject"], ["Reject"])
    assert form["assigned_users"] == [{"id": "bob", "name": "bob"}]
    assert "no answer until **2026-11-23 12:30:00 UTC**" in form["body"]
    assert found["ti"].pushed["asked"]["until"] == held["until"]


def test_a_question_that_comes_after_its_deadline_is_not_asked(world, monkeypatch):
    from airflow.sdk.exceptions import AirflowFailException

    found = context(left(world, hold=holder().execute(context(left(world)))))
    world.wait(1801)
    with pytest.raises(AirflowFailException, match="nobody answered until 12:30:00 UTC"):
        approver().execute(found)


def test_the_hold_needs_the_watchs_healthy_verdict(world):
    from airflow.sdk.exceptions import AirflowFailException

    with pytest.raises(AirflowFailException, match="canary_1_watch left no healthy verdict"):
        holder().execute(context(left(world, canary_1_watch={"says": "unhealthy", "release": "run-1@2"})))
    assert world.ports().router.read().stamp.phase is Phase.CANARY


def test_nobody_is_asked_for_a_release_that_is_over_or_superseded(world):
    from airflow.sdk.exceptions import AirflowFailException

    restore(world.ports(), "stop", "person", "run-1")
    with pytest.raises(AirflowFailException, match="finished: run-1@2 is restored"):
        approver().execute(context(left(world)))
    plan(world.ports(), request("run-2", "3"))
    with pytest.raises(AirflowFailException, match="run-2@5 does"):
        approver("before_canary", "approve_canary").execute(context(left(world)))


def test_a_yes_is_kept_for_the_report(world):
    assert answered(world, event())["return_value"] == {
        "release": "run-1@2",
        "chosen": "Approve",
        "by": "bob",
        "at": "2026-11-23T12:01:00+00:00",
        "comment": "fine",
    }


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (event("Reject", comment="too\n slow"), "refused by bob: too slow"),
        (event("Reject", user=None, comment=None), "nobody answered within 30m"),
        (event(user="eve"), "answered by eve, who was not asked"),
        (event(minutes=31), "the deadline was 12:30:00 UTC"),
        ({"error": "timeout", "error_type": "timeout"}, "nobody answered within 30m"),
        (event() | {"chosen_options": ["Approve", "Reject"]}, "refused by bob"),
        (event() | {"chosen_options": []}, "refused by bob"),
    ],
)
def test_anything_else_fails_the_task_for_good_and_is_kept_as_well(world, given, sentence):
    from airflow.sdk.exceptions import AirflowFailException

    found = context(
        left(world) | {("approve_switch", "asked"): {"until": (world.time + timedelta(minutes=30)).isoformat()}}
    )
    with pytest.raises(AirflowFailException, match=sentence):  # which Airflow does not try again
        approver().execute_complete(found, given)
    assert "approve_switch" in found["ti"].pushed["error"]
    kept = found["ti"].pushed["return_value"]
    assert (kept["chosen"], kept["by"]) != ("Approve", "bob") or "deadline" in found["ti"].pushed["error"]


def held(world):
    return {"hold": holder().execute(context(left(world))), "approve_canary": YES}


@pytest.mark.parametrize(
    "answer",
    [
        None,  # skipped, or marked success by hand
        YES | {"chosen": "Reject"},
        YES | {"release": "run-1@1"},  # of the run before it was cleared
        {},
    ],
)
def test_the_switch_does_not_run_without_a_yes_of_its_own_release(world, answer):
    from airflow.sdk.exceptions import AirflowFailException

    more = held(world) | ({"approve_switch": answer} if answer is not None else {})
    with pytest.raises(AirflowFailException, match="approve_switch holds no approval"):
        switcher().execute(context(left(world, **more)))
    assert world.splits() == {"90/10"}


def test_the_switch_does_not_run_without_the_approval_before_the_canary(world):
    from airflow.sdk.exceptions import AirflowFailException

    more = held(world) | {"approve_switch": YES}
    del more["approve_canary"]
    with pytest.raises(AirflowFailException, match="approve_canary holds no approval"):
        switcher().execute(context(left(world, **more)))


def test_with_every_yes_the_switch_runs(world):
    switcher().execute(context(left(world, **held(world), approve_switch=YES)))
    assert world.splits() == {"0/100"}


def test_an_approval_that_is_taken_out_of_the_service_file_meanwhile_still_counts(world):
    """The DAG that Airflow has by then knows of no approval; the frozen plan does."""
    from airflow.sdk.exceptions import AirflowFailException

    with pytest.raises(AirflowFailException, match="holds no approval"):
        switcher().execute(context(left(world)))


def test_an_approval_that_is_put_into_the_service_file_meanwhile_is_left_out(world):
    from airflow.sdk.exceptions import AirflowSkipException

    service = world.release.service.model_copy(update={"release": SERVICE.release})
    world.release = world.release.model_copy(update={"service": service})
    for operator in (holder(), approver(), approver("before_canary", "approve_canary")):
        with pytest.raises(AirflowSkipException):
            operator.execute(context(left(world)))


def test_without_a_canary_nothing_is_held_and_the_question_has_its_whole_deadline(world, monkeypatch):
    from airflow.sdk.exceptions import AirflowSkipException

    restore(world.ports(), "stop", "person", "run-1")
    service = world.release.service
    hotfix = replace(request("run-2"), canary=(), skip_reason="hotfix")
    world.release = plan(world.ports(service), hotfix)
    found = context({("plan", "return_value"): world.release.as_json()})
    with pytest.raises(AirflowSkipException):
        holder().execute(found)
    assert asked(approver(), found, monkeypatch)["timeout"] == timedelta(minutes=30)
    assert world.ports().router.read().stamp.phase is Phase.CLAIMED


def test_a_dry_run_asks_nobody(world):
    from airflow.sdk.exceptions import AirflowSkipException

    with pytest.raises(AirflowSkipException):
        approver().execute(context(dry_run=True))


def test_prewarming_and_smoke_tests_of_a_superseded_release_do_not_begin(world, monkeypatch):
    from airflow.sdk.exceptions import AirflowFailException

    from bluegreen.operators.release_steps import PrewarmOperator, SmokeOperator

    restore(world.ports(), "stop", "person", "run-1")
    plan(world.ports(), request("run-2", "3"))
    service = world.release.service.model_copy(update={"prewarm": Prewarm(paths=("/",))})
    world.release = world.release.model_copy(update={"service": service})
    for operator in (
        PrewarmOperator(task_id="prewarm", service="shop"),
        SmokeOperator(task_id="smoke", service="shop"),
    ):
        with pytest.raises(AirflowFailException, match="run-1@2 does not hold the service any more, run-2@5 does"):
            operator.execute(context(left(world)))


def too_little(world, monkeypatch):
    """A canary's watch that ended with too little evidence: what its task left, and the form that it wrote."""
    from airflow.sdk.exceptions import TaskAwaitingInput

    from bluegreen.sensors import watch
    from tests.unit.release.test_watch import WatchSpec

    release = SERVICE.frozen()["release"] | {"approvals": {"unknown": {"by": ["bob"], "deadline": "30m"}}}
    service = Service.model_validate(SERVICE.frozen() | {"release": release})
    world.release = world.release.model_copy(update={"service": service})
    monkeypatch.setattr(watch, "ports_for", lambda *_: world.ports())
    given: dict = {}
    monkeypatch.setattr(
        "airflow.providers.standard.operators.hitl.upsert_hitl_detail", lambda **form: given.update(form)
    )
    ours = {"release": world.release.release, "epoch": world.canary.epoch}
    now = datetime(2026, 11, 23, 12, tzinfo=UTC)
    spec = WatchSpec(
        service=service, run="run-1", step="w", color=Color.GREEN, since=now, until=now, baseline={}, **ours
    )
    seen = {"rules": [{"state": "no data", "text": "3 requests, 20 are needed"}]}
    seen |= {"colors": {"green": {"requests": 3, "errors": 0}}}
    word = ours | {"says": "unknown", "reason": "too little evidence", "verdict": {"numbers": seen}}
    watcher = watch.WatchSensor(task_id="canary_1_watch", service="shop", shift="canary_1", canary=0)
    found = context(left(world))
    found["task_instance"] = SimpleNamespace(id="1")
    with pytest.raises(TaskAwaitingInput):
        watcher.resume(found, word, spec.model_dump(mode="json"))
    return watcher, found, given


def test_too_little_evidence_holds_the_canary_and_asks_with_what_was_seen(world, monkeypatch):
    _, found, form = too_little(world, monkeypatch)
    reading = world.ports().router.read()
    assert (reading.stamp.phase, reading.split.share(Color.GREEN)) == (Phase.HELD, 10)
    assert form["subject"] == "shop 2: too little evidence at 10 %, go on?"
    assert "green: 3 requests, 0 failed" in form["body"]
    assert "`3 requests, 20 are needed`" in form["body"]
    assert form["assigned_users"] == [{"id": "bob", "name": "bob"}]
    assert (form["defaults"], found["ti"].pushed["end"]["says"]) == (["Reject"], "unknown")


@pytest.mark.parametrize("who", ["bob", "mallory", None])
def test_only_a_yes_to_too_little_evidence_lets_the_next_shift_run(world, monkeypatch, who):
    from airflow.sdk.exceptions import AirflowFailException

    watcher, found, _ = too_little(world, monkeypatch)
    pushed = {("canary_1_watch", key): value for key, value in found["ti"].pushed.items()}
    made = context(left(world) | pushed)
    answer = {**event(user=who), "chosen_options": ["Approve" if who else "Reject"]}
    if who != "bob":
        with pytest.raises(AirflowFailException):
            watcher.execute_complete(made, answer)
        return
    told = watcher.execute_complete(made, answer)
    assert (told["says"], told["by"], told["epoch"]) == ("approved", "bob", world.canary.epoch + 1)
    from bluegreen.edge import epoch_of, need_healthy

    after = context(left(world) | {("canary_1_watch", "return_value"): told})
    need_healthy(after, world.release, "canary_1_watch")
    assert epoch_of(after, ["plan", "canary_1", "canary_1_watch"]) == world.canary.epoch + 1
