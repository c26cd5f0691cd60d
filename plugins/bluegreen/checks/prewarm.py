"""Prewarming: requests to an idle color, so that its first users do not pay for cold caches and pools."""

from __future__ import annotations

import asyncio
import logging
import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import cycle
from typing import TypedDict

from bluegreen.catalog.models import Prewarm, Service
from bluegreen.checks.fresh import Address, Asker, NoAnswer, asking, shown
from bluegreen.core.colors import Color
from bluegreen.core.errors import CheckFailed

Log = Callable[[str], None]
_LOG = logging.getLogger("bluegreen").info


class PrewarmNumbers(TypedDict):
    """
    What prewarming saw, as JSON.

    ``first_ms`` and ``last_ms`` are p50 and p99 in milliseconds of the first and the last tenth of the requests, in
    the order in which they were sent; empty without any answer.
    """

    requests: int
    failures: int
    statuses: dict[str, int]
    first_ms: dict[str, float]
    last_ms: dict[str, float]


@dataclass
class _Run:
    asker: Asker
    plan: Prewarm
    waiting: Iterator[tuple[str, str]]
    sent: int = 0
    failures: int = 0
    example: str = ""
    statuses: Counter[str] = field(default_factory=Counter)
    times: dict[int, float] = field(default_factory=dict)

    async def work(self) -> None:
        # Once it is too many the result stands; a sick color is not asked on.
        while self.failures <= self.plan.max_failures and (job := next(self.waiting, None)):
            number, self.sent = self.sent, self.sent + 1
            await self._ask(number, *job)

    async def _ask(self, number: int, target: str, path: str) -> None:
        try:
            answer = await self.asker.ask(Address.of(target, path), self.plan.timeout)
        except NoAnswer as none:
            self._fail(target, path, none.kind, str(none))
            return
        self.times[number] = answer.ms
        if answer.status >= 500:
            self._fail(target, path, str(answer.status), self.asker.excerpt(answer.said))
        else:
            self.statuses[str(answer.status)] += 1

    def _fail(self, target: str, path: str, kind: str, found: str) -> None:
        self.failures += 1
        self.statuses[kind] += 1
        self.example = self.example or f"{shown(target)}{path}: {found}"

    def numbers(self) -> PrewarmNumbers:
        times = [self.times[number] for number in sorted(self.times)]
        tenth = max(1, len(times) // 10)
        return PrewarmNumbers(
            requests=self.sent,
            failures=self.failures,
            statuses=dict(self.statuses),
            first_ms=_quantiles(times[:tenth]),
            last_ms=_quantiles(times[-tenth:]),
        )


def prewarm(service: Service, color: Color, log: Log = _LOG) -> PrewarmNumbers:
    """
    Send the catalog's prewarm requests to a color's targets in turn, over connections that are kept.

    :param log: gets one line with the numbers
    :raises CheckFailed: more 5xx answers and broken requests than the catalog takes
    """
    plan = service.prewarm
    if plan is None:
        log(f"prewarm: {service.service} {color}: the service file has no prewarm")
        return PrewarmNumbers(requests=0, failures=0, statuses={}, first_ms={}, last_ms={})
    run = asyncio.run(_run(service, plan, color))
    numbers = run.numbers()
    log(f"prewarm: {service.service} {color}: {_says(numbers)}")
    if run.failures > plan.max_failures:
        raise CheckFailed(
            f"{run.failures} of {run.sent} prewarm requests failed, {plan.max_failures} are taken; such as {run.example}",
            service=service.service,
            part=color,
            next_step="no traffic was moved; mend the version and start a new release",
        )
    return numbers


async def _run(service: Service, plan: Prewarm, color: Color) -> _Run:
    keep = asking(concurrency=plan.concurrency, ca_file=service.entry.ca_file, keep_alive=True)
    async with keep as asker:
        run = _Run(asker, plan, _jobs(plan, service.colors[color].targets))
        await asyncio.gather(*(run.work() for _ in range(plan.concurrency)))
        return run


def _jobs(plan: Prewarm, targets: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Every path's requests go over all targets, whatever the counts of both."""
    for path in plan.paths:
        yield from zip(_first(plan.requests, targets), [path] * plan.requests, strict=True)


def _first(count: int, targets: Sequence[str]) -> list[str]:
    turn = cycle(targets)
    return [next(turn) for _ in range(count)]


def _quantiles(times: Sequence[float]) -> dict[str, float]:
    """Nearest rank: a number that was measured, also of few."""
    ordered = sorted(times)
    if not ordered:
        return {}
    return {name: round(ordered[math.ceil(q * len(ordered)) - 1], 2) for name, q in (("p50", 0.5), ("p99", 0.99))}


def _says(numbers: PrewarmNumbers) -> str:
    statuses = ", ".join(f"{count} x {status}" for status, count in numbers["statuses"].items())
    words = [f"{numbers['requests']} requests, {numbers['failures']} failed ({statuses})"]
    if numbers["first_ms"]:
        words += [f"{name} {numbers['first_ms'][name]:g} -> {numbers['last_ms'][name]:g} ms" for name in ("p50", "p99")]
    return ", ".join(words)
