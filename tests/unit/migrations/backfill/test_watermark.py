"""A watermark is one number, and anything else is a failure that names it."""

import threading
from datetime import timedelta

import pytest

from bluegreen.catalog.migrations import Watermark
from bluegreen.core.errors import MigrationBlocked, MigrationFailed
from bluegreen.migrations.watermark import wait_behind


def mark(query, within="1s", at_most=0):
    return Watermark(name="outbox", query=query, within=within, max=at_most)


def test_it_waits_until_consumers_have_caught_up(connect):
    connection = connect()
    connection.execute("CREATE TABLE outbox AS SELECT g AS id, false AS sent FROM generate_series(1, 9) g")
    timer = threading.Timer(0.5, connection.execute, ["UPDATE outbox SET sent = true WHERE id > 2"])
    timer.start()
    done = wait_behind(connect, mark("SELECT count(*) FROM outbox WHERE NOT sent", "20s", 2))
    assert (done.value, done.waited_s > 0.3, done.as_json()["max"]) == (2, True, 2)
    timer.join()


def test_one_that_stays_behind_is_a_failure_with_its_number(connect):
    with pytest.raises(MigrationFailed, match=r"outbox: found 7 after 1 s, allowed 0; do its consumers run"):
        wait_behind(connect, mark("SELECT 7"))


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("SELECT NULL::int", "found NULL"),
        ("SELECT 1 WHERE false", "found no row"),
        ("SELECT 0 FROM generate_series(1, 3)", "found several rows"),
        ("SELECT '0'", "found str"),
        ("SELECT false", "found bool"),
        ("SELECT 0, 0", "found 2 columns"),
        ("SELECT 'NaN'::float8", "found nan"),
        ("SELECT 'NaN'::numeric", "found NaN"),
        ("CREATE TABLE x (a int)", "found a query that writes"),
        ("SET work_mem = '1MB'", "gives no rows"),
        ("SELECT nothing", "column .nothing. does not exist"),
    ],
)
def test_what_is_no_number_is_never_zero(connect, query, said):
    with pytest.raises(MigrationFailed, match=f"outbox: .*{said}"):
        wait_behind(connect, mark(query))


def test_a_query_that_takes_too_long_is_ended(connect):
    with pytest.raises(MigrationBlocked, match=r"outbox: .*statement timeout"):
        wait_behind(connect, mark("SELECT 0 FROM pg_sleep(30)"), statement_timeout=timedelta(milliseconds=200))
