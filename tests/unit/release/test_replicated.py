"""A database a color on two real servers: what is written follows the traffic, and never holds up its way back."""

from __future__ import annotations

import threading
import time
from dataclasses import replace

import psycopg
import pytest

from bluegreen.core.colors import Color, Split
from bluegreen.core.errors import MigrationFailed, RouterRefused, TrafficConflict
from bluegreen.migrations import replica_cut
from bluegreen.migrations.ports import Phase
from bluegreen.release import migrate
from bluegreen.release.contract import contract, ready
from bluegreen.release.move import move
from bluegreen.release.plan import plan
from bluegreen.release.replicated import Replicated
from bluegreen.release.restore import restore
from bluegreen.release.retire import retire
from bluegreen.release.rollback import rollback
from bluegreen.release.shift import settle, shift
from demo.processes import wait_until
from tests.rigs.replicated import BLOCK, Pair
from tests.rigs.shop_database import BACKFILL, EXPAND, asked, target
from tests.unit.release.world import claimed, request


@pytest.fixture
def pair(pg, pg_two, tmp_path):
    made = Pair(pg, pg_two, tmp_path / "migrations", claimed())
    yield made
    made.forget()


@pytest.fixture
def release(pair):
    return pair.world.release.model_copy(update={"service": pair.service()})


def forward(pair, release, *steps):
    epoch = release.epoch
    for name, share in steps or (("canary_1", 10), ("switch", 100)):
        epoch = shift(pair.ports(), release, name, share, epoch).epoch
    return epoch


def test_a_whole_release_loses_no_write_and_its_rollback_none_either(pair, release):
    said = pair.world.said
    pair.blue.write(_0001_names_expand=EXPAND, _0001_names_backfill=BACKFILL)
    with pair.writers() as writers:
        migrate.follow(release, pair.secrets, said.append)
        done = migrate.expand(release.service, pair.secrets, release.release, said.append)
        assert done["applied"] == ["0001_names.expand.sql"]
        executed = [line for line in said if "full_name" in line and "done in" in line]
        assert len(executed) == 2
        assert migrate.backfill(release.service, pair.secrets, said.append)["0001_names.backfill.yaml"]["rows"] == 50
        migrate.caught_up(release.service, pair.secrets, said.append)
        epoch = forward(pair, release)
        assert (pair.source(), pair.where()) == ("green", "green")
        writers.more()
        settle(pair.ports(), release, epoch)
        assert rollback(pair.ports(), "back-1", "checkout is broken", "ann").outcome == "restored"
        assert (pair.source(), pair.where()) == ("blue", "blue")
    assert writers.unknown == []
    assert writers.found_in(pair.blue) == writers.wanted
    wait_until(lambda: writers.found_in(pair.green) == writers.wanted, 20, "green follows blue")
    assert pair.green.sql("SELECT count(*) FROM users WHERE full_name = name") == [(50,)]


def test_expand_is_executed_on_the_subscriber_first(pair, release):
    order = []
    pair.blue.write(_0001_names_expand=EXPAND)
    sides = Replicated(release.service, release.service.migrations.replica, pair.secrets, order.append)
    assert sides.order(Phase.EXPAND) == ["green", "blue"]
    assert sides.order(Phase.CONTRACT) == ["blue", "green"]
    with pair.blue.server.connect(pair.blue.name, autocommit=False) as holder:
        holder.execute("LOCK TABLE users")
        with pytest.raises(MigrationFailed, match="users"):
            migrate.expand(release.service, pair.secrets, "run-1@2", order.append)
        holder.rollback()
    assert (pair.green.columns(), pair.blue.columns()) == (["id", "name", "full_name"], ["id", "name"])
    # What is pending on one of them is pending: linted, told and executed by the next try.
    pending = migrate.pending_of(release.service, pair.secrets, Phase.EXPAND, order.append)
    assert [one.name for one in pending] == ["0001_names.expand.sql"]
    assert migrate.expand(release.service, pair.secrets, "run-1@2", order.append)["applied"] == [
        "0001_names.expand.sql"
    ]
    assert pair.blue.columns() == ["id", "name", "full_name"]


def test_a_restore_in_a_canary_asks_no_database_at_all(pair, release, monkeypatch):
    forward(pair, release, ("canary_1", 10))

    def asked(_):
        pytest.fail("a database was asked")

    ports = pair.ports()
    ports = replace(ports, replicated=replace(ports.replicated, secrets=asked))
    assert restore(ports, "a rule", "watch", "run-1").outcome == "restored"
    assert pair.source() == "blue"


def test_a_canary_whose_old_color_dies_strands_with_what_is_written(pair, release):
    forward(pair, release, ("canary_1", 10))
    pair.world.serve(Color.BLUE, ready=0)
    assert restore(pair.ports(), "a rule", "watch", "run-1").outcome == "stranded"
    assert (pair.where(), pair.source()) == ("green", "green")


def test_a_restore_after_the_switch_is_cut_back(pair, release):
    with pair.writers() as writers:
        forward(pair, release)
        writers.more()
        assert restore(pair.ports(), "a rule", "watch", "run-1").outcome == "restored"
    assert (pair.source(), pair.where(), writers.unknown) == ("blue", "blue", [])
    assert writers.found_in(pair.blue) == writers.wanted


def timed_restore(pair, at_most):
    ports, begun = pair.ports(), time.monotonic()
    found = restore(ports, "a rule", "watch", "run-1")
    took = time.monotonic() - begun
    assert (found.outcome, pair.where(), pair.world.splits()) == ("restored", "blue", {"100/0"})
    assert took < at_most, took
    return took


@pytest.mark.parametrize("gone", ["shop_db", "green_db"])
def test_a_database_that_does_not_answer_holds_the_way_back_up_for_no_longer_than_writes_may_wait(pair, release, gone):
    forward(pair, release)
    pair.lost = {gone}
    timed_restore(pair, 2 * BLOCK + 4)
    said = "\n".join(pair.world.said)
    assert "the databases do not follow, the traffic goes back all the same" in said
    assert "planted" not in said


def test_a_server_that_stands_still_does_not_either(pair, release, monkeypatch):
    """One that is stopped keeps its connections open: no time-out of ours is heard there."""
    forward(pair, release)
    still = threading.Event()
    monkeypatch.setattr(replica_cut, "check", lambda *_: still.wait(60))
    timed_restore(pair, BLOCK + 2)
    still.set()
    assert pair.blue.sql("INSERT INTO orders (writer, number) VALUES (77, 1) RETURNING writer") == [(77,)]
    time.sleep(0.5)
    # Who comes late to the switch moves nothing, and lets writers on where they are.
    assert pair.world.splits() == {"100/0"}


def test_a_connection_that_airflow_does_not_have_and_a_driver_that_is_missing_do_not_either(pair, release, monkeypatch):
    forward(pair, release)

    def missing(*_):
        raise ImportError("No module named 'psycopg'")

    monkeypatch.setattr(Replicated, "_sides", missing)
    timed_restore(pair, 1)
    assert any("No module named" in line for line in pair.world.said)


def test_a_slot_that_is_gone_is_told_and_the_traffic_goes_back(pair, release):
    forward(pair, release)
    pair.blue.sql(f"ALTER SUBSCRIPTION {pair.name}_back DISABLE")
    pair.blue.sql(f"ALTER SUBSCRIPTION {pair.name}_back SET (slot_name = NONE)")

    def dropped():
        try:
            pair.green.sql(f"SELECT pg_drop_replication_slot('{pair.name}_back')")
        except psycopg.errors.ObjectInUse:  # a worker that was on its way when it was told to end
            return False
        return True

    wait_until(dropped, 20, "the slot to be let go of")
    timed_restore(pair, BLOCK + 2)
    assert any("the databases do not follow" in line and "_back" in line for line in pair.world.said)
    # Writers are served where the traffic is: its fence does not turn them away.
    pair.blue.sql("INSERT INTO orders (writer, number) VALUES (77, 1)")


def test_after_a_way_back_without_its_databases_no_release_goes_forward_over_what_was_written(pair, release):
    forward(pair, release)
    pair.lost = {"green_db"}
    timed_restore(pair, 2 * BLOCK + 4)
    pair.lost = set()
    pair.blue.sql("INSERT INTO orders (writer, number) VALUES (77, 1)")
    again = plan(pair.ports(), request("run-2", "3"))
    with pytest.raises(
        MigrationFailed, match="the traffic is on blue, but replication goes from green to blue"
    ) as error:
        migrate.follow(again, pair.secrets, pair.world.said.append)
    assert "make green's database anew" in error.value.next_step


def failing_turn(monkeypatch):
    real = replica_cut._turn

    def turn(pair):
        monkeypatch.setattr(replica_cut, "_turn", real)
        raise psycopg.OperationalError("gone")

    monkeypatch.setattr(replica_cut, "_turn", turn)


def test_a_cut_over_that_ends_after_the_switch_is_ended_by_the_step_that_is_tried_again(pair, release, monkeypatch):
    epoch = forward(pair, release, ("canary_1", 10))
    failing_turn(monkeypatch)
    with pytest.raises(MigrationFailed):
        shift(pair.ports(), release, "switch", 100, epoch)
    assert pair.where() == "green"
    pair.green.sql("INSERT INTO orders (writer, number) VALUES (77, 1)")
    shift(pair.ports(), release, "switch", 100, epoch)
    assert pair.source() == "green"
    wait_until(lambda: pair.blue.sql("SELECT 1 FROM orders WHERE writer = 77"), 20, "the row on blue")


def test_the_way_back_of_a_cut_over_that_ended_after_the_switch_leaves_no_database_closed(pair, release, monkeypatch):
    epoch = forward(pair, release, ("canary_1", 10))
    failing_turn(monkeypatch)
    with pytest.raises(MigrationFailed):
        shift(pair.ports(), release, "switch", 100, epoch)
    pair.green.sql("INSERT INTO orders (writer, number) VALUES (77, 1)")
    timed_restore(pair, 2 * BLOCK)
    assert pair.source() == "blue"
    assert pair.blue.sql("SELECT count(*) FROM orders WHERE writer = 77") == [(1,)]
    pair.blue.sql("INSERT INTO orders (writer, number) VALUES (78, 1)")


def test_a_conflict_within_the_cut_over_is_not_tried_twice(pair, release):
    epoch = forward(pair, release, ("canary_1", 10))
    ports, calls = pair.ports(), []
    real = ports.router.shift

    def conflict(*words):
        calls.append(words)
        raise TrafficConflict("somebody else wrote", service="shop", part="router")

    ports.router.shift = conflict
    with pytest.raises(TrafficConflict):
        shift(ports, release, "switch", 100, epoch)
    assert len(calls) == 1
    ports.router.shift = real
    assert (pair.where(), pair.source()) == ("blue", "blue")
    pair.blue.sql("INSERT INTO orders (writer, number) VALUES (78, 1)")
    shift(pair.ports(), release, "switch", 100, epoch)
    assert pair.source() == "green"


def test_a_conflict_on_the_way_back_is_read_again_and_not_moved_past(pair, release):
    forward(pair, release)
    ports, calls = pair.ports(), []
    real = ports.router.shift

    def once(*words):
        calls.append(words)
        if len(calls) == 1:
            raise TrafficConflict("somebody else wrote", service="shop", part="router")
        return real(*words)

    ports.router.shift = once
    assert restore(ports, "a rule", "watch", "run-1").outcome == "restored"
    assert (len(calls), pair.source(), pair.where()) == (2, "blue", "blue")


def test_a_write_that_took_hold_and_was_not_answered_takes_the_databases_with_it(pair, release):
    forward(pair, release)
    for node in pair.world.nodes:
        node.fails = "after"
    assert restore(pair.ports(), "a rule", "watch", "run-1").outcome == "restored"
    assert (pair.source(), pair.where()) == ("blue", "blue")


def test_with_a_node_that_is_lost_the_rest_goes_back_with_its_database(pair, release):
    forward(pair, release)
    pair.world.nodes[2].reachable = False
    found = restore(pair.ports(), "a rule", "watch", "run-1")
    assert found.outcome == "restored"
    assert (pair.source(), pair.where()) == ("blue", "blue")


def test_a_switch_that_reaches_no_node_lets_writers_go_on_where_they_were(pair, release):
    epoch = forward(pair, release, ("canary_1", 10))
    pair.world.nodes[1].refuses = True
    with pair.writers() as writers:
        with pytest.raises(RouterRefused, match="read-only"):
            shift(pair.ports(), release, "switch", 100, epoch)
        assert (pair.where(), pair.source()) == ("blue", "blue")
    assert writers.unknown == []


def test_what_was_filled_on_one_is_done_and_a_contract_runs_on_both(pair, release):
    said = pair.world.said
    pair.blue.write(_0001_names_expand=EXPAND, _0001_names_backfill=BACKFILL)
    pair.blue.settings["contract"] = {"soak": "0s", "old_sessions": "shop-$color%"}
    pair.blue.write(_0001_names_contract="ALTER TABLE users DROP COLUMN name;")
    with target() as server:
        pair.blue.more = asked(server)
        migrate.expand(pair.service(), pair.secrets, "run-1@2", said.append)
        migrate.backfill(pair.service(), pair.secrets, said.append)
        settle(pair.ports(), release, forward(pair, release))
        retire(pair.ports(), "not needed", "tests")
        assert migrate.backfills_left(pair.service(), pair.secrets) == []
        with pair.blue.server.connect(pair.blue.name, autocommit=False) as holder:
            holder.execute("LOCK TABLE users")
            with pytest.raises(MigrationFailed, match="users"):
                contract(pair.ports(), pair.secrets, "c-1")
            holder.rollback()
        # Replication carries no DDL: what is dropped is dropped from the source first, then from who follows.
        assert (pair.green.columns(), pair.blue.columns()) == (["id", "full_name"], ["id", "name", "full_name"])
        assert ready(pair.ports(), pair.secrets).pending == ("0001_names.contract.sql",)
        assert contract(pair.ports(), pair.secrets, "c-1")["applied"] == ["0001_names.contract.sql"]
    assert pair.blue.columns() == ["id", "full_name"]


def test_the_move_operators_switch_takes_the_databases_along(pair, release):
    epoch = forward(pair, release)
    settle(pair.ports(), release, epoch)
    move(pair.ports(), "idle", run="m-1", by="tests")
    assert (pair.where(), pair.source()) == ("blue", "blue")
    assert Split.whole_on(Color.BLUE) == pair.world.nodes[0].split
