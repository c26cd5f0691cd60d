"""The compatible half of the migrations in a release, on a real PostgreSQL."""

from __future__ import annotations

import json
import sys
import threading

import pytest
from pydantic import ValidationError

from bluegreen.catalog.migrations import Migrations
from bluegreen.core.errors import CheckFailed, MigrationBlocked, MigrationFailed, MigrationRefused, ReleaseFinished
from bluegreen.migrations import backfill_state
from bluegreen.migrations.ports import Phase
from bluegreen.migrations.registry import make_tool
from bluegreen.release import migrate
from bluegreen.release.finished import still_ours
from bluegreen.release.restore import restore
from bluegreen.release.scratch import try_on_scratch
from tests.rigs.postgres import PASSWORD
from tests.rigs.shop_database import BACKFILL, CONTRACT, EXPAND, ShopDatabase, asked, target
from tests.unit.release.world import claimed

UNSAFE = "ALTER TABLE users DROP COLUMN name;\n"
ACCEPTED = {"file": "0001_bad.expand.sql", "rule": "drop-column", "reason": "nobody has read it for a year"}


def lint(shop, phase=Phase.EXPAND):
    return migrate.lint_pending(shop.service(), shop.secrets, phase, shop.said.append)


def expand(shop, run="run-1@2"):
    return migrate.expand(shop.service(), shop.secrets, run, shop.said.append)


def backfill(shop, still=lambda: None):
    return migrate.backfill(shop.service(), shop.secrets, shop.said.append, still)


def test_lint_refuses_before_anything_is_touched(database):
    database.write(_0001_bad_expand=EXPAND + UNSAFE)
    for step in (lint, expand):
        with pytest.raises(MigrationRefused, match=r"0001_bad\.expand\.sql:2: drop-column"):
            step(database)
    assert database.tables() == {"users"}
    assert database.columns() == ["id", "name"]


def test_a_backfill_file_that_is_wrong_is_refused_before_anything_is_touched(database):
    database.write(_0001_names_expand=EXPAND, _0001_names_backfill="table: users\n")
    with pytest.raises(MigrationRefused, match=r"0001_names\.backfill\.yaml"):
        expand(database)
    assert database.tables() == {"users"}


def test_what_somebody_answers_for_is_returned_and_nothing_else_is(database):
    database.write(_0001_bad_expand=UNSAFE, _0002_names_expand=EXPAND)
    database.settings["accept"] = [ACCEPTED]
    (found,) = lint(database)
    assert (found.file, found.rule, found.accepted) == (ACCEPTED["file"], ACCEPTED["rule"], ACCEPTED["reason"])
    done = expand(database)
    assert done["applied"] == ["0001_bad.expand.sql", "0002_names.expand.sql"]
    assert [one["accepted"] for one in done["accepted"]] == [ACCEPTED["reason"]]
    json.dumps(done)
    # Executed: nobody is asked about it any more, and its override is not a stale one.
    assert lint(database) == []


def test_a_contract_that_waits_is_not_taken_for_executed(database, monkeypatch):
    seen = {}
    monkeypatch.setattr(migrate, "lint", lambda pending, **more: seen.update(more, pending=pending) or [])
    database.write(_0001_a_expand=EXPAND, _0001_a_contract=CONTRACT, _0002_b_expand="CREATE TABLE b (id int);")
    migrate.execute(database.service(), database.secrets, Phase.EXPAND, "r", database.said.append)
    database.write(_0003_c_expand="CREATE TABLE c (id int);")
    lint(database)
    assert [one.name for one in seen["before"]] == ["0001_a.expand.sql", "0002_b.expand.sql"]
    assert [one.name for one in seen["pending"]] == ["0003_c.expand.sql"]


def test_a_second_release_goes_on_from_there(database):
    database.write(_0001_names_expand=EXPAND)
    assert expand(database)["applied"] == ["0001_names.expand.sql"]
    database.write(_0002_more_expand="ALTER TABLE users ADD COLUMN age int;")
    assert expand(database, "run-2@9")["applied"] == ["0002_more.expand.sql"]
    assert expand(database, "run-3@12")["applied"] == []
    assert database.columns() == ["id", "name", "full_name", "age"]


def test_after_a_release_that_was_rolled_back_the_next_one_finds_its_expand_there(database):
    world = claimed()
    database.write(_0001_names_expand=EXPAND, _0002_bad_expand="SELECT 1/0;\n")
    with pytest.raises(MigrationFailed, match=r"0002_bad\.expand\.sql"):
        expand(database, world.release.release)
    restore(world.ports(), "a step failed", "tests", "run-1")
    with pytest.raises(ReleaseFinished):
        still_ours(world.ports(), world.release.run, world.release.release, world.ports().router.read())
    database.write(_0002_bad_expand="ALTER TABLE users ADD COLUMN age int;")
    assert expand(database, "run-2@5")["applied"] == ["0002_bad.expand.sql"]
    assert database.columns() == ["id", "name", "full_name", "age"]


def test_a_held_table_is_blocked_which_airflow_tries_again_and_the_next_try_goes_on(database):
    database.write(_0001_names_expand=EXPAND)
    with database.server.connect(database.name, autocommit=False) as holder:
        holder.execute("SELECT * FROM users FOR UPDATE")
        with pytest.raises(MigrationBlocked, match="users") as blocked:
            expand(database)
        holder.rollback()
    assert blocked.value.retryable
    assert expand(database)["applied"] == ["0001_names.expand.sql"]


def ready_to_fill(database):
    database.write(_0001_names_expand=EXPAND, _0001_names_backfill=BACKFILL)
    expand(database)


def test_a_backfill_is_left_until_its_drift_is_none_and_then_nothing_is(database):
    ready_to_fill(database)
    service = database.service()
    assert [one.name for one in migrate.backfills_left(service, database.secrets)] == ["0001_names.backfill.yaml"]
    done = backfill(database)
    assert (done["0001_names.backfill.yaml"]["rows"], done["0001_names.backfill.yaml"]["drift"]) == (50, 0)
    json.dumps(done)
    assert migrate.backfills_left(service, database.secrets) == []
    assert backfill(database) == {}


def test_a_backfill_that_nobody_wants_any_more_ends_between_two_batches_and_the_next_one_goes_on(database, monkeypatch):
    """Hours may lie between its begin and its end: who rolls back meanwhile must not wait for it."""
    ready_to_fill(database)
    database.settings["backfill"] = {"batch": 5}
    monkeypatch.setattr(migrate, "LOOKS_EVERY", 0)
    world, looks = claimed(), []
    plan, ports = world.release, world.ports()

    def still():
        looks.append(1)
        if len(looks) == 4:
            restore(ports, "rolled back by a person", "tests")
        still_ours(ports, plan.run, plan.release, ports.router.read())

    with pytest.raises(ReleaseFinished, match="rolled back by a person"):
        backfill(database, still)
    left = database.sql("SELECT count(*) FROM users WHERE full_name IS NULL")[0][0]
    assert 0 < left < 50
    done = backfill(database)
    assert done["0001_names.backfill.yaml"]["rows"] == 50
    assert any("goes on in pass 1" in line for line in database.said)


def test_two_releases_that_fill_at_once_do_not_both(database):
    ready_to_fill(database)
    with (
        database.server.connect(database.name) as other,
        backfill_state.held(other, "0001_names.backfill.yaml"),
        pytest.raises(MigrationBlocked, match="somebody else is at it"),
    ):
        backfill(database)
    assert backfill(database)


def test_backfills_are_refused_where_nobody_can_do_them(database, monkeypatch):
    ready_to_fill(database)
    service = database.service()
    monkeypatch.setattr(migrate, "make_tool", lambda *_: make_tool(service, database.secrets))
    maria = Migrations.model_validate({"database": {"type": "mariadb", "connection": "a", "name": "a"}})
    with pytest.raises(MigrationRefused, match=r"0001_names\.backfill\.yaml: backfills are for PostgreSQL only"):
        migrate.backfills_of(service.model_copy(update={"migrations": maria}), database.secrets)


def test_the_old_versions_smoke_test_that_fails_on_the_changed_schema_fails_the_release(database):
    world = claimed()
    with target() as server:
        database.more = asked(server)
        plan = world.release.model_copy(update={"service": database.service()})
        for known in (plan, plan.model_copy(update={"old_version": None})):
            json.dumps(migrate.old_version_works(known, database.secrets, database.said.append))
        other = plan.model_copy(update={"old_version": "7"})
        with pytest.raises(CheckFailed, match="expected version 7, found 1"):
            migrate.old_version_works(other, database.secrets, database.said.append)
        server.status = 500
        with pytest.raises(
            CheckFailed, match="blue does not pass its smoke tests on the changed schema: 1 of 2"
        ) as error:
            migrate.old_version_works(plan, database.secrets, database.said.append)
    assert error.value.part == "blue"
    assert "users may notice it now" in error.value.next_step
    assert "no traffic was moved" not in str(error.value)


TEST = """\
import os, psycopg, sys
version = sys.argv[1]
with psycopg.connect(os.environ["DATABASE_URL"]) as c:
    columns = {r[0] for r in c.execute("SELECT column_name FROM information_schema.columns WHERE table_name = 'users'")}
print(version, "finds", sorted(columns), os.environ["DATABASE_URL"])
sys.exit(not columns >= {"1": {OLD}, "2": {NEW}}[version])
"""


@pytest.fixture
def scratch(database, pg, tmp_path):
    """A plan whose scratch database is a second one; what each version needs is given."""

    def make(old=("name",), new=("name", "full_name")):
        script = tmp_path / "tests.py"
        script.write_text(TEST.replace("{OLD}", repr(set(old))).replace("{NEW}", repr(set(new))))
        other = ShopDatabase(pg, tmp_path / "migrations")
        database.settings["scratch"] = {
            "database": {"connection": "scratch_db", "name": other.name},
            "test": [sys.executable, str(script), "$version"],
        }
        return claimed().release.model_copy(update={"service": database.service()}), other

    return make


def tried(plan, database):
    return try_on_scratch(plan, database.secrets, database.said.append)


def test_both_versions_are_tried_before_and_after_and_production_is_not_touched(scratch, database):
    database.write(_0001_names_expand=EXPAND)
    plan, other = scratch()
    told = tried(plan, database)
    assert (told["before"]["old"], told["after"]) == ("", {"old": "", "new": ""})
    assert "ended with" in told["before"]["new"] or "code" in told["before"]["new"]
    assert other.columns() == ["id", "name", "full_name"]
    assert (database.columns(), database.tables()) == (["id", "name"], {"users"})
    assert not any(PASSWORD in line for line in [*database.said, json.dumps(told)])


@pytest.mark.parametrize(
    ("needs", "sentence"),
    [
        ({"old": ["gone"]}, "1's tests fail on the scratch database before anything is changed"),
        ({"new": ["not_made"]}, "2's tests fail on the changed schema"),
    ],
)
def test_tests_that_fail_there_refuse_the_release(scratch, database, needs, sentence):
    database.write(_0001_names_expand=EXPAND)
    plan, _ = scratch(**needs)
    with pytest.raises(CheckFailed, match=sentence) as error:
        tried(plan, database)
    assert PASSWORD not in str(error.value)
    assert database.columns() == ["id", "name"]


def test_a_migration_that_breaks_the_old_version_is_seen_there(scratch, database):
    database.write(_0001_bad_expand=EXPAND + UNSAFE)
    plan, _ = scratch(new=["full_name"])
    with pytest.raises(CheckFailed, match="1's tests fail on the changed schema: the migration is not compatible"):
        tried(plan, database)
    assert database.columns() == ["id", "name"]


def test_an_expand_that_fails_there_says_that_it_was_there(scratch, database):
    database.write(_0001_bad_expand="SELECT 1/0;")
    plan, _ = scratch()
    with pytest.raises(MigrationFailed, match="scratch") as error:
        tried(plan, database)
    assert "production's database was not touched" in str(error.value)


BEHIND = {"name": "outbox", "query": "SELECT count(*) FROM users WHERE name = 'unsent'", "within": "2s"}


def test_what_is_behind_is_waited_for_and_refuses_when_it_stays_so(database):
    database.settings["behind"] = [BEHIND]
    database.sql("INSERT INTO users VALUES (99, 'unsent')")
    later = threading.Timer(0.6, lambda: database.sql("UPDATE users SET name = 'sent' WHERE id = 99"))
    later.start()
    found = migrate.caught_up(database.service(), database.secrets, database.said.append)
    later.join()
    assert (found["outbox"]["value"], found["outbox"]["waited_s"] > 0.3) == (0, True)
    json.dumps(found)
    database.sql("UPDATE users SET name = 'unsent' WHERE id = 99")
    with pytest.raises(MigrationFailed, match=r"outbox: found 1 after 2 s, allowed 0"):
        migrate.caught_up(database.service(), database.secrets, database.said.append)


def test_a_watermark_that_tells_no_number_is_a_failure_not_0(database):
    database.settings["behind"] = [BEHIND | {"query": "SELECT max(id) FROM users WHERE id < 0"}]
    with pytest.raises(MigrationFailed, match="found NULL, wanted one number"):
        migrate.caught_up(database.service(), database.secrets, database.said.append)


@pytest.mark.parametrize(
    ("key", "section"),
    [
        ("behind", {"behind": [BEHIND]}),
        ("contract.old_sessions", {"contract": {"old_sessions": "shop-$color"}}),
        (
            "replica",
            {"replica": {"database": {"connection": "b", "name": "b"}, "publication": "p", "subscription": "s"}},
        ),
    ],
)
def test_what_only_postgresql_answers_is_refused_for_others_in_the_service_file(key, section):
    with pytest.raises(ValidationError, match=rf"{key}: for PostgreSQL only, and the database is mariadb"):
        Migrations.model_validate({"database": {"type": "mariadb", "connection": "a", "name": "a"}} | section)
