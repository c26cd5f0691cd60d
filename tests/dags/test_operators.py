"""Operators and the trigger over a fake task instance: what they do with what other tasks left, or did not leave."""

from __future__ import annotations

import asyncio
from contextlib import nullcontext
from dataclasses import replace
from datetime import timedelta
from types import SimpleNamespace

import pytest

from bluegreen.catalog.models import Service
from bluegreen.core.colors import Color
from bluegreen.core.errors import DeployError
from bluegreen.release.report import Ran, Step, report
from bluegreen.release.report_text import markdown
from bluegreen.release.shift import settle, shift
from tests.unit.release.test_watch import RealTime, canary
from tests.unit.release.world import SERVICE, claimed


class TaskInstance:
    """Holds XComs by (task, key)."""

    def __init__(self, left=None):
        self.left, self.pushed, self.task_id = left or {}, {}, "verdict"

    def xcom_pull(self, task_ids=None, key="return_value", dag_id=None, run_id=None):
        return self.left.get((task_ids, key))

    def xcom_push(self, key, value):
        self.pushed[key] = value


def context(left=None, **params):
    asked = {"triggering_user_name": "ann", "run_type": SimpleNamespace(value="manual"), "start_date": None}
    run = SimpleNamespace(run_id="run-1", dag_id="release__shop", **asked)
    return {"ti": TaskInstance(left), "params": params, "dag_run": run, "dag": SimpleNamespace(tasks=[])}


@pytest.fixture
def world():
    return claimed()


def events(trigger):
    async def collect():
        return [event.payload async for event in trigger.run()]

    return asyncio.run(collect())


def test_a_spec_survives_the_trigger_table(monkeypatch):
    import json

    from bluegreen.triggers.watch import WatchTrigger

    _, spec = canary(RealTime())
    path, kwargs = WatchTrigger(spec.model_dump(mode="json")).serialize()
    assert path == "bluegreen.triggers.watch.WatchTrigger"
    assert type(spec).model_validate(json.loads(json.dumps(kwargs))["spec"]) == spec


@pytest.mark.parametrize("broken", [OSError("disk"), KeyError("svname")])
def test_a_watch_whose_proof_breaks_still_says_one_true_event(monkeypatch, broken):
    from bluegreen.triggers import watch

    world = RealTime()
    _, spec = canary(world, lasts=30)
    world.errors[Color.GREEN] = 0.5

    def prove(split):
        raise broken

    monkeypatch.setattr(watch, "ports_for", lambda *_: replace(world.ports(), prove=prove))
    (event,) = events(watch.WatchTrigger(spec.model_dump(mode="json")))
    assert (event["says"], event["restored"]["outcome"], world.splits()) == ("unhealthy", "restored", {"100/0"})


def test_what_a_watch_asked_of_an_api_is_in_its_event_and_added_up_with_what_the_tasks_asked(monkeypatch):
    from bluegreen.triggers import watch

    world = RealTime()
    _, spec = canary(world, lasts=1)
    ports = world.ports()
    ports.router.calls = {"get": 3, "patch": 2}  # as a router in a cluster tells
    monkeypatch.setattr(watch, "ports_for", lambda *_: ports)
    (event,) = events(watch.WatchTrigger(spec.model_dump(mode="json")))
    steps = [Step("canary_1", "success", {"calls": {"get": 5}}), Step("canary_1_watch", "success", event, event)]
    told = report(Ran("release", "shop", "run-1", "promoted", "", "ann", "1.5.0"), steps)
    assert told.calls == {"get": 8, "patch": 2}
    assert "Calls to API servers: 8 get, 2 patch." in markdown(told.as_json())


def test_a_trigger_that_cannot_even_begin_says_so_instead_of_beginning_anew(monkeypatch):
    from bluegreen.triggers import watch

    _, spec = canary(RealTime())

    def no_ports(*_):
        raise ImportError("no module named haproxy")

    monkeypatch.setattr(watch, "ports_for", no_ports)
    (event,) = events(watch.WatchTrigger(spec.model_dump(mode="json")))
    assert event["says"] == "error"
    assert "ImportError" in event["reason"]


class Connections:
    """Airflow's connections as a triggerer gets them: on the loop, one await each."""

    def __init__(self, **passwords):
        self.passwords, self.asked, self.takes = passwords, [], 0.0

    async def get(self, name):
        from airflow.sdk import Connection
        from airflow.sdk.exceptions import AirflowNotFoundException

        await asyncio.sleep(self.takes)
        self.asked.append(name)
        if name not in self.passwords:
            raise AirflowNotFoundException(name)
        if isinstance(self.passwords[name], Exception):
            raise self.passwords[name]
        return Connection(conn_id=name, conn_type="http", login="me", password=self.passwords[name], extra='{"a": "b"}')


@pytest.fixture
def connections(monkeypatch):
    from airflow.sdk import BaseHook

    found = Connections(metrics="s3cret-word", broken=PermissionError("s3cret-word"))
    monkeypatch.setattr(BaseHook, "aget_connection", found.get)
    return found


def naming(metrics, entry=None):
    """A service that names connections in two places."""
    told = {"evidence": {"type": "prometheus", "url": "http://127.0.0.1:1", "connection": metrics}}
    return Service.model_validate(
        SERVICE.frozen() | told | {"entry": SERVICE.frozen()["entry"] | {"connection": entry}}
    )


def test_a_watch_has_the_connections_that_its_service_names_and_serialises_none(connections, monkeypatch):
    from bluegreen.triggers import watch

    world = RealTime()
    _, spec = canary(world, naming("metrics"))
    given = []
    monkeypatch.setattr(
        watch, "ports_for", lambda service, secrets, _: (given.append(secrets), world.ports(service))[1]
    )
    trigger = watch.WatchTrigger(spec.model_dump(mode="json"))
    (event,) = events(trigger)
    assert event["says"] == "healthy"
    found = given[0]("metrics")
    assert (found.login, found.password, found.extra, connections.asked) == (
        "me",
        "s3cret-word",
        {"a": "b"},
        ["metrics"],
    )
    assert "s3cret-word" not in str((trigger.serialize(), event, found))


def test_the_lease_is_renewed_while_connections_are_still_fetched(connections, monkeypatch):
    """A triggerer's first look at a connection may take longer than a lease."""
    from bluegreen.core.errors import SecretPending
    from bluegreen.triggers import watch

    connections.takes = 30
    world = RealTime()
    ports, spec = canary(world, naming("metrics"))
    before, pending = ports.router.read().stamp.lease, []

    def built(service, secrets, _):
        made = world.ports(service)
        counters = made.router.counters

        async def on_the_loop():
            with pytest.raises(SecretPending):
                pending.append(secrets("metrics"))
            return await counters()

        made.router.counters = on_the_loop
        return made

    monkeypatch.setattr(watch, "ports_for", built)
    (event,) = events(watch.WatchTrigger(spec.model_dump(mode="json")))
    assert (event["says"], pending) == ("healthy", [])
    assert ports.router.read().stamp.lease > before


def test_who_asks_beside_the_loop_waits_for_the_connections(connections, monkeypatch):
    from bluegreen.triggers import watch

    connections.takes = 0.5
    world = RealTime()
    _, spec = canary(world, naming("metrics"), lasts=0.3)
    given = []
    built = lambda service, secrets, _: (given.append(secrets("metrics").password), world.ports(service))[1]  # noqa: E731
    monkeypatch.setattr(watch, "ports_for", built)
    (event,) = events(watch.WatchTrigger(spec.model_dump(mode="json")))
    assert (event["says"], given) == ("healthy", ["s3cret-word"])


@pytest.mark.parametrize(
    ("name", "said"),
    [("none", "none: there is no such Airflow connection"), ("broken", "broken: cannot be had: PermissionError")],
)
def test_a_connection_that_cannot_be_had_fails_only_who_asks_for_it(connections, monkeypatch, name, said):
    from bluegreen.core.errors import SecretMissing
    from bluegreen.triggers import watch

    world = RealTime()
    _, spec = canary(world, naming(name, entry="metrics"))
    given = []
    monkeypatch.setattr(
        watch, "ports_for", lambda service, secrets, _: (given.append(secrets), world.ports(service))[1]
    )
    (event,) = events(watch.WatchTrigger(spec.model_dump(mode="json")))
    assert event["says"] == "healthy"
    assert given[0]("metrics").password == "s3cret-word"  # noqa: S105 - the test's own
    with pytest.raises(SecretMissing, match=said) as missing:
        given[0](name)
    assert "s3cret" not in str(missing.value)


@pytest.fixture
def two_services(monkeypatch, tmp_path):
    from bluegreen.operators import way_back

    services = {name: SERVICE.model_copy(update={"service": name}) for name in ("a", "b")}
    catalog = SimpleNamespace(services=services, way_back={}, errors=())
    monkeypatch.setattr(way_back, "services_folder", lambda: tmp_path)
    monkeypatch.setattr(way_back, "load_all", lambda _: catalog)
    monkeypatch.setattr(way_back, "_owner", lambda _: "run-1")
    return way_back


def test_a_plan_that_cannot_be_read_unguards_no_service(two_services, monkeypatch):
    looked = []
    monkeypatch.setattr(two_services, "ports_for", lambda service, _: service.service)
    found = SimpleNamespace(action="none", says="well")
    monkeypatch.setattr(two_services, "guard", lambda name, _: (looked.append(name), found)[1])
    left = {("plan", "return_value"): {"service": {"of": "an older version"}}}
    two_services.GuardOperator(task_id="guard").execute(context(left))
    assert sorted(looked) == ["a", "b"]


def test_one_service_that_breaks_keeps_no_other_from_the_guard_and_fails_the_task(two_services, monkeypatch):
    from airflow.sdk.exceptions import AirflowException

    looked = []

    def guard(name, _):
        if name == "a":
            raise ZeroDivisionError("ours")
        looked.append(name)
        return SimpleNamespace(action="none", says="well")

    monkeypatch.setattr(two_services, "ports_for", lambda service, _: service.service)
    monkeypatch.setattr(two_services, "guard", guard)
    with pytest.raises(AirflowException, match="a: ours"):
        two_services.GuardOperator(task_id="guard").execute(context())
    assert looked == ["b"]


def test_the_verdict_asks_again_when_no_node_answers(world, monkeypatch):
    from airflow.sdk.exceptions import AirflowFailException

    from bluegreen.operators.ending import VerdictOperator

    settle(world.ports(), world.release, shift(world.ports(), world.release, "switch", 100, world.release.epoch).epoch)
    for node in world.nodes:
        node.reachable = False
    monkeypatch.setattr(VerdictOperator, "way_back_ports", lambda *_: world.ports())
    left = {("safe", "return_value"): {"outcome": "finished", "says": "settled"}}
    with pytest.raises(Exception, match="unreachable") as raised:
        VerdictOperator(task_id="verdict", service="shop").execute(context(left))
    assert not isinstance(raised.value, AirflowFailException)  # which would not be tried again


@pytest.mark.parametrize(
    ("switch", "watch", "goes_on"),
    [
        ({"epoch": 4}, {"says": "healthy"}, "rollback"),
        ({"epoch": 4, "release": "run-1@1"}, {"says": "healthy", "release": "run-1@1"}, "rollback"),
        ({"epoch": 4, "release": "run-1@2"}, {"says": "healthy", "release": "run-1@1"}, "rollback"),
        ({"epoch": 4, "release": "run-1@2"}, {"says": "unhealthy", "release": "run-1@2"}, "rollback"),
        ({"epoch": 4, "release": "run-1@2"}, {"says": "healthy", "release": "run-1@2"}, "finish"),
        (None, None, "rollback"),
    ],
)
def test_what_an_earlier_attempt_left_does_not_promote(world, switch, watch, goes_on):
    from bluegreen.operators.ending import OutcomeOperator

    left = {
        ("plan", "return_value"): world.release.as_json(),
        ("switch", "return_value"): switch,
        ("watch", "return_value"): watch,
    }
    assert OutcomeOperator(task_id="outcome").choose_branch(context(left)) == goes_on


def test_a_run_without_a_plan_has_nothing_to_finish_or_put_back():
    from bluegreen.operators.ending import OutcomeOperator

    assert OutcomeOperator(task_id="outcome").choose_branch(context()) == []


def finished(world, **release):
    """What a release has left when its old color is to be kept."""
    switched = shift(world.ports(), world.release, "switch", 100, world.release.epoch)
    done = settle(world.ports(), world.release, switched.epoch)
    kept = SERVICE.model_copy(update={"release": SERVICE.release.model_copy(update=release)})
    planned = world.release.model_copy(update={"service": kept})
    return {("plan", "return_value"): planned.as_json(), ("finish", "return_value"): done.as_json()}


def test_the_run_that_retires_waits_for_keep_old_and_knows_its_release(world):
    from airflow.sdk.exceptions import DagRunTriggerException

    from bluegreen.operators.ending import KeepOldOperator

    left = finished(world)
    with pytest.raises(DagRunTriggerException) as asked:
        KeepOldOperator(task_id="keep_old", service="shop").execute(context(left))
    run = asked.value
    assert (run.trigger_dag_id, run.dag_run_id) == ("retire__shop", "keep_old__2__run-1")
    assert run.run_after == world.time + timedelta(hours=24)
    assert run.conf == {"release": "run-1@2", "reason": "keep_old (1d) is over"}
    assert run.skip_when_already_exists


def test_what_is_kept_for_ever_starts_no_run(world):
    from airflow.sdk.exceptions import AirflowSkipException

    from bluegreen.operators.ending import KeepOldOperator

    with pytest.raises(AirflowSkipException):
        KeepOldOperator(task_id="keep_old", service="shop").execute(context(finished(world, keep_old=None)))


@pytest.mark.parametrize(("run_id", "warns"), [("keep_old__2__run-1", False), (None, True)])
def test_a_promoted_release_whose_retire_could_not_be_started_says_so(world, monkeypatch, run_id, warns):
    from bluegreen.operators.ending import VerdictOperator

    left = finished(world) | {("safe", "return_value"): {"outcome": "finished"}, ("keep_old", "trigger_run_id"): run_id}
    monkeypatch.setattr(VerdictOperator, "way_back_ports", lambda *_: world.ports())
    note = VerdictOperator(task_id="verdict", service="shop").execute(context(left))
    assert note.startswith("promoted: tests: 2 is live on green")
    assert ("keep_old did not succeed: blue runs on unless a run of retire__shop waits" in note) is warns


def retire_as_airflow_does(world, monkeypatch, **params):
    from bluegreen.operators.way_back import RetireOperator

    monkeypatch.setattr(RetireOperator, "ports", lambda *_: world.ports())
    asked = context(reason="keep_old is over", **{"release": None} | params)
    asked["dag_run"].triggering_user_name = "anna"
    return RetireOperator(task_id="retire", service="shop").execute(asked)


def test_a_retire_says_what_it_did(world, monkeypatch):
    finished(world)
    found = retire_as_airflow_does(world, monkeypatch, release="run-1@2")
    assert (found["color"], world.runs[Color.BLUE]) == ("blue", "")
    assert "retired 1 on blue: anna: keep_old is over" in found["says"]


def test_a_retire_of_another_release_is_left_out(world, monkeypatch):
    from airflow.sdk.exceptions import AirflowSkipException

    finished(world)
    with pytest.raises(AirflowSkipException, match="another release came: nothing to retire for run-0@1"):
        retire_as_airflow_does(world, monkeypatch, release="run-0@1")
    assert world.runs[Color.BLUE] == "1"


@pytest.mark.parametrize("name", ["RollbackOperator", "SafeOperator"])
def test_roles_that_are_astray_are_tried_again_once_the_traffic_is_back(world, monkeypatch, name):
    from airflow.sdk.exceptions import AirflowFailException

    from bluegreen.operators import ending

    shift(world.ports(), world.release, "switch", 100, world.release.epoch)
    world.role_breaks = ("stop", DeployError("does not end", part="worker on green"))
    operator = getattr(ending, name)(task_id=name, service="shop")
    monkeypatch.setattr(type(operator), "way_back_ports", lambda *_: world.ports())
    left = {("plan", "return_value"): world.release.as_json()}
    with pytest.raises(Exception, match="worker on green: does not end") as raised:
        operator.execute(context(left))
    assert not isinstance(raised.value, AirflowFailException)  # which would not be tried again
    assert world.splits() == {"100/0"}
    assert operator.execute(context(left))["outcome"] == "already"
    assert world.workers == {Color.BLUE}


@pytest.mark.parametrize("breaks", [False, True])
def test_a_release_that_was_put_back_says_what_is_likely_wrong(world, monkeypatch, breaks):
    from bluegreen.operators import ending

    shift(world.ports(), world.release, "canary_1", 10, world.release.epoch)
    operator = ending.RollbackOperator(task_id="rollback", service="shop")
    monkeypatch.setattr(ending.RollbackOperator, "way_back_ports", lambda *_: world.ports())
    if breaks:
        monkeypatch.setattr("bluegreen.release.diagnose.diagnose", lambda *_: 1 / 0)
    value = operator.execute(context({("plan", "return_value"): world.release.as_json()}))
    assert value["outcome"] == "restored"
    if breaks:
        assert value["diagnosis"] is None
        return
    assert value["diagnosis"]["head"][0].startswith("shop: process-not-there: blue: http://127.0.0.1:2 takes no")
    made = report(Ran("release", "shop", "run-1", "not promoted", "why", "ann"), [Step("rollback", "success", value)])
    assert "## Diagnosis\n\n* shop: process-not-there: blue: " in markdown(made.as_json())


@pytest.fixture
def reports(monkeypatch, tmp_path):
    monkeypatch.setenv("BLUEGREEN_REPORTS", str(tmp_path / "reports"))
    return tmp_path / "reports"


def told(context):
    return context["ti"].pushed["report"]


def ended_by_hand(world, monkeypatch):
    from bluegreen.operators.ending import VerdictOperator

    monkeypatch.setattr(VerdictOperator, "way_back_ports", lambda *_: world.ports())
    made = context({("plan", "return_value"): world.release.as_json()}, version="2")
    made["dag"].tasks = [SimpleNamespace(task_id=task) for task in ("plan", "canary_1", "safe", "verdict")]
    return VerdictOperator(task_id="verdict", service="shop"), made


def test_what_steps_leave_in_other_shapes_keeps_no_report_away(world, monkeypatch, reports):
    from airflow.sdk.exceptions import AirflowFailException

    verdict, made = ended_by_hand(world, monkeypatch)
    made["ti"].left |= {("canary_1", "return_value"): [{"target": "a", "ok": True}], ("safe", "return_value"): None}
    with pytest.raises(AirflowFailException):
        verdict.execute(made)
    assert told(made)["outcome"] == "not promoted"


def test_a_run_ended_by_hand_leaves_its_report_before_it_fails(world, monkeypatch, reports):
    from airflow.sdk.exceptions import AirflowFailException

    verdict, made = ended_by_hand(world, monkeypatch)
    with pytest.raises(AirflowFailException, match="NOT promoted"):
        verdict.execute(made)
    (file,) = (reports / "shop").glob("*.md")
    assert file.read_text().startswith("# NOT promoted: the run was ended by hand\n\n**Now:** blue (1)")
    assert told(made)["by"] == "ann"
    assert [s["phase"] for s in told(made)["shifts"]] == ["claimed"]


def test_a_folder_that_cannot_be_written_changes_neither_state_nor_note(world, monkeypatch, tmp_path, caplog):
    from airflow.sdk.exceptions import AirflowFailException

    (tmp_path / "taken").write_text("a file")
    monkeypatch.setenv("BLUEGREEN_REPORTS", str(tmp_path / "taken"))
    verdict, made = ended_by_hand(world, monkeypatch)
    with pytest.raises(AirflowFailException, match="NOT promoted: the run was ended by hand"):
        verdict.execute(made)
    assert "no report: NotADirectoryError" in caplog.text or "no report: FileExistsError" in caplog.text
    assert told(made)["outcome"] == "not promoted"  # without a disk it is in XCom all the same
    assert made["ti"].pushed["note"].startswith("NOT promoted")


def test_a_report_is_left_when_no_node_answers_too(world, monkeypatch, reports):
    verdict, made = ended_by_hand(world, monkeypatch)
    for node in world.nodes:
        node.reachable = False
    with pytest.raises(Exception, match="unreachable"):
        verdict.execute(made)
    assert told(made)["now"] is None
    assert "the router cannot be asked" in told(made)["reason"]


def test_a_dry_run_leaves_its_lines(monkeypatch, reports):
    from bluegreen.operators.ending import VerdictOperator

    made = context({("plan", "changes"): ["epoch 2: write"]}, dry_run=True, version="2")
    assert VerdictOperator(task_id="verdict", service="shop").execute(made) == "dry run: nothing was touched"
    assert (told(made)["outcome"], told(made)["changes"]) == ("dry run", ["epoch 2: write"])


@pytest.mark.parametrize("settled", [True, False])
def test_a_rollback_leaves_a_report_also_when_it_is_refused(world, monkeypatch, reports, settled):
    from bluegreen.operators.way_back import RollbackNowOperator

    ports = world.ports()
    if settled:
        settle(ports, world.release, shift(ports, world.release, "switch", 100, world.release.epoch).epoch)
    else:
        world.nodes[0].stamp = world.nodes[1].stamp = world.nodes[2].stamp = None
    monkeypatch.setattr(RollbackNowOperator, "ports", lambda *_: ports)
    made = context(reason="checkout is broken")
    operator = RollbackNowOperator(task_id="rollback", service="shop")
    with nullcontext() if settled else pytest.raises(Exception, match="bears no stamp"):
        operator.execute(made)
    assert told(made)["outcome"] == ("rolled back" if settled else "not rolled back")
    assert told(made)["kind"] == "rollback"
    assert len(list((reports / "shop").glob("rollback@*.md"))) == 1


def test_a_deploy_may_take_as_long_as_the_service_file_allows():
    from bluegreen.dagkit import release_dag

    slow = {"type": "command", "command": ["x"], "timeout": "30s", "ready_within": "5m"}
    service = Service.model_validate(SERVICE.frozen() | {"deploy": slow})
    limit = release_dag(service).get_task("deploy").execution_timeout
    assert limit > service.deploy.timeout + service.deploy.ready_within + service.release.drain


def test_a_chart_may_take_as_long_as_each_of_helms_calls_may():
    """One that was left half-way is rolled back, the new one comes up, lacks pods that come up, and is rolled back too."""
    from bluegreen.dagtasks import longest_deploy

    names = {str(color): f"shop-{color}" for color in Color}
    chart = {"type": "helm", "cluster": {"namespace": "eu"}, "chart": "shop", "chart_version": "$VERSION"}
    chart |= {"releases": names, "deployments": names}
    made = [{**chart, "ready_within": span} for span in ("5m", "6m")]
    short, long = (longest_deploy(Service.model_validate(SERVICE.frozen() | {"deploy": one})) for one in made)
    assert long - short == 4 * timedelta(minutes=1)


def test_the_last_word_of_another_watch_is_not_taken_for_ours():
    """Airflow on SQLite gives a deleted trigger's number to the next one: the old one's event comes to the new task."""
    from airflow.sdk.exceptions import AirflowFailException, TaskDeferred

    from bluegreen.sensors.watch import WatchSensor

    _, spec = canary(RealTime())
    told = spec.model_dump(mode="json")
    sensor = WatchSensor(task_id="watch", service="shop", shift="switch")
    word = {"release": spec.release, "says": "conflict", "reason": "somebody else moved the traffic"}
    with pytest.raises(TaskDeferred) as deferred:
        sensor.resume(context(), word | {"epoch": spec.epoch - 1}, told)
    assert deferred.value.trigger.serialize()[1]["spec"] == told
    with pytest.raises(AirflowFailException, match="somebody else moved"):
        sensor.resume(context(), word | {"epoch": spec.epoch}, told)


@pytest.mark.parametrize("base", ["https://corp.example/airflow", "https://corp.example/airflow/"])
def test_links_lead_to_airflow_where_it_stands_under_a_path(monkeypatch, base):
    from types import SimpleNamespace

    from bluegreen.links import RELEASE_LINKS, OwnReportLink

    monkeypatch.setenv("AIRFLOW__API__BASE_URL", base)
    key = SimpleNamespace(dag_id="release__shop", run_id="run", task_id="deploy")
    pages = [link.get_link(None, ti_key=key) for link in (*RELEASE_LINKS[:3], OwnReportLink())]
    run = "https://corp.example/airflow/dags/release__shop/runs/run/tasks"
    assert pages == [f"{run}/verdict", f"{run}/verdict/xcom", f"{run}/safe", f"{run}/deploy/xcom"]


def test_what_nobody_thought_of_is_no_end_by_hand(world, monkeypatch):
    from bluegreen.operators.release_steps import PlanOperator

    monkeypatch.setattr(PlanOperator, "ports", lambda *_: 1 / 0)
    at = context(dry_run=False)
    with pytest.raises(ZeroDivisionError):
        PlanOperator(task_id="plan", service="shop").execute(at)
    assert at["ti"].pushed["error"] == "verdict broke off (ZeroDivisionError): see the end of its log"
