"""Bad input is refused before anything is touched; a move of traffic alone is a small release of its own."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from bluegreen.catalog.models import CanaryStep
from bluegreen.core.colors import Color, Split
from bluegreen.core.errors import (
    DeployError,
    NotProven,
    NotServing,
    ReleaseFinished,
    ReleaseRefused,
    RouterUnreachable,
    TrafficConflict,
    UnsupportedSplit,
)
from bluegreen.core.evidence import Counters, Proof
from bluegreen.core.ports import Limits
from bluegreen.core.reading import Health
from bluegreen.core.stamp import Phase
from bluegreen.release.adopt import adopt
from bluegreen.release.deploy import deploy
from bluegreen.release.drain import drain
from bluegreen.release.move import move
from bluegreen.release.plan import dry_run, plan
from bluegreen.release.restore import restore
from bluegreen.release.rollback import rollback
from bluegreen.release.shift import settle, shift
from tests.unit.release.world import MemoryDeployer, World, request


@pytest.fixture
def world():
    made = World()
    adopt(made.ports(), "tests", "begin", "1")
    return made


def deployed(world):
    """A release whose version runs on the idle color."""
    release = plan(world.ports(), request())
    world.runs[Color.GREEN] = "2"
    return release


def stamp(world):
    return world.ports().router.read().stamp


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        (request(version=""), "version is ''; give a version without spaces"),
        (request(version="1 2"), "version is '1 2'"),
        (request(version="1"), "version 1 is live already, on blue"),
        (request(skip=("smoke",)), "skip smoke has no reason"),
    ],
)
def test_a_wrong_request_is_refused_before_anything_is_touched(world, asked, sentence):
    before = world.ports().router.read()
    with pytest.raises(ReleaseRefused, match=sentence):
        plan(world.ports(), asked)
    assert world.ports().router.read() == before


def test_shrinking_canary_steps_are_refused(world):
    with pytest.raises(ReleaseRefused, match=r"canary shares must grow, found \[50, 10\]; mend the params"):
        plan(world.ports(), request(canary=[CanaryStep(share=50), CanaryStep(share=10)]))


def test_no_canary_at_all_needs_a_reason(world):
    with pytest.raises(ReleaseRefused, match="no canary step is left and there is no reason"):
        plan(world.ports(), request(canary=[]))
    assert plan(world.ports(), request(canary=[], skip_reason="hotfix")).service.release.canary == ()


def test_a_service_that_was_never_adopted_is_refused():
    with pytest.raises(ReleaseRefused, match=r"bears no stamp.*bluegreen adopt shop"):
        plan(World().ports(), request())


def test_a_node_that_does_not_answer_is_named(world):
    world.nodes[1].reachable = False
    with pytest.raises(RouterUnreachable, match="two"):
        plan(world.ports(), request())


def test_a_live_color_that_is_dead_is_no_way_back(world):
    world.serve(Color.BLUE, ready=0)
    with pytest.raises(NotServing, match="no way back"):
        plan(world.ports(), request())


def test_another_release_under_way_is_named_and_left_alone(world):
    release = deployed(world)
    shift(world.ports(), release, "canary_1", 10, release.epoch)
    with pytest.raises(TrafficConflict, match="run-1@2 is under way"):
        plan(world.ports(), request("run-2", "3"))
    assert world.splits() == {"90/10"}


def test_a_dead_releases_traffic_is_put_back_first(world):
    release = deployed(world)
    shift(world.ports(), release, "canary_1", 10, release.epoch)
    world.wait(75)
    second = plan(world.ports(), request("run-2", "3"))
    assert (second.live, world.splits(), stamp(world).phase) == (Color.BLUE, {"100/0"}, Phase.CLAIMED)


def test_a_claim_that_died_on_its_first_node_does_not_keep_the_next_one_out(world):
    world.nodes[1].fails = "before"
    with pytest.raises(RouterUnreachable):
        plan(world.ports(), request())
    assert plan(world.ports(), request()).version == "2"


def test_a_dry_run_touches_nothing_and_names_every_write(world):
    before = world.ports().router.read()
    lines = dry_run(world.ports(), request())
    assert [line.split(" to ")[0] for line in lines[2:]] == [
        "epoch 2: write blue/green 100/0 as claimed",
        "epoch 3: write blue/green 90/10 as canary",
        "epoch 4: write blue/green 0/100 as switched",
        "epoch 5: write blue/green 0/100 as settled",
    ]
    assert world.ports().router.read() == before


def test_nothing_is_deployed_while_requests_run_on_the_idle_color(world):
    release = plan(world.ports(), request())
    world.nodes[2].counts[Color.GREEN] = Counters(5, 0, in_flight=1)
    with pytest.raises(DeployError, match="1 requests are still in flight"):
        deploy(world.ports(), release)
    assert world.runs[Color.GREEN] == "0"


class Late(MemoryDeployer):
    """Its targets answer, and the router has fewer of their servers up for now."""

    def deploy(self, color, *words):
        done = super().deploy(color, *words)
        self.world.nodes[1].health[color] = Health(self.up, 2)
        return done


def deploys_late(world, up, until):
    """Deploy over a router whose second node has so many servers up, and both from a time on."""
    release, begun = plan(world.ports(), request()), world.time

    def wait(seconds):
        world.wait(seconds)
        if world.time >= begun + until:
            world.serve(Color.GREEN, ready=2)

    late = Late(world)
    late.up = up
    return deploy(replace(world.ports(), deployer=late, sleep=wait), release)


def test_the_routers_own_health_check_is_waited_for(world):
    deploys_late(world, 0, timedelta(seconds=6))
    assert "the router has 0 of 2 servers of green up: waiting for its checks" in world.said
    assert world.ports().router.read().worst_health(Color.GREEN).ready == 2


def test_a_color_that_no_node_has_up_gets_no_traffic_and_one_that_is_half_up_goes_on(world):
    with pytest.raises(NotServing, match="shop: green: the router has none of 2 servers up within 2m, though they ans"):
        deploys_late(world, 0, timedelta(hours=1))
    deploys_late(world, 1, timedelta(hours=1))
    assert "the router has 1 of 2 servers of green up after 2m" in world.said


def test_nothing_is_deployed_for_a_release_that_was_stopped(world):
    release = plan(world.ports(), request())
    restore(world.ports(), "stop", "person", release.run)
    with pytest.raises(ReleaseFinished, match="restored"):
        deploy(world.ports(), release)
    assert world.runs[Color.GREEN] == "0"


def test_nothing_is_shifted_to_a_color_that_one_node_cannot_see(world):
    release = plan(world.ports(), request())
    world.nodes[2].health[Color.GREEN] = type(world.nodes[2].health[Color.GREEN])(0, 2)
    with pytest.raises(NotServing, match="new color"):
        shift(world.ports(), release, "canary_1", 10, release.epoch)
    assert world.splits() == {"100/0"}


@pytest.mark.parametrize("to", ["idle", "green"])
def test_a_move_takes_all_traffic_and_settles(world, to):
    move(world.ports(), to, run="mine.run", by="task")
    assert world.splits() == {"0/100"}
    assert (stamp(world).phase, stamp(world).back_to, stamp(world).run) == (Phase.SETTLED, Color.BLUE, "mine.run")


def test_a_move_that_is_not_proven_is_put_back(world):
    ports = world.ports()
    refuses = Proof("0/100", proven=False, reason="the entry says blue")
    liar = type(ports)(
        **{**vars(ports), "prove": lambda split: refuses if split == Split(0, 100) else world.prove(split)}
    )
    with pytest.raises(NotProven, match="the entry says blue"):
        move(liar, "green", run="mine.run", by="task")
    assert (world.splits(), stamp(world).phase) == ({"100/0"}, Phase.RESTORED)


def test_a_moved_part_stays_under_its_lease_and_the_same_run_moves_on(world):
    move(world.ports(), "idle", run="mine.run", by="first", share=20)
    assert (world.splits(), stamp(world).phase) == ({"80/20"}, Phase.CANARY)
    with pytest.raises(TrafficConflict, match=r"mine.run@2 is under way"):
        move(world.ports(), "idle", run="other.run", by="theirs")
    move(world.ports(), "idle", run="mine.run", by="second")
    assert (world.splits(), stamp(world).phase, stamp(world).back_to) == ({"0/100"}, Phase.SETTLED, Color.BLUE)


def test_a_move_to_an_unknown_color_is_refused(world):
    with pytest.raises(ReleaseRefused, match="unknown color 'red'; give idle, live, blue or green"):
        move(world.ports(), "red", run="mine.run", by="task")
    assert world.splits() == {"100/0"}


def test_a_repeated_move_does_not_flip_the_traffic_back(world):
    move(world.ports(), "idle", run="mine.run", by="task")
    move(world.ports(), "idle", run="mine.run", by="task")
    assert world.splits() == {"0/100"}


def test_a_late_move_of_a_run_that_was_put_back_is_refused(world):
    move(world.ports(), "idle", run="mine.run", by="first", share=10)
    rollback(world.ports(), "rollback-1", "bad", "person")
    with pytest.raises(ReleaseFinished, match="finished"):
        move(world.ports(), "green", run="mine.run", by="second")
    assert world.splits() == {"100/0"}


def test_a_move_over_a_release_that_only_claimed_is_refused(world):
    plan(world.ports(), request())
    with pytest.raises(TrafficConflict, match="run-1@2 is under way"):
        move(world.ports(), "idle", run="other.run", by="theirs")
    assert world.splits() == {"100/0"}


def test_the_full_switch_needs_as_many_healthy_servers_as_the_live_color_has(world):
    release = deployed(world)
    world.serve(Color.GREEN, ready=1)
    shift(world.ports(), release, "canary_1", 10, release.epoch)
    with pytest.raises(NotServing, match="new color has 1 healthy servers, the old one 2"):
        shift(world.ports(), release, "switch", 100, release.epoch + 1)
    assert world.splits() == {"90/10"}


def test_nodes_that_give_no_counts_are_not_believed_to_be_idle(world):
    release = plan(world.ports(), request())
    world.nodes[0].counts.clear()
    with pytest.raises(DeployError, match="an unknown number of requests"):
        deploy(world.ports(), release)
    assert drain(world.ports(), Color.BLUE).in_flight is None


def test_a_node_that_cannot_tell_what_is_in_flight_makes_it_unknown(world):
    world.nodes[1].counts[Color.BLUE] = Counters(5, 0, in_flight=None)
    assert drain(world.ports(), Color.BLUE).in_flight is None


def test_a_release_that_came_alive_again_is_not_put_back_by_the_next_plan(world):
    release = deployed(world)
    switched = shift(world.ports(), release, "switch", 100, release.epoch)
    world.wait(75)
    reads = iter(range(99))

    def renews_at_the_second_look():
        if next(reads) == 1:
            world.nodes[0].on_read = None
            world.ports().router.renew((switched.epoch, release.release), world.time + timedelta(seconds=60))

    world.nodes[0].on_read = renews_at_the_second_look
    with pytest.raises(TrafficConflict, match="under way"):
        plan(world.ports(), request("run-2", "3"))
    assert world.splits() == {"0/100"}


def test_a_split_finer_than_the_router_can_make_is_refused_before_anything_is_touched(world):
    release = deployed(world)
    ports = world.ports()
    ports.router.limits = Limits(finest_step=20)
    with pytest.raises(UnsupportedSplit, match="finest step is 20 %"):
        shift(ports, release, "canary_1", 10, release.epoch)
    assert world.splits() == {"100/0"}


def test_clients_that_follow_late_are_waited_for_before_the_next_deploy(world):
    ports = world.ports()
    ports.router.limits = Limits(follow_within=timedelta(seconds=30))
    first = plan(ports, request())
    deploy(ports, first)
    settle(ports, first, shift(ports, first, "switch", 100, first.epoch).epoch)
    second = plan(ports, request("run-2", "3"))
    began = world.time
    deploy(ports, second)
    assert world.time - began >= timedelta(seconds=30)
