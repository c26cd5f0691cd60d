"""
The one way back: all traffic on the color that was live when the release began (design, section 4).

The watch, the rollback task, the teardown, the guard and people all call ``restore``; it takes nothing from anywhere
but the router, and all of them write the same, so their races are harmless.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Literal

from bluegreen.core.colors import Color, Split
from bluegreen.core.errors import BlueGreenError, RolesAstray, RouterError, RouterUnreachable, TrafficConflict
from bluegreen.core.evidence import Proof
from bluegreen.core.notice import Event
from bluegreen.core.ports import CatchesUp, Readies
from bluegreen.core.reading import Health, Reading
from bluegreen.core.stamp import Phase, Stamp
from bluegreen.release.notify import tell
from bluegreen.release.ports import Ports
from bluegreen.release.roles import roles_back

READY_WITHIN = timedelta(seconds=2)
"""How long servers that were put back may take until their first health check."""

Outcome = Literal["restored", "already", "stranded", "finished", "nothing", "foreign"]


@dataclass(frozen=True)
class Restored:
    """
    What a restore found or did.

    :param outcome: ``restored`` now, ``already``, ``stranded`` on the new color because the old one is dead,
        ``finished`` (settled: not moved), ``nothing`` (another release's), ``foreign`` (no stamp: not ours)
    :param reading: the router afterwards
    :param proof: requests through the entry afterwards; None where nothing was moved or is to be proven
    :param says: one line for people
    :param astray: what is wrong with the roles, empty where they followed the traffic
    :param at: when the traffic was seen back, for the one that moved it; the proof comes after that
    """

    outcome: Outcome
    reading: Reading
    proof: Proof | None
    says: str
    astray: str = ""
    at: datetime | None = None

    @property
    def whole(self) -> bool:
        """Our traffic is back, and the entry does not say otherwise."""
        ours = self.outcome in ("restored", "already")
        return ours and not self.reading.lagging and (self.proof is None or self.proof.proven is not False)

    def need_roles(self, service: str) -> None:
        """
        Let a task be repeated until the roles have followed the traffic.

        :raises RolesAstray: they have not
        """
        if self.astray:
            raise RolesAstray(self.says, service=service, next_step="tried again, by this task or by the guard")

    def as_json(self) -> dict[str, Any]:
        """JSON for XCom and reports."""
        return {
            "outcome": self.outcome,
            "says": self.says,
            "astray": self.astray,
            "reading": self.reading.as_json(),
            "proof": self.proof.as_json() if self.proof else None,
            "at": self.at.isoformat() if self.at else None,
        }


def restore(
    ports: Ports,
    why: str,
    by: str,
    run: str | None = None,
    *,
    still: Callable[[Stamp], bool] = lambda _: True,
    event: Event = "restored",
) -> Restored:
    """
    Put the traffic back, on each node that is reached; the rest is tried until ``release.restore_within`` is over.

    Roles follow once it is back; what is wrong with them stands in the answer, and keeps no traffic from its way.

    :param why: one line for the stamp
    :param by: who
    :param run: whose traffic: a DAG run's id; None for whichever release is under way
    :param still: asked again before the write; False ends without touching anything
    :param event: what people are told when this call moved the traffic
    :raises RouterUnreachable: no node answered until the deadline
    :raises RouterError: no node could be written until the deadline
    """
    tried: list[_Write] = []
    failure: RouterError | None = None
    reading: Reading | None = None
    for _ in ports.deadline(ports.service.release.restore_within).tries():
        reading = ports.router.read()
        if reading.reachable and (refused := _not_to_move(reading, run, still)):
            return refused
        try:
            _back(ports, reading, f"{by}: {why}", tried)
        except RouterError as error:  # a conflict, or a node lost half-way: read again, try again
            ports.log(f"restore goes on: {error}")
            failure = error
            continue
        failure, reading = None, ports.router.read()
        if reading.settled:
            break
    if isinstance(failure, TrafficConflict):
        # The time is over, as one look and one write may take it all on a busy machine. Who was faster most likely did
        # what we wanted: its write is no failure of ours.
        reading = ports.router.read()
        if refused := _not_to_move(reading, run, still):
            return refused
        failure = None if reading.stamp and reading.stamp.phase.way_back else failure
    if failure or reading is None or reading.stamp is None:
        step = f"see bluegreen status {ports.name}; the guard goes on with it"
        raise failure or RouterUnreachable("no node answered", service=ports.name, part="restore", next_step=step)
    # Of two that wrote at once, on different nodes, the one whose words stand in the truth has moved the traffic.
    moved = next((write for write in tried if write.stands_in(reading.stamp)), None)
    if moved is None:
        return _told(ports, reading, reading.stamp)
    at = ports.now()
    tell(ports, "stranded" if reading.stamp.phase is Phase.STRANDED else event, reading, moved.was, by, why)
    return replace(_told(ports, reading, reading.stamp, moved=True), at=at)


@dataclass(frozen=True)
class _Write:
    """A write that was tried; whether it took hold, only the router knows."""

    was: Phase
    stamp: Stamp

    def stands_in(self, truth: Stamp) -> bool:
        return (truth.identity, truth.as_fields()["at"]) == (self.stamp.identity, self.stamp.as_fields()["at"])


def _not_to_move(reading: Reading, run: str | None, still: Callable[[Stamp], bool]) -> Restored | None:
    stamp = reading.stamp
    if stamp is None:
        return Restored("foreign", reading, None, f"not ours, no stamp: {reading.says()}")
    if run is not None and stamp.run != run:
        return Restored(
            "nothing", reading, None, f"nothing of {run} to put back: the traffic is {stamp.release}'s ({stamp.phase})"
        )
    if stamp.phase is Phase.SETTLED:
        return Restored("finished", reading, None, f"finished: {stamp.release} is settled; to go back start rollback__")
    if not stamp.phase.way_back and not still(stamp):
        return Restored("nothing", reading, None, f"{stamp.release} is alive again: {reading.says()}")
    return None


def _back(ports: Ports, reading: Reading, why: str, tried: list[_Write]) -> None:
    """Write once, and note it; or help nodes that lag behind somebody else's restore."""
    stamp = reading.stamp
    if stamp is None:
        raise RouterUnreachable(reading.says(), service=ports.name, part="restore", next_step="the guard tries again")
    if stamp.phase.way_back:  # somebody was faster, or a node was not reached: help those that lag
        if reading.lagging and isinstance(ports.router, CatchesUp):
            ports.router.catch_up()
        return
    color, phase = _destination(ports, reading, stamp)
    back = replace(
        stamp,
        epoch=stamp.epoch + 1,
        step="restore",
        phase=phase,
        lease=None,
        clients_follow_until=ports.clients_follow(),
        at=ports.now(),
        why=why,
    )
    tried.append(_Write(stamp.phase, back))
    # In a canary what is written has not moved yet: no database is asked, unless all of it strands on the new color.
    follows = phase is Phase.STRANDED or reading.split == Split.whole_on(color.other)
    send = partial(ports.send, way_back=True) if follows else ports.router.shift
    send(Split.whole_on(color), stamp.identity, back)


def _destination(ports: Ports, reading: Reading, stamp: Stamp) -> tuple[Color, Phase]:
    """Old, if it serves; else new, if that serves; else old."""
    old = stamp.back_to or reading.live or Color.BLUE
    if serves(ports, reading, old):
        return old, Phase.RESTORED
    other = _health(ports, reading, old.other)
    return (old.other, Phase.STRANDED) if other and other.serves else (old, Phase.RESTORED)


def serves(ports: Ports, reading: Reading, color: Color) -> bool:
    """
    Put a color's servers back, and tell whether one takes requests; a first health check is waited for.

    A color of which nobody can tell is taken to serve: the old one did.
    """
    if isinstance(ports.router, Readies):
        with suppress(RouterError):  # a node that cannot be asked now is tried with the write
            ports.router.make_ready(color)
    found = _health(ports, reading, color)
    if found is None or found.serves:
        return True
    for _ in ports.deadline(READY_WITHIN).tries(first_pause=0.2):
        found = _health(ports, ports.router.read(), color)
        if found is None or found.serves:
            return True
    return False


def _health(ports: Ports, reading: Reading, color: Color) -> Health | None:
    """Return a color's health; None where nobody can tell, which keeps the traffic from no way back."""
    try:
        return ports.health(reading, color)
    except BlueGreenError as error:
        ports.log(f"nobody can tell whether {color} serves: {error}")
        return None


def _told(ports: Ports, reading: Reading, stamp: Stamp, *, moved: bool = False) -> Restored:
    outcome: Outcome = "stranded" if stamp.phase is Phase.STRANDED else "restored" if moved else "already"
    proof = _proof(ports, reading.split) if reading.split else None
    says = f"{'already restored' if outcome == 'already' else outcome}: {reading.says()} ({stamp.why})" + (
        f"; {proof.says}: {proof.reason}" if proof else ""
    )
    ports.log(says)
    astray = roles_back(ports, reading)
    return Restored(outcome, reading, proof, f"{says}; {astray}" if astray else says, astray)


def _proof(ports: Ports, split: Split) -> Proof:
    try:
        return ports.prove(split)
    except Exception as error:  # noqa: BLE001 - the traffic is back; what cannot be asked is unproven
        return Proof(str(split), None, f"nothing was asked: {error}")
