"""
Drain: wait until nothing runs on a color any more.

What runs is a request without a whole answer, however long it takes: an upgraded tunnel (WebSocket), a stream of
events, a slow download. A kept-alive connection without a request in it is the router's, not a color's: but where a router
moves no open connection, it brings requests to its color as long as it stays, and it is connections that are counted.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any, Literal

from bluegreen.core import evidence
from bluegreen.core.colors import Color
from bluegreen.core.deadlines import Deadline
from bluegreen.core.errors import BlueGreenError, DeployError
from bluegreen.core.ports import Counts, KeepsConnections
from bluegreen.core.reading import Reading
from bluegreen.release.ports import Ports

Unit = Literal["requests", "connections"]


@dataclass(frozen=True)
class Drained:
    """
    How a drain ended.

    :param color: the color that traffic was taken from
    :param in_flight: what still runs on it; None where a node did not tell
    :param seconds: how long it was waited for
    :param colors: the same at the end by color; of the live one it is what its users ask for at this moment
    :param unit: what was counted: requests without a whole answer, or clients' open connections
    """

    color: Color
    in_flight: int | None
    seconds: float
    colors: Mapping[str, int | None] = field(default_factory=dict)
    unit: Unit = "requests"

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
    """Wait at most ``release.drain``; what runs on after that is a warning, not an error."""
    if isinstance(ports.router, Counts):
        return _drained(ports, color, "requests", partial(in_flight, ports))
    if isinstance(ports.router, KeepsConnections):
        return _connections_drained(ports, color, ports.router)
    ports.log(f"not drained: the router does not tell what still runs on {color}")
    return Drained(color, None, 0.0)


def _connections_drained(ports: Ports, color: Color, router: KeepsConnections) -> Drained:
    count = partial(_connections, ports, router)
    left = count(color)
    if left is None:
        ports.log(
            f"not drained: connections that are open to {color} stay there until they end, and it is not known how many"
            " they are; see router.connections"
        )
        return Drained(color, None, 0.0, unit="connections")
    known = [left]  # each count is a command in each pod: the drain's first look is this one
    return _drained(ports, color, "connections", lambda of: known.pop() if known and of is color else count(of))


def _connections(ports: Ports, router: KeepsConnections, color: Color) -> int | None:
    try:
        return router.connections(color)
    except BlueGreenError as error:
        ports.log(str(error))
        return None


def _drained(ports: Ports, color: Color, unit: Unit, count: Callable[[Color], int | None]) -> Drained:
    deadline = ports.deadline(ports.service.release.drain)
    left = _until_none(ports, f"draining {color}", lambda: count(color), deadline, unit)
    waited = ports.service.release.drain.total_seconds() - deadline.left
    colors = {str(each): left if each is color else count(each) for each in Color}
    told = ", ".join(f"{each} {'unknown' if found is None else found}" for each, found in colors.items())
    ports.log(f"drained {color}: {_count(left, unit)} after {waited:.1f} s; by color: {told}")
    return Drained(color, left, round(waited, 2), colors, unit)


def wait_until_unused(ports: Ports, color: Color, reading: Reading) -> None:
    """
    Wait until no client follows to a color without traffic, and nothing is in flight on it.

    Open connections are told only: probes and scrapers keep theirs, and servers close what they have as they stop.

    :raises DeployError: something still is after ``release.drain``
    """
    follow = reading.stamp.clients_follow_until if reading.stamp else None
    if follow and follow > ports.now():
        seconds = (follow - ports.now()).total_seconds()
        ports.log(f"clients may still use {color} for {seconds:.0f} s: waiting")
        ports.sleep(seconds)
    if not isinstance(ports.router, Counts):
        if isinstance(ports.router, KeepsConnections) and (left := _connections(ports, ports.router, color)):
            ports.log(f"{_count(left, 'connections')} to {color}: its servers close them as they stop")
        return
    deadline = ports.deadline(ports.service.release.drain)
    left = _until_none(ports, f"waiting for {color}", lambda: in_flight(ports, color), deadline, "requests")
    if left == 0:
        return
    raise DeployError(
        f"{_number(left)} requests are still in flight on it",
        service=ports.name,
        part=color,
        next_step="wait for them, or give release.drain more time",
    )


def _until_none(
    ports: Ports, doing: str, count: Callable[[], int | None], deadline: Deadline, unit: Unit
) -> int | None:
    """Return what is left when nothing is any more, or the time is over; tell of it now and then."""
    left: int | None = None
    for attempt in deadline.tries(first_pause=0.2):
        left = count()
        if left == 0:
            break
        if attempt % 10 == 1:
            ports.log(f"{doing}: {_count(left, unit)}, {deadline.left:.0f} s left")
    return left


def _count(left: int | None, unit: Unit) -> str:
    return f"{_number(left)} {'requests in flight' if unit == 'requests' else 'open connections'}"


def _number(left: int | None) -> str:
    return "an unknown number of" if left is None else str(left)
