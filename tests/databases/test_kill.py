"""kill -9 at every statement that the runner sends, and while the server executes it; then once more: all is done, nothing twice."""

from __future__ import annotations

import os
import signal
import threading

import pytest

from bluegreen.migrations import pg_session
from bluegreen.migrations.ports import Phase
from demo.processes import wait_until
from tests.rigs.migrations import SqlRig

ONE = """\
CREATE TABLE users (id bigint PRIMARY KEY, name text, old text);
CREATE INDEX users_old ON users (old);
CREATE INDEX users_stale ON users (name);
INSERT INTO users SELECT n, 'n' || n FROM generate_series(1, 50) n;
CREATE TABLE events (day int, what text) PARTITION BY RANGE (day);
CREATE TABLE events_1 PARTITION OF events FOR VALUES FROM (1) TO (2);
"""
STEPS = """\
SET search_path = public;
INSERT INTO users VALUES (1000, 'by hand');
ALTER TABLE users ADD CONSTRAINT short CHECK (length(name) < 100) NOT VALID;
ALTER TABLE users VALIDATE CONSTRAINT short;
CREATE UNIQUE INDEX CONCURRENTLY users_lower ON users (lower(name), id DESC) INCLUDE (old) WHERE name <> 'x';
DROP INDEX CONCURRENTLY users_stale;
CREATE TYPE mood AS ENUM ('well');
ALTER TYPE mood ADD VALUE 'unwell';
REINDEX INDEX CONCURRENTLY users_old;
ALTER TABLE events DETACH PARTITION events_1 CONCURRENTLY;
VACUUM users;
INSERT INTO users VALUES (1001, 'at the end');
"""
SCHEMA = """
SELECT 'column', table_name || '.' || column_name, data_type FROM information_schema.columns WHERE table_schema = 'public'
UNION ALL SELECT 'index', indexrelid::regclass::text, indisvalid::text || pg_get_indexdef(indexrelid) FROM pg_index
  WHERE indrelid IN (SELECT oid FROM pg_class WHERE relnamespace = 'public'::regnamespace)
UNION ALL SELECT 'constraint', conname, convalidated::text || pg_get_constraintdef(oid) FROM pg_constraint
  WHERE connamespace = 'public'::regnamespace
UNION ALL SELECT 'enum', enumlabel, '' FROM pg_enum
UNION ALL SELECT 'partition', inhrelid::regclass::text, inhdetachpending::text FROM pg_inherits
UNION ALL SELECT 'row', id::text, name FROM users
UNION ALL SELECT 'history', name, state || done || '/' || statements || checksum || coalesce(begun, -1) FROM bluegreen_migrations
ORDER BY 1, 2, 3"""


_CHANGES_NOTHING = ("RESET ALL", "SELECT set_config", "SELECT name", "SELECT quote_ident")


class Killer:
    """
    Ends this process at the nth statement that the runner sends; what only reads or sets a session is not counted, as
    being killed there is the same as at the next one.

    :param at: which; 0 for none
    :param during: the server has the statement already, and goes on with it
    """

    def __init__(self, at: int = 0, *, during: bool = False) -> None:
        self.at, self.during, self.count = at, during, 0
        self._real = pg_session.PgSession.execute

    def __call__(self, session, sql, values=None):
        witness = threading.current_thread() is not threading.main_thread()
        if not witness and not sql.startswith(_CHANGES_NOTHING):
            self.count += 1
            if self.count == self.at:
                if self.during and values is None:
                    session._connection.pgconn.send_query(sql.encode())
                    session._connection.pgconn.flush()
                elif self.during:
                    self._real(session, sql, values)
                os.kill(os.getpid(), signal.SIGKILL)
        return self._real(session, sql, values)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sql")
    (folder / "0001_one.expand.sql").write_text(ONE)
    (folder / "0002_steps.expand.sql").write_text(STEPS)
    return folder


@pytest.fixture(scope="module")
def undisturbed(server, folder):
    """The schema that is wanted, and how many statements lead to it."""
    rig, killer = SqlRig(server, folder), Killer()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pg_session.PgSession, "execute", lambda *words: killer(*words))  # noqa: PLW0108 - to be bound
        rig.runner().apply(Phase.EXPAND)
    return rig.sql(SCHEMA), killer.count


def die(rig: SqlRig, killer: Killer) -> int:
    pid = os.fork()
    if pid == 0:
        try:
            pg_session.PgSession.execute = lambda *words: killer(*words)  # noqa: PLW0108 - to be bound
            rig.runner().apply(Phase.EXPAND)
        finally:
            os._exit(0)
    return os.waitpid(pid, 0)[1]


@pytest.mark.parametrize("part", range(4))
@pytest.mark.parametrize("during", [False, True], ids=["before", "during"])
def test_killed_at_every_statement_the_next_try_ends_where_an_undisturbed_one_does(
    server, folder, undisturbed, during, part
):
    wanted, count = undisturbed
    assert count > 50
    different = {}
    for at in range(1 + part, count + 1, 4):
        rig = SqlRig(server, folder)
        assert die(rig, Killer(at, during=during)) == signal.SIGKILL
        rig.runner(retry_for="20s").apply(Phase.EXPAND)
        if (found := rig.sql(SCHEMA)) != wanted:
            different[at] = sorted(set(found) ^ set(wanted))
        rig.server.drop(rig.dbname)
    assert different == {}


def test_killed_twice_at_the_same_statement(server, folder, undisturbed):
    rig = SqlRig(server, folder)
    for _ in range(2):
        die(rig, Killer(undisturbed[1] // 2, during=True))
    rig.runner(retry_for="20s").apply(Phase.EXPAND)
    assert rig.sql(SCHEMA) == undisturbed[0]


BUILD = "CREATE INDEX CONCURRENTLY users_name ON users (name)"


@pytest.fixture
def building(rig):
    """A runner that was killed while the server waited in the middle of an index, for a transaction that is open."""
    rig.sql(ONE)
    rig.write(_0001_i_expand=BUILD)
    rig.runner(retry_for="20s").pending(Phase.EXPAND)
    with rig.server.connect(rig.dbname, autocommit=False) as other:
        other.execute("INSERT INTO users VALUES (7777, 'open')")
        pid = os.fork()
        if pid == 0:
            try:
                rig.runner(retry_for="20s").apply(Phase.EXPAND)
            finally:
                os._exit(0)
        found = wait_until(
            lambda: rig.sql("SELECT pid FROM pg_stat_progress_create_index WHERE phase ~ 'waiting'"), 20, "it"
        )
        wait_until(lambda: rig.sql("SELECT 1 FROM pg_index WHERE NOT indisvalid"), 10, "an invalid index")
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        yield other, found[0][0]


def test_an_index_that_the_server_goes_on_building_is_waited_for_and_counts(rig, building):
    other, _ = building
    later = threading.Timer(0.5, other.commit)
    later.start()
    before = rig.sql("SELECT oid FROM pg_class WHERE relname = 'users_name'")
    assert rig.runner(retry_for="20s").apply(Phase.EXPAND) == ["0001_i.expand.sql"]
    later.join()
    assert rig.sql(
        "SELECT indisvalid, i.oid FROM pg_index JOIN pg_class i ON i.oid = indexrelid WHERE relname = 'users_name'"
    ) == [(True, before[0][0])]
    said = "\n".join(rig.told)
    assert "another runner is at this database, waiting for it: process" in said
    assert "bluegreen-migrations" in said
    assert "its effect is there already" in said


def test_an_invalid_index_is_dropped_and_built_anew(rig, building):
    other, builder = building
    rig.sql(f"SELECT pg_terminate_backend({builder})")
    assert rig.sql("SELECT indisvalid FROM pg_index WHERE indexrelid = 'users_name'::regclass") == [(False,)]
    other.commit()
    rig.runner(retry_for="20s").apply(Phase.EXPAND)
    assert rig.sql("SELECT indisvalid FROM pg_index WHERE indexrelid = 'users_name'::regclass") == [(True,)]
    assert rig.runner().status().left_over == ()


def test_another_index_of_the_same_name_never_counts(rig, building):
    other, builder = building
    rig.sql(f"SELECT pg_terminate_backend({builder})")
    other.commit()
    rig.sql("DROP INDEX users_name")
    rig.sql("CREATE INDEX users_name ON users (id)")
    with pytest.raises(Exception, match=r"index users_name is there, and it is not the one of this statement"):
        rig.runner().apply(Phase.EXPAND)


def test_the_server_ends_the_statement_of_a_client_that_was_killed(server, tmp_path):
    """An index is built for hours: the next try must not wait for the one that nobody hears of any more."""
    rig = SqlRig(server, tmp_path)
    pid = os.fork()
    if pid == 0:
        try:
            rig.runner()._place.connect().execute("SELECT pg_sleep(60)")
        finally:
            os._exit(0)
    runs = "SELECT count(*) FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(60)' AND datname = current_database()"
    wait_until(lambda: rig.sql(runs) == [(1,)], 20, "the statement to run")
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    wait_until(lambda: rig.sql(runs) == [(0,)], 20, "the server to end it")
