"""Smoke tests: every test on every target of a color, before it gets traffic."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypedDict, cast

from bluegreen.catalog.models import Service
from bluegreen.catalog.smoke_tests import ExecTest, InsideTest, JobTest, SmokeTest
from bluegreen.checks import health
from bluegreen.checks.fresh import Address, Answer, Asker, NoAnswer, asking, gathered, shown
from bluegreen.core.colors import Color
from bluegreen.core.errors import CheckFailed
from bluegreen.core.ports import Credentials, Ran, RunsInside

Log = Callable[[str], None]
CONCURRENCY = 16
_LOG = logging.getLogger("bluegreen").info


class SmokeResult(TypedDict):
    """
    One test on one target, as JSON.

    ``failures`` are lines ``expected …, found …``; ``ms`` is None where no whole answer came.
    """

    target: str
    test: str
    ok: bool
    ms: float | None
    failures: list[str]


@dataclass(frozen=True)
class _Smoke:
    asker: Asker
    service: Service
    version: str

    async def target(self, target: str) -> list[SmokeResult]:
        """One after the other: a test may lean on what the one before it made."""
        results = [await self._health(target)]
        results += [await self._test(target, test) for test in self.service.smoke if isinstance(test, SmokeTest)]
        return results

    async def _health(self, target: str) -> SmokeResult:
        wanted = self.service.health
        address = Address.of(target, wanted.path)
        return await self._run(target, f"GET {wanted.path}", address, wanted.timeout, self._health_failures)

    async def _test(self, target: str, test: SmokeTest) -> SmokeResult:
        def failures(answer: Answer) -> Iterator[str]:
            return failures_of(test, answer, self.asker)

        name, address = test.name or f"{test.method} {test.path}", Address.of(target, test.path)
        request = {"method": test.method, "headers": test.headers, "body": test.body}
        return await self._run(target, name, address, test.max_latency, failures, **request)

    async def _run(
        self,
        target: str,
        name: str,
        address: Address,
        limit: timedelta,
        judge: Callable[[Answer], Iterator[str]],
        **request: Any,
    ) -> SmokeResult:
        try:
            answer = await self.asker.ask(address, limit, **request)
        except NoAnswer as none:
            failures, ms = [f"expected an answer within {limit.total_seconds():g} s, found {none}"], None
        else:
            failures, ms = list(judge(answer)), round(answer.ms, 1)
        return SmokeResult(target=shown(target), test=name, ok=not failures, ms=ms, failures=failures)

    def _health_failures(self, answer: Answer) -> Iterator[str]:
        wanted = self.service.health
        found = health.judged("", answer, wanted, self.asker)
        if not found.ok:
            yield f"expected status {wanted.status}, found {found.error}"
        elif wanted.version is not None and found.version != self.version:
            yield f"expected version {self.version}, found {found.version or found.error}"


def smoke(
    service: Service,
    color: Color,
    version: str,
    credentials: Credentials | None = None,
    log: Log = _LOG,
    inside: object = None,
) -> list[SmokeResult]:
    """
    Run every smoke test, the health question first, on every target of a color; then those that run where it runs.

    :param version: what each target is to report
    :param credentials: sent with every request as HTTP basic
    :param log: gets one line a test
    :param inside: the deployer, which runs commands and Jobs where the color runs; without one they are left out
    :raises CheckFailed: one or more failed; it names each target, test, expected and found
    :raises DeployError: a test could not be run where the color runs
    """

    async def run_all() -> list[list[SmokeResult]]:
        async with asking(concurrency=CONCURRENCY, ca_file=service.entry.ca_file, credentials=credentials) as asker:
            run = _Smoke(asker, service, version)
            return await gathered((run.target(target) for target in service.colors[color].targets), CONCURRENCY)

    results = [result for target in asyncio.run(run_all()) for result in target]
    results += _run_inside(service, color, version, inside, log)
    for result in results:
        log(f"smoke: {_line(result)}")
    failed = [result for result in results if not result["ok"]]
    if failed:
        raise _failed(service, color, failed, len(results))
    return results


def _run_inside(service: Service, color: Color, version: str, inside: object, log: Log) -> list[SmokeResult]:
    tests, results = [test for test in service.smoke if isinstance(test, InsideTest)], list[SmokeResult]()
    if tests and not isinstance(inside, RunsInside):
        log(f"smoke: {len(tests)} tests that run inside {color} are left out")
        return []
    for test in tests:
        name, ran = _ran(test, color, version, cast("RunsInside", inside))
        failures = [[one.failure] if one.failure else [] for one in ran]
        results += [
            SmokeResult(target=one.where, test=name, ok=not told, ms=round(one.ms, 1), failures=told)
            for one, told in zip(ran, failures, strict=True)
        ]
    return results


def _ran(test: InsideTest, color: Color, version: str, inside: RunsInside) -> tuple[str, Sequence[Ran]]:
    if isinstance(test, ExecTest):
        ran = inside.run_command(color, test.exec, test.timeout, container=test.container, each=test.pods == "all")
        return test.name or f"exec {test.exec[0]}", ran
    assert isinstance(test, JobTest)  # noqa: S101 - there are these two
    return test.name or f"job {test.job.name}", [inside.run_job(color, version, test.job, test.timeout)]


def failures_of(test: SmokeTest, answer: Answer, asker: Asker) -> Iterator[str]:
    """Hold an answer against all that a test expects."""
    if answer.status != test.status:
        yield f"expected status {test.status}, found {asker.excerpt(answer.said)}"
    for name, pattern in test.expect_headers.items():
        found = ", ".join(answer.headers.getall(name, []))
        yield from _unmatched(f"header {name} to match", pattern, found, asker)
    for path, wanted in test.json_equals.items():
        yield from _unequal(path, wanted, answer, asker)
    if test.contains is not None:
        yield from _unmatched("body to match", test.contains, answer.text, asker)
    if answer.ms > test.max_latency.total_seconds() * 1000:
        yield f"expected an answer within {test.max_latency.total_seconds():g} s, found {answer.ms:.0f} ms"


def _unmatched(what: str, pattern: str, found: str, asker: Asker) -> Iterator[str]:
    try:
        if re.search(pattern, found) is None:
            yield f"expected {what} {pattern}, found {asker.excerpt(found) or 'nothing'}"
    except re.error as error:
        yield f"expected {what} {pattern}, which is no regular expression: {error}"


def _unequal(path: str, wanted: Any, answer: Answer, asker: Asker) -> Iterator[str]:
    try:
        found = health.at(answer.text, path)
    except ValueError as error:
        yield f"expected {path} = {wanted!r}, found {asker.excerpt(f'{error} in {answer.text}')}"
        return
    # In JSON true is not 1, in Python it is.
    if found != wanted or isinstance(found, bool) != isinstance(wanted, bool):
        yield f"expected {path} = {wanted!r}, found {asker.excerpt(repr(found))}"


def _line(result: SmokeResult) -> str:
    took = "" if result["ms"] is None else f" ({result['ms']:.0f} ms)"
    says = "; ".join(result["failures"]) or "ok"
    return f"{result['target']}: {result['test']}{took}: {says}"


def _failed(service: Service, color: Color, failed: list[SmokeResult], total: int) -> CheckFailed:
    lines = "\n  ".join(_line(result) for result in failed)
    return CheckFailed(
        f"{len(failed)} of {total} smoke tests failed:\n  {lines}\n",
        service=service.service,
        part=color,
        next_step="no traffic was moved; mend the version and start a new release",
    )
