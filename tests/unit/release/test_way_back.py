"""The way back where something else is broken, too: a node's nonsense, a missing secret, a race, a repeated task."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from bluegreen.catalog.models import Service
from bluegreen.core.colors import Color, Split
from bluegreen.core.errors import DeployError, NotProven, NotServing, ReleaseRefused, RouterUnreachable, SecretMissing
from bluegreen.core.ports import Deployed
from bluegreen.core.stamp import Phase
from bluegreen.release.guard import guard
from bluegreen.release.restore import restore
from bluegreen.release.rollback import rollback
from bluegreen.release.shift import settle, shift
from bluegreen.release.wiring import union
from tests.unit.release.world import SERVICE, claimed


@pytest.fixture
def world():
    return claimed()


def shifted(world, share=10):
    return shift(world.ports(), world.release, f"to-{share}", share, world.release.epoch)


def test_one_nodes_nonsense_keeps_no_other_node_from_the_restore(world):
    shifted(world)

    def nonsense():
        raise KeyError("svname")

    world.nodes[2].on_read = nonsense
    found = restore(world.ports(), "bad", "tests", world.release.run)
    assert (world.nodes[0].split, world.nodes[1].split) == (Split(100, 0), Split(100, 0))
    assert "three unreachable: unexpected KeyError" in found.says


class Deaf:
    """A deployer whose API refuses or is away."""

    def status(self, color):
        raise DeployError("cannot list pods: 403", part=color, next_step="add the rule to its Role")


@pytest.mark.parametrize("through", [restore, guard])
def test_a_color_of_which_nobody_can_tell_is_gone_back_to(world, through):
    shifted(world)
    for node in world.nodes:
        node.health.clear()  # a router that tells no health: the deployer is asked
    ports = replace(world.ports(), deployer=Deaf())
    if through is guard:
        world.time += timedelta(hours=1)
        guard(ports, "tests")
    else:
        restore(ports, "bad", "tests", world.release.run)
    assert (world.splits(), world.nodes[0].stamp.phase) == ({"100/0"}, Phase.RESTORED)
    assert any(
        "nobody can tell whether blue serves: cannot list pods: 403" in line.replace("blue: ", "")
        for line in world.said
    )


def test_a_proof_that_cannot_be_asked_for_does_not_undo_the_word_of_a_restore(world):
    shifted(world)

    def no_secret(split):
        raise SecretMissing("there is none", part="shop_login")

    found = restore(replace(world.ports(), prove=no_secret), "bad", "tests", world.release.run)
    assert (found.outcome, world.splits()) == ("restored", {"100/0"})
    assert found.proof.says == "unproven"


def test_a_router_that_is_away_for_a_moment_is_no_conflict_for_a_renewal(world):
    done = shifted(world)
    for node in world.nodes:
        node.reachable = False
    with pytest.raises(RouterUnreachable):
        world.ports().router.renew((done.epoch, world.release.release), world.time)


def test_no_rollback_onto_servers_that_the_router_gives_nothing(world):
    settle(world.ports(), world.release, shifted(world, 100).epoch)
    world.serve(Color.BLUE, ready=0)
    ports = world.ports()
    ports.deployer.status = lambda color: Deployed(world.runs[color], 2, 2)  # the processes themselves are well
    with pytest.raises(NotServing, match="the router gives none of them requests"):
        rollback(ports, "rollback-1", "please", "person")
    assert world.splits() == {"0/100"}


def test_a_rollback_that_races_with_the_settling_still_goes_back(world):
    switched = shifted(world, 100)
    reads = iter(range(99))

    def settles_at_the_second_look():
        if next(reads) == 1:
            world.nodes[0].on_read = None
            settle(world.ports(), world.release, switched.epoch)

    world.nodes[0].on_read = settles_at_the_second_look
    assert rollback(world.ports(), "rollback-1", "please", "person").outcome == "restored"
    assert world.splits() == {"100/0"}


def test_a_rollback_that_ends_on_the_new_color_is_no_success(world):
    shifted(world, 100)
    world.serve(Color.BLUE, ready=0)
    with pytest.raises(NotProven, match="stranded"):
        rollback(world.ports(), "rollback-1", "please", "person")


def test_a_rollback_that_airflow_repeats_is_a_success_again(world):
    shifted(world)
    assert rollback(world.ports(), "rollback-1", "please", "person").outcome == "restored"
    assert rollback(world.ports(), "rollback-1", "please", "person").outcome == "already"
    with pytest.raises(ReleaseRefused, match="already"):  # another run, in the same words
        rollback(world.ports(), "rollback-2", "please", "person")


def test_the_guard_reports_a_stranded_service_each_time(world):
    shifted(world)
    world.serve(Color.BLUE, ready=0)
    world.wait(80)
    assert guard(world.ports(), "guard").action == "restored"
    assert [guard(world.ports(), "guard").action for _ in range(2)] == ["reported", "reported"]


def test_an_edited_address_of_a_node_loses_the_planned_one_neither():
    (node,) = SERVICE.router.nodes
    moved = node.model_copy(update={"socket": "/new"})
    edited = SERVICE.model_copy(update={"router": SERVICE.router.model_copy(update={"nodes": (moved,)})})
    both = union(edited, [SERVICE]).router.nodes
    assert {(n.name, n.socket) for n in both} == {("one", "/new"), ("one as planned", "/one")}


def test_a_node_of_another_kind_of_router_is_none_that_this_kind_could_write():
    nodes = [{"name": "n", "include": "/x", "status": "http://127.0.0.1:1/x", "log": "/l", "entry": "127.0.0.1:2"}]
    router = SERVICE.frozen()["router"] | {"type": "nginx", "nodes": nodes}
    moved = Service.model_validate(SERVICE.frozen() | {"router": router})
    assert [node.name for node in union(moved, [SERVICE]).router.nodes] == ["n"]


def test_a_login_in_an_address_is_refused_as_it_would_reach_xcom():
    with pytest.raises(ValueError, match="secrets only by connection id"):
        Service.model_validate(SERVICE.frozen() | {"entry": {"url": "https://u:hunter2@shop.test"}})


@pytest.mark.parametrize(("faster", "outcome"), [("guard", "already"), ("settle", "finished")])
def test_whoever_is_faster_on_a_busy_machine_makes_no_restore_fail(world, faster, outcome):
    done = shifted(world, 100)
    ports = replace(world.ports(), service=SERVICE)
    looks = iter(range(99))

    def slow_and_late():
        world.wait(2)  # one look takes longer than `restore_within` allows for all
        if next(looks) == 1:  # between our look and the write's own
            world.nodes[0].on_read = None
            if faster == "guard":
                restore(world.ports(), "lease is out", "guard")
            else:
                settle(world.ports(), world.release, done.epoch)

    world.nodes[0].on_read = slow_and_late
    assert restore(ports, "bad", "rollback", world.release.run).outcome == outcome
    assert world.splits() == {"100/0" if faster == "guard" else "0/100"}
