"""A release with a database on a real Airflow: killed in the middle of it, refused before it, and the destructive half after it."""

from __future__ import annotations

import json
import os
import signal
import time

import pytest

from tests.rigs.postgres import PASSWORD, USER, postgres
from tests.rigs.shop_database import CONTRACT, ShopDatabase
from tests.system.conftest import PATIENCE_S, eventually

ROWS = 300
SLOW = """\
CREATE FUNCTION slow(text) RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN PERFORM pg_sleep(0.02); RETURN $1; END $$;
CREATE FUNCTION slow_set(text) RETURNS text LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(0.02); RETURN $1; END $$;
"""
EXPAND = """\
ALTER TABLE users ADD COLUMN full_name text;
CREATE INDEX CONCURRENTLY users_slow ON users (slow(name));
"""
BACKFILL = """\
table: users
key: id
set: {full_name: slow_set(name)}
where: full_name IS NULL
drift: SELECT count(*) FROM users WHERE full_name IS DISTINCT FROM name
batch: 10
"""


@pytest.fixture
def database(stack, tmp_path):
    with postgres() as server:
        made = ShopDatabase(server, tmp_path / "migrations", settings={"contract": {"soak": "0s"}})
        made.sql(f"TRUNCATE users; INSERT INTO users SELECT g, 'n' || g FROM generate_series(1, {ROWS}) g;" + SLOW)
        words = {"conn_type": "postgres", "host": "127.0.0.1", "port": server.port, "login": USER, "password": PASSWORD}
        stack.api.post("connections", {"connection_id": "shop_db", **words})
        section = json.loads(made.service().migrations.model_dump_json(include={"database", "tool", "contract"}))
        stack.write(migrations=section | {"contract": {"soak": "0s"}, "retry_for": "20s"})
        stack.api.wait_dags({"contract__shop"}, PATIENCE_S)
        eventually(lambda: "lint" in stack.api.task_ids(stack.dag), "the release's new tasks")
        yield made


def kill(stack, run, task):
    pid = stack.api.task(stack.dag, run.run_id, task)["pid"]
    os.kill(next(found for found in stack.airflow.task_processes() if found.task == pid).task, signal.SIGKILL)


def contract(stack, answer):
    run = stack.api.trigger("contract__shop")["dag_run_id"]
    asked = lambda: stack.api.tasks("contract__shop", run)["approve"] == "awaiting_input"  # noqa: E731
    eventually(asked, f"somebody to be asked: {stack.api.tasks('contract__shop', run)}")
    time.sleep(2)
    stack.api.answer("contract__shop", run, "approve", answer)
    state = stack.end_of("contract__shop", run)["state"]
    return state, stack.api.note("contract__shop", run), stack.api.tasks("contract__shop", run)


def test_a_release_with_a_database_from_its_expand_to_its_contract(stack, database):
    database.write(_0001_names_expand=EXPAND, _0001_names_backfill=BACKFILL, _0001_names_contract=CONTRACT)
    run = stack.release()
    building = "SELECT count(*) FROM pg_stat_progress_create_index"
    eventually(lambda: database.sql(building) == [(1,)], f"the index to be built {run.tasks()}")
    kill(stack, run, "expand")
    filled = "SELECT count(*) FROM users WHERE full_name IS NOT NULL"
    run.reaches("backfill", "running")
    eventually(lambda: database.sql(filled)[0][0] > 20, "the backfill to begin")
    kill(stack, run, "backfill")
    before = database.sql(filled)[0][0]
    assert before < ROWS
    assert run.ended() == "success", (run.note(), run.tasks())
    assert [stack.api.task(stack.dag, run.run_id, task)["try_number"] for task in ("expand", "backfill")] == [2, 2]
    assert "goes on in pass 1" in run.log("backfill")
    assert stack.api.xcom(stack.dag, run.run_id, "backfill")["0001_names.backfill.yaml"]["rows"] == ROWS
    assert database.sql("SELECT indisvalid FROM pg_index WHERE indexrelid::regclass::text LIKE 'users_slow%'") == [
        (True,)
    ]
    assert stack.phase() == "settled"

    stamp, history = stack.status()["stamp"], database.sql("SELECT * FROM bluegreen_migrations")
    database.write(_0002_bad_expand="ALTER TABLE users RENAME COLUMN name TO title;")
    refused = stack.release()
    assert refused.ended() == "failed"
    assert "rename-column" in refused.note()
    assert {task: refused.tasks()[task] for task in ("lint", "plan", "expand", "deploy", "safe")} == {
        "lint": "failed", "plan": "upstream_failed", "expand": "upstream_failed", "deploy": "upstream_failed",
        "safe": "success",
    }  # fmt: skip
    assert (stack.status()["stamp"], database.sql("SELECT * FROM bluegreen_migrations")) == (stamp, history)
    assert PASSWORD not in refused.log("lint") + run.log("expand") + run.log("backfill")
    (database.folder / "0002_bad.expand.sql").unlink()

    early = stack.api.trigger("contract__shop")["dag_run_id"]
    assert stack.end_of("contract__shop", early)["state"] == "failed"
    assert "is kept for a way back" in stack.api.note("contract__shop", early)
    retired = stack.api.trigger("retire__shop", {"reason": "not needed"})["dag_run_id"]
    assert stack.end_of("retire__shop", retired)["state"] == "success"
    state, note, tasks = contract(stack, "Reject")
    assert (state, tasks["contract"]) == ("failed", "upstream_failed")
    assert "admin said no" in note
    assert database.columns() == ["id", "name", "full_name"]
    state, note, _ = contract(stack, "Approve")
    assert (state, note) == ("success", "contracted: 0001_names.contract.sql")
    assert database.columns() == ["id", "full_name"]
