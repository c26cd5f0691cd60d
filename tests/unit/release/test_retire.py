"""Retire: the way back ends before anything is stopped, only at rest, and a retire that broke off is completed."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from bluegreen.core.colors import Color, Split
from bluegreen.core.errors import (
    DeployError,
    DeployFenced,
    NotProven,
    NotServing,
    ReleaseFinished,
    ReleaseRefused,
    RouterUnreachable,
    TrafficConflict,
)
from bluegreen.core.evidence import Counters, Proof
from bluegreen.core.stamp import Phase
from bluegreen.release.deploy import deploy
from bluegreen.release.plan import plan
from bluegreen.release.restore import restore
from bluegreen.release.retire import retire
from bluegreen.release.rollback import rollback
from bluegreen.release.shift import settle, shift
from bluegreen.release.status import status
from tests.unit.release.world import SERVICE, claimed, request

STOPPED = ""


@pytest.fixture
def world():
    made = claimed()
    deploy(made.ports(), made.release)
    return made


def settled(world):
    switched = shift(world.ports(), world.release, "switch", 100, world.release.epoch)
    settle(world.ports(), world.release, switched.epoch)
    return stamp(world)


def stamp(world):
    return world.ports().router.read().stamp


def test_it_ends_the_way_back_and_stops_the_old_color(world):
    before = settled(world)
    found = retire(world.ports(), "keep_old (24h) is over", "tests")
    after = stamp(world)
    assert (found.color, found.proof.says, world.runs[Color.BLUE]) == (Color.BLUE, "proven", STOPPED)
    assert (after.epoch, after.phase, after.back_to) == (before.epoch + 1, Phase.SETTLED, None)
    assert after.versions == {Color.GREEN: "2"}
    assert world.splits() == {"0/100"}


def test_after_it_rollback_refuses_and_names_the_version_to_release_instead(world):
    settled(world)
    retire(world.ports(), "keep_old (24h) is over", "tests")
    world.serve(Color.BLUE, ready=2)
    world.runs[Color.BLUE] = "1"  # whoever starts it again by hand
    with pytest.raises(ReleaseRefused, match=r"no way back from run-1@2: retired 1 on blue: tests: keep_old"):
        rollback(world.ports(), "rollback-1", "please", "person")
    assert world.splits() == {"0/100"}


def test_until_it_has_run_rollback_goes_back_also_when_keep_old_is_over(world):
    settled(world)
    world.wait(48 * 3600)
    assert rollback(world.ports(), "rollback-1", "please", "person").outcome == "restored"


def test_the_release_that_settled_stays_settled_in_its_own_name_and_finished(world):
    before = settled(world)
    retire(world.ports(), "please", "person")
    assert stamp(world).release == before.release
    with pytest.raises(ReleaseFinished):
        shift(world.ports(), world.release, "switch", 100, world.release.epoch)


def test_the_way_back_ends_before_anything_is_stopped(world):
    settled(world)
    world.retire_breaks = DeployError("retire.sh: ended with code 1", part=Color.BLUE, next_step="mend it")
    sentence = (
        r"shop: blue: the way back is ended, but it may run on: retire.sh: ended with code 1; .*retire__shop again"
    )
    with pytest.raises(DeployError, match=sentence):
        retire(world.ports(), "please", "person")
    assert stamp(world).back_to is None
    world.retire_breaks = None
    epoch = stamp(world).epoch
    assert retire(world.ports(), "please", "person").color is Color.BLUE
    assert (stamp(world).epoch, world.runs[Color.BLUE]) == (epoch, STOPPED)  # completed, not written again


def test_a_color_that_a_newer_release_has_is_named_as_fenced(world):
    settled(world)
    world.retire_breaks = DeployFenced("fence has epoch 9 of run-9@9, found epoch 5", part=Color.BLUE)
    with pytest.raises(DeployFenced, match="epoch 9 of run-9@9"):
        retire(world.ports(), "please", "person")


def test_a_run_of_a_release_that_is_not_the_last_one_touches_nothing(world):
    before = settled(world)
    world.release = plan(world.ports(), request("run-2", "3"))
    under_way = retire(world.ports(), "keep_old is over", "tests", before.release)
    deploy(world.ports(), world.release)
    now = settled(world)
    afterwards = retire(world.ports(), "keep_old is over", "tests", before.release)
    assert [under_way.color, afterwards.color] == [None, None]
    assert stamp(world) == now
    assert world.runs[Color.GREEN] == "2"


def test_a_run_of_a_release_that_was_rolled_back_touches_nothing(world):
    before = settled(world)
    rollback(world.ports(), "rollback-1", "please", "person")
    found = retire(world.ports(), "keep_old is over", "tests", before.release)
    assert (found.color, world.runs[Color.GREEN]) == (None, "2")
    assert "another release came" in found.says


def test_a_failed_version_may_be_stopped_once_the_traffic_is_back(world):
    shift(world.ports(), world.release, "canary_1", 10, world.release.epoch)
    restore(world.ports(), "bad", "tests", world.release.run)
    assert retire(world.ports(), "clean up", "person").color is Color.GREEN
    assert (stamp(world).phase, world.splits(), world.runs) == (
        Phase.RESTORED,
        {"100/0"},
        {Color.BLUE: "1", Color.GREEN: STOPPED},
    )


@pytest.mark.parametrize("share", [0, 10, 100])
def test_a_release_that_is_under_way_is_not_retired(world, share):
    if share:
        shift(world.ports(), world.release, "step", share, world.release.epoch)
    before = stamp(world)
    with pytest.raises((TrafficConflict, ReleaseRefused), match="nothing was touched"):
        retire(world.ports(), "please", "person")
    assert stamp(world) == before


def test_a_live_color_that_does_not_serve_keeps_the_way_back(world):
    before = settled(world)
    world.serve(Color.GREEN, ready=0)
    with pytest.raises(NotServing, match="blue may be needed"):
        retire(world.ports(), "please", "person")
    assert stamp(world) == before


def test_a_stranded_service_or_one_changed_by_hand_is_not_retired(world):
    settled(world)
    world.nodes[1].by_hand(Split.parse("50/50"))
    with pytest.raises(ReleaseRefused, match="changed by hand"):
        retire(world.ports(), "please", "person")


def test_every_node_is_needed(world):
    before = settled(world)
    world.nodes[2].reachable = False
    with pytest.raises(RouterUnreachable, match="three"):
        retire(world.ports(), "please", "person")
    assert world.nodes[0].stamp == before


def test_requests_in_flight_keep_the_old_color_and_its_way_back(world):
    before = settled(world)
    world.nodes[0].counts[Color.BLUE] = Counters(9, 0, in_flight=1)
    with pytest.raises(DeployError, match="1 requests are still in flight"):
        retire(world.ports(), "please", "person")
    assert stamp(world) == before


def test_clients_that_still_follow_are_waited_for(world):
    settled(world)
    until = world.time + timedelta(minutes=5)
    for node in world.nodes:
        node.stamp = replace(node.stamp, clients_follow_until=until)
    retire(world.ports(), "please", "person")
    assert world.time >= until


def test_a_rollback_that_comes_between_look_and_write_is_not_cut_off(world):
    settled(world)

    def goes_back():
        world.nodes[0].on_write = None
        rollback(world.ports(), "rollback-1", "please", "person")

    world.nodes[0].on_write = goes_back
    with pytest.raises(TrafficConflict):
        retire(world.ports(), "please", "person")
    assert (world.splits(), world.runs) == ({"100/0"}, {Color.BLUE: "1", Color.GREEN: "2"})


def test_an_entry_that_says_otherwise_is_told(world):
    settled(world)
    ports = replace(world.ports(), prove=lambda split: Proof(str(split), False, "503 from blue"))
    with pytest.raises(NotProven, match="503 from blue"):
        retire(ports, "please", "person")


def test_status_says_until_when_the_old_color_is_kept(world):
    at = settled(world).at
    assert status(world.ports()).kept_until == at + timedelta(hours=24)
    forever = SERVICE.model_copy(update={"release": SERVICE.release.model_copy(update={"keep_old": None})})
    assert status(world.ports(forever)).kept_until is None
    retire(world.ports(), "please", "person")
    assert status(world.ports()).as_json()["kept_until"] is None
