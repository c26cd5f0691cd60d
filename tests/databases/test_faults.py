"""What happens to a migration on a real PostgreSQL: locks, deadlocks, full disks, lost connections, missing permissions, a second release."""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
import time
from contextlib import contextmanager

import psycopg
import pytest

from bluegreen.core.errors import MigrationBlocked, MigrationFailed
from bluegreen.migrations.databases import shown
from bluegreen.migrations.ports import Phase
from demo.processes import wait_until
from tests.rigs.migrations import SqlRig

ADD = "ALTER TABLE users ADD COLUMN email text"
LONG = "SELECT count(*) FROM users WHERE name <> 'a secret word'"


@pytest.fixture
def rig(rig):
    rig.sql(
        "CREATE TABLE users (id bigint PRIMARY KEY, name text); INSERT INTO users SELECT n, 'n' FROM generate_series(1, 1000) n"
    )
    rig.write(_0001_email_expand=ADD)
    return rig


def columns(rig):
    return [row[0] for row in rig.sql("SELECT column_name FROM information_schema.columns WHERE table_name = 'users'")]


@contextmanager
def application(rig):
    """Point queries, one after the other; gives a list of how long each took."""
    over, took = threading.Event(), []

    def ask():
        with rig.server.connect(rig.dbname) as connection:
            while not over.wait(0.002):
                begin = time.monotonic()
                connection.execute("SELECT name FROM users WHERE id = 5").fetchone()
                took.append(time.monotonic() - begin)

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield took
    finally:
        over.set()
        thread.join()


def test_a_long_transaction_is_waited_for_and_the_application_is_not_frozen(rig):
    with rig.server.connect(rig.dbname, autocommit=False, application_name="report") as other, application(rig) as took:
        other.execute(LONG)
        threading.Timer(1.5, other.commit).start()
        assert rig.runner(retry_for="20s").apply(Phase.EXPAND) == ["0001_email.expand.sql"]
        wait_until(lambda: len(took) > 100, 10, "the application to ask")
    assert "email" in columns(rig)
    assert max(took) < 1.0  # a naive ALTER: 1.5 s; each of ours 0.1 s, on a machine that others use too
    said = "\n".join(rig.told)
    assert "waits for process" in said
    assert "(report, user postgres): idle in transaction, its transaction " in said
    assert "SELECT count(*) FROM users WHERE name <> ?" in said
    assert "secret" not in said


def test_who_held_the_lock_all_the_time_is_named(rig):
    with rig.server.connect(rig.dbname, autocommit=False, application_name="report") as other:
        other.execute(LONG)
        with pytest.raises(MigrationBlocked) as raised:
            rig.runner(retry_for="1s").apply(Phase.EXPAND)
        assert rig.runner().status().states == {"0001_email.expand.sql": "failed"}
    text = str(raised.value)
    assert "0001_email.expand.sql: not done within 1 s: statement 1 of 1 (line 1): ALTER TABLE" in text
    assert "canceling statement due to lock timeout (55P03); held by process" in text
    assert "(report, user postgres)" in text
    assert raised.value.retryable
    assert rig.runner("run-two@2").apply(Phase.EXPAND) == ["0001_email.expand.sql"]


def test_what_locks_nothing_waits_longer_than_a_lock_may_take(rig):
    rig.runner().apply(Phase.EXPAND)
    rig.write(_0002_i_expand="CREATE INDEX CONCURRENTLY users_name ON users (name)")
    with rig.server.connect(rig.dbname, autocommit=False) as other:
        other.execute("INSERT INTO users VALUES (6000, 'open')")
        threading.Timer(1.0, other.commit).start()
        rig.runner(retry_for="20s", lock_timeout="50ms").apply(Phase.EXPAND)
    assert any("waits for process" in line for line in rig.told)
    assert not any("tried again" in line for line in rig.told)


def test_a_statement_that_is_slow_by_itself_is_not_tried_again_and_again(rig):
    rig.write(_0002_slow_expand="UPDATE users SET name = 'x' WHERE pg_sleep(0.01) IS NOT NULL")
    begin = time.monotonic()
    with pytest.raises(MigrationFailed, match=r"statement timeout \(57014\)") as raised:
        rig.runner(statement_timeout="300ms", retry_for="20s").apply(Phase.EXPAND)
    assert time.monotonic() - begin < 10
    assert not isinstance(raised.value, MigrationBlocked)
    assert "CONCURRENTLY" in raised.value.next_step


def test_of_a_deadlock_we_may_be_the_victim_and_try_again(rig):
    rig.sql("CREATE TABLE orders (id bigint)")
    rig.write(
        _0002_both_expand="ALTER TABLE users ADD COLUMN a text; SELECT pg_sleep(0.4); ALTER TABLE orders ADD COLUMN a text"
    )
    with rig.server.connect(rig.dbname, autocommit=False) as other:
        other.execute("SET deadlock_timeout = '20s'")
        other.execute("LOCK TABLE orders IN ACCESS SHARE MODE")
        crossed = threading.Thread(
            target=lambda: (time.sleep(0.3), other.execute("SELECT id FROM users"), other.commit())
        )
        crossed.start()
        rig.sql(f"ALTER DATABASE {rig.dbname} SET deadlock_timeout = '100ms'")
        rig.runner(retry_for="20s", lock_timeout="2s", statement_timeout="10s").apply(Phase.EXPAND)
        crossed.join()
    assert any("deadlock detected (40P01)" in line for line in rig.told), rig.told
    assert columns(rig).count("a") == 1


def test_a_connection_that_is_lost_is_made_anew(rig):
    rig.write(
        _0002_i_expand="ALTER TABLE users ADD COLUMN b text; SELECT pg_sleep(0.5); ALTER TABLE users ADD COLUMN c text"
    )
    runner = threading.Thread(target=rig.runner(retry_for="20s").apply, args=(Phase.EXPAND,))
    runner.start()
    sleeping = "SELECT pid FROM pg_stat_activity WHERE application_name = 'bluegreen-migrations' AND query ~ 'pg_sleep'"
    found = wait_until(lambda: rig.sql(f"{sleeping} AND datname = current_database()"), 10, "the runner to sleep")
    rig.sql(f"SELECT pg_terminate_backend({found[0][0]})")
    runner.join()
    assert any("57P01" in line and "tried again" in line for line in rig.told), rig.told
    assert {"email", "b", "c"} <= set(columns(rig))


def test_a_server_that_does_not_answer_blocks_and_a_wrong_password_fails_without_showing_it(rig):
    wrong = rig.server.credentials(password="wrong-pa55")  # noqa: S106
    with pytest.raises(MigrationFailed, match="password authentication failed") as raised:
        rig.runner(secrets=lambda _: wrong).apply(Phase.EXPAND)
    assert not isinstance(raised.value, MigrationBlocked)
    nobody = type(wrong)("postgres", "wrong-pa55", "127.0.0.1", 1)
    with pytest.raises(MigrationBlocked, match=r"not done within 0.5 s: connection failed") as refused:
        rig.runner(secrets=lambda _: nobody, retry_for="500ms").apply(Phase.EXPAND)
    assert "wrong-pa55" not in f"{raised.value}{refused.value}{rig.told}"


@pytest.fixture
def weak(rig):
    """A login that owns nothing."""
    name = f"weak_{rig.dbname}"
    rig.sql(f"CREATE ROLE {name} LOGIN PASSWORD 'weak-pa55'")
    return lambda _: rig.server.credentials(name, "weak-pa55")


def test_a_permission_that_is_missing_is_named_with_its_grant(rig, weak):
    with pytest.raises(MigrationFailed, match="permission denied for schema public") as raised:
        rig.runner(secrets=weak).apply(Phase.EXPAND)
    grant = raised.value.next_step.partition("run: ")[2].partition(";")[0]
    assert grant == f"GRANT USAGE, CREATE ON SCHEMA public TO weak_{rig.dbname}"
    rig.sql(grant)
    with pytest.raises(MigrationFailed, match=r"0001_email.*must be owner of table users \(42501\)"):
        rig.runner(secrets=weak).apply(Phase.EXPAND)
    rig.sql("ALTER TABLE bluegreen_migrations OWNER TO postgres")
    with pytest.raises(MigrationFailed, match="permission denied for table bluegreen_migrations") as raised:
        rig.runner(secrets=weak).apply(Phase.EXPAND)
    assert f"GRANT SELECT, INSERT, UPDATE ON public.bluegreen_migrations TO weak_{rig.dbname}" in raised.value.next_step


def test_two_releases_that_migrate_one_database_take_turns(rig, tmp_path):
    rig.write(_0002_slow_expand="SELECT pg_sleep(0.5); INSERT INTO users VALUES (5000, 'once')")
    other = SqlRig(rig.server, tmp_path, rig.dbname)
    done = []
    both = [
        threading.Thread(
            target=lambda n=n, one=one: done.extend(one.runner(f"run@{n}", retry_for="20s").apply(Phase.EXPAND))
        )
        for n, one in enumerate((rig, other))
    ]
    for thread in both:
        thread.start()
    for thread in both:
        thread.join()
    assert sorted(done) == ["0001_email.expand.sql", "0002_slow.expand.sql"]
    assert rig.sql("SELECT count(*) FROM users WHERE id = 5000") == [(1,)]
    assert any("another runner is at this database" in line for line in rig.told + other.told)


def test_a_turn_that_never_comes_names_who_has_it(rig):
    with rig.server.connect(rig.dbname, application_name="stuck") as other:
        other.execute("SELECT pg_advisory_lock(1651275109, 1735550309)")
        with pytest.raises(
            MigrationBlocked, match=r"another runner migrates database .*\(stuck, user postgres\)"
        ) as raised:
            rig.runner(retry_for="300ms").apply(Phase.EXPAND)
    assert "pg_terminate_backend" in raised.value.next_step
    assert "email" not in columns(rig)


def test_an_expand_whose_release_was_rolled_back_is_where_the_next_one_goes_on(rig):
    rig.runner("bad@1").apply(Phase.EXPAND)
    rig.write(_0002_more_expand="ALTER TABLE users ADD COLUMN phone text")
    assert rig.runner("good@2").apply(Phase.EXPAND) == ["0002_more.expand.sql"]
    assert rig.sql("SELECT run FROM bluegreen_migrations ORDER BY name") == [("bad@1",), ("good@2",)]


@pytest.fixture
def small_disk(rig, tmp_path_factory):
    if os.geteuid() != 0:
        print("no full disk: only root may mount a small one")  # noqa: T201
        pytest.skip("only root may mount a small disk")
    place = rig.server.data.parent / f"small_{rig.dbname}"
    place.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", place], check=False).returncode:
        print("no full disk: a small one cannot be mounted here")  # noqa: T201
        pytest.skip("a small disk cannot be mounted here")
    try:
        shutil.chown(place, "postgres", "postgres")
        rig.sql(f"CREATE TABLESPACE small_{rig.dbname} LOCATION '{place}'")
        yield f"small_{rig.dbname}"
        rig.sql("DROP TABLE IF EXISTS big")
        rig.sql(f"DROP TABLESPACE small_{rig.dbname}")
    finally:
        subprocess.run(["umount", "-l", place], check=True)


def test_a_full_disk_fails_and_what_it_left_is_gone(rig, small_disk):
    fill = "INSERT INTO big SELECT n, repeat('x', 500) FROM generate_series(1, {}) n"
    rig.write(_0002_big_expand=f"CREATE TABLE big (id bigint, t text) TABLESPACE {small_disk}; {fill.format(20000)}")
    with pytest.raises(MigrationFailed, match=r"statement 2 of 2.*No space left on device.*\(53100\)") as raised:
        rig.runner(statement_timeout="20s").apply(Phase.EXPAND)
    assert not isinstance(raised.value, MigrationBlocked)
    assert rig.sql("SELECT to_regclass('big')") == [(None,)]
    rig.write(_0002_big_expand=f"CREATE TABLE big (id bigint, t text) TABLESPACE {small_disk}; {fill.format(200)}")
    rig.runner(statement_timeout="20s").apply(Phase.EXPAND)
    assert rig.sql("SELECT count(*) FROM big") == [(200,)]


@pytest.mark.parametrize(
    ("query", "told"),
    [
        (
            "SELECT 'it''s', E'a\\'b', 12.5, t1 FROM \"t 1\" -- why\nWHERE x=$1",
            'SELECT ?, ?, ?, t1 FROM "t 1" WHERE x=$1',
        ),
        ("UPDATE a SET b = 'cut off by the ser", "UPDATE a SET b = ?"),
        ("SELECT $$ secret $$ /* s */, $q$ s $$ t $q$", "SELECT ? , ?"),
    ],
)
def test_queries_are_shown_without_what_is_in_them(query, told):
    assert shown(query) == told


def test_no_error_of_a_unique_key_tells_the_row(rig):
    rig.write(_0002_unique_expand="INSERT INTO users VALUES (5, 'a-person')")
    with pytest.raises(MigrationFailed, match="duplicate key value violates") as raised:
        rig.runner().apply(Phase.EXPAND)
    assert "a-person" not in str(raised.value)
    assert "(5)" not in str(raised.value)
    assert isinstance(raised.value.__cause__, psycopg.Error) is False
