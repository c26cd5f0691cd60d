"""What every migration tool does, on a real PostgreSQL: one suite over the registry."""

from __future__ import annotations

import threading
import time
from typing import get_args

import pglast
import pytest

from bluegreen.catalog import migrations
from bluegreen.core.errors import MigrationBlocked, MigrationFailed, MigrationRefused
from bluegreen.migrations.ports import Phase
from bluegreen.migrations.registry import TOOLS
from demo.processes import wait_until
from tests.rigs.migration_tools import RIGS
from tests.rigs.postgres import PASSWORD, missing, postgres

USERS = ("CREATE TABLE users (id bigint, name text)", "INSERT INTO users VALUES (1, 'one')")
EMAIL = "ALTER TABLE users ADD COLUMN email text"
DROP = "ALTER TABLE users DROP COLUMN name"


@pytest.fixture(scope="module")
def server():
    if reason := missing():
        pytest.skip(reason)
    with postgres() as server:
        yield server


@pytest.fixture(params=sorted(TOOLS))
def rig(request, server, tmp_path):
    rig = RIGS[request.param](server, tmp_path)
    rig.add(Phase.EXPAND, *USERS)
    return rig


def columns(rig):
    found = rig.sql("SELECT column_name FROM information_schema.columns WHERE table_name = 'users' ORDER BY 1")
    return [row[0] for row in found]


def test_every_tool_of_the_catalog_is_registered_and_has_a_rig():
    kinds = get_args(get_args(migrations.Tool)[0])
    assert {name for kind in kinds for name in get_args(kind.model_fields["type"].annotation)} == TOOLS.keys()
    assert RIGS.keys() == TOOLS.keys()


def test_pending_is_executed_once(rig):
    email = rig.add(Phase.EXPAND, EMAIL)
    pending = rig.tool().pending(Phase.EXPAND)
    assert pending[-1].name == email
    assert {one.phase for one in pending} == {Phase.EXPAND}
    assert list(rig.tool().apply(Phase.EXPAND)) == [one.name for one in pending]
    assert columns(rig) == ["email", "id", "name"]
    assert list(rig.tool().pending(Phase.EXPAND)) == []
    assert list(rig.tool().apply(Phase.EXPAND)) == []
    assert rig.sql("SELECT count(*) FROM users") == [(1,)]


def test_pending_touches_nothing_and_its_sql_is_what_would_be_executed_and_nothing_else(rig):
    rig.tool().apply(Phase.EXPAND)
    rig.add(Phase.EXPAND, EMAIL)
    sql = "\n".join(one.sql for one in rig.tool().pending(Phase.EXPAND))
    assert [type(one.stmt).__name__ for one in pglast.parse_sql(sql)] == ["AlterTableStmt"]
    assert columns(rig) == ["id", "name"]


def test_the_destructive_half_is_executed_by_itself_and_after_the_other(rig):
    contract = rig.add(Phase.CONTRACT, DROP)
    for call in (rig.tool().pending, rig.tool().apply):
        with pytest.raises(MigrationRefused, match="the compatible half is not executed yet"):
            call(Phase.CONTRACT)
    rig.tool().apply(Phase.EXPAND)
    assert columns(rig) == ["id", "name"]
    assert list(rig.tool().pending(Phase.EXPAND)) == []
    pending = rig.tool().pending(Phase.CONTRACT)
    assert [one.name for one in pending] == [contract]
    assert "DROP COLUMN name" in pending[0].sql
    assert list(rig.tool().apply(Phase.CONTRACT)) == [contract]
    assert columns(rig) == ["id"]
    assert list(rig.tool().pending(Phase.CONTRACT)) == []
    rig.add(Phase.EXPAND, EMAIL)
    rig.tool().apply(Phase.EXPAND)
    assert columns(rig) == ["email", "id"]


def test_no_tool_executes_a_backfill(rig):
    assert list(rig.tool().pending(Phase.BACKFILL)) == []


def test_a_statement_that_fails_is_named_with_the_databases_words_and_no_password(rig):
    rig.tool().apply(Phase.EXPAND)
    rig.add(Phase.EXPAND, "ALTER TABLE nobody ADD COLUMN a text DEFAULT 'shh'")
    with pytest.raises(MigrationFailed) as raised:
        rig.tool().apply(Phase.EXPAND)
    assert not isinstance(raised.value, MigrationBlocked)
    assert "ALTER TABLE nobody ADD COLUMN a text" in str(raised.value)
    assert 'relation "nobody" does not exist' in str(raised.value)
    assert raised.value.service == "shop"
    assert PASSWORD not in f"{raised.value}{rig.told}"
    assert rig.tool().pending(Phase.EXPAND) != []


def test_a_login_that_is_wrong_fails_without_showing_it(rig):
    with pytest.raises(MigrationFailed) as raised:
        rig.tool(password="wrong-pa55").apply(Phase.EXPAND)  # noqa: S106
    assert "password authentication failed" in str(raised.value)
    assert "wrong-pa55" not in f"{raised.value}{raised.value.__cause__}{raised.value.__context__}{rig.told}"


def test_a_lock_is_tried_for_again_and_again_and_then_had(rig):
    rig.tool().apply(Phase.EXPAND)
    rig.add(Phase.EXPAND, EMAIL)
    with rig.server.connect(rig.dbname, autocommit=False, application_name="report") as other:
        other.execute("SELECT name FROM users")
        with pytest.raises(MigrationBlocked) as raised:
            rig.tool(retry_for="500ms").apply(Phase.EXPAND)
        assert "lock timeout" in str(raised.value)
        assert "(report, user postgres)" in str(raised.value)
        assert columns(rig) == ["id", "name"]
        rig.told.clear()

        def commit_when_it_was_tried():
            wait_until(lambda: any("tried again" in line for line in list(rig.told)), 60, "a try")
            other.commit()

        later = threading.Thread(target=commit_when_it_was_tried)
        later.start()
        rig.tool(retry_for="120s").apply(Phase.EXPAND)
        later.join()
    assert columns(rig) == ["email", "id", "name"]


def test_two_releases_take_turns(rig):
    rig.add(Phase.EXPAND, "SELECT pg_sleep(0.5)", "INSERT INTO users VALUES (2, 'two')")
    errors = []

    def apply():
        try:
            rig.tool(retry_for="60s").apply(Phase.EXPAND)
        except Exception as error:  # noqa: BLE001 - all of them are wrong here
            errors.append(error)

    threads = [threading.Thread(target=apply) for _ in range(2)]
    for thread in threads:
        thread.start()
        time.sleep(0.05)
    for thread in threads:
        thread.join()
    assert errors == []
    assert rig.sql("SELECT count(*) FROM users") == [(2,)]
