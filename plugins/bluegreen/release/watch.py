"""
Watch: sample the evidence, keep the lease alive, say the verdict, and put the traffic back when it is bad.

Sampling, renewing and asking (``evidence.py``) are asyncio tasks; what blocks (renew, restore) runs in an own bounded
thread pool, so that the loop that carries other watches is never held up (design, section 5).
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import replace
from datetime import datetime
from functools import partial
from typing import Any, TypeVar

from pydantic import AwareDatetime, BaseModel, ConfigDict

from bluegreen.analysis.series import Counted
from bluegreen.analysis.tracked import Before
from bluegreen.catalog.models import Service
from bluegreen.core.colors import Color
from bluegreen.core.errors import BlueGreenError, RouterError, TrafficConflict
from bluegreen.core.evidence import Counters, NodeCounters, Outlook, Verdict, counts_as_json
from bluegreen.core.ports import Counts, Renews
from bluegreen.release.evidence import Evidence
from bluegreen.release.last_answer import looked_at
from bluegreen.release.notify import Of, TellsUnhealthy, tell_conflict
from bluegreen.release.ports import Ports
from bluegreen.release.restore import Restored, restore

T = TypeVar("T")

_THREADS = ThreadPoolExecutor(max_workers=32, thread_name_prefix="bluegreen-router")
_WAY_BACK = ThreadPoolExecutor(max_workers=32, thread_name_prefix="bluegreen-back")
"""No restore waits behind renewals of other services' leases, which a router that hangs may hold up."""


class WatchSpec(BaseModel):
    """
    A watch, whole: after a triggerer's restart it goes on from here.

    :param service: the frozen service
    :param run: the DAG run that owns the traffic
    :param release: run and claim
    :param epoch: the epoch of the shift that is watched
    :param step: the task's id, for people
    :param color: the new color
    :param since: when the evidence begins
    :param until: when the watch ends
    :param baseline: counters at ``since``
    :param past: the old color's counts before, by the router, where nothing serves beside the new one
    :param past_since: since when those were counted
    """

    model_config = ConfigDict(frozen=True)

    service: Service
    run: str
    release: str
    epoch: int
    step: str
    color: Color
    since: AwareDatetime
    until: AwareDatetime
    baseline: Mapping[str, Mapping[Color, Mapping[str, Any]]]
    past: Counted | None = None
    past_since: AwareDatetime | None = None

    @property
    def before(self) -> Before | None:
        """The time of the old color, where nothing serves beside the new one."""
        return Before(self.past_since or self.since, self.past) if self.past else None

    @property
    def last(self) -> datetime:
        """When the watch ends although it has too little evidence."""
        return self.until + self.service.release.extend

    def counters(self) -> NodeCounters:
        """Return the baseline as counters."""
        return {
            node: {color: Counters(**values) for color, values in colors.items()}
            for node, colors in self.baseline.items()
        }


class WatchEnd(BaseModel):
    """
    How a watch ended.

    :param release: run and claim that it watched
    :param epoch: the shift that it watched
    :param says: ``healthy``, ``unhealthy``, ``unknown``: too little evidence, a person is asked, or ``conflict``:
        somebody else moved the traffic
    :param reason: one line for people
    :param verdict: the numbers
    :param verdict_at: when it was clear
    :param restored: what the restore did, for ``unhealthy``
    :param restored_at: when the traffic was back
    :param last_answer: when the new color answered last, for ``unhealthy``
    :param renewals_missed: how often the lease could not be renewed
    """

    model_config = ConfigDict(frozen=True)

    release: str
    epoch: int
    says: str
    reason: str
    verdict: Mapping[str, Any]
    verdict_at: AwareDatetime
    restored: Mapping[str, Any] | None = None
    restored_at: AwareDatetime | None = None
    last_answer: Mapping[str, Any] | None = None
    renewals_missed: int = 0


def baseline(ports: Ports) -> dict[str, Any]:
    """Return the counters now, as JSON; empty where the router does not count."""
    if not isinstance(ports.router, Counts):
        return {}
    return counts_as_json(asyncio.run(ports.router.counters()))


async def watch(ports: Ports, spec: WatchSpec) -> WatchEnd:
    """
    Watch until the verdict is clear, and restore when it is bad.

    :raises RouterError: the restore did not get through; the guard goes on with it
    """
    alive = _Heartbeat()
    renewing = asyncio.create_task(_keep_lease(ports, spec, alive))
    try:
        found = await _sample(ports, spec, alive, renewing)
    except TrafficConflict as conflict:
        end = _end(spec, "conflict", str(conflict), {}, ports.now(), alive.missed)
        await in_thread(lambda: tell_conflict(ports, _of(spec), spec.step, end.reason))
        return end
    finally:
        renewing.cancel()
    at = ports.now()
    ports.log(f"{spec.step}: {found.says}: {found.reason}")
    end = _end(spec, str(found.says), found.reason, found.as_json(), at, alive.missed)
    if found.says is Outlook.HEALTHY or (found.says is Outlook.UNKNOWN and spec.service.release.approvals.unknown):
        return end
    back, last = await looked_at(ports, lambda: in_thread(lambda: _restore(ports, spec, found.reason), _WAY_BACK))
    seen = {"restored_at": back.at or ports.now(), "last_answer": last.as_json() if last else None}
    return end.model_copy(update={"says": str(Outlook.UNHEALTHY), "restored": back.as_json(), **seen})


def _end(spec: WatchSpec, says: str, reason: str, verdict: Mapping[str, Any], at: datetime, missed: int) -> WatchEnd:
    told = {"says": says, "reason": reason, "verdict": verdict, "verdict_at": at, "renewals_missed": missed}
    return WatchEnd(release=spec.release, epoch=spec.epoch, **told)


async def in_thread(work: Callable[[], T], threads: ThreadPoolExecutor = _THREADS) -> T:
    """Run what blocks beside the loop; it is awaited to its end even when we are cancelled meanwhile."""
    # The triggerer finds the task's log by a context variable: the thread needs it, too.
    running = asyncio.get_running_loop().run_in_executor(threads, copy_context().run, work)
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        await asyncio.wait([running])
        if not running.cancelled():
            running.exception()  # nobody asks for it any more, which asyncio would tell in the log
        raise


class _Heartbeat:
    """Tells whether the sampling loop has made progress since it was last asked."""

    def __init__(self) -> None:
        self.beats = self.seen = self.missed = 0

    def beat(self) -> None:
        self.beats += 1

    def progressed(self) -> bool:
        progressed, self.seen = self.beats > self.seen, self.beats
        return progressed


async def _sample(ports: Ports, spec: WatchSpec, alive: _Heartbeat, renewing: asyncio.Task[None]) -> Verdict:
    interval, said = spec.service.release.interval.total_seconds(), 0.0
    async with Evidence(ports, spec.color, spec.since, spec.counters(), spec.before) as evidence:
        while True:
            now, begun = ports.now(), ports.clock()
            await evidence.sample(now)
            alive.beat()
            ended = now >= spec.until
            found = evidence.verdict(ended=ended)
            if found.says is not Outlook.UNKNOWN or (now >= spec.last and evidence.complete):
                return replace(found, numbers={**found.numbers, "evidence": evidence.record(ended=ended)})
            if (now - spec.since).total_seconds() - said >= 10:
                said = (now - spec.since).total_seconds()
                ports.log(f"{spec.step}: {_left(spec, now)}: {found.reason}")
            left = (spec.last if ended else spec.until) - ports.now()
            await _pause(renewing, min(begun + interval - ports.clock(), left.total_seconds()))


def _left(spec: WatchSpec, now: datetime) -> str:
    if now < spec.until:
        return f"{(spec.until - now).total_seconds():.0f} s left"
    return f"goes on for at most {(spec.last - now).total_seconds():.0f} s more"


async def _pause(renewing: asyncio.Task[None], seconds: float) -> None:
    """Wait for the next sample; what ends the lease's task ends the watch."""
    seconds = max(0.01, seconds)
    done, _ = await asyncio.wait([renewing], timeout=seconds)
    if done:
        renewing.result()
        await asyncio.sleep(seconds)  # a router without leases to renew: the task ended by itself


async def _keep_lease(ports: Ports, spec: WatchSpec, alive: _Heartbeat) -> None:
    """
    Renew each quarter of the lease, but only while the sampling loop is alive.

    Watches that begin together, as after a triggerer's restart, do not go on renewing together: the first time is a
    random part of a quarter.
    """
    router, lease = ports.router, spec.service.release.lease
    if not isinstance(router, Renews) or not router.limits.renew:
        return
    pause, part = 0.0, random.random()  # noqa: S311 - no secret
    while True:
        await asyncio.sleep(pause)
        pause = min(1.0, lease.total_seconds() / 4)  # until the first sample, and after a renewal that failed
        if alive.progressed():
            renew = partial(router.renew, (spec.epoch, spec.release), ports.now() + lease)
            try:
                await in_thread(renew)
                pause, part = part * lease.total_seconds() / 4, 1.0
            except TrafficConflict:
                raise
            except BlueGreenError as error:
                alive.missed += 1
                ports.log(f"the lease was not renewed: {error}")


def _of(spec: WatchSpec) -> Of:
    return Of(spec.run, spec.release)


def _restore(ports: Ports, spec: WatchSpec, why: str) -> Restored:
    """Tell only when there is still something to put back: another triggerer with this very watch may be faster."""
    unhealthy = TellsUnhealthy(ports, _of(spec), spec.color, spec.step, why)
    try:
        return restore(ports, why=why, by=spec.step, run=spec.run, still=unhealthy)
    except RouterError:
        unhealthy()
        raise
