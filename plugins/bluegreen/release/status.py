"""Status: what the router and the targets say now. Nothing is remembered, nothing inferred."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from bluegreen.core.colors import Color
from bluegreen.core.ports import Deployed
from bluegreen.core.reading import Reading
from bluegreen.release.ports import Ports


@dataclass(frozen=True)
class Status:
    """
    One look at a service.

    :param reading: the router
    :param deployed: what the targets of each color report
    :param lease_left: seconds; negative when it is out; None where nothing is at risk
    """

    reading: Reading
    deployed: dict[Color, Deployed]
    lease_left: float | None

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
        return self.reading.as_json() | {"deployed": versions, "lease_left": self.lease_left}


def status(ports: Ports) -> Status:
    """Ask every node and every target."""
    reading = ports.router.read()
    lease = reading.stamp.lease if reading.stamp else None
    left = (lease - ports.now()).total_seconds() if lease else None
    return Status(reading, {color: ports.deployer.status(color) for color in Color}, left)
