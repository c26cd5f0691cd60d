"""
Everything that a watch knows of the new color: the router's counts, who serves, and the answers of who is asked.

The router's counters are taken with each sample. Where they do not tell whether a color serves, its targets are asked;
rules that ask somebody else are asked by tasks of their own, and a sample takes what they have.
"""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from datetime import datetime
from typing import Any, Self

from bluegreen.analysis.polled import Polled, Tried, try_once
from bluegreen.analysis.replay import record
from bluegreen.analysis.series import Counted, Series
from bluegreen.analysis.serving import Serving, Sight, told_by
from bluegreen.analysis.verdict import CountRules, verdict
from bluegreen.catalog.evidence import asked
from bluegreen.checks.fresh import Asker, asking
from bluegreen.checks.health import first_well
from bluegreen.core.colors import Color
from bluegreen.core.errors import BlueGreenError, CheckFailed, ReleaseRefused
from bluegreen.core.evidence import NodeCounters, Verdict
from bluegreen.core.ports import Counts
from bluegreen.release.ports import Ports


class Evidence:
    """
    One watch's evidence; gathered within ``async with``.

    :param color: the new color
    :param since: when the evidence begins
    :param baseline: counters at ``since``
    :param past: the old color's counts before; None while it serves beside the new one
    """

    def __init__(
        self, ports: Ports, color: Color, since: datetime, baseline: NodeCounters, past: Counted | None = None
    ) -> None:
        self._ports, self._color, self._since, self._past = ports, color, since, past
        self._series = Series(baseline, ports.service.release.warm_up.total_seconds())
        self._serving = Serving()
        self._counting = CountRules(ports.service.release.rules, ports.service.release.false_alarms, past)
        self._targets = _Targets(ports)
        asking_rules = asked(ports.service.release.rules) if ports.source else []
        self._polled = Polled(ports.source, asking_rules, color, self._elapsed) if ports.source else None

    async def __aenter__(self) -> Self:
        self._polling = asyncio.create_task(self._polled.poll()) if self._polled else None
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._polling:
            self._polling.cancel()
            await asyncio.wait([self._polling])
        await self._targets.close()

    def _elapsed(self) -> float:
        return (self._ports.now() - self._since).total_seconds()

    async def sample(self, now: datetime) -> None:
        """Take one sample; never longer than the router's answer and ``health.timeout``."""
        counters = await _counters(self._ports)
        self._series.add((now - self._since).total_seconds(), counters)
        told = told_by(counters)
        self._serving.add(told | await self._targets.look(set(Color) - set(told)))

    @property
    def complete(self) -> bool:
        """Everybody who is asked has answered once, or has not in time."""
        return self._polled is None or self._polled.complete

    def verdict(self, *, ended: bool) -> Verdict:
        """
        Judge the evidence so far.

        :param ended: the watch is over; one that has only just begun again waits for its first answers all the same
        """
        return verdict(
            self._ports.service.release.rules,
            self._series,
            self._serving,
            self._color,
            ended=ended and self.complete,
            polled=self._polled,
            counting=self._counting,
        )

    def record(self, *, ended: bool) -> dict[str, Any]:
        """Return what a replay of the verdict needs, as JSON."""
        release = self._ports.service.release
        return record(release.rules, release.false_alarms, self._past, self._series, self._color, ended=ended)


class _Targets:
    """The targets of both colors, asked over one session."""

    def __init__(self, ports: Ports) -> None:
        self._service, self._log = ports.service, ports.log
        self._asker: Asker | None = None
        self._open = AsyncExitStack()
        self._said = ""

    async def look(self, colors: set[Color]) -> dict[Color, Sight]:
        """Ask the targets of these colors at the same time; nothing is known where nobody can be asked."""
        if not colors:
            return {}
        try:
            asker = self._asker = self._asker or await self._opened()
        except CheckFailed as error:
            if self._said != (said := f"nobody can ask the targets: {error}"):  # not again with each sample
                self._said = said
                self._log(said)
            return {}
        sights = await asyncio.gather(*(self._sight(asker, color) for color in colors))
        return dict(zip(colors, sights, strict=True))

    async def close(self) -> None:
        """Close the session."""
        await self._open.aclose()

    async def _opened(self) -> Asker:
        service = self._service
        count = sum(len(color.targets) for color in service.colors.values())
        # Reading certificates takes a while: not on the loop that carries other watches.
        session = await asyncio.to_thread(asking, concurrency=count, ca_file=service.entry.ca_file)
        return await self._open.enter_async_context(session)

    async def _sight(self, asker: Asker, color: Color) -> Sight:
        found = await first_well(asker, self._service.colors[color].targets, self._service.health)
        return Sight(found.ok, str(found))


async def _counters(ports: Ports) -> NodeCounters:
    if not isinstance(ports.router, Counts):
        return {}
    try:
        return await ports.router.counters()
    except (BlueGreenError, OSError, TimeoutError) as error:
        ports.log(f"no counts: {error}")
        return {}


def tried_rules(ports: Ports, color: Color) -> list[Tried]:
    """Ask each rule that asks somebody once, now, for a color."""
    return try_once(ports.source, asked(ports.service.release.rules), color) if ports.source else []


def refuse_bad_queries(ports: Ports, color: Color) -> None:
    """
    Refuse a release whose watch would ask what nobody understands; a source that does not answer refuses nothing.

    :param color: the color to ask for
    :raises ReleaseRefused: in the words of the source
    """
    for tried in tried_rules(ports, color):
        if tried.refused:
            raise ReleaseRefused(
                f"the rule {tried.rule.says!r} is not understood: {tried.error}",
                service=ports.name,
                part="release.rules",
                next_step=f"mend its query, then: bluegreen check {ports.name}",
            )
        if tried.error:
            ports.log(f"{tried.rule.says} has no number for {color} now: {tried.error}")
