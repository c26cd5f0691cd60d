"""The runner on a real MariaDB: no schema change is rolled back there, so each statement stands for itself."""

from __future__ import annotations

import os
import signal
import threading

import pytest

from bluegreen.core.errors import MigrationBlocked, MigrationFailed, MigrationRefused
from bluegreen.migrations import mysql_session
from bluegreen.migrations.mysql_statements import split
from bluegreen.migrations.ports import Phase
from bluegreen.migrations.sql_runner import SqlRunner
from tests.rigs.mariadb import PASSWORD, mariadb, missing
from tests.rigs.migrations import with_database

STEPS = """\
CREATE TABLE users (id bigint AUTO_INCREMENT PRIMARY KEY, name varchar(50)) ENGINE=InnoDB;
INSERT INTO users (name) VALUES ('a;b'), ('it''s');
ALTER TABLE users ADD COLUMN email varchar(100), ALGORITHM=INSTANT;
CREATE INDEX users_name ON users (name);
ALTER TABLE users MODIFY name varchar(80);
DELIMITER //
CREATE TRIGGER users_email BEFORE INSERT ON users FOR EACH ROW BEGIN SET NEW.email = NEW.name; END//
DELIMITER ;
CREATE VIEW names AS SELECT name FROM users;
INSERT INTO users (name) VALUES ('last');
"""
SCHEMA = """
SELECT table_name, column_name, column_type FROM information_schema.columns WHERE table_schema = database()
UNION ALL SELECT table_name, index_name, column_name FROM information_schema.statistics WHERE table_schema = database()
UNION ALL SELECT trigger_name, '', '' FROM information_schema.triggers WHERE trigger_schema = database()
UNION ALL SELECT name, coalesce(email, ''), '' FROM users
UNION ALL SELECT name, state, concat(done, checksum, coalesce(begun, -1)) FROM bluegreen_migrations ORDER BY 1, 2, 3"""


@pytest.fixture(scope="module")
def server():
    if reason := missing():
        pytest.skip(reason)
    with mariadb() as server:
        yield server


class Rig:
    def __init__(self, server, folder):
        self.server, self.folder, self.dbname, self.told = server, folder, server.database(), []

    def write(self, name, text):
        (self.folder / name).write_text(text)

    def runner(self, password=PASSWORD, **settings):
        service = with_database(self.dbname, {"type": "sql", "folder": self.folder}, "mariadb", **settings)
        return SqlRunner(service, lambda _: self.server.credentials(password=password), "run-one@1", self.told.append)

    def sql(self, text):
        return self.server.sql(self.dbname, text)


@pytest.fixture
def rig(server, tmp_path):
    rig = Rig(server, tmp_path)
    rig.write("0001_all.expand.sql", STEPS)
    return rig


def test_it_executes_each_statement_by_itself_and_once(rig):
    assert "0001_all.expand.sql: 8 statements, each statement by itself" in rig.runner().plan(Phase.EXPAND)
    assert rig.runner().apply(Phase.EXPAND) == ["0001_all.expand.sql"]
    assert rig.runner().apply(Phase.EXPAND) == []
    assert rig.sql("SELECT name, email FROM users") == [("a;b", None), ("it's", None), ("last", "last")]
    assert rig.runner().status().version == "0001_all.expand.sql"


def die(rig, at, *, after):
    pid = os.fork()
    if pid == 0:
        try:
            count, real = 0, mysql_session.MySqlSession.execute

            def execute(session, sql, values=None):
                nonlocal count
                witness = threading.current_thread() is not threading.main_thread()
                changes = not sql.startswith(("SELECT", "SHOW", "SET"))
                count += changes and not witness
                if not after and count == at:
                    os.kill(os.getpid(), signal.SIGKILL)
                found = real(session, sql, values)
                if count == at:
                    os.kill(os.getpid(), signal.SIGKILL)
                return found

            mysql_session.MySqlSession.execute = execute
            rig.runner().apply(Phase.EXPAND)
        finally:
            os._exit(0)
    return os.waitpid(pid, 0)[1]


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_killed_at_every_statement_it_ends_where_an_undisturbed_one_does(rig, after):
    rig.runner().apply(Phase.EXPAND)
    wanted, different, at = rig.sql(SCHEMA), {}, 0
    while True:
        at += 1
        other = Rig(rig.server, rig.folder)
        if die(other, at, after=after) != signal.SIGKILL:
            break
        other.runner(retry_for="20s").apply(Phase.EXPAND)
        if (found := other.sql(SCHEMA)) != wanted:
            different[at] = sorted(set(found) ^ set(wanted))
    assert at > 20
    assert different == {}


def test_a_lock_that_is_held_is_tried_for_and_its_holder_named(rig):
    rig.runner().apply(Phase.EXPAND)
    rig.write("0002_more.expand.sql", "ALTER TABLE users ADD COLUMN phone varchar(20)")
    with rig.server.connect(rig.dbname, autocommit=False) as other:
        other.cursor().execute("SELECT * FROM users WHERE name = 'a secret word'")
        with pytest.raises(MigrationBlocked, match=r"\(1205\); held by process \d+ \(user root\)") as raised:
            rig.runner(retry_for="500ms").apply(Phase.EXPAND)
        threading.Timer(1.5, other.commit).start()
        assert rig.runner(retry_for="30s").apply(Phase.EXPAND) == ["0002_more.expand.sql"]
    assert "secret" not in f"{raised.value}{rig.told}"


def test_two_runners_take_turns_and_one_that_never_ends_is_named(rig):
    with rig.server.connect() as other:
        other.cursor().execute(f"SELECT GET_LOCK('{rig.runner()._engine._turn}', 0)")
        with pytest.raises(MigrationBlocked, match=r"another runner migrates database .*\(user root\)"):
            rig.runner(retry_for="300ms").apply(Phase.EXPAND)


def test_what_fails_is_named_without_values_and_the_next_release_goes_on(rig):
    rig.write("0002_two.expand.sql", "ALTER TABLE users ADD COLUMN a int;\nINSERT INTO users (id) VALUES (1);")
    with pytest.raises(
        MigrationFailed, match=r"statement 2 of 2 \(line 2\): INSERT INTO users \(id\) VALUES \(\?\): Duplicate"
    ):
        rig.runner().apply(Phase.EXPAND)
    rig.write("0002_two.expand.sql", "ALTER TABLE users ADD COLUMN a int;\nINSERT INTO users (id) VALUES (100);")
    assert rig.runner().apply(Phase.EXPAND) == ["0002_two.expand.sql"]


def test_a_wrong_password_is_not_shown(rig):
    with pytest.raises(MigrationFailed, match="Access denied") as raised:
        rig.runner(password="wrong-pa55").apply(Phase.EXPAND)  # noqa: S106
    assert "wrong-pa55" not in str(raised.value)


def test_a_file_is_cut_as_the_client_cuts_it():
    found = [
        (one.text, one.line, one.outside) for one in split("-- a;b\n" + STEPS + "/* c; */ # d;\nSELECT `x;y`", "f")
    ]
    assert found[1] == ("INSERT INTO users (name) VALUES ('a;b'), ('it''s')", 3, False)
    assert found[5][0].endswith("SET NEW.email = NEW.name; END")
    assert found[-1] == ("SELECT `x;y`", 13, False)
    assert len(found) == 9


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("SELECT 'a", "line 1 opens ' and never ends it"),
        ("SELECT 1;\nSTART TRANSACTION", "line 2 begins or ends a transaction"),
        ("CREATE TRIGGER t BEFORE INSERT ON u FOR EACH ROW BEGIN SET NEW.a = 1; END", "has a body that ; would cut"),
    ],
)
def test_what_cannot_be_cut_is_refused(text, words):
    with pytest.raises(MigrationRefused, match=words):
        split(text, "f")
