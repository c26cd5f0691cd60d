"""Two real servers, writers all the while: no write that was answered is lost, in either direction, however it ends."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psycopg
import pytest

from bluegreen.core.errors import MigrationBlocked, MigrationFailed
from bluegreen.migrations.ports import Phase
from bluegreen.migrations.replica_cut import cut_over, open_source
from bluegreen.migrations.replica_fence import fenced, install, now, take_away
from bluegreen.migrations.replica_sides import FENCE
from demo.processes import wait_until
from tests.rigs.postgres import PASSWORD

ROOT = Path(__file__).resolve().parents[4]


class Writers:
    """Threads that write to the color that traffic goes to; what was answered is noted, what was not is tried again."""

    def __init__(self, two, threads=4):
        self.two, self.color, self.stop = two, "blue", threading.Event()
        self.answered, self.turned_away, self.unknown = [0] * threads, [], []
        self.threads = [threading.Thread(target=self.write, args=(number,)) for number in range(threads)]
        self.longest = 0.0

    def write(self, number):
        connection, color = None, None
        while not self.stop.is_set():
            begun = time.monotonic()
            try:
                if connection is None or color != self.color:
                    color, connection = self.color, self.two.of(self.color).connect()
                with connection.transaction():
                    row = [number, self.answered[number] + 1]
                    connection.execute("INSERT INTO orders (writer, number) VALUES (%s, %s)", row)
                    connection.execute("UPDATE counters SET value = value + 1 WHERE writer = %s", [number])
                self.answered[number] += 1
            except psycopg.errors.ReadOnlySqlTransaction as error:
                self.turned_away.append(error)
                connection = None
            except psycopg.Error as error:
                self.unknown.append(f"{color}: {error}")
                connection = None
            self.longest = max(self.longest, time.monotonic() - begun)

    def more(self, number=20):
        aim = [one + number for one in self.answered]
        wait_until(lambda: all(a >= b for a, b in zip(self.answered, aim, strict=True)), 30, f"writes {self.unknown}")

    def switch_to(self, color):
        def switch():
            self.color = color

        return switch

    def __enter__(self):
        [thread.start() for thread in self.threads]
        self.more()
        return self

    def __exit__(self, *_):
        self.stop.set()
        [thread.join() for thread in self.threads]


def written(side, threads=4):
    with side.connect() as connection:
        orders = "SELECT count(*), max(number) FROM orders WHERE writer = %s"
        values = "SELECT value FROM counters WHERE writer = %s"
        return [
            (*connection.execute(orders, [n]).fetchone(), *connection.execute(values, [n]).fetchone())
            for n in range(threads)
        ]


def as_answered(writers):
    return [(number, number, number) for number in writers.answered]


def cut(two, switch, log=lambda _: None):
    return cut_over(two.pair(), two.replica, switch, log)


def test_over_and_back_and_over_again_with_writers_all_the_while(two):
    with Writers(two) as writers:
        done = cut(two, writers.switch_to("green"))
        writers.more()
        assert writers.color == "green"
        assert done.blocked_s < 8
        back = cut(two, writers.switch_to("blue"))
        writers.more()
        cut(two, writers.switch_to("green"))
        writers.more()
    assert (done.source, done.target, back.source, back.target) == ("blue", "green", "green", "blue")
    assert writers.unknown == []
    assert written(two.other) == as_answered(writers)
    wait_until(lambda: written(two.own) == as_answered(writers), 20, "blue follows green")
    assert writers.longest < 8


def test_the_side_that_traffic_left_takes_no_write_of_a_session_that_was_open_or_of_a_superuser(two):
    session = two.own.connect()
    session.execute("SET default_transaction_read_only = off")
    cut(two, lambda: None)
    for statement in ("DELETE FROM orders", "TRUNCATE orders", "INSERT INTO orders VALUES (1)"):
        with pytest.raises(psycopg.errors.ReadOnlySqlTransaction, match="writes to its other database now"):
            session.execute(statement)
    assert session.execute("SELECT count(*) FROM orders").fetchone() == (0,)
    open_source(two.pair().turned())
    session.execute("INSERT INTO orders VALUES (1)")


def test_without_the_step_sequences_collide_and_with_it_they_do_not(two):
    with two.own.connect() as connection:
        connection.execute("INSERT INTO orders (writer, number) SELECT 5, g FROM generate_series(1, 50) g")
    insert = "INSERT INTO orders (writer, number) VALUES (6, 1) RETURNING id"
    with two.other.connect() as connection:
        wait_until(lambda: connection.execute("SELECT count(*) FROM orders").fetchone() == (50,), 20, "the rows")
        with pytest.raises(psycopg.errors.UniqueViolation):
            connection.execute(insert)
        assert cut(two, lambda: None).sequences == 1
        assert connection.execute(insert).fetchone() == (1051,)


def test_a_switch_that_fails_lets_writers_go_on_where_they_were(two):
    def switch():
        time.sleep(0.5)
        raise MigrationFailed("no", part="router", next_step="none")

    with Writers(two) as writers:
        with pytest.raises(MigrationFailed, match="router: no"):
            cut(two, switch)
        writers.more()
    assert (writers.turned_away, writers.unknown) == ([], [])
    assert not two.pair().unfinished
    cut(two, lambda: None)
    assert written(two.other) == as_answered(writers)


def test_a_long_write_of_somebody_else_is_not_waited_for_for_ever_and_holds_others_up_only_briefly(two):
    replica = two.replica.model_copy(update={"within": two.replica.within / 8})
    holder = two.own.connect(autocommit=False)
    holder.execute("UPDATE counters SET value = value WHERE writer = 9")
    with Writers(two) as writers:
        with pytest.raises(MigrationBlocked, match="a long transaction writes there"):
            cut_over(two.pair(), replica, lambda: None, lambda _: None)
        holder.rollback()
    assert writers.longest < 1.5
    assert writers.unknown == []


KILLED = """
import sys, time
from bluegreen.migrations import replica_cut
from tests.unit.migrations.backfill.killed import two_of
two = two_of(sys.argv[1:])
if sys.argv[1] == "switched":
    replica_cut._turn = lambda pair: (print("now", flush=True), time.sleep(60))
def switch():
    if sys.argv[1] == "before":
        print("now", flush=True)
        time.sleep(60)
replica_cut.cut_over(two.pair(), two.replica, switch, lambda line: None)
"""


def killed(two, when):
    """Run a cut-over in a process of its own, and kill it where it says so."""
    words = [when, two.replica.model_dump_json(), two.own.conninfo, two.other.conninfo]
    env = os.environ | {"PYTHONPATH": f"{ROOT}/plugins:{ROOT}"}
    child = subprocess.Popen([sys.executable, "-c", KILLED, *words], stdout=subprocess.PIPE, text=True, env=env)
    assert child.stdout.readline() == "now\n"
    os.kill(child.pid, signal.SIGKILL)
    child.wait()


def test_killed_before_the_switch_writers_go_on_and_the_next_call_does_it(two):
    with Writers(two) as writers:
        killed(two, "before")
        writers.more()
        assert (writers.turned_away, writers.unknown) == ([], [])
        cut(two, writers.switch_to("green"))
        writers.more()
    assert written(two.other) == as_answered(writers)
    wait_until(lambda: written(two.own) == as_answered(writers), 20, "blue follows green")


def test_killed_after_the_switch_the_next_call_ends_it_and_nothing_written_since_is_lost_for_the_way_back(two):
    killed(two, "switched")
    assert two.pair().unfinished
    with two.other.connect() as connection:
        connection.execute("INSERT INTO orders (writer, number) VALUES (8, 1)")
    said = []
    assert cut(two, lambda: pytest.fail("it was switched before"), said.append).blocked_s is None
    assert "ended after the switch" in said[0]
    with two.own.connect() as connection:
        rows = "SELECT count(*) FROM orders WHERE writer = 8"
        wait_until(lambda: connection.execute(rows).fetchone() == (1,), 20, "the row went back")


def test_a_machine_that_is_lost_holds_writers_up_no_longer_than_the_bound(two):
    session = two.own.connect()
    bound = two.replica.block_writes / 8
    install(two.own, "shop", now(two.replica.within))
    with fenced(two.own, bound, now(two.replica.within)):
        begun = time.monotonic()
        session.execute("INSERT INTO orders (writer, number) VALUES (7, 1)")  # our process never says another word
        assert 0.5 < time.monotonic() - begun < 3


def test_a_switch_that_takes_too_long_is_closed_again_and_brings_over_what_was_written_meanwhile(two):
    changes = {"block_writes": two.replica.block_writes / 8, "sequences_ahead": 100_000}
    replica, said = two.replica.model_copy(update=changes), []
    with Writers(two) as writers:

        def switch():
            time.sleep(2)
            writers.color = "green"

        assert cut_over(two.pair(), replica, switch, said.append).late
        writers.more()
    assert "longer than block_writes" in said[0]
    assert writers.unknown == []
    orders = [number for number, *_ in written(two.other)]
    assert orders == writers.answered
    with two.other.connect() as connection, two.own.connect() as back:
        connection.execute("INSERT INTO orders (writer, number) VALUES (9, 9)")
        row = "SELECT count(*) FROM orders WHERE writer = 9"
        wait_until(lambda: back.execute(row).fetchone() == (1,), 20, "blue to follow: nothing goes in circles")


def test_one_cut_over_at_a_time(two):
    with pytest.raises(MigrationBlocked, match="somebody else is at it"):
        cut(two, lambda: cut(two, lambda: None))


def test_expand_goes_to_the_target_first_and_contract_to_the_source(two):
    pair = two.pair()
    assert [side.name for side in pair.order(Phase.EXPAND)] == ["green", "blue"]
    assert [side.name for side in pair.order(Phase.CONTRACT)] == ["blue", "green"]


def test_a_partitioned_table_is_closed_whole(two):
    tables = "CREATE TABLE log (id int PRIMARY KEY) PARTITION BY RANGE (id);"
    tables += "CREATE TABLE log_1 PARTITION OF log FOR VALUES FROM (0) TO (10)"
    with two.other.connect() as target, two.own.connect() as source:
        target.execute(tables)
        source.execute(tables)
        source.execute("ALTER PUBLICATION shop ADD TABLE log")
        target.execute(f"ALTER SUBSCRIPTION {two.replica.subscription} REFRESH PUBLICATION")
        ready = "SELECT count(*) FROM pg_subscription_rel WHERE srsubstate <> 'r'"
        wait_until(lambda: target.execute(ready).fetchone() == (0,), 20, "the copy")
        cut(two, lambda: None)
        for table in ("log", "log_1"):
            with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
                source.execute(f"INSERT INTO {table} VALUES (1)")
        take_away(two.own, now(two.replica.within))
        assert source.execute(f"SELECT count(*) FROM pg_proc WHERE proname = '{FENCE}'").fetchone() == (0,)


def test_no_password_is_shown(two):
    shown = [repr(two.own), repr(two.pair())]
    bad = two.pair()
    with pytest.raises(MigrationFailed) as error:
        cut_over(bad.turned(), two.replica, lambda: None, shown.append)
    assert PASSWORD not in " ".join([*shown, str(error.value)])
