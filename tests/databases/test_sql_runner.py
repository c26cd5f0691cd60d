"""The runner of plain SQL on a real PostgreSQL: what it executes, in what transactions, and what its history refuses."""

from __future__ import annotations

import pytest

from bluegreen.core.errors import MigrationFailed, MigrationRefused
from bluegreen.migrations.ports import Phase

USERS = "CREATE TABLE users (id bigint PRIMARY KEY, name text);\nINSERT INTO users SELECT n, 'n' || n FROM generate_series(1, 100) n;"
STEPS = """\
ALTER TABLE users ADD COLUMN email text;
ALTER TABLE users ADD CONSTRAINT short CHECK (length(name) < 100) NOT VALID;
-- by itself: it reads the whole table
ALTER TABLE users VALIDATE CONSTRAINT short;
CREATE INDEX CONCURRENTLY users_lower ON users (lower(name)) WHERE name <> 'x';
CREATE TYPE mood AS ENUM ('well');
ALTER TYPE mood ADD VALUE 'unwell';
ALTER TABLE users ADD COLUMN mood mood DEFAULT 'unwell';
"""


@pytest.fixture
def rig(rig):
    rig.write(_0001_users_expand=USERS)
    return rig


def test_it_executes_what_is_pending_in_order_and_then_nothing(rig):
    rig.write(_0002_email_expand=STEPS)
    assert [one.name for one in rig.runner().pending(Phase.EXPAND)] == [
        "0001_users.expand.sql",
        "0002_email.expand.sql",
    ]
    assert rig.runner().apply(Phase.EXPAND) == ["0001_users.expand.sql", "0002_email.expand.sql"]
    assert rig.history() == {"0001_users.expand.sql": ("done", 2), "0002_email.expand.sql": ("done", 7)}
    assert rig.sql("SELECT mood::text FROM users LIMIT 1") == [("unwell",)]
    assert rig.runner().pending(Phase.EXPAND) == []
    assert rig.runner().apply(Phase.EXPAND) == []


def test_contract_waits_for_expand_and_runs_by_itself(rig):
    rig.write(_0001_users_contract="ALTER TABLE users DROP COLUMN name")
    with pytest.raises(
        MigrationRefused, match=r"0001_users.contract.sql: the compatible half is not executed yet: 0001"
    ):
        rig.runner().apply(Phase.CONTRACT)
    rig.runner().apply(Phase.EXPAND)
    assert rig.sql("SELECT count(name) FROM users") == [(100,)]
    assert rig.runner().apply(Phase.CONTRACT) == ["0001_users.contract.sql"]


def test_a_file_is_done_or_not_done_as_one(rig):
    rig.write(_0002_two_expand="ALTER TABLE users ADD COLUMN a text;\nALTER TABLE nobody ADD COLUMN a text;")
    with pytest.raises(MigrationFailed) as raised:
        rig.runner().apply(Phase.EXPAND)
    assert "0002_two.expand.sql: statement 2 of 2 (line 2): ALTER TABLE nobody ADD COLUMN a text" in str(raised.value)
    assert 'relation "nobody" does not exist (42P01)' in str(raised.value)
    assert rig.sql("SELECT count(*) FROM information_schema.columns WHERE column_name = 'a'") == [(0,)]
    assert rig.history()["0002_two.expand.sql"] == ("failed", 0)
    assert "nobody" in rig.runner().status().errors["0002_two.expand.sql"]


def test_a_next_release_goes_on_behind_what_is_done_in_a_file_that_was_mended(rig):
    broken = "CREATE INDEX CONCURRENTLY users_name ON users (name);\nALTER TABLE users ADD COLUMN a txt;"
    rig.write(_0002_two_expand=broken)
    with pytest.raises(MigrationFailed, match=r'type "txt" does not exist'):
        rig.runner().apply(Phase.EXPAND)
    assert rig.history()["0002_two.expand.sql"] == ("failed", 1)
    rig.write(_0002_two_expand=broken.replace("txt", "text"))
    assert rig.runner("run-two@2").apply(Phase.EXPAND) == ["0002_two.expand.sql"]
    assert rig.sql("SELECT state, done, run FROM bluegreen_migrations WHERE name LIKE '0002%'") == [
        ("done", 2, "run-two@2")
    ]


def test_settings_are_said_again_where_it_goes_on(rig):
    rig.sql("CREATE SCHEMA away; CREATE TABLE away.users (id bigint)")
    text = "SET search_path = away;\nCREATE INDEX CONCURRENTLY i ON users (id);\nALTER TABLE users ADD COLUMN {};"
    rig.write(_0002_away_expand=text.format("a txt"))
    with pytest.raises(MigrationFailed):
        rig.runner().apply(Phase.EXPAND)
    rig.write(_0002_away_expand=text.format("a text"))
    rig.runner().apply(Phase.EXPAND)
    assert rig.sql("SELECT table_schema FROM information_schema.columns WHERE column_name = 'a'") == [("away",)]


def test_what_a_plan_says_is_what_apply_does(rig):
    rig.write(_0002_email_expand="SET lock_timeout = '1h';\n" + STEPS)
    plan = "\n".join(rig.runner().plan(Phase.EXPAND))
    assert "0001_users.expand.sql: 2 statements, one transaction" in plan
    assert "0002_email.expand.sql: 8 statements, each statement by itself" in plan
    assert (
        "2 (line 2): locking; lock_timeout 0.1 s, statement_timeout 2 s\n    ALTER TABLE users ADD COLUMN email" in plan
    )
    assert "4 (line 5): online; lock_timeout 3 s, statement_timeout none\n    ALTER TABLE users VALIDATE" in plan
    assert "5 (line 6): online, outside a transaction;" in plan
    assert rig.sql("SELECT to_regclass('bluegreen_migrations')") == [(None,)]
    rig.runner().apply(Phase.EXPAND)
    assert any("statement 1 of 8 (line 1)" in line and "passed over" in line for line in rig.told)


def test_status_says_how_the_database_is(rig):
    rig.runner().apply(Phase.EXPAND)
    rig.write(_0002_next_expand="SELECT 1")
    with pytest.raises(Exception, match="could not create unique index"):
        rig.sql("INSERT INTO users VALUES (1000, 'n1')") or rig.sql(
            "CREATE UNIQUE INDEX CONCURRENTLY u ON users (name)"
        )
    status = rig.runner().status()
    assert status.version == "0001_users.expand.sql"
    assert status.states == {"0001_users.expand.sql": "done", "0002_next.expand.sql": "pending"}
    assert status.left_over == ("invalid index public.u on users",)
    assert status.waiting == ()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("SELEC 1", 'line 1 is not PostgreSQL\'s SQL: syntax error at or near "SELEC"'),
        ("SELECT 1;\n\nBEGIN;", "line 3 begins or ends a transaction; take it out"),
        ("CREATE INDEX CONCURRENTLY ON users (id)", "line 1 lets the server name the index"),
        ("SET ROLE app", "line 1 becomes another role"),
        ("CREATE DATABASE other", "line 1 is not about the service's own database"),
        ("COPY users FROM STDIN", "line 1 copies from or to a client"),
        ("REINDEX DATABASE d", "line 1 rebuilds every index"),
        ("RESET ALL", "line 1 resets the timeouts too"),
    ],
)
def test_what_no_migration_may_say_is_refused_before_anything_is_touched(rig, text, words):
    rig.write(_0002_no_expand=text)
    with pytest.raises(MigrationRefused) as raised:
        rig.runner().apply(Phase.EXPAND)
    assert f"0002_no.expand.sql: {words}" in str(raised.value)
    assert rig.sql("SELECT to_regclass('users')") == [(None,)]


@pytest.mark.parametrize(
    ("change", "words", "remedy"),
    [
        ("state = 'ok'", "its state is ok, not one of running, done, failed", "SET state = 'done' WHERE"),
        ("done = 5", "5 of 2 statements are done", "SET done = …, statements = … WHERE"),
        ("done = 1", "it is done with 1 of 2 statements", "SET state = 'failed' WHERE"),
        ("phase = 'contract'", "its phase is contract, the file's expand", "SET phase = 'expand' WHERE"),
        ("name = '0000_gone.expand.sql'", "no file has this name", "DELETE FROM bluegreen_migrations WHERE"),
        ("checksum = 'x'", "was changed after it was executed", "SET checksum = '"),
    ],
)
def test_a_history_that_was_changed_by_hand_is_refused_with_the_statement_that_mends_it(rig, change, words, remedy):
    rig.runner().apply(Phase.EXPAND)
    rig.sql(f"UPDATE bluegreen_migrations SET {change}")
    for call in (rig.runner().pending, rig.runner().apply, rig.runner().plan):
        with pytest.raises(MigrationRefused) as raised:
            call(Phase.EXPAND)
        assert words in str(raised.value)
        assert remedy in str(raised.value)


def test_a_file_that_was_changed_after_it_was_executed_is_refused_and_the_remedy_works(rig):
    rig.runner().apply(Phase.EXPAND)
    rig.write(_0001_users_expand="-- only a comment\n" + USERS)
    assert rig.runner().pending(Phase.EXPAND) == []
    rig.write(_0001_users_expand=USERS + "\nSELECT 1;")
    with pytest.raises(MigrationRefused, match=r"its file has 3 statements, 2 were executed") as raised:
        rig.runner().apply(Phase.EXPAND)
    rig.sql(raised.value.next_step.partition("already: ")[2])
    assert rig.runner().pending(Phase.EXPAND) == []


def test_two_services_in_one_database_have_a_history_each(rig, tmp_path):
    rig.runner().apply(Phase.EXPAND)
    rig.sql("UPDATE bluegreen_migrations SET service = 'other', name = '0000_other.expand.sql'")
    assert [one.name for one in rig.runner().pending(Phase.EXPAND)] == ["0001_users.expand.sql"]
