"""The tasks about a service's database: where they stand, what they leave, what a dry run does, and who must say yes."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest
from airflow.sdk import TriggerRule
from airflow.sdk.exceptions import AirflowException, AirflowFailException, AirflowSkipException

from bluegreen.core.colors import Color
from bluegreen.release import migrate
from bluegreen.release.plan import plan
from bluegreen.release.restore import restore
from bluegreen.release.retire import retire
from bluegreen.release.shift import settle, shift
from tests.dags.test_approvals import asked as asking
from tests.dags.test_approvals import event
from tests.dags.test_integrity import ASKING, parsed, services
from tests.dags.test_operators import context
from tests.rigs.postgres import missing, postgres
from tests.rigs.shop_database import BACKFILL, CONTRACT, EXPAND, ShopDatabase, asked, target
from tests.unit.release.world import claimed, request

DATABASE = {"connection": "shop_db", "name": "shop"}
REPLICA = {"database": DATABASE, "publication": "p", "subscription": "s"}
SCRATCH = {"database": DATABASE, "test": ["true"]}
BEHIND = [{"name": "outbox", "query": "SELECT 0"}]
COMMAND = {"type": "command", **{key: ["true"] for key in ("expand", "contract", "expand_sql", "contract_sql")}}
AFTER = -len(("outcome", "finish", "keep_old", "rollback", "safe", "verdict"))


@pytest.fixture
def dags(tmp_path, monkeypatch):
    monkeypatch.setenv("BLUEGREEN_SERVICES", str(tmp_path))

    def made(**files):
        services(tmp_path, **files)
        bag = parsed()
        assert bag.import_errors == {}
        return bag.dags

    return made


def test_the_tasks_stand_where_the_service_file_has_a_database_and_nowhere_else(dags):
    found = dags(
        whole={
            "migrations": {"database": DATABASE, "scratch": SCRATCH, "behind": BEHIND, "replica": REPLICA},
            "release": ASKING,
        },
        plain={"migrations": {"database": DATABASE}},
        command={"migrations": {"database": DATABASE, "tool": COMMAND, "contract": {"approve": False}}},
        none={},
    )
    tasks = {name: [task.task_id for task in dag.tasks] for name, dag in found.items()}
    assert tasks["release__whole"][:AFTER] == [
        "lint", "plan", "scratch", "expand", "backfill", "old_version", "deploy", "prewarm", "smoke", "caught_up",
        "approve_canary", "canary_1", "canary_1_watch", "hold", "approve_switch", "switch", "watch",
    ]  # fmt: skip
    assert tasks["release__plain"][:5] == ["lint", "plan", "expand", "backfill", "old_version"]
    assert tasks["release__command"][:4] == ["lint", "plan", "expand", "old_version"]
    assert tasks["release__none"][0] == "plan"
    assert "contract__none" not in found
    assert tasks["contract__plain"] == ["ready", "approve", "contract"]
    assert tasks["contract__command"] == ["ready", "contract"]
    for dag in found.values():
        assert [task.task_id for task in dag.tasks if not task.doc_md] == []


def test_each_waits_for_the_one_before_and_has_its_time(dags):
    found = dags(shop={"migrations": {"database": DATABASE, "behind": BEHIND}})
    dag = found["release__shop"]
    assert dag.get_task("plan").upstream_task_ids == {"lint"}
    assert dag.get_task("expand").upstream_task_ids == {"plan"}
    assert dag.get_task("deploy").upstream_task_ids == {"old_version"}
    assert dag.get_task("canary_1").upstream_task_ids == {"caught_up"}
    # What has nothing to do is skipped, and lets the rest run; what failed lets nothing run.
    steps = [dag.get_task(task) for task in ("expand", "backfill", "old_version", "caught_up")]
    assert {task.trigger_rule for task in steps} == {TriggerRule.NONE_FAILED}
    assert {dag.get_task(task).trigger_rule for task in ("lint", "plan")} == {TriggerRule.ALL_SUCCESS}
    assert {task.pool for task in [dag.get_task("lint"), *steps]} == {"default_pool"}
    assert all(task.execution_timeout for task in [dag.get_task("lint"), *steps])
    assert dag.get_task("backfill").execution_timeout > timedelta(hours=6)
    assert all(task.retries == 2 for task in steps)
    contract = found["contract__shop"]
    assert contract.max_active_runs == 1
    assert {task.trigger_rule for task in contract.tasks} == {TriggerRule.ALL_SUCCESS}
    assert contract.get_task("approve").response_timeout == timedelta(hours=24)
    assert contract.get_task("ready").execution_timeout


@pytest.fixture(scope="module")
def pg():
    assert not missing(), missing()
    with postgres() as server:
        yield server


@pytest.fixture
def database(pg, tmp_path):
    return ShopDatabase(pg, tmp_path / "migrations")


@pytest.fixture
def world(database, monkeypatch):
    """A release that has claimed the service; every operator works on it, with the service file as it is then."""
    made = claimed()
    made.release = made.release.model_copy(update={"service": database.service()})
    for module in ("migrating", "contracting"):
        monkeypatch.setattr(f"bluegreen.operators.{module}.connection_secrets", database.secrets)
        monkeypatch.setattr(f"bluegreen.operators.{module}.load_service", lambda *_: database.service())
    from bluegreen.operators.base import BlueGreenOperator

    monkeypatch.setattr(BlueGreenOperator, "ports", lambda *_: made.ports(database.service()))
    return made


def operator(name, **more):
    from bluegreen.operators import contracting, migrating

    kind = getattr(migrating, name, None) or getattr(contracting, name)
    return kind(task_id=name.removesuffix("Operator").lower(), service="shop", **more)


def planned(world, **left):
    kept = {(task, "return_value"): value for task, value in left.items()}
    return context({("plan", "return_value"): world.release.as_json()} | kept)


STEPS = ["ScratchOperator", "ExpandOperator", "BackfillOperator", "OldVersionOperator", "CaughtUpOperator"]


def test_a_dry_run_lints_and_leaves_everything_as_it_is(world, database):
    database.write(_0001_names_expand=EXPAND, _0001_names_backfill=BACKFILL)
    dry = context(dry_run=True)
    assert operator("LintOperator").execute(dry) == []
    for name in STEPS:
        with pytest.raises(AirflowSkipException, match="dry run"):
            operator(name).execute(dry)
    assert (database.tables(), database.columns()) == ({"users"}, ["id", "name"])
    database.write(_0002_bad_expand="DROP TABLE users;")
    with pytest.raises(AirflowFailException, match=r"0002_bad\.expand\.sql:1: drop-table"):
        operator("LintOperator").execute(dry)
    assert "drop-table" in dry["ti"].pushed["error"]


def test_a_dry_run_prints_every_statement_that_would_be_executed(world, database, monkeypatch):
    from bluegreen.operators.release_steps import PlanOperator

    monkeypatch.setattr("bluegreen.operators.release_steps.connection_secrets", database.secrets)
    database.write(_0001_names_expand=EXPAND, _0001_names_backfill=BACKFILL)
    dry = context(dry_run=True, version="3", canary=[10], canary_watch="", watch="", skip=[], skip_reason="")
    with pytest.raises(AirflowSkipException, match="nothing was touched"):
        PlanOperator(task_id="plan", service="shop").execute(dry)
    told = "\n".join(dry["ti"].pushed["changes"])
    assert all(line.strip() in told for statement in EXPAND.split(";") for line in statement.splitlines())
    assert "backfill: 0001_names.backfill.yaml" in told
    assert database.columns() == ["id", "name"]


def test_a_step_without_a_plan_that_is_no_dry_run_does_nothing(world, database):
    database.write(_0001_names_expand=EXPAND)
    for name in STEPS:
        with pytest.raises(AirflowFailException, match="left no release to go on with"):
            operator(name).execute(context())
    assert database.columns() == ["id", "name"]


def test_what_is_executed_and_answered_for_stands_in_the_xcom_and_what_has_nothing_to_do_is_skipped(world, database):
    database.write(_0001_bad_expand="ALTER TABLE users DROP COLUMN name;")
    database.settings["accept"] = [
        {"file": "0001_bad.expand.sql", "rule": "drop-column", "reason": "nobody reads it"},
        {"file": "0009_other.expand.sql", "rule": "drop-table", "reason": "of another day"},
    ]
    world.release = world.release.model_copy(update={"service": database.service()})
    made = planned(world)
    assert [one["accepted"] for one in operator("LintOperator").execute(made)] == ["nobody reads it"]
    done = operator("ExpandOperator").execute(made)
    assert (done["applied"], len(done["accepted"])) == (["0001_bad.expand.sql"], 1)
    json.dumps(done)
    with pytest.raises(AirflowSkipException, match="nothing was pending"):
        operator("ExpandOperator").execute(made)
    assert made["ti"].pushed["return_value"] == {"applied": [], "accepted": []}
    with pytest.raises(AirflowSkipException, match="nothing was pending"):
        operator("BackfillOperator").execute(made)


@pytest.mark.parametrize("how", ["superseded", "rolled back"])
def test_a_release_that_does_not_hold_the_service_any_more_executes_nothing(world, database, how):
    database.write(_0001_names_expand=EXPAND, _0001_names_backfill=BACKFILL)
    if how == "superseded":
        plan(world.ports(), request("run-2", "3"))
    else:
        restore(world.ports(), "a person", "ann")
    for name in STEPS:
        with pytest.raises(AirflowFailException, match=r"does not hold the service any more|finished"):
            operator(name).execute(planned(world))
    assert database.columns() == ["id", "name"]


def test_a_backfill_ends_when_somebody_rolls_its_release_back(world, database, monkeypatch):
    monkeypatch.setattr(migrate, "LOOKS_EVERY", 0)
    database.write(_0001_names_expand=EXPAND, _0001_names_backfill=BACKFILL)
    database.settings["backfill"] = {"batch": 5}
    world.release = world.release.model_copy(update={"service": database.service()})
    operator("ExpandOperator").execute(planned(world))
    reads, real = [], world.ports().router.__class__.read

    def read(router):
        reads.append(1)
        if len(reads) == 5:
            monkeypatch.setattr(type(router), "read", real)
            restore(world.ports(), "rolled back by ann", "ann")
        return real(router)

    monkeypatch.setattr(type(world.ports().router), "read", read)
    with pytest.raises(AirflowFailException, match="rolled back by ann"):
        operator("BackfillOperator").execute(planned(world))
    assert 0 < database.sql("SELECT count(*) FROM users WHERE full_name IS NULL")[0][0] < 50


def test_a_lock_that_could_not_be_had_is_tried_again_by_airflow_and_a_statement_that_failed_is_not(world, database):
    database.write(_0001_names_expand=EXPAND)
    with database.server.connect(database.name, autocommit=False) as holder:
        holder.execute("LOCK TABLE users")
        with pytest.raises(AirflowException, match="users") as error:
            operator("ExpandOperator").execute(planned(world))
        holder.rollback()
    assert not isinstance(error.value, AirflowFailException)
    database.write(_0002_bad_expand="SELECT 1/0;")
    with pytest.raises(AirflowFailException, match=r"0002_bad\.expand\.sql"):
        operator("ExpandOperator").execute(planned(world))


@pytest.fixture
def over(world, database):
    """The release is over and retired: a contract may run."""
    database.write(_0001_names_expand=EXPAND, _0001_names_contract=CONTRACT)
    database.settings["contract"] = {"soak": "0s"}
    with target() as server:
        database.more = asked(server)
        operator("ExpandOperator").execute(planned(world))
        ports, release = world.ports(), world.release
        settle(ports, release, shift(ports, release, "switch", 100, release.epoch).epoch)
        retire(ports, "not needed", "tests")
        yield world


def answered(found, **answer):
    from bluegreen.operators.contracting import AskToContractOperator

    made = context({("ready", "return_value"): found})
    return made, AskToContractOperator(task_id="approve", service="shop", retries=2).execute_complete(
        made, event(**answer)
    )


def test_a_person_is_asked_with_what_is_executed_and_a_yes_executes_it(over, database, monkeypatch):
    from bluegreen.operators.contracting import AskToContractOperator

    found = operator("ReadyOperator").execute(context())
    assert found["pending"] == ["0001_names.contract.sql"]
    form = asking(
        AskToContractOperator(task_id="approve", service="shop"),
        context({("ready", "return_value"): found}),
        monkeypatch,
    )
    assert "`0001_names.contract.sql`" in form["body"]
    assert (form["options"], form["defaults"], form["timeout"]) == (
        ["Approve", "Reject"], ["Reject"], timedelta(hours=24),
    )  # fmt: skip
    _, yes = answered(found)
    made = context({("approve", "return_value"): json.loads(json.dumps(yes))})
    assert operator("ContractOperator").execute(made)["applied"] == ["0001_names.contract.sql"]
    assert made["ti"].pushed["note"] == "contracted: 0001_names.contract.sql"
    assert database.columns() == ["id", "full_name"]
    with pytest.raises(AirflowSkipException, match="no contract migration is pending"):
        operator("ReadyOperator").execute(context())


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [({"chosen": "Reject"}, "bob said no"), ({"chosen": "Reject", "user": None}, "nobody answered")],
)
def test_a_no_and_no_answer_end_it_for_good(over, answer, sentence):
    """Airflow's own operator would be tried again, and ask once more."""
    found = operator("ReadyOperator").execute(context())
    with pytest.raises(AirflowFailException, match=sentence):
        answered(found, **answer)


def test_what_was_refused_stands_in_the_runs_note(over, database):
    plan(over.ports(), request("run-2", "3"))
    made = context()
    with pytest.raises(AirflowFailException):
        operator("ReadyOperator").execute(made)
    assert made["ti"].pushed["note"].startswith("NOT contracted: shop: contract: the last release, run-2@")


def test_nothing_but_a_yes_lets_it_execute(over, database):
    for left in ({}, {"chosen": "Reject", "checksums": {}}):
        with pytest.raises(AirflowFailException, match="approve holds no approval"):
            operator("ContractOperator").execute(context({("approve", "return_value"): left}))
    assert database.columns() == ["id", "name", "full_name"]
    database.settings["contract"]["approve"] = False
    operator("ContractOperator").execute(context())
    assert database.columns() == ["id", "full_name"]


def test_a_release_that_began_while_a_person_was_asked_is_waited_for(over, database):
    found = operator("ReadyOperator").execute(context())
    _, yes = answered(found)
    plan(over.ports(), request("run-2", "3"))
    with pytest.raises(AirflowFailException, match="is claimed"):
        operator("ContractOperator").execute(context({("approve", "return_value"): yes}))
    assert database.columns() == ["id", "name", "full_name"]
    assert over.runs[Color.BLUE] == ""
