"""
Section 4 of the design, in any order: forward, hold, restore, guard, repeated and late writers, cleared tasks, a human,
a release that takes over, lost and returning nodes, two copies of a watch, a worker that does not follow, a retire, and
each of them in the middle of another's write.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import HealthCheck, event, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, rule

from bluegreen.catalog.approvals import Approval
from bluegreen.catalog.models import Service
from bluegreen.core.colors import Color, Split
from bluegreen.core.errors import BlueGreenError, DeployError, ReleaseRefused, RouterUnreachable, TrafficConflict
from bluegreen.core.stamp import Phase
from bluegreen.release.adopt import adopt
from bluegreen.release.guard import guard
from bluegreen.release.plan import Plan, plan
from bluegreen.release.restore import restore
from bluegreen.release.retire import retire
from bluegreen.release.rollback import rollback
from bluegreen.release.shift import hold, settle, shift
from tests.rigs.memory import WriterKilled, memory_nodes
from tests.unit.release.world import SERVICE, World, request

COLORS = st.sampled_from(list(Color))
NODES = st.integers(0, 2)
LATE = st.sampled_from([0, 0, 0, 1, 2])
RARELY = st.sampled_from([False, False, False, True])
ASKED = Approval(deadline=timedelta(seconds=20))


def standing(concurrent):
    return Service.model_validate(
        SERVICE.frozen() | {"release": SERVICE.frozen()["release"] | {"concurrent": concurrent}}
    )


CONCURRENT = {concurrent: standing(concurrent) for concurrent in ("queue", "refuse", "supersede")}


class Releases(RuleBasedStateMachine):
    """Every rule may be refused; what may never happen stands in the invariants."""

    plans = Bundle("plans")

    @initialize()
    def begin(self):
        self.world = World(memory_nodes("one", "two", "three", locked=False))
        self.versions = 1
        self.hooked = False
        self.epochs: dict[str, list[int]] = {}
        self.held: dict[str, int] = {}
        self.switched: dict[str, list[int]] = {}
        adopt(self.world.ports(), "tests", "begin", "1")

    # -- what a release does, each step at any time and any number of times

    @rule(target=plans, again=st.booleans())
    def a_release_is_planned_or_its_run_is_cleared(self, again):
        self.versions += 0 if again and self.versions > 1 else 1
        made: list[Plan] = []
        self._do(
            lambda: made.append(
                plan(self.world.ports(), request(f"run-{self.versions}", f"v{self.versions}.{self.world.time:%H%M%S}"))
            )
        )
        if not made:
            return None
        self.epochs[made[0].release] = [made[0].epoch]
        self.world.runs[made[0].idle] = made[0].version
        return made[0]

    @rule(release=plans, share=st.sampled_from([10, 50, 100]), late=LATE)
    def a_shift_is_written_early_late_or_again(self, release, share, late):
        if release:
            self._do(lambda: self._forward(release, shift, f"to-{share}", share, late))

    @rule(target=plans, concurrent=st.sampled_from(sorted(CONCURRENT)), alive=st.booleans())
    def another_release_is_planned_beside_it(self, concurrent, alive):
        """While the holder lives only ``supersede`` takes its claim; what a dead one left is anybody's."""
        self.versions += 1
        before, made = self._truth(), list[Plan]()
        asked = request(f"run-{self.versions}", f"v{self.versions}", alive=lambda _: alive)
        self._do(lambda: made.append(plan(self.world.ports(CONCURRENT[concurrent]), asked)))
        if not made:
            return None
        if before and before.phase is Phase.CLAIMED and alive and not self.hooked:
            assert concurrent == "supersede", before
            event("superseded")
        self.epochs[made[0].release] = [made[0].epoch]
        self.world.runs[made[0].idle] = made[0].version
        return made[0]

    @rule(release=plans, late=LATE)
    def a_canary_is_held_early_late_or_again(self, release, late):
        if release:
            self._do(lambda: self._hold(release, late))

    @rule(release=plans, yes=st.booleans())
    def somebody_answers_in_time_or_late(self, release, yes):
        # However long it took, the router alone says whether a yes still counts; a no is a restore.
        if release and release.release in self.held:
            epoch, ports = self.held[release.release], self.world.ports()
            answers = {
                True: lambda: self._switch(release, epoch),
                False: lambda: restore(ports, "no", "bob", release.run),
            }
            self._do(answers[yes])

    @rule(target=plans, seconds=st.sampled_from([1, 79, 95]))
    def a_canary_is_held_and_answered_after(self, seconds):
        release = self.a_release_goes_undisturbed_to(share=10, settles=False, holds=True)
        self.world.wait(seconds)
        self.somebody_answers_in_time_or_late(release, yes=True)
        return release

    @rule(release=plans, late=LATE)
    def a_release_is_settled_early_late_or_again(self, release, late):
        # A release settles what it has switched; a settle without its switch must fail by itself.
        if release:
            self._do(lambda: self._settle(release, late))

    @rule(release=plans)
    def a_watch_renews(self, release):
        if release:
            epochs, until = self.epochs[release.release], self.world.time + release.service.release.lease
            # The watch ended before the hold: what it still sends bears an older epoch.
            held = self.held.get(release.release)
            self._do(
                lambda: self.world.ports().router.renew(
                    (next(e for e in epochs[::-1] if e != held), release.release), until
                )
            )

    @rule(release=plans)
    def a_release_restores(self, release):
        if release:
            self._do(lambda: restore(self.world.ports(), "bad", "tests", release.run))

    @rule(target=plans, share=st.sampled_from([0, 10, 100]), settles=st.booleans(), holds=st.booleans())
    def a_release_goes_undisturbed_to(self, share, settles, holds):
        release = self.a_release_is_planned_or_its_run_is_cleared(again=False)
        if release and share:
            self._do(lambda: self._forward(release, shift, f"to-{share}", share, 0))
        if release and share == 10 and holds:
            self._do(lambda: self._hold(release, 0))
        if release and share == 100 and settles:
            self._do(lambda: self._settle(release, 0))
        return release

    # -- what others do

    @rule()
    def the_guard_looks(self):
        self._do(lambda: guard(self.world.ports(), "guard"))

    @rule()
    def a_person_rolls_back(self):
        self.versions += 1
        self._do(lambda: rollback(self.world.ports(), f"run-{self.versions}", "please", "person"), moves_final=True)

    @rule(color=COLORS)
    def a_person_adopts(self, color):
        self._do(lambda: adopt(self.world.ports(), "person", "mine", "9", color), moves_final=True)

    @rule(node=NODES, split=st.sampled_from(["100/0", "0/100", "50/50"]), really=RARELY)
    def a_person_changes_a_node_by_hand(self, node, split, really):
        if really:
            self.world.nodes[node].by_hand(Split.parse(split))

    # -- what happens to them

    @rule(node=NODES, lost=RARELY)
    def a_node_is_lost_or_returns(self, node, lost):
        self.world.nodes[node].reachable = not lost

    @rule()
    def all_nodes_and_colors_are_well(self):
        for node in self.world.nodes:
            node.reachable = True
        for color in Color:
            self.world.serve(color, 2)

    @rule(node=NODES, how=st.sampled_from(["fails", "kills"]), when=st.sampled_from(["before", "after"]))
    def the_next_write_breaks(self, node, how, when):
        setattr(self.world.nodes[node], how, when)

    @rule(
        node=NODES,
        place=st.sampled_from(["on_read", "on_write", "on_roles"]),
        wait=st.integers(0, 3),
        who=st.sampled_from(["guard", "restore", "settle", "switch"]),
        release=plans,
    )
    def somebody_comes_between(self, node, place, wait, who, release):
        if release is None:
            return
        ports = self.world.ports()
        deeds = {
            "guard": lambda: guard(ports, "guard"),
            "restore": lambda: restore(ports, "bad", "between", release.run),
            "settle": lambda: self._settle(release, 0),
            "switch": lambda: self._forward(release, shift, "to-100", 100, 0),
        }

        calls, where = iter(range(wait + 1)), self.world if place == "on_roles" else self.world.nodes[node]

        def come_between():
            if next(calls, wait) < wait:
                return
            setattr(where, place, None)
            self.hooked = True
            with suppress(BlueGreenError, WriterKilled):
                deeds[who]()

        setattr(where, place, come_between)

    @rule(verb=st.sampled_from(["stop", "start"]), how=st.sampled_from([DeployError("does not end"), WriterKilled()]))
    def the_next_move_of_the_worker_breaks(self, verb, how):
        self.world.role_breaks = (verb, how)

    @rule()
    def a_person_retires(self):
        self.world.retire_breaks = None
        self._do(lambda: retire(self.world.ports(), "please", "person"))

    @rule(color=COLORS, ready=st.sampled_from([0, 2, 2]))
    def a_color_dies_or_comes_back(self, color, ready):
        self.world.serve(color, ready)

    @rule(seconds=st.sampled_from([1, 20, 59, 75]))
    def time_passes(self, seconds):
        self.world.wait(seconds)

    # -- what may never happen

    @rule()
    def at_last_the_traffic_is_whole(self):
        """Once leases are out and the guard has run, traffic is whole, on a color that serves if one does, as is the worker."""
        for node in self.world.nodes:
            node.reachable, node.fails, node.kills, node.on_read, node.on_write = True, None, None, None, None
        self.world.on_roles = self.world.role_breaks = None
        self.world.wait(95)
        ports = self.world.ports()
        before = ports.router.read()
        guard(ports, "guard")
        guard(ports, "guard")  # one for the lease, one for nodes that lagged, one for the worker
        guard(ports, "guard")
        after = ports.router.read()
        if after.foreign or after.stamp is None:
            return  # somebody's hand: reported, never fought
        assert after.live is not None, after.says()
        assert after.settled, after.says()
        assert not after.stamp.phase.transitional
        if self.world.note:  # somebody has moved it before: where it was at first is nobody's knowledge
            assert self.world.workers == {after.live}, self.world.note
        if before.stamp and before.stamp.phase.transitional:
            serves = {color: self.world.nodes[0].health[color].ready > 0 for color in Color}
            assert serves[after.live] or not serves[after.live.other], after.says()

    @invariant()
    def epochs_and_stamps_are_sound(self):
        for node in self.world.nodes:
            assert node.stamp is None or node.stamp.phase.transitional == (node.stamp.lease is not None)

    @invariant()
    def one_queue_never_has_two_consumers(self):
        assert len(self.world.workers) <= 1

    def _forward(self, release, step, task, share, late):
        epochs = self.epochs[release.release]
        done = step(self.world.ports(), release, task, share, epochs[max(0, len(epochs) - 1 - late)])
        self._noted(release, share, done)

    def _hold(self, release, late):
        epochs = self.epochs[release.release]
        done = hold(self.world.ports(), release, "hold", 10, epochs[max(0, len(epochs) - 1 - late)], ASKED)
        self.held[release.release] = done.epoch
        self._noted(release, 10, done)

    def _switch(self, release, epoch):
        before = self._truth()
        done = shift(self.world.ports(), release, "switch", 100, epoch)
        if not self.hooked:
            assert not before.lease_out(self.world.time), before
        self._noted(release, 100, done)

    def _noted(self, release, share, done):
        if not self.hooked:
            assert self._truth().release == release.release  # nobody writes after another one took over
        epochs = self.epochs[release.release]
        epochs.append(done.epoch)
        if share == 100:
            self.switched.setdefault(release.release, []).append(done.epoch)

    def _settle(self, release, late):
        epochs = self.epochs[release.release]
        switched = self.switched.get(release.release, [])
        if switched:  # finish runs after a switch only
            epochs.append(settle(self.world.ports(), release, switched[max(0, len(switched) - 1 - late)]).epoch)

    def _truth(self):
        """What the router says, without anybody coming between."""
        hooks = [(node, node.on_read) for node in self.world.nodes]
        for node, _ in hooks:
            node.on_read = None
        stamp = self.world.ports().router.read().stamp
        for node, hook in hooks:
            node.on_read = hook
        return stamp

    def _do(self, deed, *, moves_final=False):
        """Run a deed that may be refused or die; a final truth that every reached node bears must stay."""
        hooks = [(node, node.on_read) for node in self.world.nodes]
        for node, _ in hooks:
            node.on_read = None
        before, self.hooked = self.world.ports().router.read(), False
        for node, hook in hooks:
            node.on_read = hook
        try:
            deed()
        except BlueGreenError as error:
            event(f"{type(error).__name__}")
        except WriterKilled:
            event("killed")
        else:
            event("done")
        event(f"truth: {before.stamp.phase if before.stamp else None}")
        final = before.stamp is not None and before.stamp.phase.final and before.settled
        if final and not moves_final and not self.hooked:
            now = {node.name: node.split for node in self.world.nodes}
            assert now == {node.node: node.split for node in before.nodes}, f"moved from {before.says()}"


TestReleases = Releases.TestCase
TestReleases.settings = settings(
    max_examples=300, stateful_step_count=50, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)


def test_a_late_writer_after_a_restore_finds_a_new_epoch():
    world = World()
    ports = world.ports()
    adopt(ports, "tests", "begin", "1")
    release = plan(ports, request())
    world.runs[Color.GREEN] = "2"
    first = shift(ports, release, "canary_1", 10, release.epoch)
    restore(ports, "bad", "tests", release.run)
    for epoch in (release.epoch, first.epoch):
        with suppress(BlueGreenError):
            shift(ports, release, "switch", 100, epoch)
    assert world.splits() == {"100/0"}
    stamp = ports.router.read().stamp
    assert stamp.epoch > first.epoch
    assert replace(stamp, why="").phase == "restored"


def claimed(world):
    ports = world.ports()
    adopt(ports, "tests", "begin", "1")
    release = plan(ports, request())
    world.runs[Color.GREEN] = "2"
    return ports, release


def test_at_equal_epochs_the_restore_counts():
    """A settle that died on its first node, which was lost, while a restore took the others."""
    world = World()
    ports, release = claimed(world)
    switched = shift(ports, release, "switch", 100, release.epoch)
    world.nodes[1].kills = "before"
    with suppress(WriterKilled):
        settle(ports, release, switched.epoch)
    world.nodes[0].reachable = False
    restore(ports, "bad", "tests", release.run)
    world.nodes[0].reachable = True
    assert {node.stamp.epoch for node in world.nodes} == {switched.epoch + 1}
    assert guard(ports, "guard").action == "caught-up"
    assert world.splits() == {"100/0"}


def test_a_settle_that_comes_before_a_restores_own_look_is_not_moved():
    world = World()
    ports, release = claimed(world)
    switched = shift(ports, release, "switch", 100, release.epoch)
    reads = iter(range(10))

    def settles_at_the_second_read():
        if next(reads) == 1:
            world.nodes[0].on_read = None
            settle(world.ports(), release, switched.epoch)

    world.nodes[0].on_read = settles_at_the_second_read
    assert restore(ports, "bad", "tests", release.run).outcome == "finished"
    assert world.splits() == {"0/100"}


def test_a_forward_shift_that_fails_half_way_is_undone():
    world = World()
    ports, release = claimed(world)
    before = ports.router.read()
    world.nodes[2].fails = "before"
    with pytest.raises(RouterUnreachable):
        shift(ports, release, "canary_1", 10, release.epoch)
    assert ports.router.read() == before


def test_a_forward_shift_needs_every_node_before_the_first_is_moved():
    world = World()
    ports, release = claimed(world)
    world.nodes[2].reachable = False
    with pytest.raises(RouterUnreachable, match="three"):
        shift(ports, release, "canary_1", 10, release.epoch)
    assert world.splits() == {"100/0"}


def test_a_change_by_hand_stops_the_release_and_is_not_fought():
    world = World()
    ports, release = claimed(world)
    world.nodes[1].by_hand(Split.parse("50/50"))
    with pytest.raises(TrafficConflict, match="two changed by hand to 50/50"):
        shift(ports, release, "canary_1", 10, release.epoch)
    assert str(world.nodes[1].split) == "50/50"


def test_a_watch_does_not_renew_over_a_change_by_hand():
    world = World()
    ports, release = claimed(world)
    done = shift(ports, release, "canary_1", 10, release.epoch)
    world.nodes[1].by_hand(Split.parse("100/0"))
    with pytest.raises(TrafficConflict):
        ports.router.renew((done.epoch, release.release), world.time)
    assert str(world.nodes[1].split) == "100/0"


def test_a_release_whose_old_color_died_ends_on_the_one_that_serves():
    world = World()
    ports, release = claimed(world)
    shift(ports, release, "canary_1", 10, release.epoch)
    world.serve(Color.BLUE, ready=0)
    assert restore(ports, "bad", "tests", release.run).outcome == "stranded"
    assert world.splits() == {"0/100"}


def test_both_colors_dead_ends_on_the_old_one():
    world = World()
    ports, release = claimed(world)
    shift(ports, release, "canary_1", 10, release.epoch)
    world.serve(Color.BLUE, ready=0)
    world.serve(Color.GREEN, ready=0)
    assert restore(ports, "bad", "tests", release.run).outcome == "restored"
    assert world.splits() == {"100/0"}


def test_servers_of_the_old_color_that_were_drained_are_put_back_first():
    world = World()
    ports, release = claimed(world)
    shift(ports, release, "canary_1", 10, release.epoch)
    for node in world.nodes:
        node.drain(Color.BLUE)
    assert restore(ports, "bad", "tests", release.run).outcome == "restored"
    assert world.nodes[0].health[Color.BLUE].ready == 2


def test_a_settled_release_goes_back_while_its_old_color_still_runs_its_version():
    world = World()
    ports, release = claimed(world)
    switched = shift(ports, release, "switch", 100, release.epoch)
    settle(ports, release, switched.epoch)
    assert rollback(ports, "rollback-1", "please", "person").outcome == "restored"
    assert world.splits() == {"100/0"}
    with pytest.raises(ReleaseRefused, match="already"):
        rollback(ports, "rollback-2", "again", "person")


def test_a_settled_release_whose_old_color_was_overwritten_names_what_to_release_instead():
    world = World()
    ports, release = claimed(world)
    switched = shift(ports, release, "switch", 100, release.epoch)
    settle(ports, release, switched.epoch)
    world.runs[Color.BLUE] = "7"
    with pytest.raises(ReleaseRefused, match="release 1 instead"):
        rollback(ports, "rollback-1", "please", "person")
    assert world.splits() == {"0/100"}


def test_a_settle_that_comes_between_a_restores_look_and_its_write_is_not_moved():
    world = World()
    ports, release = claimed(world)
    switched = shift(ports, release, "switch", 100, release.epoch)

    def settles():
        world.nodes[0].on_write = None
        settle(world.ports(), release, switched.epoch)

    world.nodes[0].on_write = settles
    assert restore(ports, "bad", "tests", release.run).outcome == "finished"
    assert world.splits() == {"0/100"}
