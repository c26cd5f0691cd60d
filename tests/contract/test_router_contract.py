"""
What every router does, over every rig: the real thing, and a memory that keeps the same rules.

Each test is a sentence of the design, sections 4 and 5.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from bluegreen.core.colors import Color, Split
from bluegreen.core.errors import RouterError, RouterRefused, RouterUnreachable, TrafficConflict, UnsupportedSplit
from bluegreen.core.ports import CatchesUp, Counts, Readies, Renews
from bluegreen.core.stamp import Expected, Phase, Stamp
from bluegreen.routers.nodes import Write
from bluegreen.routers.registry import ROUTERS
from demo.load import LoadProcess
from demo.processes import wait_until
from tests.rigs.registry import RIGS

BLUE, GREEN = Split.whole_on(Color.BLUE), Split.whole_on(Color.GREEN)
TENTH = Split.giving(Color.GREEN, 10)
RUN = "manual__2026-11-23T07:00:00+00:00@1"
LEASE = datetime(2026, 11, 23, 7, 1, tzinfo=UTC)
Router = Any


def stamp(epoch: int, phase: Phase, release: str = RUN, step: str = "") -> Stamp:
    return Stamp(
        epoch,
        release,
        step or str(phase),
        phase,
        back_to=Color.BLUE,
        versions={Color.BLUE: "1.0.0", Color.GREEN: "2.0.0"},
        lease=LEASE if phase.transitional else None,
        at=LEASE,
        why="error rate 7.1 % > 5 %; see the report #3",
    )


def claim(router: Router, release: str = RUN, expected: Expected | None = None, epoch: int = 1) -> Any:
    return router.shift(BLUE, expected, stamp(epoch, Phase.CLAIMED, release))


def canary(router: Router) -> Any:
    return router.shift(TENTH, (1, RUN), stamp(2, Phase.CANARY))


def restore(router: Router) -> Any:
    found = router.read().stamp
    return router.shift(BLUE, found.identity, stamp(found.epoch + 1, Phase.RESTORED, found.release))


def makes(rig: Any, share: int) -> bool:
    """Tell whether a kind can make a share; one that makes shares of pods cannot make each."""
    shares = getattr(rig, "shares", None)
    return shares is None or share in shares


def everywhere(rig: Any, split: Split, epoch: int, phase: Phase) -> None:
    """A fresh reader sees this on every node, in force."""
    reading = rig.router().read()
    assert [(n.split, n.epoch, n.stamp and n.stamp.phase) for n in reading.nodes] == [(split, epoch, phase)] * 2
    assert reading.settled, reading.says()


def test_every_router_kind_has_a_rig() -> None:
    assert RIGS.keys() == ROUTERS.keys() | {"memory"}


# The split and its stamp


@pytest.mark.parametrize("share", [0, 1, 10, 50, 99, 100])
def test_write_returns_what_a_fresh_read_sees(rig: Any, share: int) -> None:
    split, mark = Split.giving(Color.GREEN, share), stamp(1, Phase.CANARY)
    if not makes(rig, share):
        with pytest.raises(UnsupportedSplit, match=r"shop: one: wanted .*nothing was moved"):
            rig.router().shift(split, None, mark)
        assert {(n.split, n.stamp) for n in rig.router().read().nodes} == {(BLUE, None)}
        return
    written = rig.router().shift(split, None, mark)
    fresh = rig.router().read()
    assert [replace(n, health=None) for n in written.nodes] == [replace(n, health=None) for n in fresh.nodes]
    assert fresh.split == split
    assert [(n.split, n.stamp) for n in fresh.nodes] == [(split, mark)] * 2
    assert fresh.settled


def test_every_word_of_a_stamp_comes_back(rig: Any) -> None:
    words = Stamp(
        7,
        "trigger <x> 100% #a; b\\c = d / ü@7",
        "step with spaces",
        Phase.HELD,
        back_to=Color.GREEN,
        versions={Color.GREEN: "sha256:ab+c d"},
        lease=LEASE,
        clients_follow_until=LEASE + timedelta(milliseconds=1),
        why='ein "Wört" und 5 %',
    )
    rig.router().shift(TENTH, None, words)
    assert [node.stamp for node in rig.router().read().nodes] == [words, words]


def test_a_service_without_a_stamp_reads_its_bare_split(rig: Any) -> None:
    reading = rig.router().read()
    assert (reading.split, reading.stamp, reading.live) == (BLUE, None, Color.BLUE)
    assert reading.settled


def test_each_node_tells_the_health_of_each_color(rig: Any) -> None:
    servers = getattr(rig, "servers", 2)
    for node in rig.router().read().nodes:
        assert {color: (h.ready, h.total) for color, h in node.health.items()} == dict.fromkeys(
            Color, (servers, servers)
        )


# Compare and set


@pytest.mark.parametrize("expected", [None, (1, "other@1"), (2, RUN)], ids=["none", "release", "epoch"])
def test_stale_expected_is_refused_and_nothing_touched(rig: Any, expected: Expected | None) -> None:
    claim(rig.router())
    with pytest.raises(TrafficConflict, match=r"shop: router: expected .*found .*claimed.*nothing was touched"):
        rig.router().shift(TENTH, expected, stamp(2, Phase.CANARY))
    everywhere(rig, BLUE, 1, Phase.CLAIMED)


def test_a_repeated_step_is_idempotent(rig: Any) -> None:
    claim(rig.router())
    first, again = canary(rig.router()), canary(rig.router())
    assert first.stamp == again.stamp
    everywhere(rig, TENTH, 2, Phase.CANARY)


def test_a_repeated_step_completes_missing_nodes(rig: Any) -> None:
    claim(rig.router())
    router = rig.router(before={1: lambda: _die(rig, 1)})
    with pytest.raises(_DeadError):
        canary(router)
    assert [n.epoch for n in rig.router().read().nodes] == [2, 1]
    canary(rig.router())
    everywhere(rig, TENTH, 2, Phase.CANARY)


def test_a_change_by_hand_is_foreign_and_refused(rig: Any) -> None:
    claim(rig.router())
    rig.by_hand(1, 40)
    reading = rig.router().read()
    assert [node.node for node in reading.foreign] == ["two"]
    assert not reading.settled
    assert "two changed by hand to 60/40" in reading.says()
    with pytest.raises(TrafficConflict, match="by hand"):
        canary(rig.router())
    assert [n.split for n in rig.router().read().nodes] == [BLUE, Split(60, 40)]


def test_a_restore_takes_a_change_by_hand_back(rig: Any) -> None:
    claim(rig.router())
    canary(rig.router())
    rig.by_hand(0, 70)
    restore(rig.router())
    everywhere(rig, BLUE, 3, Phase.RESTORED)


def test_of_two_writers_at_the_same_time_exactly_one_wins(rig: Any) -> None:
    claim(rig.router())
    epoch, release = 1, RUN
    for turn in range(5):
        rivals = [f"{name}{turn}@{epoch + 1}" for name in ("a", "b")]
        # Each writer is a process of its own, which reads, compares and writes both nodes.
        said = rig.race([_rival(rival, (epoch, release)) for rival in rivals])
        assert sorted(said) == ["", "TrafficConflict"], said
        epoch, release = epoch + 1, rivals[said.index("")]
        reading = rig.router().read()
        assert {node.stamp.identity for node in reading.nodes} == {(epoch, release)}
        assert reading.settled, reading.says()


def _rival(release: str, expected: Expected) -> Callable[[Router], Any]:
    return lambda router: claim(router, release, expected, expected[0] + 1)


def test_a_late_writer_of_a_restored_release_is_refused(rig: Any) -> None:
    claim(rig.router())
    late = rig.router(before={0: lambda: restore(rig.router())})
    with pytest.raises(TrafficConflict):
        canary(late)
    everywhere(rig, BLUE, 2, Phase.RESTORED)


# Nodes that fail


def test_a_lost_node_stops_a_forward_shift_before_anything_is_moved(rig: Any) -> None:
    claim(rig.router())
    rig.lose(1)
    with pytest.raises(RouterUnreachable, match=r"shop: two: .*nothing was moved"):
        canary(rig.router())
    assert rig.router().read().nodes[0].epoch == 1


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_shift_that_fails_half_way_is_undone(rig: Any, when: str) -> None:
    claim(rig.router())
    router = rig.router(**{when: {1: lambda: rig.lose(1) or _unreachable()}})
    with pytest.raises(RouterUnreachable):
        canary(router)
    first = rig.router().read().nodes[0]
    assert (first.split, first.epoch, first.settled) == (BLUE, 1, True)


def test_a_node_that_refuses_half_way_undoes_the_others(rig: Any) -> None:
    claim(rig.router())
    rig.refuse_writes(1)
    with pytest.raises(RouterRefused):
        canary(rig.router())
    everywhere(rig, BLUE, 1, Phase.CLAIMED)


def test_the_first_shift_ever_is_undone_to_no_stamp(rig: Any) -> None:
    rig.refuse_writes(1)
    with pytest.raises(RouterRefused):
        rig.router().shift(TENTH, None, stamp(1, Phase.CANARY))
    reading = rig.router().read()
    assert [(n.split, n.stamp, n.settled) for n in reading.nodes] == [(BLUE, None, True)] * 2


def test_the_way_back_moves_the_others_and_a_returning_node_is_caught_up(rig: Any) -> None:
    claim(rig.router())
    canary(rig.router())
    rig.lose(0)
    reading = restore(rig.router())
    assert [node.node for node in reading.unreachable] == ["one"]
    assert (reading.nodes[1].split, reading.nodes[1].stamp.phase) == (BLUE, Phase.RESTORED)
    rig.bring_back(0)
    back = rig.router().read()
    assert [(n.split, n.epoch) for n in back.nodes] == [(TENTH, 2), (BLUE, 3)]
    assert [node.node for node in back.lagging] == ["one"]
    assert (back.split, back.stamp.phase) == (BLUE, Phase.RESTORED)
    assert isinstance(rig.router(), CatchesUp)
    rig.router().catch_up()
    everywhere(rig, BLUE, 3, Phase.RESTORED)


def test_a_transitional_truth_is_not_caught_up_with(rig: Any) -> None:
    claim(rig.router())
    with pytest.raises(_DeadError):
        canary(rig.router(before={1: lambda: _die(rig, 1)}))
    rig.router().catch_up()
    assert [n.epoch for n in rig.router().read().nodes] == [2, 1]


def test_no_node_at_all_is_unreachable(rig: Any) -> None:
    claim(rig.router())
    rig.lose(0)
    rig.lose(1)
    reading = rig.router().read()
    assert (reading.split, reading.stamp, len(reading.unreachable)) == (None, None, 2)
    for shift in (lambda: canary(rig.router()), lambda: rig.router().shift(BLUE, (1, RUN), stamp(2, Phase.RESTORED))):
        with pytest.raises(RouterUnreachable, match="shop: one, two"):
            shift()


@pytest.mark.parametrize("at", range(1, 14))
@pytest.mark.parametrize("step", ["canary", "restore"])
def test_kill_9_of_the_writer_leaves_one_truth_and_a_way_back(rig: Any, at: int, step: str) -> None:
    claim(rig.router())
    if step == "restore":
        canary(rig.router())
    if not rig.kill_writer(at, {"canary": canary, "restore": restore}[step]):
        assert at > (
            rig.steps if step == "canary" else getattr(rig, "back_steps", rig.steps)
        )  # the writer came to its end: it has no more steps than that
        return
    reading = rig.router().read()
    # Every node bears the old write or the new one, whole; what runs is one of both splits.
    old, new = ((1, BLUE), (2, TENTH)) if step == "canary" else ((2, TENTH), (3, BLUE))
    for node in reading.nodes:
        assert (node.epoch, node.split) in (old, new), node
        assert not node.changed_by_hand
    assert (reading.stamp.epoch, reading.split) in (old, new)
    restored = restore(rig.router())
    assert (restored.live, restored.stamp.phase) == (Color.BLUE, Phase.RESTORED)
    everywhere(rig, BLUE, restored.stamp.epoch, Phase.RESTORED)


@pytest.mark.parametrize("at", range(1, 14))
def test_kill_9_of_the_writer_lets_the_step_be_repeated(rig: Any, at: int) -> None:
    claim(rig.router())
    assert rig.kill_writer(at, canary) == (at <= rig.steps)
    canary(rig.router())
    everywhere(rig, TENTH, 2, Phase.CANARY)


# The lease


def test_renew_keeps_the_later_lease_and_the_epoch(rig: Any) -> None:
    claim(rig.router())
    canary(rig.router())
    assert isinstance(rig.router(), Renews)
    later = LEASE + timedelta(seconds=30)
    assert rig.router().renew((2, RUN), later).stamp.lease == later
    assert rig.router().renew((2, RUN), LEASE).stamp.lease == later
    everywhere(rig, TENTH, 2, Phase.CANARY)


def test_a_renewal_that_was_read_earlier_does_not_shorten_the_lease(rig: Any) -> None:
    claim(rig.router())
    canary(rig.router())
    slow = rig.router().nodes[0]
    seen = slow.read()
    rig.router().renew((2, RUN), LEASE + timedelta(seconds=60))
    slow.write(Write(seen.split, seen.stamp.renewed(LEASE + timedelta(seconds=15))), seen.version)
    assert rig.router().read().nodes[0].stamp.lease == LEASE + timedelta(seconds=60)


@pytest.mark.parametrize("identity", [(1, RUN), (3, RUN), (2, "other@1")])
def test_renew_refuses_a_foreign_epoch(rig: Any, identity: Expected) -> None:
    claim(rig.router())
    canary(rig.router())
    with pytest.raises(TrafficConflict):
        rig.router().renew(identity, LEASE + timedelta(seconds=30))
    assert rig.router().read().stamp.lease == LEASE


def test_renew_reaches_the_nodes_that_are_there(rig: Any) -> None:
    claim(rig.router())
    canary(rig.router())
    rig.lose(0)
    later = LEASE + timedelta(seconds=30)
    assert rig.router().renew((2, RUN), later).stamp.lease == later


# Further powers


@pytest.mark.needs("readies")
def test_make_ready_puts_drained_servers_back(rig: Any) -> None:
    rig.drain(Color.BLUE)
    assert {n.health[Color.BLUE].ready for n in rig.router().read().nodes} == {0}
    assert isinstance(rig.router(), Readies)
    rig.router().make_ready(Color.BLUE)
    assert {n.health[Color.BLUE].ready for n in rig.router().read().nodes} == {2}


@pytest.mark.needs("readies")
def test_make_ready_serves_the_nodes_that_are_there(rig: Any) -> None:
    rig.drain(Color.BLUE)
    rig.lose(0)
    rig.router().make_ready(Color.BLUE)
    assert rig.router().read().nodes[1].health[Color.BLUE].ready == 2


def test_check_says_of_a_good_rig_no_more_than_what_its_kind_cannot(rig: Any) -> None:
    wanted = {(code, "warning") for code in rig.warnings}
    assert {(one.code, one.level) for one in rig.router().check()} == wanted
    claim(rig.router())
    canary(rig.router())
    assert {(one.code, one.level) for one in rig.router().check()} == wanted
    if rig.can & {"traffic", "hitless"}:
        assert ("hitless" in rig.can) == ("reload-not-hitless" not in rig.warnings)


@pytest.mark.needs("backends")
def test_an_unknown_backend_is_refused_before_anything_is_touched(rig: Any) -> None:
    claim(rig.router())
    with pytest.raises(RouterRefused, match=r"shop: one: .*shop-purple.*nothing was touched"):
        canary(rig.router(green="shop-purple"))
    everywhere(rig, BLUE, 1, Phase.CLAIMED)


@pytest.mark.needs("health")
def test_a_color_without_a_healthy_server_gets_no_more_traffic(rig: Any) -> None:
    claim(rig.router())
    rig.drain(Color.GREEN)
    with pytest.raises(RouterRefused, match=r"none of \d .*green is (up|ready), wanted 10 % for green"):
        canary(rig.router())
    claim(rig.router(), "hotfix@2", (1, RUN), epoch=2)  # a claim moves nothing, so it may
    everywhere(rig, BLUE, 2, Phase.CLAIMED)


@pytest.mark.needs("traffic", "counts")
def test_counters_grow_by_color_and_count_5xx(rig: Any) -> None:
    assert isinstance(rig.router(), Counts)
    rig.router().shift(Split(50, 50), None, stamp(1, Phase.CANARY))
    rig.errors(Color.GREEN, 1.0)
    before, answers = _counts(rig, "one"), rig.probe(0, 60)
    after = _counts(rig, "one")
    for color in Color:
        assert after[color].requests - before[color].requests == answers[color]
        assert (after[color].ready, after[color].total) == (2, 2)
    assert after[Color.GREEN].errors - before[Color.GREEN].errors == answers["green"] > 0
    assert after[Color.BLUE].errors == before[Color.BLUE].errors


@pytest.mark.needs("traffic", "counts")
def test_counters_go_on_over_all_writes_of_a_release(rig: Any) -> None:
    claim(rig.router())
    rig.probe(0, 20)
    canary(rig.router())
    restore(rig.router())
    rig.probe(0, 20)
    assert _counts(rig, "one")[Color.BLUE].requests >= 40


@pytest.mark.needs("traffic", "counts")
def test_counters_count_what_the_proxy_answers_in_the_servers_place(rig: Any) -> None:
    claim(rig.router())
    rig.drain(Color.BLUE)
    before = _counts(rig, "one")[Color.BLUE]
    assert rig.probe(0, 5) == {"none": 5}
    after = _counts(rig, "one")[Color.BLUE]
    assert (after.errors - before.errors, after.requests - before.requests) == (5, 5)


@pytest.mark.needs("traffic", "counts")
def test_a_node_that_does_not_answer_has_no_counters(rig: Any) -> None:
    rig.lose(1)
    assert asyncio.run(rig.router().counters()).keys() == {"one"}


def _counts(rig: Any, node: str) -> Any:
    return asyncio.run(rig.router().counters())[node]


# Traffic


@pytest.mark.needs("traffic")
def test_the_probe_sees_the_split(rig: Any) -> None:
    rig.router().shift(BLUE, None, stamp(1, Phase.CLAIMED))
    follows(rig, {"blue"})
    assert [rig.probe(n, 60) for n in (0, 1)] == [{"blue": 60}] * 2
    canary(rig.router())
    follows(rig, {"blue", "green"})
    for number in (0, 1):
        green = rig.probe(number, 400)["green"]
        assert 14 <= green <= 76, green  # 40 expected; outside of this once in a million runs
    rig.router().shift(GREEN, (2, RUN), stamp(3, Phase.SWITCHED))
    follows(rig, {"green"})
    assert [rig.probe(n, 60) for n in (0, 1)] == [{"green": 60}] * 2


def follows(rig: Any, colors: set[str]) -> None:
    """Wait for what routes requests, where it comes after what is written, as a proof does."""
    if getattr(rig, "lags", False):
        wait_until(lambda: all(set(rig.probe(n, 60)) == colors for n in (0, 1)), 20, f"{colors} to answer")


@pytest.mark.needs("restart")
@pytest.mark.parametrize("what", ["reload", "restart", "crash"])
def test_the_last_split_survives(rig: Any, what: str) -> None:
    claim(rig.router())
    canary(rig.router())
    rig.router().shift(GREEN, (2, RUN), stamp(3, Phase.SWITCHED))
    getattr(rig, what)(0)
    everywhere(rig, GREEN, 3, Phase.SWITCHED)
    assert rig.probe(0, 30) == {"green": 30}


@pytest.mark.needs("traffic", "counts")
def test_nothing_is_in_flight_on_a_color_that_traffic_was_taken_from(rig: Any) -> None:
    claim(rig.router())
    rig.probe(0, 40)
    rig.router().shift(GREEN, (1, RUN), stamp(2, Phase.SWITCHED))
    rig.probe(0, 40)
    wait_until(lambda: _counts(rig, "one")[Color.BLUE].in_flight == 0, 10, "blue is drained")


@pytest.mark.needs("traffic", "hitless")
def test_switching_there_and_back_loses_no_request(rig: Any) -> None:
    # The last of several is one whose clients follow every switch.
    all_loads = [
        LoadProcess(load, rig.workdir, f"switching{n}") for n, load in enumerate(rig.loads(connections=20, rate=1500))
    ]
    for load in all_loads:
        load.start()
    epoch, identity, until = 0, None, time.monotonic() + 1.5
    while epoch < 8 or time.monotonic() < until:
        for split in (TENTH, GREEN, TENTH, BLUE):
            epoch += 1
            rig.router().shift(split, identity, stamp(epoch, Phase.CANARY))
            identity = (epoch, RUN)
            follows(rig, {str(color) for color in Color if split.share(color)})
    for load in all_loads:
        load.wait_for_next()
    ended = [load.stop() for load in all_loads]
    assert [final.failures for final in ended] == [{}] * len(ended)
    assert min(ended[-1].of(str(color)).requests for color in Color) > 100


class _DeadError(Exception):
    """The writer dies here: nothing of it catches this."""


def _die(_: Any, number: int) -> None:
    raise _DeadError(number)


def _unreachable() -> None:
    raise RouterUnreachable("lost in the middle")


def test_an_error_names_service_node_and_next_step(rig: Any) -> None:
    rig.lose(1)
    with pytest.raises(RouterError) as error:
        claim(rig.router())
    assert (error.value.service, error.value.part) == ("shop", "two")
    assert error.value.next_step
