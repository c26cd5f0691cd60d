"""The guard: restores a service whose lease has run out, and brings nodes and roles that were left behind to the truth."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from bluegreen.core.errors import DeployError, RouterUnreachable
from bluegreen.core.ports import CatchesUp
from bluegreen.core.reading import Reading
from bluegreen.core.stamp import Phase, Stamp
from bluegreen.release.ports import Ports
from bluegreen.release.restore import restore
from bluegreen.release.roles import roles_astray, roles_back

Action = Literal["none", "restored", "caught-up", "reported"]


@dataclass(frozen=True)
class Guarded:
    """
    What one look at one service did.

    :param action: ``reported`` means that a person must look
    :param says: one line for people
    :param reading: the router afterwards
    """

    action: Action
    says: str
    reading: Reading


def guard(ports: Ports, by: str) -> Guarded:
    """
    Look once; restore when the lease is out.

    :raises RouterUnreachable: no node answers
    :raises RouterError: the restore did not get through
    """
    reading = ports.router.read()
    stamp = reading.stamp
    if not reading.reachable:
        raise RouterUnreachable(reading.says(), service=ports.name, part="guard", next_step="look at the router")
    if stamp is None:
        return Guarded("reported", f"not ours, no stamp: {reading.says()}; bluegreen adopt {ports.name}", reading)
    if stamp.lease_out(ports.now()):
        why = f"the lease of {stamp.release} ran out at {stamp.lease:%H:%M:%S} UTC"
        found = restore(
            ports, why, by, run=stamp.run, still=lambda stamp: stamp.lease_out(ports.now()), event="guarded"
        )
        action: Action = "none" if found.outcome == "nothing" else "restored"
        return Guarded(action, found.says, found.reading)
    if reading.lagging and not stamp.phase.transitional and isinstance(ports.router, CatchesUp):
        lagging = ", ".join(node.node for node in reading.lagging)
        after = ports.router.catch_up()
        return Guarded("caught-up", f"brought {lagging} up: {after.says()}", after)
    if not reading.foreign and not stamp.phase.transitional and (guarded := _roles(ports, reading)):
        return guarded
    return _told(ports, reading, stamp)


def _told(ports: Ports, reading: Reading, stamp: Stamp) -> Guarded:
    if stamp.phase is Phase.STRANDED:
        return Guarded(
            "reported", f"stranded: {reading.says()} ({stamp.why}); mend the other color, then adopt", reading
        )
    if reading.foreign:
        return Guarded("reported", f"changed by hand: {reading.says()}; bluegreen adopt {ports.name}", reading)
    return Guarded("none", reading.says(), reading)


def _roles(ports: Ports, reading: Reading) -> Guarded | None:
    """Bring roles that somebody left astray to the traffic; None where there are none."""
    try:
        astray = roles_astray(ports, reading)
    except DeployError as error:
        return Guarded("reported", f"{reading.says()}; roles: {error}", reading)
    if not astray:
        return None
    if wrong := roles_back(ports, reading):
        return Guarded("reported", f"{reading.says()}; {wrong}", reading)
    return Guarded("caught-up", f"brought {', '.join(astray)} to {reading.live}: {reading.says()}", reading)
