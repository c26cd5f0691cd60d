"""Real PostgreSQL servers for all of these tests, and databases for each."""

from dataclasses import dataclass

import pytest

from bluegreen.catalog.migrations import Replica
from bluegreen.migrations.replica_sides import Side, found
from demo.processes import wait_until
from tests.rigs.postgres import missing, postgres

LOGICAL = {
    "wal_level": "logical",
    "max_logical_replication_workers": "12",
    "max_worker_processes": "24",
    "max_replication_slots": "30",
    "max_wal_senders": "30",
    "wal_retrieve_retry_interval": "300ms",
}
SCHEMA = """
CREATE TABLE orders (id bigserial PRIMARY KEY, writer int, number int, UNIQUE (writer, number));
CREATE TABLE counters (writer int PRIMARY KEY, value int NOT NULL);
"""


@pytest.fixture(scope="session")
def backfill_server():
    assert not missing(), missing()
    with postgres(**LOGICAL) as server:
        yield server


@pytest.fixture
def connect(backfill_server):
    """Opens a session of a new database."""
    name = backfill_server.database()

    def open_session(**words):
        return backfill_server.connect(name, **words)

    return open_session


@pytest.fixture(scope="session")
def second_server():
    with postgres(**LOGICAL) as server:
        yield server


@dataclass
class Two:
    """Two sides, kept alike."""

    own: Side
    other: Side
    replica: Replica

    def pair(self):
        return found(self.own, self.other, self.replica)

    def of(self, color):
        return self.own if color == "blue" else self.other


def side(name, server, dbname):
    return Side(name, lambda **words: server.connect(dbname, **words), server.url(dbname))


@pytest.fixture
def two(backfill_server, second_server):
    """blue is written to, green follows."""
    names = backfill_server.database(), second_server.database()
    own, other = side("blue", backfill_server, names[0]), side("green", second_server, names[1])
    called = f"s_{names[0]}"
    replica = Replica(
        database={"connection": "pg", "name": names[1]}, publication="shop", subscription=called,
        within="20s", block_writes="8s", sequences_ahead=1000, apart=("alembic_version",),
    )  # fmt: skip
    with own.connect() as connection:
        connection.execute(SCHEMA)
        connection.execute("INSERT INTO counters SELECT g, 0 FROM generate_series(0, 9) g")
        connection.execute("CREATE PUBLICATION shop FOR TABLE orders, counters")
    with other.connect() as connection:
        connection.execute(SCHEMA)
        connection.execute(f"CREATE SUBSCRIPTION {called} CONNECTION '{own.conninfo}' PUBLICATION shop")
        wait_for_copy(connection)
    yield Two(own, other, replica)
    for one, name in ((own, f"{called}_back"), (other, called)):
        forget(one, name)


def wait_for_copy(connection):
    unready = "SELECT count(*) FROM pg_subscription_rel WHERE srsubstate <> 'r'"
    wait_until(lambda: connection.execute(unready).fetchone() == (0,), 30, "the first copy")


def forget(one, name):
    """Drop what is left, so that the next test's workers and slots have room."""
    with one.connect() as connection:
        for subscription in [row[0] for row in connection.execute(
            "SELECT subname FROM pg_subscription JOIN pg_database d ON d.oid = subdbid WHERE datname = current_database()"
        )]:  # fmt: skip
            connection.execute(f"ALTER SUBSCRIPTION {subscription} DISABLE")
            connection.execute(f"ALTER SUBSCRIPTION {subscription} SET (slot_name = NONE)")
            connection.execute(f"DROP SUBSCRIPTION {subscription}")
        wait_until(lambda: not slots_left(connection), 20, "the slots to go")


def slots_left(connection):
    """Drop the database's slots; a slot's reader that was ended needs a moment to let go of it."""
    own = "FROM pg_replication_slots WHERE database = current_database()"
    connection.execute(f"SELECT pg_terminate_backend(active_pid) {own} AND active")
    connection.execute(f"SELECT pg_drop_replication_slot(slot_name) {own} AND NOT active")
    return connection.execute(f"SELECT count(*) {own}").fetchone()[0]
