"""A backfill on a real server: every row once, whoever writes, holds locks, lags or is killed beside it."""

import os
import signal
import subprocess
import sys
import threading
import time
from datetime import timedelta
from pathlib import Path

import pytest

from bluegreen.catalog.migrations import Backfill
from bluegreen.core.errors import MigrationBlocked, MigrationFailed, MigrationRefused
from bluegreen.migrations import backfill, backfill_file
from bluegreen.migrations.backfill_pace import Pace
from bluegreen.migrations.backfill_sql import statements
from bluegreen.migrations.backfill_state import pending
from bluegreen.migrations.ports import Migration, Phase
from bluegreen.migrations.replica_lag import ReplicaLag
from tests.unit.migrations.backfill.test_backfill_file import GOOD, NAME

ROOT = Path(__file__).resolve().parents[4]
LEFT = "SELECT count(*) FROM users WHERE full_name IS DISTINCT FROM name"
# Each change of a row is counted, so that one that is done twice is seen.
TABLE = """
CREATE TABLE users (id bigserial PRIMARY KEY, name text NOT NULL, full_name text, times int NOT NULL DEFAULT 0);
INSERT INTO users (name) SELECT 'user ' || g FROM generate_series(1, 5000) g;
"""
COUNTED = GOOD.replace("full_name: name", "full_name: name\n  times: times + 1")


@pytest.fixture
def users(connect):
    connection = connect()
    connection.execute(TABLE)
    return connection


class Clock:
    """Time passes only in pauses: so many seconds in each."""

    def __init__(self, step=11.0):
        self.now, self.step, self.each = 0.0, step, lambda: None

    def __call__(self):
        return self.now

    def sleep(self, _):
        self.now += self.step
        self.each()


def timed(clock):
    return {"clock": clock, "sleep": clock.sleep}


def migration(text=COUNTED, name=NAME):
    return Migration(name, Phase.BACKFILL, text)


def run(connect, text=COUNTED, log=lambda _: None, *, limits=None, **words):
    return backfill.run(connect, migration(text), limits or Backfill(batch=300, share=1), log, **words)


def test_every_row_once(connect, users):
    assert [one.name for one in pending(connect, [migration()])] == [NAME]
    done = run(connect)
    # Seventeen pages, and one of the second pass, which has nothing left to do.
    assert (done.rows, done.drift, done.batches) == (5000, 0, 18)
    assert users.execute("SELECT min(times), max(times) FROM users").fetchone() == (1, 1)
    assert pending(connect, [migration()]) == ()
    assert pending(connect, [migration(COUNTED + "# another text")]) != ()
    assert run(connect).rows == 5000
    assert users.execute("SELECT max(times) FROM users").fetchone() == (1,)


def test_a_key_of_two_columns_and_one_of_texts(connect):
    connection = connect()
    connection.execute(
        'CREATE TABLE users (tenant text COLLATE "C", id uuid DEFAULT gen_random_uuid(), name text, full_name text, '
        "PRIMARY KEY (tenant, id)); INSERT INTO users (tenant, name) "
        "SELECT 'it''s ' || g % 7, 'n ' || g FROM generate_series(1, 3000) g"
    )
    assert run(connect, GOOD.replace("key: id", "key: [tenant, id]")).rows == 3000


KILLED = """
import sys, time
import psycopg
from bluegreen.catalog.migrations import Backfill
from bluegreen.migrations import backfill, backfill_file
from bluegreen.migrations.ports import Migration, Phase
address, name, text = sys.argv[1:]
backfill.run(lambda: psycopg.connect(address, autocommit=True), Migration(name, Phase.BACKFILL, text),
             Backfill(batch=50, share=0.03), lambda line: print(line, flush=True))
"""


def batches(users):
    """How many batches are done; before the first one there is no table that says it."""
    if users.execute("SELECT to_regclass('bluegreen_backfills')").fetchone() == (None,):
        return 0
    return users.execute("SELECT coalesce(max(batches), 0) FROM bluegreen_backfills").fetchone()[0]


def worker_under_way(users, command, env, within=60.0):
    """Start a worker and wait for its first batch; one whose killed predecessor still has its session is started again."""
    before, end = batches(users), time.monotonic() + within
    child = subprocess.Popen(command, env=env)
    while batches(users) == before:
        assert time.monotonic() < end, "no batch was done"
        if child.poll() is not None:
            child = subprocess.Popen(command, env=env)
        time.sleep(0.01)
    return child


def test_killed_at_any_moment_another_worker_goes_on_and_no_row_is_changed_twice(backfill_server, connect, users):
    address = backfill_server.url(users.info.dbname)
    env = os.environ | {"PYTHONPATH": f"{ROOT}/plugins:{ROOT}"}
    for pause in (0.0, 0.2, 0.1, 0.4):
        child = worker_under_way(users, [sys.executable, "-c", KILLED, address, NAME, COUNTED], env)
        time.sleep(pause)
        os.kill(child.pid, signal.SIGKILL)
        child.wait()
    assert users.execute("SELECT min(times) FROM users").fetchone() == (0,)
    assert users.execute("SELECT max(times) FROM users").fetchone() == (1,)
    said = []
    wait = threading.Event()
    for _ in range(50):
        try:
            assert run(connect, log=said.append).rows == 5000
            break
        except MigrationBlocked:  # the killed one's session is still ending
            wait.wait(0.1)
    assert said[0].startswith("goes on in pass 1 after")
    assert users.execute("SELECT min(times), max(times) FROM users").fetchone() == (1, 1)


def test_rows_that_somebody_holds_are_done_in_the_second_pass(connect, users):
    holder = connect(autocommit=False)
    holder.execute("UPDATE users SET name = 'held' WHERE id BETWEEN 100 AND 110")
    timer = threading.Timer(1.5, holder.commit)
    timer.start()
    done = run(connect, lock_timeout=timedelta(milliseconds=100))
    timer.join()
    assert done.rows == 5000
    assert users.execute("SELECT full_name FROM users WHERE id = 105").fetchone() == ("held",)


def test_drift_is_a_failure_with_its_number_and_a_row_and_the_next_try_begins_anew(connect, users):
    users.execute("CREATE FUNCTION lost() RETURNS trigger LANGUAGE plpgsql AS "
                  "$$ BEGIN NEW.full_name := NULL; RETURN NEW; END $$")  # fmt: skip
    users.execute(
        "CREATE TRIGGER lost BEFORE UPDATE ON users FOR EACH ROW WHEN (NEW.id = 4321) EXECUTE FUNCTION lost()"
    )
    with pytest.raises(MigrationFailed, match="the drift query says 1, allowed 0; one is still to do: id = 4321"):
        run(connect)
    users.execute("DROP TRIGGER lost ON users")
    assert run(connect).drift == 0


def test_one_that_was_done_is_looked_at_again_and_a_changed_file_begins_anew(connect, users):
    run(connect)
    users.execute("INSERT INTO users (name) VALUES ('without a trigger')")
    with pytest.raises(MigrationFailed, match="the drift query says 1"):
        run(connect)
    assert run(connect).rows == 5001
    users.execute("UPDATE users SET full_name = NULL")
    assert run(connect, COUNTED + "# changed").rows == 5001


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("table: users", "table: nobody", "table: found no table nobody"),
        ("key: id", "key: name", r"key: found \[name\], allowed \[id\]"),
        ("full_name: name", "full_name: nmae", "set, where: the server does not take it: column .nmae. does not exist"),
        ("count(*)", "count(*) + nothing", "drift: the server does not take it"),
    ],
)
def test_a_file_that_does_not_fit_the_table_is_refused_before_anything_is_touched(connect, users, old, new, said):
    with pytest.raises(MigrationRefused, match=said):
        run(connect, GOOD.replace(old, new))
    assert users.execute("SELECT to_regclass('bluegreen_backfills')").fetchone() == (None,)


@pytest.mark.parametrize(
    "drift", ["SELECT NULL::int", "SELECT 1 WHERE false", "SELECT 0 UNION ALL SELECT 1", "SELECT 'a'"]
)
def test_a_drift_query_that_gives_no_number_is_no_zero(connect, users, drift):
    text = "\n".join([*GOOD.splitlines()[:-1], f"drift: {drift}"])
    with pytest.raises(MigrationFailed, match="wanted one number"):
        run(connect, text)


def test_two_at_once(connect, users):
    blocked = []

    def second(_):
        try:
            run(connect)
        except MigrationBlocked as error:
            blocked.append(str(error))

    run(connect, log=second, **timed(Clock()))  # a line of progress after each batch
    assert "somebody else is at it: process" in blocked[0]


def test_it_waits_while_a_replica_is_behind_and_says_which(connect, users):
    users.execute("SELECT pg_create_logical_replication_slot('behind_' || pg_backend_pid(), 'pgoutput')")
    name = f"behind_{users.info.backend_pid}"
    said, clock = [], Clock(2)

    def each():
        users.execute("SELECT pg_logical_emit_message(true, 'x', 'x')")
        if clock.now > 30:
            users.execute(
                "SELECT pg_drop_replication_slot(%s) FROM pg_replication_slots WHERE slot_name = %s", [name, name]
            )

    clock.each = each
    run(connect, log=said.append, limits=Backfill(batch=300, max_lag=timedelta(seconds=10)), **timed(clock))
    assert next(line for line in said if line.startswith("waits")).startswith(f"waits: slot {name} (inactive) is 1")
    assert clock.now > 30


def test_a_replica_that_keeps_up_is_not_behind(two):
    now = [0.0]
    lag = ReplicaLag(lambda: now[0])
    with two.own.connect() as connection:
        for _ in range(5):
            connection.execute("INSERT INTO orders (writer, number) SELECT 1, coalesce(max(number), 0) + 1 FROM orders")
            time.sleep(0.5)
            now[0] += 2
            assert lag.behind(connection)[0] <= 4


def test_it_ends_in_time_and_goes_on_from_there(connect, users):
    with pytest.raises(MigrationFailed, match=r"not done within backfill.timeout, 600 rows are; release again"):
        run(connect, limits=Backfill(batch=300, timeout="20s"), **timed(Clock()))
    assert 0 < users.execute(LEFT).fetchone()[0] < 5000
    assert run(connect).rows == 5000


def test_a_session_that_the_server_ends_is_tried_again(connect, users):
    users.execute("ALTER TABLE users ADD CHECK (id <> 2000 OR full_name IS NULL)")
    with pytest.raises(MigrationFailed, match="violates check constraint"):
        run(connect)
    users.execute("ALTER TABLE users DROP CONSTRAINT users_check")

    def end(_):
        users.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'backfill'")

    with pytest.raises(MigrationBlocked):
        run(lambda: connect(application_name="backfill"), log=end, **timed(Clock()))
    assert run(connect).rows == 5000


def test_progress_says_rate_share_and_time_left(connect, users):
    said = []
    run(connect, log=said.append, **timed(Clock()))
    assert said[2] == "pass 1: 18%, 100 s left; 900 rows, 41 rows/s, 300 a batch", said


def test_the_pace_is_the_share_of_the_time_and_smaller_where_batches_are_slow():
    pace = Pace(1000, 0.25)
    assert pace.after(0.2) == pytest.approx(0.6)
    pace.after(0.6)
    assert pace.size == 500
    pace.after(0.05)
    assert pace.size == 751
    pace.blocked()
    assert (pace.size, pace.after(0.2)) == (375, pytest.approx(0.8))
    for _ in range(20):
        pace.after(0.01)
    assert pace.size == 1000


def test_batches_are_small_where_others_wait_behind_them():
    assert (Backfill().rows, Backfill(share=1).rows, Backfill(share=1, batch=7).rows) == (50, 5000, 7)


def test_the_service_file_says_a_batch_s_rows_where_the_backfill_s_file_does_not(connect, users):
    assert run(connect, limits=Backfill(share=0.9)).batches == 104  # each pass ends with an empty page
    users.execute("UPDATE users SET full_name = NULL; DROP TABLE bluegreen_backfills")
    assert run(connect, COUNTED + "batch: 1000\n", limits=Backfill(share=0.9)).batches == 7


def test_rows_of_a_page_are_looked_up_and_not_compared_each_with_each(connect, users):
    """A planner that knows nothing of a new column takes ``new IS NULL`` for one row, twice where it stands twice."""
    users.execute("ANALYZE users")
    users.execute("ALTER TABLE users ADD fresh_a text, ADD fresh_b text")
    text = GOOD.replace("full_name: name", "fresh_a: name").replace(
        "where: full_name IS NULL", "where: fresh_a IS NULL AND fresh_b IS NULL"
    )
    made = statements(users, backfill_file.read(migration(text)), NAME)
    change = made.change(["1000"], ["1100"], skip_locked=True).as_string(users)
    plan = "\n".join(line for (line,) in users.execute(f"EXPLAIN (ANALYZE) {change}"))
    assert "Rows Removed by Join Filter" not in plan, plan
    assert users.execute("SELECT count(fresh_a) FROM users").fetchone() == (100,)


def test_a_user_who_may_make_no_table_is_told(backfill_server, connect, users):
    users.execute("DROP ROLE IF EXISTS poor")
    users.execute("CREATE ROLE poor LOGIN; GRANT SELECT, UPDATE ON users TO poor")
    with pytest.raises(MigrationFailed, match=r"permission denied for schema public .* grant it to the user"):
        run(lambda: connect(user="poor"))
