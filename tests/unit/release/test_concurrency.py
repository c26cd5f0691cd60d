"""A second release of a service: it waits, is refused, or takes over while the first has moved no traffic."""

from __future__ import annotations

from datetime import timedelta

import pytest

from bluegreen.catalog.models import Service
from bluegreen.core.colors import Color
from bluegreen.core.errors import RouterUnreachable, TrafficConflict
from bluegreen.core.stamp import Phase
from bluegreen.deployers.fence import WAIT, patience
from bluegreen.release.adopt import adopt
from bluegreen.release.deploy import deploy
from bluegreen.release.plan import plan
from bluegreen.release.restore import restore
from bluegreen.release.shift import hold, settle, shift
from tests.unit.release.world import SERVICE, World, request


def service(concurrent):
    asks = {"approvals": {"before_switch": {"deadline": "30m"}}, "concurrent": concurrent}
    return Service.model_validate(SERVICE.frozen() | {"release": SERVICE.frozen()["release"] | asks})


@pytest.fixture
def world():
    made = World()
    adopt(made.ports(), "tests", "begin", "1")
    return made


def planned(world, run="run-1", version="2", concurrent="queue", alive=()):
    asked = request(run, version, alive=lambda other: other in alive)
    return plan(world.ports(service(concurrent)), asked)


def stamp(world):
    return world.ports().router.read().stamp


@pytest.mark.parametrize("concurrent", ["refuse", "queue"])
def test_a_living_holder_is_named_and_left_alone(world, concurrent):
    planned(world)
    before = world.ports().router.read()
    with pytest.raises(TrafficConflict, match=r"plan: held by run-1@2 \(claimed: tests releases 2 to green\)"):
        planned(world, "run-2", "3", concurrent, alive=("run-1",))
    assert world.ports().router.read() == before


@pytest.mark.parametrize("concurrent", ["refuse", "queue", "supersede"])
def test_what_a_dead_run_claimed_is_anybodys(world, concurrent):
    planned(world)
    planned(world, "run-2", "3", concurrent, alive=("run-2", "run-9"))
    assert (stamp(world).run, stamp(world).why) == ("run-2", "tests releases 3 to green, over run-1@2")


def test_a_run_that_plans_again_is_not_held_up_by_itself(world):
    planned(world, concurrent="refuse", alive=("run-1",))
    assert planned(world, concurrent="refuse", alive=("run-1",)).epoch == 3


def superseded(world):
    first = planned(world)
    world.runs[Color.GREEN] = "2"
    return first, planned(world, "run-2", "3", "supersede", alive=("run-1",))


def test_a_hotfix_takes_over_and_the_superseded_release_moves_nothing_any_more(world):
    first, hotfix = superseded(world)
    ports, who = world.ports(), r"run-1@2 does not hold the service any more, run-2@3 does \(claimed: tests releases 3"
    with pytest.raises(TrafficConflict, match=who):
        shift(ports, first, "canary_1", 10, first.epoch)
    with pytest.raises(TrafficConflict, match=who):
        deploy(ports, first)
    assert world.runs[Color.GREEN] == "2"
    left = restore(ports, "failed", "safe", first.run)
    assert (left.outcome, left.says) == ("nothing", "nothing of run-1 to put back: the traffic is run-2@3's (claimed)")
    assert stamp(world).identity == (3, hotfix.release)


def test_a_hotfix_goes_on_to_its_end_after_it_took_over(world):
    first, hotfix = superseded(world)
    ports = world.ports()
    deploy(ports, hotfix)
    settle(ports, hotfix, shift(ports, hotfix, "switch", 100, hotfix.epoch).epoch)
    restore(ports, "the run ended", "safe", first.run)
    assert (stamp(world).release, stamp(world).phase, world.splits()) == (hotfix.release, Phase.SETTLED, {"0/100"})


def test_a_late_deploy_of_the_superseded_release_is_found_before_the_hotfix_gets_traffic(world):
    _, hotfix = superseded(world)
    world.runs[Color.GREEN] = "2"
    with pytest.raises(Exception, match="green: runs 2, not 3 as planned"):
        shift(world.ports(), hotfix, "canary_1", 10, hotfix.epoch)


@pytest.mark.parametrize("held", [False, True])
def test_traffic_that_is_split_is_not_taken_over(world, held):
    first = planned(world)
    world.runs[Color.GREEN] = "2"
    done = shift(world.ports(), first, "canary_1", 10, first.epoch)
    if held:
        hold(world.ports(), first, "hold", 10, done.epoch, first.service.release.approvals.before_switch)
    with pytest.raises(TrafficConflict, match="run-1@2 is under way"):
        planned(world, "run-2", "3", "supersede", alive=("run-1",))
    assert world.splits() == {"90/10"}


@pytest.mark.parametrize("concurrent", ["refuse", "supersede"])
def test_a_release_that_has_settled_is_let_end_so_that_it_finds_its_own_stamp(world, concurrent):
    first = planned(world)
    world.runs[Color.GREEN] = "2"
    settle(world.ports(), first, shift(world.ports(), first, "switch", 100, first.epoch).epoch)
    with pytest.raises(TrafficConflict, match=r"held by run-1@2 \(settled"):
        planned(world, "run-2", "3", concurrent, alive=("run-1",))
    assert planned(world, "run-2", "3", concurrent).live is Color.GREEN


@pytest.mark.parametrize("concurrent", ["refuse", "supersede"])
def test_a_release_that_was_stopped_by_hand_keeps_nobody_out_while_its_approval_still_waits(world, concurrent):
    first = planned(world)
    restore(world.ports(), "stop", "person", first.run)
    assert planned(world, "run-2", "3", concurrent, alive=("run-1",)).epoch == 4


def test_only_a_deploy_that_may_be_superseded_is_waited_for_as_long_as_it_may_take():
    assert patience(service("queue")) == patience(service("refuse")) == WAIT
    assert patience(service("supersede")) == timedelta(minutes=12)


def test_a_router_that_does_not_answer_has_not_said_that_nobody_holds_the_service(world):
    first = planned(world)
    for node in world.nodes:
        node.reachable = False
    for step in (
        lambda: shift(world.ports(), first, "canary_1", 10, first.epoch),
        lambda: deploy(world.ports(), first),
    ):
        with pytest.raises(
            RouterUnreachable, match=r"shop: router: one unreachable: .*, two unreachable: .*; nothing was"
        ):
            step()
    for node in world.nodes:
        node.reachable = True
    world.runs[Color.GREEN] = "2"
    assert shift(world.ports(), first, "canary_1", 10, first.epoch).epoch == first.epoch + 1
