"""Retire: end the way back of a release that is over, then stop what the idle color still runs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from bluegreen.core.colors import Color, Split
from bluegreen.core.errors import (
    DeployError,
    NotProven,
    NotServing,
    ReleaseRefused,
    RouterUnreachable,
    TrafficConflict,
)
from bluegreen.core.evidence import Proof
from bluegreen.core.reading import Reading
from bluegreen.core.stamp import Phase, Stamp
from bluegreen.release.drain import wait_until_unused
from bluegreen.release.ports import Ports

STEP = "retire"


@dataclass(frozen=True)
class Retired:
    """
    How a retire ended.

    :param color: what was stopped; None where another release came meanwhile, and nothing was touched
    :param reading: the router afterwards
    :param proof: requests through the entry afterwards; None where nothing was touched
    :param says: one line for people
    """

    color: Color | None
    reading: Reading
    proof: Proof | None
    says: str

    def as_json(self) -> dict[str, Any]:
        """JSON for XCom and reports."""
        return {
            "color": self.color,
            "says": self.says,
            "reading": self.reading.as_json(),
            "proof": self.proof.as_json() if self.proof else None,
        }


def retire(ports: Ports, why: str, by: str, release: str = "") -> Retired:
    """
    End the way back, then stop the idle color: first the stamp, so that nobody goes back to what is being stopped.

    May be repeated: a retire that broke off is completed.

    :param why: one line for the stamp
    :param by: who
    :param release: run and claim; where another one has the service by now, nothing is touched. Empty: whichever has it
    :raises ReleaseRefused: the service is not at rest
    :raises TrafficConflict: somebody else wrote; nothing was stopped
    :raises RouterUnreachable: a node does not answer
    :raises NotServing: the live color has no healthy server: the idle one may be needed
    :raises DeployError: the idle color is still in use, or was not stopped; in that case the way back is ended
    :raises NotProven: the entry says otherwise
    """
    reading = ports.router.read()
    if release and reading.reachable and (reading.stamp is None or reading.stamp.release != release):
        return Retired(None, reading, None, f"another release came: nothing to retire for {release}: {reading.says()}")
    live, stamp = _at_rest(ports, reading)
    idle = live.other
    wait_until_unused(ports, idle, reading)
    if stamp.step != STEP:
        reading, stamp = _end_way_back(ports, live, stamp, f"{by}: {why}")
    _stop(ports, idle, stamp)
    return _proved(ports, live, reading, stamp)


def _at_rest(ports: Ports, reading: Reading) -> tuple[Color, Stamp]:
    stamp = reading.stamp
    if reading.unreachable:
        raise RouterUnreachable(
            reading.says(), service=ports.name, part="retire", next_step="nothing was touched; it needs every node"
        )
    if stamp is None or not reading.settled or reading.live is None or stamp.phase is Phase.STRANDED:
        raise ReleaseRefused(
            f"not in order: {reading.says()}",
            service=ports.name,
            part="retire",
            next_step=f"nothing was touched; see bluegreen status {ports.name}",
        )
    if not stamp.phase.final:
        raise TrafficConflict(
            f"release {stamp.release} is under way ({stamp.phase})",
            service=ports.name,
            part="retire",
            next_step="nothing was touched; wait for it",
        )
    if not ports.health(reading, reading.live).serves:
        raise NotServing(
            f"the live color has no healthy server: {reading.live.other} may be needed",
            service=ports.name,
            part=reading.live,
            next_step=f"nothing was touched; mend it, or start rollback__{ports.name}",
        )
    return reading.live, stamp


def _end_way_back(ports: Ports, live: Color, stamp: Stamp, why: str) -> tuple[Reading, Stamp]:
    """Write the same split and owner without a way back; the reason begins with what was given up."""
    gone = stamp.versions.get(live.other, "what ran")
    ended = replace(
        stamp,
        epoch=stamp.epoch + 1,
        step=STEP,
        back_to=None,
        versions={color: version for color, version in stamp.versions.items() if color is live},
        clients_follow_until=None,
        at=ports.now(),
        why=f"retired {gone} on {live.other}: {why}",
    )
    reading = ports.router.shift(Split.whole_on(live), stamp.identity, ended)
    ports.log(f"the way back is ended: {reading.says()}")
    return reading, ended


def _stop(ports: Ports, idle: Color, stamp: Stamp) -> None:
    try:
        ports.deployer.retire(idle, stamp.epoch)
    except DeployError as error:
        raise type(error)(
            f"the way back is ended, but it may run on: {error.fact}",
            service=ports.name,
            part=idle,
            next_step=f"see the log and bluegreen status {ports.name}, then start retire__{ports.name} again",
        ) from error


def _proved(ports: Ports, live: Color, reading: Reading, stamp: Stamp) -> Retired:
    proof = ports.prove(Split.whole_on(live))
    says = f"{stamp.why}; {reading.says()}; {proof.says}: {proof.reason}"
    ports.log(says)
    if proof.proven is False:
        raise NotProven(
            proof.reason,
            service=ports.name,
            part="retire",
            next_step=f"{live.other} is retired; look at once: bluegreen status {ports.name}",
        )
    return Retired(live.other, reading, proof, says)
