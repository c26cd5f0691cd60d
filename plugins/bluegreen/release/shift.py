"""The way forward: one share of the traffic for the new color, compared, written and proven; and the settling."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from bluegreen.core.colors import Color, Split
from bluegreen.core.errors import NotProven, NotServing
from bluegreen.core.evidence import Proof
from bluegreen.core.reading import Reading
from bluegreen.core.stamp import Phase, Stamp
from bluegreen.release.finished import not_finished
from bluegreen.release.plan import Plan
from bluegreen.release.ports import Ports
from bluegreen.release.roles import move_roles


@dataclass(frozen=True)
class Shifted:
    """
    One shift.

    :param epoch: what the next step must find
    :param reading: the router afterwards
    :param proof: requests through the entry afterwards
    """

    epoch: int
    reading: Reading
    proof: Proof

    def as_json(self) -> dict[str, Any]:
        """JSON for XCom."""
        release = self.reading.stamp.release if self.reading.stamp else ""
        return {
            "epoch": self.epoch,
            "release": release,
            "reading": self.reading.as_json(),
            "proof": self.proof.as_json(),
        }


def shift(ports: Ports, plan: Plan, step: str, share: int, epoch: int) -> Shifted:
    """
    Give the new color a share of the traffic, and prove it; after the full switch its roles begin.

    :param step: the task's id
    :param share: per cent, 1 to 100
    :param epoch: what the previous step left
    :raises ReleaseFinished: the release is settled or restored already
    :raises TrafficConflict: somebody else wrote
    :raises NotServing: new or old color has no healthy server
    :raises NotProven: the entry says otherwise
    :raises DeployError: the traffic is switched, but a role did not follow
    """
    phase = Phase.SWITCHED if share == 100 else Phase.CANARY
    why = f"{plan.by}: {share} % for {plan.version} on {plan.idle}"
    lease = ports.now() + plan.service.release.lease
    stamp = _stamp(ports, plan, step, phase, epoch + 1, why, lease)
    reading = ports.router.read()
    not_finished(ports, plan.run, reading)
    _both_serve(ports, plan, reading)
    if share == 100:
        _as_many(ports, plan, reading)
    done = _write(ports, plan, share, epoch, stamp)
    if share == 100:
        move_roles(ports, plan.idle, stamp)
    return done


def settle(ports: Ports, plan: Plan, epoch: int) -> Shifted:
    """
    End the release: the new color is live, nothing is at risk any more.

    :raises ReleaseFinished: restored already
    :raises TrafficConflict: somebody else wrote
    """
    not_finished(ports, plan.run, ports.router.read(), but=Phase.SETTLED)
    stamp = _stamp(ports, plan, "finish", Phase.SETTLED, epoch + 1, f"{plan.by}: {plan.version} is live on {plan.idle}")
    return _write(ports, plan, 100, epoch, stamp)


def proved(ports: Ports, to: Split, reading: Reading, stamp: Stamp) -> Shifted:
    """
    Ask the entry whether a write arrived.

    :param reading: the router after the write
    :param stamp: what was written
    :raises NotProven: the entry says otherwise
    """
    ports.log(f"written: {reading.says()}")
    proof = ports.prove(to)
    ports.log(f"{proof.says}: {proof.reason}")
    if proof.proven is False:
        raise NotProven(
            proof.reason, service=ports.name, part=stamp.step, next_step="the release is put back; see bluegreen check"
        )
    return Shifted(stamp.epoch, reading, proof)


def _write(ports: Ports, plan: Plan, share: int, epoch: int, stamp: Stamp) -> Shifted:
    to = Split.giving(plan.idle, share)
    return proved(ports, to, ports.router.shift(to, (epoch, plan.release), stamp), stamp)


def _stamp(
    ports: Ports, plan: Plan, step: str, phase: Phase, epoch: int, why: str, lease: datetime | None = None
) -> Stamp:
    return Stamp(
        epoch, plan.release, step, phase, plan.live, plan.versions, lease, ports.clients_follow(), ports.now(), why
    )


def _both_serve(ports: Ports, plan: Plan, reading: Reading) -> None:
    roles: tuple[tuple[Color, str], ...] = ((plan.idle, "new"), (plan.live, "old"))
    for color, role in roles:
        # A node that cannot see the new color would answer with errors: the worst view counts for it.
        health = reading.worst_health(color) if color is plan.idle else reading.health(color)
        if not (health or ports.deployer.status(color).health).serves:
            raise NotServing(
                f"the {role} color has no healthy server",
                service=ports.name,
                part=color,
                next_step="nothing was moved; see bluegreen status",
            )


def _as_many(ports: Ports, plan: Plan, reading: Reading) -> None:
    """Before the full switch the new color has as many healthy servers as the old one, and ``release.min_healthy``."""
    new = reading.worst_health(plan.idle) or ports.deployer.status(plan.idle).health
    old, least = ports.health(reading, plan.live), plan.service.release.min_healthy
    if new.ready < max(old.ready, least):
        raise NotServing(
            f"the new color has {new.ready} healthy servers, the old one {old.ready}, release.min_healthy is {least}",
            service=ports.name,
            part=plan.idle,
            next_step="nothing was moved; see bluegreen status",
        )
