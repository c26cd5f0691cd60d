"""
Everything that a watch knows of the new color: the router's counts, who serves, and the answers of who is asked.

The router's counters are taken with each sample. Where they do not tell whether a color serves, its targets are asked;
rules that ask somebody else, and sources that count, are asked by tasks of their own; a sample takes what they have.
"""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from datetime import datetime
from typing import Any, Self

from bluegreen.analysis.polled import Polled, Tried, try_once
from bluegreen.analysis.replay import record
from bluegreen.analysis.series import Series, Stream
from bluegreen.analysis.serving import Serving, Sight, told_by
from bluegreen.analysis.tracked import Before, Tracked, try_sources
from bluegreen.analysis.verdict import CountRules, verdict
from bluegreen.catalog.evidence import ROUTER, CountRule, asked, of_source
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
    :param before: the time of the old color, where nothing serves beside the new one
    """

    def __init__(
        self, ports: Ports, color: Color, since: datetime, baseline: NodeCounters, before: Before | None = None
    ) -> None:
        self._ports, self._color, self._since = ports, color, since
        self._past = past = before.router if before else None
        self._series = Series(baseline, ports.service.release.warm_up.total_seconds())
        self._serving = Serving()
        self._counting = CountRules(ports.service.release.rules, ports.service.release.false_alarms, past)
        self._targets = _Targets(ports)
        asking_rules = asked(ports.service.release.rules) if ports.source else []
        self._polled = Polled(ports.source, asking_rules, color, self._elapsed) if ports.source else None
        self._tracked = [
            Tracked(name, ports.counting[name], color, since, ports.now, self._series, before=before, compares=compares)
            for name, compares in _sources(ports)
        ]
        self._polling: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        asked_beside: list[Polled | Tracked] = [*([self._polled] if self._polled else []), *self._tracked]
        self._polling = [asyncio.create_task(one.poll()) for one in asked_beside]
        return self

    async def __aexit__(self, *_: object) -> None:
        for polling in self._polling:
            polling.cancel()
        if self._polling:
            await asyncio.wait(self._polling)
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
        return all(one.complete for one in self._tracked) and (self._polled is None or self._polled.complete)

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
            sources=self._streams(),
            counting=self._counting,
        )

    def record(self, *, ended: bool) -> dict[str, Any]:
        """Return what a replay of the verdict needs, as JSON."""
        release = self._ports.service.release
        router = Stream(self._series, self._past)
        return record(release.rules, release.false_alarms, router, self._streams(), self._color, ended=ended)

    def _streams(self) -> dict[str, Stream]:
        return {one.name: one.stream() for one in self._tracked}


class _Targets:
    """The targets of both colors, asked over one session."""

    def __init__(self, ports: Ports) -> None:
        self._service, self._log, self._deployer = ports.service, ports.log, ports.deployer
        self._asker: Asker | None = None
        self._open = AsyncExitStack()
        self._said = ""

    async def look(self, colors: set[Color]) -> dict[Color, Sight]:
        """Ask the targets of these colors at the same time; nothing is known where nobody can be asked."""
        if not colors:
            return {}
        if getattr(self._service.deploy, "ask", "") == "pods":  # targets that nobody but the cluster reaches
            return await asyncio.to_thread(self._pods, colors)
        try:
            asker = self._asker = self._asker or await self._opened()
        except CheckFailed as error:
            self._say(f"nobody can ask the targets: {error}")
            return {}
        sights = await asyncio.gather(*(self._sight(asker, color) for color in colors))
        return dict(zip(colors, sights, strict=True))

    async def close(self) -> None:
        """Close the session."""
        await self._open.aclose()

    def _pods(self, colors: set[Color]) -> dict[Color, Sight]:
        try:
            found = {color: self._deployer.status(color) for color in colors}
        except BlueGreenError as error:
            self._say(f"nobody can tell of the pods: {error}")
            return {}
        return {c: Sight(one.ready > 0, f"{one.ready} of {one.total} pods are ready") for c, one in found.items()}

    def _say(self, said: str) -> None:
        if self._said != said:  # not again with each sample
            self._said = said
            self._log(said)

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


def _sources(ports: Ports) -> list[tuple[str, bool]]:
    """Return the sources that rules are held against, and whether one of those needs the old color."""
    rules = ports.service.release.rules
    used = {name: of_source(rules, name) for name in ports.counting}
    return [(name, any(r.type != "threshold" for r in by_it)) for name, by_it in used.items() if by_it]


def tried_rules(ports: Ports, color: Color) -> list[Tried]:
    """Ask each rule that asks somebody, and each source that counts, once, now, for a color."""
    told = try_once(ports.source, asked(ports.service.release.rules), color) if ports.source else []
    return [*told, *try_sources({name: ports.counting[name] for name, _ in _sources(ports)}, color, ports.now())]


NAME_A_SOURCE = "give sources an entry that counts requests by color, and these rules its name: docs/evidence.md"


def uncounted(ports: Ports) -> list[CountRule]:
    """Return the rules that want counts which the router does not have; such as take no data for good are none."""
    if isinstance(ports.router, Counts):
        return []
    # One that counts error lines only takes the requests from the router.
    half = [section.name for section in ports.service.sources if getattr(section, "requests", "") is None]
    rules = [rule for name in (ROUTER, *half) for rule in of_source(ports.service.release.rules, name)]
    return [rule for rule in rules if rule.no_data != "ignore"]


def refuse_uncounted(ports: Ports) -> None:
    """
    Refuse a release whose watch would never have a number: it would hold to its end, and then put everything back.

    :raises ReleaseRefused: names the rules
    """
    if rules := uncounted(ports):
        kind, says = ports.service.router.type, ", ".join(rule.says for rule in rules)
        fact = f"{kind} counts no requests, and nobody else counts them for {says}"
        raise ReleaseRefused(fact, service=ports.name, part="release.rules", next_step=NAME_A_SOURCE)


def refuse_bad_queries(ports: Ports, color: Color) -> None:
    """
    Refuse a release whose watch would ask what nobody understands; a source that does not answer refuses nothing.

    :param color: the color to ask for
    :raises ReleaseRefused: in the words of the source
    """
    for tried in tried_rules(ports, color):
        if tried.refused:
            raise ReleaseRefused(
                f"{tried.says!r} is not understood: {tried.error}",
                service=ports.name,
                part="release.rules",
                next_step=f"mend its query, then: bluegreen check {ports.name}",
            )
        if tried.error:
            ports.log(f"{tried.says} has no number for {color} now: {tried.error}")
