"""Status: what the router and the targets say now. Nothing is remembered, nothing inferred."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from bluegreen.core.colors import Color
from bluegreen.core.errors import DeployError
from bluegreen.core.ports import Deployed
from bluegreen.core.reading import Reading
from bluegreen.core.stamp import Phase, Stamp
from bluegreen.release.ports import Ports
from bluegreen.release.roles import roles_astray


@dataclass(frozen=True)
class Status:
    """
    One look at a service.

    :param reading: the router
    :param deployed: what the targets of each color report
    :param lease_left: seconds; negative when it is out; None where nothing is at risk
    :param kept_until: absolute UTC time at which the old color of a settled release is retired; None where nobody does
    :param astray: roles that do not run where the traffic is
    """

    reading: Reading
    deployed: dict[Color, Deployed]
    lease_left: float | None
    kept_until: datetime | None = None
    astray: Sequence[str] = ()

    @property
    def at_rest(self) -> bool:
        """Whole on one color, every node agrees, no release under way."""
        stamp = self.reading.stamp
        return self.reading.settled and stamp is not None and not stamp.phase.transitional

    def as_json(self) -> dict[str, Any]:
        """JSON for scripts."""
        versions = {
            str(c): {"version": d.version, "ready": d.ready, "total": d.total} for c, d in self.deployed.items()
        }
        kept = self.kept_until.isoformat() if self.kept_until else None
        more = {"lease_left": self.lease_left, "kept_until": kept, "astray": list(self.astray)}
        return self.reading.as_json() | {"deployed": versions} | more


def status(ports: Ports) -> Status:
    """Ask every node and every target."""
    reading = ports.router.read()
    lease = reading.stamp.lease if reading.stamp else None
    left = (lease - ports.now()).total_seconds() if lease else None
    kept = kept_until(reading.stamp, ports.service.release.keep_old)
    deployed = {color: ports.deployer.status(color) for color in Color}
    return Status(reading, deployed, left, kept, _astray(ports, reading))


def _astray(ports: Ports, reading: Reading) -> list[str]:
    try:
        return roles_astray(ports, reading)
    except DeployError as error:
        return [str(error)]


def kept_until(stamp: Stamp | None, keep_old: timedelta | None) -> datetime | None:
    """Return when the old color of a settled release is retired; None where there is none, or only people do that."""
    if stamp is None or stamp.phase is not Phase.SETTLED or not (stamp.back_to and stamp.at and keep_old is not None):
        return None
    return stamp.at + keep_old
