"""
A source that counts, over one watch: its answers become a series of its own, which rules are held against.

It is asked at its own pace, for everything since the evidence began, so that a lost answer and a restart lose nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from bluegreen.analysis.counted import Count, CountedUntil, CountSource
from bluegreen.analysis.pace import PATIENCE, Latest, keep_asking
from bluegreen.analysis.polled import Tried
from bluegreen.analysis.series import Counted, Row, Series, Stream
from bluegreen.core.colors import Color
from bluegreen.core.errors import BlueGreenError, NoNumber

_LATELY = timedelta(minutes=5)
_LATE = 0.02
"""Share by which a later answer may be below an earlier one: Prometheus extends what it saw to the window's ends."""


@dataclass(frozen=True)
class Before:
    """
    The time before a full switch, when the old color served.

    :param begun: when it began
    :param router: what the router counted of the old color in it
    """

    begun: datetime
    router: Counted


class Tracked:
    """
    One source over one watch.

    :param name: how rules call it
    :param color: the new color
    :param since: when the evidence begins
    :param now: aware UTC
    :param router: the router's series: who counts error lines only has its requests
    :param before: where nothing serves beside the new color
    :param compares: a rule of it needs the old color
    """

    def __init__(
        self,
        name: str,
        source: CountSource,
        color: Color,
        since: datetime,
        now: Callable[[], datetime],
        router: Series,
        *,
        before: Before | None = None,
        compares: bool = True,
    ) -> None:
        self.name, self._source, self._color = name, source, color
        self._since, self._now, self._router = since, now, router
        self._before, self._compares = before, compares
        self._series = Series({}, router.warm_up)
        self._past: Counted | None = None
        self._latest = Latest[float]()

    @property
    def complete(self) -> bool:
        """It has answered once, or has not in time."""
        return self._latest.asked

    async def poll(self) -> None:
        """Ask again and again, until cancelled; whatever goes wrong is missing data."""
        await keep_asking(self._source.opened, [(self._latest, self._ask)], self._source.interval)

    def stream(self) -> Stream:
        """Return what it has counted so far."""
        latest, past = self._latest, self._past if self._needs_past else None
        given_up = latest.in_row >= PATIENCE
        known = latest.value is not None and not given_up
        return Stream(self._series, past, "" if known else latest.missing, waiting=not given_up)

    @property
    def _needs_past(self) -> bool:
        return self._compares and self._before is not None

    async def _ask(self, count: Count) -> float:
        """Ask, and return until which second of the watch it is counted."""
        if self._needs_past and self._past is None:
            assert self._before is not None  # noqa: S101 - for mypy
            past = await count(self._color.other, self._before.begun, self._since)
            self._past = _of(past, self._before.router)
        until, last = self._now(), self._router.rows[-1]
        new = await count(self._color, self._since, until)
        found, at = {self._color: _of(new, last.colors[self._color])}, new.at
        if self._compares and self._before is None:
            old = await count(self._color.other, self._since, until)
            found[self._color.other], at = _of(old, last.colors[self._color.other]), min(at, old.at)
        counted_until = (at - self._since).total_seconds()
        self._take(found, counted_until)
        return counted_until

    def _take(self, found: dict[Color, Counted], at: float) -> None:
        before = self._series.rows[-1]
        if at <= before.at:
            return  # nothing has been counted since
        colors = {c: _grown(before.colors[c], found.get(c, before.colors[c])) for c in Color}
        self._series.put(Row(at, colors), longest=PATIENCE * self._source.interval.total_seconds())


def _of(told: CountedUntil, router: Counted) -> Counted:
    if told.requests is None:
        return Counted(router.requests, min(told.errors, router.requests))
    return Counted(told.requests, told.errors)


def _grown(before: Counted, now: Counted) -> Counted:
    for what, earlier, later in (
        ("requests", before.requests, now.requests),
        ("errors", before.errors, now.errors),
    ):
        if later < earlier - max(2, _LATE * earlier):
            raise NoNumber(f"it contradicts itself: {later} {what} now, {earlier} before; did a counter begin anew?")
    requests = max(before.requests, now.requests)
    return Counted(requests, min(requests, max(before.errors, now.errors)))


def try_sources(sources: Mapping[str, CountSource], color: Color, now: datetime) -> list[Tried]:
    """Ask each source once, at the same time, what a color did lately; what cannot be asked is told, not raised."""

    async def one(name: str, source: CountSource) -> Tried:
        try:
            async with source.opened() as count:
                return Tried(name, float((await count(color, now - _LATELY, now)).errors))
        except BlueGreenError as error:
            return Tried(name, error=error)

    async def all_of_them() -> list[Tried]:
        return await asyncio.gather(*(one(name, source) for name, source in sources.items()))

    return asyncio.run(all_of_them()) if sources else []
