"""Adopt: take a service over as it stands, or after somebody changed the router by hand."""

from __future__ import annotations

from bluegreen.core.colors import Color, Split
from bluegreen.core.errors import NotServing, ReleaseRefused, RouterUnreachable, TrafficConflict
from bluegreen.core.reading import Reading
from bluegreen.core.stamp import Phase, Stamp
from bluegreen.release.ports import Ports


def adopt(ports: Ports, by: str, why: str, version: str, live: Color | None = None) -> Reading:
    """
    Stamp the traffic as it stands; whole on one color, which must serve.

    :param version: what runs on the live color
    :param live: the color to put all traffic on, where the nodes do not agree on one
    :raises ReleaseRefused: the traffic is split or differs between nodes, and ``live`` is not given
    :raises TrafficConflict: a release is under way
    :raises RouterUnreachable: a node does not answer
    :raises NotServing: the color has no healthy server
    """
    reading = ports.router.read()
    stamp = reading.stamp
    if reading.unreachable:
        raise RouterUnreachable(reading.says(), service=ports.name, part="adopt", next_step="adopting needs every node")
    if stamp and stamp.phase.transitional:
        raise TrafficConflict(
            f"release {stamp.release} is under way: {reading.says()}",
            service=ports.name,
            next_step=f"put it back first: bluegreen restore {ports.name} --reason WHY",
        )
    color = live or reading.live
    if color is None:
        raise ReleaseRefused(
            f"the traffic is not whole on one color: {reading.says()}",
            service=ports.name,
            next_step="say which: --live blue",
        )
    if not ports.health(reading, color).serves:
        raise NotServing(
            "has no healthy server", service=ports.name, part=color, next_step="adopt the color that serves"
        )
    epoch = reading.truth.epoch + 1 if reading.truth else 1
    # A restored stamp, as it is final and takes each node whatever it bears.
    mark = Stamp(
        epoch, f"adopt@{epoch}", "adopt", Phase.RESTORED, color, {color: version}, at=ports.now(), why=f"{by}: {why}"
    )
    return ports.router.shift(Split.whole_on(color), stamp.identity if stamp else None, mark)
