"""The watch: verdict, lease, restore from within, restart, cancellation; over the memory router in real time."""

from __future__ import annotations

import asyncio
import threading
import time
from contextlib import ExitStack
from dataclasses import replace
from datetime import timedelta
from functools import partial
from types import SimpleNamespace

import pytest

from bluegreen.catalog.evidence import ThresholdRule
from bluegreen.catalog.models import Service
from bluegreen.core.colors import Color
from bluegreen.core.evidence import Counters
from bluegreen.core.stamp import Phase, now_utc
from bluegreen.release.adopt import adopt
from bluegreen.release.plan import plan
from bluegreen.release.restore import restore
from bluegreen.release.shift import shift
from bluegreen.release.watch import WatchSpec, baseline, watch
from tests.rigs.deploy_targets import Reply, Site
from tests.unit.release.world import SERVICE, World, request


class RealTime(World):
    """The memory world on the real clock, with traffic that grows while it is asked for."""

    def __init__(self):
        super().__init__()
        self.errors = dict.fromkeys(Color, 0.0)
        self.flows = True
        self.began = time.monotonic()
        self.counted = {}

    def ports(self, service: Service = SERVICE):
        ports = super().ports(service)
        router = ports.router

        async def counters():
            if not self.flows:
                return {}
            n = int((time.monotonic() - self.began) * 1000)
            return {node.name: {c: self.counter(node, c, n) for c in Color} for node in self.nodes if node.reachable}

        router.counters = counters
        return type(ports)(service, router, ports.deployer, self.prove, self.said.append)

    def counter(self, node, color, n):
        """A color without a share answers nothing more."""
        if node.split.share(color) or (node.name, color) not in self.counted:
            self.counted[node.name, color] = n
        n = self.counted[node.name, color]
        return Counters(n, int(n * self.errors[color]), 0, node.health[color].ready, 2, 5.0)


def canary(world: RealTime, service: Service = SERVICE, lasts: float = 0.6):
    ports = world.ports(service)
    adopt(ports, "tests", "begin", "1")
    release = plan(ports, request())
    world.runs[Color.GREEN] = "2"
    done = shift(ports, release, "canary_1", 10, release.epoch)
    return ports, WatchSpec(
        service=service,
        run=release.run,
        release=release.release,
        epoch=done.epoch,
        step="canary_1_watch",
        color=Color.GREEN,
        since=now_utc(),
        until=now_utc() + timedelta(seconds=lasts),
        baseline=baseline(ports),
    )


def run(ports, spec):
    return asyncio.run(watch(ports, WatchSpec.model_validate(spec.model_dump(mode="json"))))


def service_with(**release):
    return Service.model_validate(SERVICE.frozen() | {"release": SERVICE.frozen()["release"] | release})


class Targets:
    """Both colors' real targets; ``well`` says whose health is good, and is read with each answer."""

    def __init__(self, stack: ExitStack, count=2):
        self.well = dict.fromkeys(Color, True)
        self.hangs = dict.fromkeys(Color, 0.0)
        self.sites = {c: [stack.enter_context(Site(partial(self.reply, c))) for _ in range(count)] for c in Color}

    def reply(self, color, _):
        return Reply(200 if self.well[color] else 503, body="{}", hang=self.hangs[color])

    def service(self, **more):
        urls = {c: {"targets": [site.url for site in sites]} for c, sites in self.sites.items()}
        return Service.model_validate(SERVICE.frozen() | {"colors": urls, "health": {"timeout": "300ms"}} | more)


@pytest.fixture
def targets():
    with ExitStack() as stack:
        yield Targets(stack)


def counting(router, tells_health):
    """A router whose counters tell requests only, as one without a runtime API; or one that does not count at all."""
    counters = router.counters

    async def without_health():
        found = await counters()
        return {n: {c: replace(one, ready=0, total=0) for c, one in colors.items()} for n, colors in found.items()}

    if tells_health == "counts only":
        router.counters = without_health
        return router
    return SimpleNamespace(limits=router.limits, read=router.read, shift=router.shift, renew=router.renew)


IGNORED = {"type": "threshold", "metric": "error_rate", "max": 5, "no_data": "ignore"}


def silent(world, service, tells_health, lasts=30):
    release = service.release.model_copy(update={"rules": (ThresholdRule.model_validate(IGNORED),)})
    ports, spec = canary(world, service.model_copy(update={"release": release}), lasts)
    return replace(ports, router=counting(ports.router, tells_health)), spec


NOT_TELLING = pytest.mark.parametrize("tells_health", ["counts only", "no counters at all"])


@NOT_TELLING
def test_where_counters_do_not_tell_who_serves_the_targets_are_asked(targets, tells_health):
    ports, spec = silent(RealTime(), targets.service(), tells_health, lasts=0.6)
    end = run(ports, spec)
    assert (end.says, end.verdict["numbers"]["rules"][0]["text"]) == ("healthy", "both colors serve")
    assert all(site.asked for sites in targets.sites.values() for site in sites)


@NOT_TELLING
def test_the_old_colors_targets_dying_ends_the_watch_although_the_router_tells_no_health(targets, tells_health):
    ports, spec = silent(RealTime(), targets.service(), tells_health)
    targets.well[Color.BLUE] = False
    end = run(ports, spec)
    assert end.says == "unhealthy"
    assert "way_back: old color blue has no healthy server (http://127.0.0.1:" in end.reason
    assert "HTTP 503" in end.reason


def test_one_well_target_of_a_color_serves(targets):
    ports, spec = silent(RealTime(), targets.service(), "counts only", lasts=0.6)
    targets.sites[Color.BLUE][0].reply = lambda _: Reply(503)
    targets.sites[Color.GREEN][1].reply = lambda _: Reply(hang=30)
    assert run(ports, spec).says == "healthy"


def test_a_color_whose_targets_all_hang_does_not_serve(targets):
    ports, spec = silent(RealTime(), targets.service(), "counts only")
    targets.hangs[Color.BLUE] = 30
    end = run(ports, spec)
    assert "old color blue has no healthy server" in end.reason
    assert "no whole answer within 0.3 s" in end.reason


def test_targets_that_cannot_be_asked_are_missing_data_and_said_once(targets, tmp_path):
    entry = SERVICE.frozen()["entry"] | {"ca_file": str(tmp_path / "none.pem")}
    ports, spec = silent(RealTime(), targets.service(entry=entry), "counts only", lasts=0.4)
    said = []
    end = run(replace(ports, log=said.append), spec)
    assert end.reason == "too little evidence when the watch ended: way_back: nobody tells whether both colors serve"
    assert len([line for line in said if "none.pem cannot be read" in line]) == 1


def test_targets_are_left_alone_where_the_counters_tell_who_serves(targets):
    ports, spec = canary(RealTime(), targets.service())
    assert run(ports, spec).says == "healthy"
    assert not any(site.asked for sites in targets.sites.values() for site in sites)


def test_a_good_version_is_healthy_and_its_traffic_stays():
    world = RealTime()
    ports, spec = canary(world)
    end = run(ports, spec)
    assert end.says == "healthy"
    assert end.restored is None
    assert world.splits() == {"90/10"}
    assert end.verdict["numbers"]["rules"][1]["requests"] > 100


def test_a_bad_version_is_put_back_by_the_watch_itself_long_before_its_end():
    world = RealTime()
    ports, spec = canary(world, lasts=30)
    world.errors[Color.GREEN] = 0.3
    world.began = time.monotonic()
    end = run(ports, spec.model_copy(update={"baseline": {}}))
    assert end.says == "unhealthy"
    assert "error_rate" in end.reason
    assert end.restored["outcome"] == "restored"
    assert world.splits() == {"100/0"}
    assert now_utc() < spec.until


def test_errors_of_the_old_color_alone_do_not_put_a_release_back():
    world = RealTime()
    ports, spec = canary(world)
    world.errors[Color.BLUE] = 0.5
    assert run(ports, spec).says == "healthy"


def test_no_evidence_until_the_end_is_not_healthy(targets):
    world = RealTime()
    ports, spec = canary(world, targets.service())
    world.flows = False
    end = run(ports, spec)
    assert end.says == "unhealthy"
    assert end.reason == (
        "too little evidence when the watch ended: error_rate by sequential test: 0 requests, 5 are needed; "
        "error_rate at most 5: 0 requests, 20 are needed"
    )
    assert world.splits() == {"100/0"}


def test_the_old_color_dying_ends_the_watch_on_the_color_that_serves():
    world = RealTime()
    ports, spec = canary(world, lasts=30)
    world.serve(Color.BLUE, ready=0)
    end = run(ports, spec)
    assert "way_back" in end.reason
    assert world.splits() == {"0/100"}
    assert end.restored["outcome"] == "stranded"


def test_the_lease_is_renewed_while_the_watch_lives():
    world = RealTime()
    ports, spec = canary(world, service_with(lease="2s"), lasts=1.5)
    before = ports.router.read().stamp
    assert run(ports, spec).says == "healthy"
    after = ports.router.read().stamp
    assert after.lease > before.lease + timedelta(seconds=0.5)
    assert after.epoch == before.epoch


def test_a_watch_whose_samples_hang_lets_the_lease_run_out():
    world = RealTime()
    ports, spec = canary(world, service_with(lease="1s"), lasts=30)

    async def hangs():
        await asyncio.sleep(60)

    ports.router.counters = hangs

    async def scenario():
        watching = asyncio.create_task(watch(ports, spec))
        await asyncio.sleep(1.5)
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)

    before = ports.router.read().stamp.lease
    asyncio.run(scenario())
    # One renewal at the start at the most: none while nothing is sampled.
    assert ports.router.read().stamp.lease <= before + timedelta(seconds=0.5)


def test_somebody_elses_change_ends_the_watch_without_a_restore():
    world = RealTime()
    ports, spec = canary(world, service_with(lease="1s"), lasts=30)

    def elsewhere():
        restore(world.ports(), "by hand", "person", spec.run)

    timer = threading.Timer(0.3, elsewhere)
    timer.start()
    end = run(ports, spec)
    timer.join()
    assert end.says == "conflict"
    assert ports.router.read().stamp.phase is Phase.RESTORED
    assert "person" in ports.router.read().stamp.why


def test_two_copies_of_a_watch_end_alike_and_harm_nothing():
    world = RealTime()
    ports, spec = canary(world, lasts=30)
    world.errors[Color.GREEN] = 0.5

    async def both():
        return await asyncio.gather(watch(ports, spec), watch(world.ports(), spec))

    ends = asyncio.run(both())
    # Who renews its lease after the other has put the traffic back finds that it is not there any more.
    assert {"unhealthy"} <= {end.says for end in ends} <= {"unhealthy", "conflict"}
    # Each may have moved a node before the other: both, or one, say that they restored; none says anything else.
    assert "restored" in {end.restored["outcome"] for end in ends if end.restored} <= {"already", "restored"}
    assert world.splits() == {"100/0"}


def test_a_restarted_watch_goes_on_from_its_baseline_and_its_end():
    world = RealTime()
    ports, spec = canary(world, lasts=1.0)

    async def killed():
        watching = asyncio.create_task(watch(ports, spec))
        await asyncio.sleep(0.4)
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)

    asyncio.run(killed())
    assert world.splits() == {"90/10"}  # a cancelled watch moves no traffic
    end = run(ports, spec)
    assert end.says == "healthy"
    assert end.verdict_at < spec.until + timedelta(seconds=0.5)
    assert end.verdict["numbers"]["rules"][1]["requests"] > 2000  # three nodes, 1000/s, since the baseline


def test_a_restore_that_began_is_ended_although_the_watch_is_cancelled():
    world = RealTime()
    ports, spec = canary(world, lasts=30)
    world.errors[Color.GREEN] = 1.0
    for node in world.nodes:
        node.delay = 0.1

    async def scenario():
        watching = asyncio.create_task(watch(ports, spec))
        while not any("unhealthy" in line for line in world.said):
            await asyncio.sleep(0.01)
        watching.cancel()
        with pytest.raises(asyncio.CancelledError):
            await watching

    asyncio.run(scenario())
    assert world.splits() == {"100/0"}


ASKS = {"approvals": {"unknown": {"deadline": "10m"}}}
FEW = {"rules": [{"type": "threshold", "metric": "error_rate", "max": 5, "min_requests": 300}]}


def test_a_watch_with_too_little_evidence_goes_on_until_it_has_enough():
    world = RealTime()
    ports, spec = canary(world, service_with(**FEW, extend="5s"), lasts=0.1)
    began = time.monotonic()
    end = run(ports, spec)
    assert end.says == "healthy"
    assert 0.1 < time.monotonic() - began < 5
    assert end.verdict["numbers"]["colors"]["green"]["requests"] >= 300


@pytest.mark.parametrize(
    ("asked", "says", "phase"), [(ASKS, "unknown", Phase.CANARY), ({}, "unhealthy", Phase.RESTORED)]
)
def test_too_little_evidence_in_the_end_is_a_question_or_a_way_back(asked, says, phase):
    never = {"rules": [FEW["rules"][0] | {"min_requests": 10**9}]}
    ports, spec = canary(RealTime(), service_with(**never, extend="200ms", **asked), lasts=0.2)
    end = run(ports, spec)
    assert (end.says, ports.router.read().stamp.phase) == (says, phase)
    assert end.verdict["numbers"]["evidence"]["ended"]


def test_what_is_counted_while_warming_up_is_no_evidence():
    world = RealTime()
    rules = {"rules": [{"type": "threshold", "metric": "error_rate", "max": 5, "window": "10s"}]}
    ports, spec = canary(world, service_with(**rules, warm_up="400ms"), lasts=1.2)
    world.errors[Color.GREEN] = 1.0
    threading.Timer(0.3, lambda: world.errors.update({Color.GREEN: 0.0})).start()
    end = run(ports, spec)
    assert end.says == "healthy", end.reason
    assert end.verdict["numbers"]["evidence"]["rows"][0][0] >= 0.4
