"""What a failed release's report says of the database, and of the application's log."""

import json
import threading

import psycopg
import pytest

from bluegreen.migrations import trouble
from bluegreen.migrations.app_log import sql_errors
from bluegreen.migrations.databases import shown as without_literals
from bluegreen.migrations.trouble import state_of
from demo.processes import wait_until


def test_who_waits_for_whom_with_the_query_that_holds_and_without_anybodys_data(connect):
    holder = connect(autocommit=False, application_name="shop-blue")
    holder.execute("CREATE TABLE users (id int, mail text)")
    holder.commit()
    holder.execute("UPDATE users SET mail = 'ana@example.com' WHERE id = 42")
    waits = connect(application_name="migrations")
    thread = threading.Thread(target=waits.execute, args=["ALTER TABLE users ADD COLUMN x text DEFAULT 'geheim'"])
    thread.start()
    wait_until(lambda: state_of(connect)["locks"], 10, "the lock")
    told = state_of(connect)
    holder.rollback()
    thread.join()
    (lock,) = told["locks"]
    assert (lock["relation"], lock["wants"], lock["held"]) == ("users", "AccessExclusiveLock", "RowExclusiveLock")
    assert (lock["waits"], lock["holds"], lock["holds_state"]) == ("migrations", "shop-blue", "idle in transaction")
    assert lock["holds_query"] == "UPDATE users SET mail = ? WHERE id = ?"
    assert lock["holds_pid"] == holder.info.backend_pid
    assert "geheim" not in json.dumps(told)
    assert told["slots"] is not None
    assert "not_known" not in told


def test_long_transactions(connect, monkeypatch):
    monkeypatch.setattr(trouble, "_PARTS", {"long_transactions": (trouble._TRANSACTIONS, [0, 5])})
    old = connect(autocommit=False, application_name="report")
    old.execute("SELECT 1")
    assert [one["application_name"] for one in state_of(connect)["long_transactions"]] == ["report"]


def test_the_state_of_a_replicated_pair(two):
    slots = {one["slot_name"]: one for one in state_of(two.own.connect)["slots"]}
    assert slots[two.replica.subscription]["active"] is True
    names = [one["name"] for one in state_of(two.other.connect)["subscriptions"]]
    assert two.replica.subscription in names


def test_a_database_that_does_not_answer_is_said_without_its_password(backfill_server):
    def connect():
        return psycopg.connect(backfill_server.url("postgres", "postgres", "wr0ng-word"), connect_timeout=2)

    told = state_of(connect)
    assert "password authentication failed" in told["not_known"]["database"]
    assert "wr0ng-word" not in json.dumps(told)


@pytest.mark.parametrize(
    ("query", "shown"),
    [
        ("SELECT * FROM t1 WHERE a = 'it''s' AND b = 1.5 -- a secret", "SELECT * FROM t1 WHERE a = ? AND b = ?"),
        ("DO $x$ BEGIN 'a'; END $x$", "DO ?"),
        ("SELECT E'open to the", "SELECT ?"),
        ("/* ana */ SELECT\n 1", "SELECT ?"),
    ],
)
def test_values_are_no_part_of_a_query(query, shown):
    assert without_literals(query) == shown


def test_the_logs_last_sql_errors(tmp_path):
    lines = [
        'ERROR: column "full_name" does not exist at character 8',
        'relation "orders" does not exist',
        'null value in column "name" of relation "users" violates not-null constraint',
        "DETAIL: Failing row contains (1, ana@example.com).",
        'duplicate key value violates unique constraint "users_key" DETAIL: Key (mail)=(ana@example.com) exists',
        "(1054, \"Unknown column 'full_name' in 'field list'\")",
        "Duplicate entry 'ana@example.com' for key; pymysql.err.IntegrityError",
        "postgresql://app:s3cret@db/shop: permission denied for table users",
        "GET / 200", "all well",
    ]  # fmt: skip
    (tmp_path / "log").write_text("\n".join(lines))
    found = sql_errors(tmp_path / "log")
    assert len(found) == 7
    assert 'column "full_name" does not exist' in found[0]
    assert "s3cret" not in str(found)
    assert "ana@" not in str(found)


def test_a_long_log_gives_its_end_and_a_missing_one_says_so(tmp_path):
    log = tmp_path / "log"
    log.write_text("".join(f'column "c{n}" does not exist {"x" * 500}\n' for n in range(5000)))
    found = sql_errors(log)
    assert [line.split('"')[1] for line in found] == [f"c{n}" for n in range(4990, 5000)]
    assert max(map(len, found)) <= 301
    assert sql_errors(tmp_path / "none") == (f"{tmp_path}/none: cannot be read: no such file or directory",)
