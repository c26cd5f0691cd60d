"""A deploy to the idle color alone: it claims the service while it works, moves no traffic, and ends its claim."""

from __future__ import annotations

import pytest

from bluegreen.core.colors import Color
from bluegreen.core.errors import DeployError, ReleaseRefused, TrafficConflict
from bluegreen.core.ports import Deployed
from bluegreen.core.stamp import Phase
from bluegreen.release.adopt import adopt
from bluegreen.release.deploy_idle import deploy_idle
from bluegreen.release.move import move
from bluegreen.release.plan import plan
from tests.unit.release.world import MemoryDeployer, World, request


@pytest.fixture
def world():
    made = World()
    adopt(made.ports(), "tests", "begin", "1")
    return made


@pytest.fixture
def stamp(world):
    return lambda: world.ports().router.read().stamp


def deploy(world, version="2", run="mine.run", by="deploy"):
    return deploy_idle(world.ports(), version, run=run, by=by)


def test_it_moves_no_traffic_and_leaves_no_claim_and_no_way_back(world, stamp):
    assert deploy(world) == (Color.GREEN, Deployed("2", 2, 2))
    assert world.splits() == {"100/0"}
    assert (stamp().phase, stamp().back_to) == (Phase.SETTLED, None)
    assert stamp().versions == {Color.BLUE: "1", Color.GREEN: "2"}


def test_the_same_run_and_any_other_may_move_the_traffic_then(world, stamp):
    deploy(world)
    move(world.ports(), "idle", run="mine.run", by="move")
    assert (world.splits(), stamp().versions[Color.GREEN], stamp().back_to) == ({"0/100"}, "2", Color.BLUE)
    deploy(world, "3", run="other.run")
    move(world.ports(), "idle", run="third.run", by="move")
    assert (world.splits(), stamp().versions[Color.BLUE]) == ({"100/0"}, "3")


def test_a_deploy_that_fails_ends_its_claim_and_names_no_version(world, stamp, monkeypatch):
    def broken(self, color, version, epoch, release):
        raise DeployError("it did not come up\nmore", service="shop", part=color, next_step="mend it")

    monkeypatch.setattr(MemoryDeployer, "deploy", broken)
    with pytest.raises(DeployError, match="it did not come up"):
        deploy(world)
    assert (stamp().phase, stamp().versions, stamp().back_to) == (Phase.SETTLED, {Color.BLUE: "1"}, None)
    assert stamp().why == "deploy: 2 is not on green: it did not come up"
    assert world.splits() == {"100/0"}


def test_a_killed_one_is_completed_by_its_repeated_task_under_the_same_claim(world, stamp, monkeypatch):
    class Killed(BaseException):
        pass

    claims = []
    honest = MemoryDeployer.deploy

    def killed_once(self, color, version, epoch, release):
        claims.append((epoch, release))
        if len(claims) == 1:
            raise Killed
        return honest(self, color, version, epoch, release)

    monkeypatch.setattr(MemoryDeployer, "deploy", killed_once)
    with pytest.raises(Killed):
        deploy(world)
    assert stamp().phase is Phase.CLAIMED
    deploy(world)
    assert claims[0] == claims[1]
    assert stamp().phase is Phase.SETTLED


def test_it_is_refused_while_a_release_is_under_way(world):
    plan(world.ports(), request())
    with pytest.raises(TrafficConflict, match="run-1@2 is under way"):
        deploy(world)
    assert world.runs[Color.GREEN] == "0"


def test_it_is_refused_while_its_own_run_has_split_the_traffic(world):
    move(world.ports(), "idle", run="mine.run", by="move", share=10)
    with pytest.raises(ReleaseRefused, match="the traffic is not whole on one color"):
        deploy(world)
    assert (world.splits(), world.runs[Color.GREEN]) == ({"90/10"}, "0")
