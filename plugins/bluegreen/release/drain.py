"""
Drain: wait until nothing runs on a color any more.

What runs is a request without a whole answer, however long it takes: an upgraded tunnel (WebSocket), a stream of
events, a slow download. A kept-alive connection without a request in it is the router's, not a color's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from bluegreen.core import evidence
from bluegreen.core.colors import Color
from bluegreen.core.deadlines import Deadline
from bluegreen.core.errors import DeployError
from bluegreen.core.ports import Counts
from bluegreen.core.reading import Reading
from bluegreen.release.ports import Ports


@dataclass(frozen=True)
class Drained:
    """
    How a drain ended.

    :param color: the color that traffic was taken from
    :param in_flight: requests that still run on it; None where a node did not tell
    :param seconds: how long it was waited for
    :param colors: the same at the end by color; of the live one it is what its users ask for at this moment
    """

    color: Color
    in_flight: int | None
    seconds: float
    colors: Mapping[str, int | None] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """JSON for XCom and reports."""
        return asdict(self)


def in_flight(ports: Ports, color: Color) -> int | None:
    """
    Requests that run on a color, over all nodes.

    :returns: None where a node did not answer or cannot tell, or the router does not count: that is not 0
    """
    return in_flight_by_color(ports)[color]


def in_flight_by_color(ports: Ports) -> dict[Color, int | None]:
    """Requests that run on each color, over all nodes; see ``in_flight``."""
    if not isinstance(ports.router, Counts):
        return dict.fromkeys(Color)
    counters = asyncio.run(ports.router.counters())
    nodes = [node.name for node in ports.service.router.nodes]
    whole = {color: all(color in counters.get(name, {}) for name in nodes) for color in Color}
    return {
        color: evidence.in_flight(node[color] for node in counters.values()) if whole[color] else None
        for color in Color
    }


def drain(ports: Ports, color: Color) -> Drained:
    """Wait at most ``release.drain``; requests that run on after that are a warning, not an error."""
    deadline = ports.deadline(ports.service.release.drain)
    if not isinstance(ports.router, Counts):
        return Drained(color, None, 0.0)
    left = _until_none(ports, color, "draining", deadline)
    waited = ports.service.release.drain.total_seconds() - deadline.left
    colors = {str(each): left if each is color else found for each, found in in_flight_by_color(ports).items()}
    told = ", ".join(f"{each} {'unknown' if found is None else found}" for each, found in colors.items())
    ports.log(f"drained {color}: {_count(left)} in flight after {waited:.1f} s; by color: {told}")
    return Drained(color, left, round(waited, 2), colors)


def wait_until_unused(ports: Ports, color: Color, reading: Reading) -> None:
    """
    Wait until no client follows to a color without traffic, and nothing is in flight on it.

    :raises DeployError: something still is after ``release.drain``
    """
    follow = reading.stamp.clients_follow_until if reading.stamp else None
    if follow and follow > ports.now():
        seconds = (follow - ports.now()).total_seconds()
        ports.log(f"clients may still use {color} for {seconds:.0f} s: waiting")
        ports.sleep(seconds)
    if not isinstance(ports.router, Counts):
        return
    left = _until_none(ports, color, "waiting for", ports.deadline(ports.service.release.drain))
    if left == 0:
        return
    raise DeployError(
        f"{_count(left)} are still in flight on it",
        service=ports.name,
        part=color,
        next_step="wait for them, or give release.drain more time",
    )


def _until_none(ports: Ports, color: Color, doing: str, deadline: Deadline) -> int | None:
    """Return what is in flight on a color when nothing is any more, or the time is over; tell of it now and then."""
    left: int | None = None
    for attempt in deadline.tries(first_pause=0.2):
        left = in_flight(ports, color)
        if left == 0:
            break
        if attempt % 10 == 1:
            ports.log(f"{doing} {color}: {_count(left)} in flight, {deadline.left:.0f} s left")
    return left


def _count(left: int | None) -> str:
    return f"{'an unknown number of' if left is None else left} requests"
