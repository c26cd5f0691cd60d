"""
The last bad answer: when a color that traffic was taken from was seen answering for the last time.

A restore is over for users only with the last answer of the bad color, kept-alive connections included. The router's
counters are sampled quickly beside the restore and a little longer. The restore never waits for a sample.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from threading import Event, Thread
from typing import Any

from bluegreen.core.colors import Color
from bluegreen.core.evidence import Counters, NodeCounters, in_flight
from bluegreen.core.ports import Counts
from bluegreen.release.ports import Ports
from bluegreen.release.restore import Restored

EVERY, QUIET, LONGEST = 0.1, 1.0, 5.0
"""Seconds: between two samples, without an answer until it counts as the last, and after the restore at most."""
COUNTING = 1.0
"""Seconds that one sample may take."""


@dataclass(frozen=True)
class LastAnswer:
    """
    When a color gave its last answer.

    :param color: the color that traffic was taken from
    :param at: the sample that first counted its last answer, so at most one pause late; None where none was counted
        since the restore began
    :param known: every node counted, and nothing ran on it any more
    :param says: one line for people
    """

    color: Color
    at: datetime | None
    known: bool
    says: str

    def as_json(self) -> dict[str, Any]:
        """JSON for XCom and reports."""
        at = self.at.isoformat() if self.at else None
        return {"color": str(self.color), "at": at, "known": self.known, "says": self.says}


class _Look:
    """Samples until it is told that the restore is over, and the color that was left is quiet."""

    def __init__(self, ports: Ports) -> None:
        self._ports = ports
        self._over = Event()
        self._color: Color | None = None
        self._counts: dict[tuple[str, Color], Counters] = {}
        self._at: dict[Color, datetime] = {}
        self._absent: set[str] = set()
        self._anew: set[str] = set()

    def over(self, found: Restored | None) -> None:
        """Say how the restore ended; where it moved nothing there is no last answer to wait for."""
        if found and found.at and found.reading.split:
            live = found.reading.split.whole
            self._color = live.other if live else None
        self._over.set()

    async def until_quiet(self) -> None:
        """Sample; a router that does not count ends it at once."""
        router, over_at = self._ports.router, None
        changed_at = time.monotonic()
        while isinstance(router, Counts):
            changed = self._add(await _sample(router))
            now = time.monotonic()
            changed_at = now if changed else changed_at
            if self._over.is_set():
                over_at = over_at or now
                quiet = now - max(over_at, changed_at) >= QUIET and self._in_flight() == 0
                if self._color is None or quiet or now - over_at >= LONGEST:
                    return
            await asyncio.sleep(EVERY)

    def told(self) -> LastAnswer | None:
        """Return what was seen; None where nothing was moved."""
        color = self._color
        if color is None:
            return None
        at = self._at.get(color)
        if not isinstance(self._ports.router, Counts):
            return LastAnswer(color, None, False, "unknown: the router does not count")
        if unsure := sorted(self._absent | self._anew):
            return LastAnswer(color, at, False, f"not sure: {', '.join(unsure)} did not count all the time")
        if (left := self._in_flight()) != 0:
            count = "an unknown number of" if left is None else left
            return LastAnswer(color, at, False, f"{count} requests still ran on it {LONGEST:g} s after the restore")
        return LastAnswer(
            color, at, True, "counted by the router" if at else "none was counted after the restore began"
        )

    def _add(self, sample: NodeCounters) -> bool:
        """Take a sample; tell whether the color that was left gave an answer, or any color before it is known."""
        self._absent = {node.name for node in self._ports.service.router.nodes} - set(sample)
        answered = set()
        for node, colors in sample.items():
            for color, now in colors.items():
                before = self._counts.get((node, color), now)
                if now.requests < before.requests:
                    self._anew.add(node)  # a new process: what it answered before is not known
                elif now.requests > before.requests or _fewer(now.in_flight, before.in_flight):
                    answered.add(color)
                self._counts[node, color] = now
        self._at.update(dict.fromkeys(answered, self._ports.now()))
        return bool(answered) if self._color is None else self._color in answered

    def _in_flight(self) -> int | None:
        return in_flight(counts for (_, color), counts in self._counts.items() if color is self._color)


def _fewer(now: int | None, before: int | None) -> bool:
    return now is not None and before is not None and now < before


async def _sample(router: Counts) -> NodeCounters:
    with suppress(Exception):  # whatever it is: this only looks
        return await asyncio.wait_for(router.counters(), COUNTING)
    return {}


async def looked_at(ports: Ports, restoring: Callable[[], Awaitable[Restored]]) -> tuple[Restored, LastAnswer | None]:
    """
    Restore, and see when the color that was left answered last.

    :param restoring: begins the restore; what it raises is raised
    """
    look, found = _Look(ports), None
    looking = asyncio.create_task(look.until_quiet())
    try:
        found = await restoring()
    finally:
        look.over(found)
        if found is None:
            looking.cancel()
    await looking
    return found, look.told()


def looked_at_beside(ports: Ports, restoring: Callable[[], Restored]) -> tuple[Restored, LastAnswer | None]:
    """Do the same where there is no loop: the restore in this thread, the looking in another."""
    look, found = _Look(ports), None
    thread = Thread(target=lambda: asyncio.run(look.until_quiet()), daemon=True)
    thread.start()
    try:
        found = restoring()
    finally:
        look.over(found)
    thread.join(LONGEST + 2 * COUNTING)
    return found, look.told()
