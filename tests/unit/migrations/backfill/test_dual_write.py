"""Both versions write all the while: before, during and after the backfill, and the new one after contract."""

import threading
import time

import psycopg
import pytest

from bluegreen.catalog.migrations import Backfill
from bluegreen.core.errors import MigrationRefused
from bluegreen.migrations import backfill, backfill_file
from bluegreen.migrations.dual_write import rename, split
from bluegreen.migrations.ports import Migration, Phase

NAME = "0001_names.backfill.yaml"
SPLIT = split("users", "full_name", ("first_name", "last_name"))
RENAME = rename("users", "full_name", "name", "text")
FULL = "SELECT full_name, first_name, last_name FROM users WHERE id = "


@pytest.fixture
def users(connect):
    connection = connect()
    connection.execute("CREATE TABLE users (id bigserial PRIMARY KEY, full_name text NOT NULL, seen int DEFAULT 0)")
    connection.execute("INSERT INTO users (full_name) SELECT 'Ana Maria ' || g FROM generate_series(1, 20000) g")
    return connection


class Writers:
    """Threads that write as one version does; each counts, and keeps what failed."""

    def __init__(self, connect, statements):
        self._connect, self._stop = connect, threading.Event()
        self.counts, self.failed = dict.fromkeys(statements, 0), []
        self._threads = [threading.Thread(target=self._write, args=(one,)) for one in statements]

    def _write(self, statement):
        with self._connect() as connection:
            while not self._stop.is_set():
                try:
                    connection.execute(statement)
                except psycopg.Error as error:
                    self.failed.append(f"{statement}: {error}")
                self.counts[statement] += 1

    def __enter__(self):
        [thread.start() for thread in self._threads]
        return self

    def wait_for(self, more):
        """Until each has written that often again."""
        aim = {one: count + more for one, count in self.counts.items()}
        end = time.monotonic() + 60
        while any(self.counts[one] < number for one, number in aim.items()):
            assert time.monotonic() < end, self.counts
            time.sleep(0.02)

    def __exit__(self, *_):
        self._stop.set()
        [thread.join() for thread in self._threads]


ANY = "(SELECT (1 + random() * 19999)::bigint)"
OLD = [
    "INSERT INTO users (full_name) VALUES ('Old ' || random())",
    f"UPDATE users SET full_name = 'Old Again ' || random() WHERE id = {ANY}",
]
NEW = {
    "split": [
        "INSERT INTO users (first_name, last_name) VALUES ('New', random()::text)",
        f"UPDATE users SET last_name = 'New ' || random() WHERE id = {ANY}",
        f"UPDATE users SET first_name = 'B', last_name = 'C', full_name = 'B C' WHERE id = {ANY}",
        f"UPDATE users SET seen = seen + 1 WHERE id = {ANY}",
    ],
    "rename": [
        "INSERT INTO users (name) VALUES ('New ' || random())",
        f"UPDATE users SET name = 'New ' || random() WHERE id = {ANY}",
        f"UPDATE users SET name = 'B', full_name = 'B' WHERE id = {ANY}",
    ],
}


@pytest.mark.parametrize(("kind", "files"), [("split", SPLIT), ("rename", RENAME)])
def test_both_versions_write_before_during_and_after_the_backfill(connect, users, kind, files):
    users.execute(files.expand)
    with Writers(connect, OLD + NEW[kind]) as writers:
        writers.wait_for(300)
        migration = Migration(NAME, Phase.BACKFILL, files.backfill)
        done = backfill.run(connect, migration, Backfill(batch=200), lambda _: None)
        writers.wait_for(300)
    assert writers.failed == []
    assert done.rows > 10_000
    assert users.execute(backfill_file.read(migration).drift).fetchone() == (0,)
    users.execute(files.contract)
    with Writers(connect, [one for one in NEW[kind] if "full_name" not in one]) as writers:
        writers.wait_for(100)
    assert writers.failed == []
    assert users.execute("SELECT count(*) FROM pg_proc WHERE proname LIKE 'bluegreen%'").fetchone() == (0,)


def test_contract_leaves_the_new_version_writing_after_each_statement(users):
    users.execute(SPLIT.expand)
    for number, statement in enumerate(SPLIT.contract.split(";")[:-1]):
        users.execute(statement)
        users.execute("INSERT INTO users (first_name, last_name) VALUES ('New', %s)", [str(number)])


def test_expand_can_be_executed_again(users):
    users.execute(SPLIT.expand)
    users.execute(SPLIT.expand)


@pytest.mark.parametrize("full", ["Ana", "Ana ", " Ana", "Ana Maria López", "", "Ana  López"])
def test_every_text_is_itself_again_after_it_was_split(users, full):
    users.execute(SPLIT.expand)
    users.execute("UPDATE users SET full_name = %s WHERE id = 1", [full])
    _, first, last = users.execute(FULL + "1").fetchone()
    assert " ".join(word for word in (first, last) if word is not None) == full
    users.execute("UPDATE users SET first_name = first_name || 'x' WHERE id = 1")
    assert users.execute(FULL + "1").fetchone() == (
        " ".join(word for word in (f"{first}x", last) if word is not None), f"{first}x", last,
    )  # fmt: skip


def test_a_row_that_the_backfill_has_not_come_to_loses_nothing_when_the_new_version_writes_half_of_it(users):
    users.execute(SPLIT.expand)
    users.execute("UPDATE users SET last_name = 'López' WHERE id = 1")
    assert users.execute(FULL + "1").fetchone() == ("Ana López", "Ana", "López")


def test_the_old_sides_default_does_not_win_over_what_the_new_version_writes(users):
    users.execute("ALTER TABLE users ALTER full_name SET DEFAULT 'nobody'")
    users.execute(SPLIT.expand)
    users.execute("INSERT INTO users (id, first_name, last_name) VALUES (90000, 'New', 'One')")
    assert users.execute(FULL + "90000").fetchone() == ("New One", "New", "One")


def test_the_trigger_sees_what_other_triggers_made_of_the_row(users):
    users.execute(SPLIT.expand)
    users.execute(
        "CREATE FUNCTION loud() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN NEW.full_name := upper(NEW.full_name); RETURN NEW; END $$"
    )
    users.execute("CREATE TRIGGER upper BEFORE UPDATE ON users FOR EACH ROW EXECUTE FUNCTION loud()")
    users.execute("UPDATE users SET full_name = 'ana lópez' WHERE id = 1")
    assert users.execute(FULL + "1").fetchone() == ("ANA LÓPEZ", "ANA", "LÓPEZ")


def test_a_session_with_another_search_path_cannot_change_what_the_trigger_calls(connect, users):
    users.execute(SPLIT.expand)
    users.execute("CREATE SCHEMA bad")
    users.execute("CREATE FUNCTION bad.strpos(text, text) RETURNS int LANGUAGE sql AS 'SELECT 0'")
    session = connect()
    session.execute("SET search_path = bad, public, pg_catalog")
    session.execute("UPDATE users SET full_name = 'Ana López' WHERE id = 1")
    assert session.execute(FULL + "1").fetchone() == ("Ana López", "Ana", "López")


def test_a_type_of_an_extension_is_found_whatever_the_sessions_path_is(connect, users):
    users.execute("CREATE EXTENSION hstore; ALTER TABLE users ADD COLUMN tags hstore")
    users.execute(rename("users", "tags", "labels", "hstore").expand)
    session = connect()
    session.execute("SET search_path = pg_catalog")
    session.execute("UPDATE public.users SET labels = 'a=>1'::public.hstore WHERE id = 1")
    assert users.execute("SELECT tags -> 'a' FROM users WHERE id = 1").fetchone() == ("1",)


def test_names_that_need_quotes_are_too_long_or_have_a_schema(connect):
    connection, table = connect(), "select." + "t" * 60
    connection.execute('CREATE SCHEMA "select"')
    columns = 'a int, b int, "order" text NOT NULL, PRIMARY KEY (a, b)'
    connection.execute(f'CREATE TABLE "select"."{"t" * 60}" ({columns})')
    files = rename(table, "order", "Größe", "text", key=("a", "b"))
    connection.execute(files.expand)
    connection.execute(f"""INSERT INTO "select"."{"t" * 60}" (a, b, "Größe") VALUES (1, 2, 'x')""")
    backfill.run(connect, Migration(NAME, Phase.BACKFILL, files.backfill), Backfill(), lambda _: None)
    connection.execute(files.contract)
    assert connection.execute(f'SELECT * FROM "select"."{"t" * 60}"').fetchall() == [(1, 2, "x")]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("users", "name", "name", "text"), "a column stands twice"),
        (("users", "name", "other", "json"), "json, which has no equality"),
    ],
)
def test_what_no_trigger_can_do_is_refused(words, said):
    with pytest.raises(MigrationRefused, match=said):
        rename(*words)
