"""The gate of a replicated database: each thing that is not so is a failure of its own, and an inactive slot is no lag of 0."""

import re
from datetime import timedelta

import pytest

from bluegreen.core.errors import MigrationBlocked, MigrationFailed
from bluegreen.migrations.replica_check import check
from bluegreen.migrations.replica_sides import found
from demo.processes import wait_until
from tests.rigs.postgres import postgres


def refused(two, said, error=MigrationFailed, **changes):
    replica = two.replica.model_copy(update={"within": timedelta(seconds=4)} | changes)
    with pytest.raises(error, match=said) as caught:
        check(two.pair(), replica)
    assert caught.value.next_step
    return caught.value


def on(side, *statements):
    with side.connect() as connection:
        for statement in statements:
            connection.execute(statement)


def test_all_is_well(two):
    facts = check(two.pair(), two.replica)
    assert (facts["source"], facts["target"], facts["tables"], facts["sequences"]) == ("blue", "green", 2, 1)
    assert facts["apply_errors"] == 0


def test_it_waits_for_what_was_written_until_now(two):
    on(two.own, "INSERT INTO orders (writer, number) SELECT 1, g FROM generate_series(1, 100000) g")
    check(two.pair(), two.replica)
    with two.other.connect() as connection:
        assert connection.execute("SELECT count(*) FROM orders").fetchone() == (100_000,)


def test_a_disabled_subscription_and_its_inactive_slot(two):
    on(two.other, f"ALTER SUBSCRIPTION {two.replica.subscription} DISABLE")
    refused(two, "is disabled")


def inactive(two):
    with two.own.connect() as connection:
        active = "SELECT active FROM pg_replication_slots WHERE slot_name = %s"
        return connection.execute(active, [two.replica.subscription]).fetchone() == (False,)


def test_an_inactive_slot_is_a_failure_though_nothing_is_behind(two):
    """The subscription is enabled, but its worker cannot reach the source."""
    name = two.replica.subscription
    on(two.other, f"ALTER SUBSCRIPTION {name} CONNECTION 'host=/nowhere dbname=x'")
    wait_until(lambda: inactive(two), 10, "the worker to go")
    refused(two, f"the slot {name} is inactive: nobody reads it")


def test_a_column_that_the_target_lacks_is_named_before_anything_is_written_to_it(two):
    on(two.own, "ALTER TABLE orders ADD COLUMN note text")
    refused(two, re.escape("green does not have: public.orders.note; expand runs on the target first"))


def test_an_apply_error_ends_the_wait_at_once(two):
    on(two.other, "INSERT INTO orders (id, writer, number) VALUES (1, 9, 9)")
    on(two.own, "INSERT INTO orders (id, writer, number) VALUES (1, 1, 1)")
    refused(two, "fails to apply|is inactive", within=timedelta(minutes=5))


def test_a_missing_column_that_was_written_to_stops_replication(two):
    on(
        two.own,
        "ALTER TABLE orders ADD COLUMN note text",
        "INSERT INTO orders (writer, number, note) VALUES (1, 1, 'x')",
    )
    refused(two, "is inactive|does not have")
    on(two.other, "ALTER TABLE orders ADD COLUMN note text")
    wait_until(lambda: not inactive(two), 20, "the worker to come again")
    check(two.pair(), two.replica)


def test_a_target_that_does_not_keep_up_is_out_of_time(two):
    lock = two.other.connect(autocommit=False)
    lock.execute("LOCK TABLE orders")
    on(two.own, "INSERT INTO orders (writer, number) VALUES (1, 1)")
    refused(two, "bytes behind, and not caught up within 4 s")
    lock.rollback()


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        ("CREATE TABLE more (id int PRIMARY KEY)", "would be lost: more; ALTER PUBLICATION shop ADD TABLE"),
        ("CREATE TABLE bluegreen_x (id int); ALTER PUBLICATION shop ADD TABLE bluegreen_x", "each side's own: public.bl"),
        ("ALTER PUBLICATION shop SET (publish = 'insert')", "leaves some kinds of writes out"),
        ("ALTER PUBLICATION shop SET TABLE counters, orders WHERE (id > 5)", "only some rows or columns of: orders"),
        ("CREATE SEQUENCE tickets", "sequences that green does not have: public.tickets"),
        ("DROP PUBLICATION shop", "the publication shop is not there"),
    ],
)  # fmt: skip
def test_what_would_be_lost_is_named(two, statement, said):
    on(two.own, statement)
    refused(two, said)


def test_tables_that_are_each_sides_own_need_not_be_published(two):
    on(two.own, "CREATE TABLE alembic_version (v text)", "CREATE TABLE bluegreen_migrations (v text)")
    check(two.pair(), two.replica)


def test_a_table_that_was_published_later_is_not_subscribed_to(two):
    table = "CREATE TABLE more (id int PRIMARY KEY)"
    on(two.other, table)
    on(two.own, table, "ALTER PUBLICATION shop ADD TABLE more")
    refused(two, "published, but not subscribed to: public.more; ALTER SUBSCRIPTION .* REFRESH PUBLICATION")


def test_a_target_without_replica_identity_could_not_go_back(two):
    on(two.other, "ALTER TABLE counters REPLICA IDENTITY NOTHING")
    refused(two, "tables of green without a replica identity: counters")


def test_a_replica_that_is_stopped(two, backfill_server):
    with postgres(wal_level="logical") as third:
        pair = two.pair()
    stopped = type(two.other)("green", third.connect, "")
    with pytest.raises(MigrationBlocked, match="green: asked about its replication"):
        found(two.own, stopped, two.replica)
    with pytest.raises(MigrationBlocked, match="blue to green: looked at"):
        check(type(pair)(**vars(pair) | {"target": stopped}), two.replica)


def test_no_replication_at_all(two):
    replica = two.replica.model_copy(update={"subscription": "another"})
    with pytest.raises(MigrationFailed, match="found no subscription another on green, and no another_back on blue"):
        found(two.own, two.other, replica)
