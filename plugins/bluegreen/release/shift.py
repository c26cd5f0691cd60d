"""The way forward: one share of the traffic for the new color, compared, written and proven; held; and settled."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from bluegreen.catalog.approvals import Approval
from bluegreen.core.colors import Color, Split
from bluegreen.core.errors import NotProven, NotServing, TrafficConflict
from bluegreen.core.evidence import Proof
from bluegreen.core.reading import Reading
from bluegreen.core.stamp import Phase, Stamp
from bluegreen.release.answer import who
from bluegreen.release.finished import not_finished, still_ours
from bluegreen.release.notify import Of, tell
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
    :raises TrafficConflict: somebody else wrote, or nobody kept the lease
    :raises NotServing: new or old color has no healthy server, or the new one runs another version
    :raises NotProven: the entry says otherwise
    :raises DeployError: the traffic is switched, but a role did not follow
    """
    phase = Phase.SWITCHED if share == 100 else Phase.CANARY
    why = f"{plan.by}: {share} % for {plan.version} on {plan.idle}"
    lease = ports.now() + plan.service.release.lease
    stamp = _stamp(ports, plan, step, phase, epoch + 1, why, lease)
    reading = _may_go_on(ports, plan)
    if share == 100:
        _as_many(ports, plan, reading)
    to = Split.giving(plan.idle, share)
    done = proved(ports, to, ports.send(to, (epoch, plan.release), stamp), stamp)
    if share == 100:
        move_roles(ports, plan.idle, stamp)
    return done


def hold(ports: Ports, plan: Plan, step: str, share: int, epoch: int, asked: Approval) -> Shifted:
    """
    Let the canary keep its share while people are asked.

    Nobody renews this lease: silence ends it. It is one ordinary lease longer than the deadline, so that an answer in
    the last second still leaves the switch as much time to come as every other step has.

    :param step: the task's id
    :param share: what the canary has, in per cent
    :param epoch: what the previous step left
    :param asked: who is asked, and for how long
    :raises ReleaseFinished: the release is settled or restored already
    :raises TrafficConflict: somebody else wrote, or nobody kept the lease
    :raises NotServing: new or old color has no healthy server, or the new one runs another version
    :raises NotProven: the entry says otherwise
    """
    reading = _may_go_on(ports, plan)
    until = ports.now() + asked.deadline
    why = f"{share} % for {plan.version} on {plan.idle}; asked until {until:%H:%M:%S} UTC: {who(asked)}"
    stamp = _stamp(ports, plan, step, Phase.HELD, epoch + 1, why, until + plan.service.release.lease)
    if reading.stamp and stamp.same_write(reading.stamp):
        stamp = reading.stamp  # Airflow repeats tasks: nobody gets more time by that
    return _write(ports, plan, share, epoch, stamp)


def held_until(plan: Plan, held: Shifted) -> datetime | None:
    """Return until when people are asked; None where nothing is held any more."""
    stamp = held.reading.stamp
    return stamp.lease - plan.service.release.lease if stamp and stamp.lease else None


def settle(ports: Ports, plan: Plan, epoch: int) -> Shifted:
    """
    End the release: the new color is live, nothing is at risk any more.

    :raises ReleaseFinished: restored already
    :raises TrafficConflict: somebody else wrote
    """
    before = ports.router.read()
    not_finished(ports, plan.run, before, but=Phase.SETTLED)
    stamp = _stamp(ports, plan, "finish", Phase.SETTLED, epoch + 1, f"{plan.by}: {plan.version} is live on {plan.idle}")
    done = _write(ports, plan, 100, epoch, stamp)
    if before.stamp and before.stamp.phase is not Phase.SETTLED:  # Airflow repeats tasks: it was told already
        of = Of(plan.run, plan.release, plan.version)
        tell(ports, "finished", done.reading, before.stamp.phase, plan.by, stamp.why, of=of)
    return done


def proved(ports: Ports, to: Split, reading: Reading, stamp: Stamp) -> Shifted:
    """
    Ask the entry whether a write arrived.

    :param reading: the router after the write
    :param stamp: what was written
    :raises NotProven: the entry says otherwise
    """
    nodes, began = ", ".join(node.node for node in reading.nodes), ports.clock()
    ports.log(f"written to {nodes}, and read back: {reading.says()}")
    proof = ports.prove(to)
    ports.log(f"{proof.says} in {ports.clock() - began:.1f} s: {proof.reason}")
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


def _may_go_on(ports: Ports, plan: Plan) -> Reading:
    """Look at everything again: hours may lie between two steps where people are asked."""
    reading = ports.router.read()
    still_ours(ports, plan.run, plan.release, reading)
    stamp = reading.stamp
    if stamp and stamp.lease_out(ports.now()):
        raise TrafficConflict(
            f"the lease of {stamp.release} ran out at {stamp.lease:%H:%M:%S} UTC",
            service=ports.name,
            part="router",
            next_step="nothing was moved; whoever looks first puts the traffic back",
        )
    _both_serve(ports, plan, reading)
    _as_planned(ports, plan)
    return reading


def _as_planned(ports: Ports, plan: Plan) -> None:
    """Between deploy and shift somebody may have brought another version onto the color."""
    found = ports.deployer.status(plan.idle)
    if plan.service.health.version is not None and found.version != plan.version:
        raise NotServing(
            f"runs {found.version or 'no one version'}, not {plan.version} as planned",
            service=ports.name,
            part=plan.idle,
            next_step="nothing was moved; start a new release",
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
    if ports.router.limits.share_by == "pods" and reading.split and reading.split.whole is None:
        return  # its share is made of few: the router gives it the others, and waits for them, before it switches
    new = reading.worst_health(plan.idle) or ports.deployer.status(plan.idle).health
    old, least = ports.health(reading, plan.live), plan.service.release.min_healthy
    if new.ready < max(old.ready, least):
        raise NotServing(
            f"the new color has {new.ready} healthy servers, the old one {old.ready}, release.min_healthy is {least}",
            service=ports.name,
            part=plan.idle,
            next_step="nothing was moved; see bluegreen status",
        )
