"""Who tells of what, and once: every event of a release but the ways back, which test_notify.py has."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace

import pytest

from bluegreen.core.colors import Color, Split
from bluegreen.core.errors import ReleaseFinished, RouterUnreachable, TrafficConflict
from bluegreen.release.guard import guard
from bluegreen.release.notify import Of, TellsUnhealthy, tell_conflict, tell_overdue
from bluegreen.release.plan import plan
from bluegreen.release.restore import restore
from bluegreen.release.rollback import rollback
from bluegreen.release.shift import settle, shift
from bluegreen.release.watch import watch
from tests.unit.release.test_watch import RealTime, canary
from tests.unit.release.world import SERVICE, World, claimed, request


class Told(list):
    """Takes notices; ``look`` is asked for each, its word stands in ``seen``."""

    def __init__(self, look=lambda: None):
        super().__init__()
        self.look, self.seen = look, []

    def __call__(self, notice):
        self.append(notice)
        self.seen.append(self.look())
        return lambda: None

    @property
    def events(self):
        return [notice.event for notice in self]


@pytest.fixture
def told():
    return Told()


@pytest.fixture
def world():
    return claimed()


def telling(world, told):
    return replace(world.ports(), tell=told)


def shifted(world, share=10):
    return shift(world.ports(), world.release, f"to-{share}", share, world.release.epoch)


def test_a_claim_is_told_as_the_start_and_a_refusal_is_not(world, told):
    settle(world.ports(), world.release, shifted(world, 100).epoch)
    ports = telling(world, told)
    made = plan(ports, request("run-2", "3"))
    (notice,) = told
    assert (notice.event, notice.run, notice.release) == ("started", "run-2", made.release)
    assert (notice.live, notice.old_version, notice.version, notice.by) == ("green", "2", "3", "tests")
    with pytest.raises(TrafficConflict):
        plan(ports, replace(request("run-3", "4"), alive=lambda _: True))
    assert told.events == ["started"]


def test_the_end_is_told_once_although_airflow_repeats_the_task(world, told):
    at = shifted(world, 100).epoch
    ports = telling(world, told)
    settle(ports, world.release, at)
    settle(ports, world.release, at)
    (notice,) = told
    assert (notice.event, notice.was, notice.live, notice.version) == ("finished", "switched", "green", "2")
    assert notice.release == world.release.release


def test_a_bad_verdict_is_told_before_the_traffic_is_back_and_closed_after():
    world = RealTime()
    ports, spec = canary(world, lasts=30)
    told = Told(world.splits)
    world.errors[Color.GREEN] = 0.5
    asyncio.run(watch(replace(ports, tell=told), spec))
    assert told.events == ["unhealthy", "restored"]
    assert told.seen == [{"90/10"}, {"100/0"}]
    assert {(notice.run, notice.release) for notice in told} == {(spec.run, spec.release)}
    assert (told[0].was, told[0].by, told[0].version) == ("canary", "canary_1_watch", "2")
    assert "error_rate" in told[0].why


def test_a_channel_that_hangs_does_not_hold_up_the_restore():
    world = RealTime()
    ports, spec = canary(world, lasts=30)
    world.errors[Color.GREEN] = 0.5

    def hangs(notice):
        began.append(time.monotonic())
        return lambda: time.sleep(30 if notice.event == "unhealthy" else 0)

    began = []
    asyncio.run(watch(replace(ports, tell=hangs), spec))
    assert world.splits() == {"100/0"}
    assert began[1] - began[0] < 2.0


def test_who_comes_second_does_not_open_the_alert_again(told):
    world = RealTime()
    ports, spec = canary(world, lasts=30)
    world.errors[Color.GREEN] = 0.5
    restore(ports, "bad", "another triggerer", spec.run)
    asyncio.run(watch(replace(ports, tell=told), spec))
    assert told == []


def test_a_restore_that_does_not_get_through_is_told_as_unhealthy(told):
    world = RealTime()
    ports, spec = canary(world, lasts=30)
    world.errors[Color.GREEN] = 0.5
    read, asked = ports.router.read, []

    def lost(*_, **__):
        asked.append(read())
        raise RouterUnreachable("gone", service="shop", part="one", next_step="look")

    ports.router.read = lost
    with pytest.raises(RouterUnreachable):
        asyncio.run(watch(replace(ports, tell=told), spec))
    assert asked
    assert told.events == ["unhealthy"]


def test_a_restore_that_tries_again_tells_of_the_verdict_once(world, told):
    shifted(world)
    stamp = world.ports().router.read().stamp
    of = Of("run-1", world.release.release)
    unhealthy = TellsUnhealthy(telling(world, told), of, Color.GREEN, "canary_1_watch", "error_rate is 50 %")
    assert [unhealthy(stamp), unhealthy(stamp), unhealthy()] == [True] * 3
    assert told.events == ["unhealthy"]


def test_the_guard_is_told_as_the_safety_net(world, told):
    shifted(world)
    world.wait(80)
    ports = telling(world, told)
    assert [guard(ports, "guardian").action for _ in range(3)] == ["restored", "none", "none"]
    (notice,) = told
    assert (notice.event, notice.by, notice.was, notice.severity) == ("guarded", "guardian", "canary", "error")


def test_a_watch_that_loses_its_traffic_to_another_tells_of_the_conflict(told):
    world = RealTime()
    ports, spec = canary(world, lasts=30)
    for node in world.nodes:
        node.stamp = replace(node.stamp, epoch=node.stamp.epoch + 1, release="run-9@9")
    end = asyncio.run(watch(replace(ports, tell=told), spec))
    assert end.says == "conflict"
    (notice,) = told
    assert (notice.event, notice.run, notice.release) == ("conflict", spec.run, spec.release)


def test_a_watch_whose_traffic_somebody_put_back_is_no_conflict(told):
    world = RealTime()
    ports, spec = canary(world, lasts=30)
    restore(ports, "stop it", "ann", spec.run)
    assert asyncio.run(watch(replace(ports, tell=told), spec)).says == "conflict"
    assert told == []


def test_a_conflict_with_a_split_that_was_changed_by_hand_is_told(world, told):
    at = shifted(world)
    for node in world.nodes:
        node.split = Split.giving(Color.GREEN, 70)
    ports = telling(world, told)
    tell_conflict(ports, Of("run-1", world.release.release, "2"), "switch", "somebody wrote")
    assert at.epoch
    assert told.events == ["conflict"]
    assert "switch: somebody wrote" in told[0].text


def test_a_release_that_may_be_superseded_is_no_conflict_when_it_is(world, told):
    release = SERVICE.release.model_copy(update={"concurrent": "supersede"})
    service = SERVICE.model_copy(update={"release": release})
    ports = replace(world.ports(service), tell=told)
    plan(world.ports(service), request("run-2", "3"))
    tell_conflict(ports, Of("run-1", world.release.release), "canary_1", "run-2 does")
    assert told == []
    tell_conflict(telling(world, told), Of("run-1", world.release.release), "canary_1", "run-2 does")
    assert told.events == ["conflict"]


def test_a_rollback_of_a_settled_release_closes_that_releases_alert(world, told):
    settle(world.ports(), world.release, shifted(world, 100).epoch)
    rollback(telling(world, told), "rollback-1", "broken", "ann")
    (notice,) = told
    assert (notice.event, notice.run, notice.release) == ("rolled_back", "rollback-1", world.release.release)
    assert (notice.live, notice.old_version, notice.version) == ("blue", "1", "2")


def test_an_overdue_run_says_where_it_stands(world, told):
    shifted(world)
    tell_overdue(telling(world, told), "run-1", "not ended in 1h")
    tell_overdue(telling(world, told), "run-2", "not ended in 1h")
    assert [(one.event, one.release, one.was) for one in told] == [
        ("overdue", world.release.release, "canary"),
        ("overdue", "run-2", "unknown"),
    ]


def test_an_overdue_run_is_told_of_although_no_node_answers(told):
    world = World()
    ports = telling(world, told)

    def lost():
        raise RouterUnreachable("no node answers", service="shop", part="router", next_step="look")

    ports.router.read = lost
    tell_overdue(ports, "run-1", "not ended in 1h")
    assert told.events == ["overdue"]
    assert "no node answers" in told[0].why


def test_a_step_of_a_release_that_is_over_tells_nobody(world, told):
    at = shifted(world)
    restore(world.ports(), "bad", "tests", "run-1")
    with pytest.raises(ReleaseFinished):
        shift(telling(world, told), world.release, "switch", 100, at.epoch)
    assert told == []
