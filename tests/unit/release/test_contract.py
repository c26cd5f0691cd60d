"""The destructive half: refused for each reason by itself, then executed, on a real PostgreSQL."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest

from bluegreen.core.colors import Color, Split
from bluegreen.core.errors import CheckFailed, MigrationFailed, MigrationRefused, ReleaseRefused, RouterUnreachable
from bluegreen.core.ports import Credentials
from bluegreen.release import migrate
from bluegreen.release.contract import contract, ready
from bluegreen.release.plan import plan
from bluegreen.release.restore import restore
from bluegreen.release.retire import retire
from bluegreen.release.shift import settle, shift
from tests.rigs.postgres import PASSWORD
from tests.rigs.shop_database import BACKFILL, CONTRACT, EXPAND, asked, target
from tests.unit.release.world import claimed, request

NAME = "0001_names.contract.sql"


def settled(world):
    ports, release = world.ports(), world.release
    settle(ports, release, shift(ports, release, "switch", 100, release.epoch).epoch)


@pytest.fixture
def server():
    with target() as running:
        yield running


@pytest.fixture
def world(database, server):
    """The release is over, its old color retired, the soak time over: a contract may run."""
    made = claimed()
    database.write(_0001_names_expand=EXPAND, _0001_names_backfill=BACKFILL, _0001_names_contract=CONTRACT)
    database.settings["contract"] = {"soak": "1h", "old_sessions": "shop-$color%"}
    database.more = asked(server)
    service = database.service()
    migrate.expand(service, database.secrets, "run-1@2", made.said.append)
    migrate.backfill(service, database.secrets, made.said.append)
    settled(made)
    retire(made.ports(), "not needed any more", "tests")
    made.time += timedelta(hours=1)
    return made


def look(world, database):
    return ready(world.ports(database.service()), database.secrets)


def refused(world, database, sentence, error=ReleaseRefused):
    """It refuses, nothing was touched, and without this one reason it would not have."""
    with pytest.raises(error, match=sentence) as found:
        contract(world.ports(database.service()), database.secrets, "c-1")
    assert database.columns() == ["id", "name", "full_name"]
    assert PASSWORD not in str(found.value)
    return str(found.value)


def test_when_nothing_needs_it_any_more_it_is_taken_away(world, database):
    found = look(world, database)
    assert (found.live, found.version, found.pending) == ("green", "2", (NAME,))
    json.dumps(found.as_json())
    done = contract(world.ports(database.service()), database.secrets, "c-1", found.as_json()["checksums"])
    assert done["applied"] == [NAME]
    assert database.columns() == ["id", "full_name"]
    assert look(world, database).pending == ()
    assert contract(world.ports(database.service()), database.secrets, "c-2")["applied"] == []


def test_a_release_that_is_under_way_is_waited_for(world, database):
    plan(world.ports(), request("run-2", "3"))
    refused(world, database, r"the last release, run-2@\d+, is claimed")


def test_after_a_release_that_was_put_back_the_old_version_serves(world, database):
    plan(world.ports(), request("run-2", "3"))
    restore(world.ports(), "it was bad", "tests", "run-2")
    refused(world, database, r"the last release, run-2@\d+, is restored")


def test_while_there_is_a_way_back_it_needs_what_would_be_taken(database, world):
    release = plan(world.ports(), request("run-2", "3"))
    world.runs[Color.BLUE] = "3"
    world.serve(Color.BLUE, ready=2)
    ports = world.ports()
    settle(ports, release, shift(ports, release, "switch", 100, release.epoch).epoch)
    world.time += timedelta(hours=2)
    assert "start retire__shop" in refused(world, database, "green is kept for a way back")


def test_the_soak_time(world, database):
    world.time -= timedelta(minutes=1)
    refused(world, database, r"the soak time \(1h since .* retire\) is not over")
    world.time += timedelta(minutes=1)
    assert look(world, database).pending


def test_an_old_color_that_still_runs_after_a_retire_that_failed(world, database):
    world.runs[Color.BLUE] = "1"
    world.serve(Color.BLUE, ready=1)
    refused(world, database, r"blue still runs 1 \(1 of 2 targets answer\), not 2")
    world.runs[Color.BLUE] = "2"  # upgraded, too
    assert look(world, database).pending


def test_a_session_of_the_old_color_is_named(world, database):
    with database.server.connect(database.name, application_name="shop-blue-worker"):
        refused(world, database, r"sessions of blue are left: shop-blue-worker \(process \d+, local\)")
    with database.server.connect(database.name, application_name="shop-green-worker"):
        assert look(world, database).pending


def test_a_backfill_that_is_not_done(world, database):
    database.write(_0002_more_backfill=BACKFILL)
    refused(world, database, r"backfills are not done: 0002_more\.backfill\.yaml")


def test_an_expand_that_is_not_executed(world, database):
    database.write(_0002_more_expand="ALTER TABLE users ADD COLUMN age int;")
    refused(world, database, r"the compatible half is not executed yet: 0002_more\.expand\.sql", MigrationRefused)


def test_a_finding_of_the_linter(world, database):
    database.write(_0002_bad_contract="ALTER TABLE users RENAME COLUMN id TO number;")
    refused(world, database, r"0002_bad\.contract\.sql:1: rename-column", MigrationRefused)


def test_a_node_that_does_not_answer(world, database):
    world.nodes[1].reachable = False
    refused(world, database, "two unreachable", RouterUnreachable)


def test_a_node_that_somebody_changed(world, database):
    world.nodes[1].by_hand(Split(blue=50, green=50))
    refused(world, database, "not in order: .* two changed by hand")


def test_a_database_that_lets_nobody_in_is_one_of_our_errors(world, database):
    wrong = Credentials("postgres", "planted-7f3a91", "127.0.0.1", database.server.port)
    with pytest.raises(MigrationFailed) as found:
        ready(world.ports(database.service()), lambda _: wrong)
    assert "planted" not in str(found.value)


def test_the_second_look_refuses_when_a_release_began_meanwhile(world, database):
    approved = look(world, database).as_json()["checksums"]
    plan(world.ports(), request("run-2", "3"))
    with pytest.raises(ReleaseRefused, match="is claimed"):
        contract(world.ports(database.service()), database.secrets, "c-1", approved)
    assert database.columns() == ["id", "name", "full_name"]


@pytest.mark.parametrize(
    "more", [{"_0002_id_contract": "ALTER TABLE users DROP COLUMN id;"}, {"_0001_names_contract": "DROP TABLE users;"}]
)
def test_a_yes_is_for_what_was_shown_and_for_nothing_else(world, database, more):
    approved = look(world, database).as_json()["checksums"]
    database.write(**more)
    with pytest.raises(ReleaseRefused, match="nobody said yes to 000"):
        contract(world.ports(database.service()), database.secrets, "c-1", approved)
    assert database.columns() == ["id", "name", "full_name"]


def test_a_try_that_ended_half_way_goes_on_with_the_same_yes(world, database):
    database.write(_0002_more_contract="ALTER TABLE users ALTER COLUMN full_name DROP DEFAULT;\nDROP TABLE other;\n")
    approved = look(world, database).as_json()["checksums"]
    ports = world.ports(database.service())
    with pytest.raises(MigrationFailed, match=r'0002_more\.contract\.sql.*"other" does not exist'):
        contract(ports, database.secrets, "c-1", approved)
    assert database.columns() == ["id", "full_name"]
    database.sql("CREATE TABLE other (id int)")
    assert contract(ports, database.secrets, "c-1", approved)["applied"] == ["0002_more.contract.sql"]


def test_a_smoke_test_that_fails_afterwards_is_told_as_what_it_is(world, database, server):
    server.after = lambda: "name" not in database.columns()
    with pytest.raises(CheckFailed, match=f"green does not pass its smoke tests after {NAME} was executed") as error:
        contract(world.ports(database.service()), database.secrets, "c-1")
    assert "there is no way back of it" in error.value.next_step
    assert "no traffic was moved" not in str(error.value)
    assert database.columns() == ["id", "full_name"]


def test_on_a_live_color_that_is_ill_already_nothing_is_executed_for_good(world, database, server):
    server.status = 500
    refused(world, database, "green does not pass its smoke tests before anything is executed", CheckFailed)
