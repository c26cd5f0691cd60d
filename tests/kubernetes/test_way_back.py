"""Faults by name at the use cases: with a canary at 10 % on the real control plane, restore and guard end with all traffic on blue."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

import pytest

from bluegreen.catalog.models import Service
from bluegreen.core.errors import RouterError
from bluegreen.core.stamp import Phase, now_utc
from bluegreen.release.guard import guard
from bluegreen.release.move import move
from bluegreen.release.ports import Ports
from bluegreen.release.restore import restore
from bluegreen.release.wiring import ports_for
from tests.kubernetes.steps import BLUE, LEASE, TENTH, canary, claim, seen, share_in

pytestmark = pytest.mark.kubernetes


@dataclass
class Shop:
    """A service over the rig's first node, behind a real entry; ``log`` is what its use cases say."""

    rig: Any
    service: Service
    log: list[str]

    def ports(self, seconds: int = 30) -> Ports:
        """Make ports as another process would; their proofs are real requests, and a restore is tried for some seconds."""
        release = self.service.release.model_copy(update={"restore_within": timedelta(seconds=seconds)})
        return ports_for(self.service.model_copy(update={"release": release}), self.rig.secrets, self.log.append)

    def guard(self, *, out: bool = True) -> Any:
        """Look once, as the guard does when the lease is out, or before."""
        now = max(now_utc(), LEASE) + timedelta(hours=1) if out else LEASE - timedelta(minutes=1)
        return guard(replace(self.ports(2), now=lambda: now), "guard")

    @contextmanager
    def refused(self, sentence: str) -> Iterator[None]:
        """The way back and the guard name what is missing; once it is there again, the guard goes on."""
        for call in (lambda: restore(self.ports(1), "test", "tests"), self.guard):
            with pytest.raises(RouterError, match=sentence):
                call()
        yield
        assert self.guard().action == "restored"

    def is_back(self, epoch: int = 3) -> None:
        """All traffic is on blue: the router says so, kubectl, and whoever asks through the entry."""
        ports = self.ports()
        reading = ports.router.read()
        assert (reading.split, reading.stamp.phase, reading.stamp.epoch) == (BLUE, Phase.RESTORED, epoch), reading
        assert share_in(self.rig, seen(self.rig)) == 0
        assert ports.prove(BLUE).proven, ports.prove(BLUE)


@pytest.fixture
def shop(rig: Any) -> Shop:
    """With a canary at 10 %, of a release that is under way."""
    if "traffic" not in rig.can:
        pytest.skip(rig.no_traffic())
    made = Shop(rig, rig.through_entry(), [])
    router = made.ports().router
    claim(router)
    assert canary(router).split == TENTH
    return made


@pytest.mark.parametrize(("state", "part"), [("crash-loop", 0.5), ("not-ready", 1)])
def test_green_half_or_wholly_dead_keeps_no_traffic_from_its_way_back(shop: Shop, state: str, part: float) -> None:
    node = shop.rig.nodes[0]
    node.turn(state, "color=green", count=max(1, round(part * node.ready("color=green"))))
    found = restore(shop.ports(), "test", "tests")
    assert (found.outcome, found.whole) == ("restored", True), found.says
    shop.is_back()


def test_an_api_server_that_comes_back_in_time_is_waited_for(shop: Shop) -> None:
    wire = shop.rig.wires[0]
    wire.cut()
    back = threading.Timer(1.5, wire.mend)
    back.start()
    assert restore(shop.ports(), "test", "tests").outcome == "restored"
    back.join()
    assert any("restore goes on: " in line for line in shop.log), shop.log
    shop.is_back()


@pytest.mark.parametrize("share", [50, 100])
def test_weights_that_another_controller_wrote_are_not_fought_over_but_go_back(shop: Shop, share: int) -> None:
    shop.rig.by_hand(0, share)
    assert [node.node for node in shop.ports().router.read().foreign] == ["one"]
    assert restore(shop.ports(), "test", "tests").outcome == "restored"
    shop.is_back()


def test_a_rule_that_was_taken_away_is_named_and_the_guard_goes_on_when_it_is_there_again(shop: Shop) -> None:
    rig = shop.rig
    rig.refuse_writes(0)
    with shop.refused(rf"may not patch {rig.resource()}/shop .*add the rule .*verbs: \[\"patch\"\]"):
        assert shop.ports().router.read().split == TENTH
        rig.grant(rig.nodes[0])
    shop.is_back()


def test_a_token_that_ran_out_is_named_and_the_guard_goes_on_with_a_new_one(shop: Shop) -> None:
    rig, good = shop.rig, shop.rig.configs[0]
    rig.configs[0] = rig.account(0).config(port=rig.wires[0].port, expired=True)
    try:
        with shop.refused("401, the login is not accepted"):
            rig.configs[0] = good
    finally:
        rig.configs[0] = good
    shop.is_back()


@pytest.mark.parametrize("at", [1, 2, 3])
def test_a_writer_that_is_killed_in_the_middle_is_put_back_when_its_lease_is_out(shop: Shop, at: int) -> None:
    assert shop.rig.kill_writer(at, lambda _: move(shop.ports(), "green", run="run", by="switch"))
    assert shop.guard(out=False).action == "none"
    assert shop.guard().action == "restored"
    shop.is_back(shop.ports().router.read().stamp.epoch)
