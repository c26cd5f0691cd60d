"""Roles follow the traffic: forward after the full switch, back after every way back, and never on two colors."""

from __future__ import annotations

import time
from datetime import timedelta

import pytest

from bluegreen.cli.render import faults
from bluegreen.core.colors import Color, Split
from bluegreen.core.errors import DeployError, DeployFenced, NotProven, NotServing, RolesAstray
from bluegreen.core.evidence import Proof
from bluegreen.core.stamp import now_utc
from bluegreen.release.deploy import deploy
from bluegreen.release.guard import guard
from bluegreen.release.move import move
from bluegreen.release.restore import restore
from bluegreen.release.rollback import rollback
from bluegreen.release.shift import settle, shift
from bluegreen.release.status import status
from tests.unit.release.world import SERVICE, Note, claimed

STUCK = ("stop", DeployError("deploy.roles.worker.stop: did not end", part="worker on blue"))


@pytest.fixture
def world():
    made = claimed()
    deploy(made.ports(), made.release)
    return made


def switch(world):
    return shift(world.ports(), world.release, "switch", 100, world.release.epoch)


def live_on(world, color):
    assert (world.splits(), world.workers) == ({str(Split.whole_on(color))}, {color})


def test_adopt_deploy_and_canary_leave_roles_alone(world):
    shift(world.ports(), world.release, "canary_1", 10, world.release.epoch)
    assert (world.workers, world.note) == ({Color.BLUE}, None)
    assert guard(world.ports(), "guard").action == "none"
    assert world.note is None


def test_roles_move_with_the_full_switch_at_the_new_version_and_stay_when_it_settles(world):
    done = switch(world)
    live_on(world, Color.GREEN)
    assert (world.moved, world.note) == ([(Color.GREEN, "2")], Note(done.epoch, Color.GREEN))
    settle(world.ports(), world.release, done.epoch)
    assert world.moved == [(Color.GREEN, "2")]


def test_roles_do_not_move_before_the_switch_is_proven(world):
    ports = world.ports()
    ports.__dict__["prove"] = lambda split: Proof(str(split), False, "somebody else answers")
    with pytest.raises(NotProven):
        shift(ports, world.release, "switch", 100, world.release.epoch)
    assert world.workers == {Color.BLUE}


def test_a_repeated_switch_moves_no_role_again(world):
    switch(world)
    switch(world)
    assert world.moved == [(Color.GREEN, "2")]


def test_a_role_that_does_not_stop_fails_the_switch_and_is_not_started_on_the_new_color(world):
    world.role_breaks = STUCK
    with pytest.raises(DeployError, match=r"worker on blue: .*did not end"):
        switch(world)
    assert world.workers == {Color.BLUE}
    assert restore(world.ports(), "bad", "tests", world.release.run).astray == ""
    live_on(world, Color.BLUE)


def test_a_restore_brings_roles_back_at_the_old_version(world):
    switch(world)
    restore(world.ports(), "bad", "tests", world.release.run)
    live_on(world, Color.BLUE)
    assert world.moved[-1] == (Color.BLUE, "1")


def test_a_late_switch_does_not_start_a_role_that_a_restore_gave_back(world):
    def comes_between():
        world.on_roles = None
        restore(world.ports(), "bad", "tests", world.release.run)

    world.on_roles = comes_between  # the traffic is switched, the roles are not yet
    with pytest.raises(DeployFenced, match="fence has epoch 4, found 3"):
        switch(world)
    live_on(world, Color.BLUE)


def test_a_role_keeps_no_traffic_from_going_back_and_is_told_loudly(world):
    switch(world)
    world.role_breaks = ("stop", DeployError("does not end", part="worker on green"))
    found = restore(world.ports(), "bad", "tests", world.release.run)
    assert (found.outcome, found.whole, world.splits()) == ("restored", True, {"100/0"})
    assert "roles are astray: worker on green: does not end" in found.says
    with pytest.raises(RolesAstray, match="worker on green: does not end") as raised:
        found.need_roles("shop")
    assert raised.value.retryable
    assert world.workers == {Color.GREEN}


@pytest.mark.parametrize("broken", [KeyError("ours"), DeployError("no such file")])
def test_a_restore_whose_deployer_breaks_is_repeated_by_the_next_one(world, broken):
    switch(world)
    world.role_breaks = ("start", broken)
    assert restore(world.ports(), "bad", "watch", world.release.run).astray
    assert world.workers == set()
    found = restore(world.ports(), "bad", "rollback", world.release.run)
    assert (found.outcome, found.astray) == ("already", "")
    live_on(world, Color.BLUE)


def test_the_guard_looks_until_the_roles_are_right(world):
    switch(world)
    world.role_breaks = ("stop", DeployError("does not end"))
    restore(world.ports(), "bad", "tests", world.release.run)
    world.role_breaks = ("stop", DeployError("does not end"))
    first, second, third = (guard(world.ports(), "guard") for _ in range(3))
    assert [first.action, second.action, third.action] == ["reported", "caught-up", "none"]
    assert "does not end" in first.says
    assert "brought worker to blue" in second.says
    live_on(world, Color.BLUE)


def test_the_guard_brings_back_roles_of_a_restore_that_died_before_it_came_to_them(world):
    switch(world)
    world.on_roles = lambda: (_ for _ in ()).throw(SystemExit("killed"))
    with pytest.raises(SystemExit):
        restore(world.ports(), "bad", "tests", world.release.run)
    world.on_roles = None
    assert guard(world.ports(), "guard").action == "caught-up"
    live_on(world, Color.BLUE)


def test_status_names_roles_that_are_astray(world):
    switch(world)
    assert faults(status(world.ports()))[1:] == []
    world.role_breaks = ("start", DeployError("does not start"))
    restore(world.ports(), "bad", "tests", world.release.run)
    assert faults(status(world.ports())) == ["role worker was not brought to blue, where the traffic is"]
    assert status(world.ports()).as_json()["astray"] == ["worker"]


def test_the_guard_leaves_roles_alone_while_a_release_is_under_way(world):
    world.role_breaks = STUCK
    with pytest.raises(DeployError):
        switch(world)
    assert guard(world.ports(), "guard").action == "none"
    assert world.moved == []


def test_a_lease_that_runs_out_in_the_middle_of_a_switch_brings_the_roles_back(world):
    switch(world)
    world.wait(80)
    assert guard(world.ports(), "guard").action == "restored"
    live_on(world, Color.BLUE)


def test_a_stranded_service_has_its_roles_on_the_color_that_serves(world):
    shift(world.ports(), world.release, "canary_1", 10, world.release.epoch)
    world.serve(Color.BLUE, ready=0)
    assert restore(world.ports(), "bad", "tests", world.release.run).outcome == "stranded"
    live_on(world, Color.GREEN)


def test_a_rollback_after_the_release_brings_roles_back_and_is_repeated_until_it_has(world):
    settle(world.ports(), world.release, switch(world).epoch)
    world.role_breaks = ("start", DeployError("does not start"))
    with pytest.raises(RolesAstray, match="does not start"):
        rollback(world.ports(), "rollback-1", "please", "person")
    assert world.splits() == {"100/0"}
    rollback(world.ports(), "rollback-1", "please", "person")
    live_on(world, Color.BLUE)


def test_a_move_of_all_traffic_takes_the_roles_along_or_is_put_back(world):
    restore(world.ports(), "not now", "tests")
    world.role_breaks = STUCK
    with pytest.raises(DeployError):
        move(world.ports(), "green", run="mine", by="task")
    live_on(world, Color.BLUE)
    move(world.ports(), "green", run="again", by="task")
    live_on(world, Color.GREEN)


def test_the_lease_of_a_switch_is_kept_while_roles_take_their_time(world):
    short = SERVICE.release.model_copy(update={"lease": timedelta(seconds=0.4)})
    ports = world.ports(SERVICE.model_copy(update={"release": short}))
    ports.__dict__["now"] = now_utc
    release = world.release.model_copy(update={"service": ports.service})
    world.on_roles = lambda: time.sleep(0.7)
    shift(ports, release, "switch", 100, release.epoch)
    assert ports.router.read().stamp.lease > now_utc() + timedelta(seconds=0.1)


@pytest.mark.parametrize(("healthy", "least"), [(1, 1), (2, 3)])
def test_no_full_switch_onto_fewer_servers_than_the_old_color_or_the_catalog_wants(world, healthy, least):
    world.serve(Color.GREEN, ready=healthy)
    more = SERVICE.release.model_copy(update={"min_healthy": least})
    release = world.release.model_copy(update={"service": SERVICE.model_copy(update={"release": more})})
    with pytest.raises(NotServing, match=f"{healthy} healthy servers, the old one 2, release.min_healthy is {least}"):
        shift(world.ports(), release, "switch", 100, release.epoch)
    assert world.splits() == {"100/0"}
