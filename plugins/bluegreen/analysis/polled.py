"""
Rules that ask somebody, each at the source's own pace: the latest answers, and what they say.

Each rule is asked by an asyncio task of its own, so that a slow answer holds up no other rule, no sample and no lease.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol

from bluegreen.analysis.judgement import Judgement, State
from bluegreen.catalog.evidence import PrometheusRule
from bluegreen.core.colors import Color
from bluegreen.core.errors import BlueGreenError, NoNumber, QueryRefused

PATIENCE = 3
"""Questions in a row without a number before it counts: one answer that is lost on its way is no missing data."""
_UNITS = {"error_rate": " %", "p99_ms": " ms"}


class Ask(Protocol):
    """One question."""

    async def __call__(self, rule: PrometheusRule, color: Color, elapsed: float) -> float:
        """
        Return a rule's number, which is finite.

        :param elapsed: seconds since the evidence begins: nothing from before it counts
        :raises NoNumber: there is none; says why
        :raises QueryRefused: the source does not understand the rule
        """
        ...


class Source(Protocol):
    """Where rules that ask somebody get their numbers."""

    interval: timedelta

    def opened(self) -> AbstractAsyncContextManager[Ask]:
        """
        Ask within this.

        :raises SecretMissing: a connection that it needs is not there
        :raises CheckFailed: its certificate authority cannot be read
        """
        ...


@dataclass
class Latest:
    """
    What one rule was last told.

    :param value: the latest number
    :param missing: why the answers after it were none
    :param in_row: how many those are
    :param asked: somebody has answered, or has not in time
    """

    value: float | None = None
    missing: str = "nothing was told yet"
    in_row: int = 0
    asked: bool = False


class Polled:
    """
    The rules of one watch that ask somebody.

    :param color: the new color
    :param elapsed: seconds since the evidence begins
    """

    def __init__(
        self, source: Source, rules: Sequence[PrometheusRule], color: Color, elapsed: Callable[[], float]
    ) -> None:
        self._source, self._color, self._elapsed = source, color, elapsed
        self._latest = [(rule, Latest()) for rule in rules]

    @property
    def complete(self) -> bool:
        """Each rule was asked once: not so when a watch has only just begun again after a triggerer's restart."""
        return all(latest.asked for _, latest in self._latest)

    async def poll(self) -> None:
        """Ask again and again, until cancelled; whatever goes wrong is missing data."""
        while True:
            try:
                async with self._source.opened() as ask, asyncio.TaskGroup() as each:
                    for rule, latest in self._latest:
                        each.create_task(self._poll_one(ask, rule, latest))
            except Exception as error:  # noqa: BLE001 - it could not even begin: a secret, a certificate
                for _, latest in self._latest:
                    _miss(latest, error)
                await asyncio.sleep(self._source.interval.total_seconds())

    async def _poll_one(self, ask: Ask, rule: PrometheusRule, latest: Latest) -> None:
        while True:
            try:
                latest.value = await ask(rule, self._color, self._elapsed())
                latest.asked, latest.in_row = True, 0
            except Exception as error:  # noqa: BLE001 - an answer that nobody thought of must not end the watch
                _miss(latest, error)
            # From the answer on: however late a question arrives, nobody is asked twice within an interval.
            await asyncio.sleep(self._source.interval.total_seconds())

    def judgements(self) -> list[Judgement]:
        """Hold each rule against its latest answer."""
        return [self._judge(rule, latest) for rule, latest in self._latest]

    def _judge(self, rule: PrometheusRule, latest: Latest) -> Judgement:
        if latest.value is not None and latest.in_row < PATIENCE:
            return bounded(rule, latest.value)
        # A window that has only begun holds too little of anything.
        fails = latest.in_row >= PATIENCE and self._elapsed() >= rule.window.total_seconds()
        fail = State.BROKEN if fails else State.NO_DATA
        state = {"fail": fail, "hold": State.NO_DATA, "ignore": State.KEPT}[rule.no_data]
        return Judgement(state, f"{rule.says}: no data: {latest.missing}", {"rule": rule.says, "value": None})


def _miss(latest: Latest, error: Exception) -> None:
    latest.asked, latest.in_row = True, latest.in_row + 1
    latest.missing = str(error) if isinstance(error, BlueGreenError) else f"{type(error).__name__}: {error}"


def bounded(rule: PrometheusRule, value: float) -> Judgement:
    """Hold a number against a rule's bounds."""
    unit = _UNITS.get(rule.metric or "", "")
    bounds = [
        f"{word} {bound:g}{unit}"
        for word, bound in (("at least", rule.min), ("at most", rule.max))
        if bound is not None
    ]
    broken = (rule.max is not None and value > rule.max) or (rule.min is not None and value < rule.min)
    text = f"{rule.says} {value:.2f}{unit}, {' and '.join(bounds)}"
    return Judgement(State.BROKEN if broken else State.KEPT, text, {"rule": rule.says, "value": round(value, 6)})


@dataclass(frozen=True)
class Tried:
    """
    One rule, asked once.

    :param rule: the rule
    :param value: its number
    :param error: why there is none
    """

    rule: PrometheusRule
    value: float | None = None
    error: BlueGreenError | None = None

    @property
    def refused(self) -> bool:
        """The source does not understand the rule."""
        return isinstance(self.error, QueryRefused)


def try_once(source: Source, rules: Sequence[PrometheusRule], color: Color) -> list[Tried]:
    """Ask each rule once, at the same time, over a whole window; what cannot be asked is told, not raised."""

    async def one(ask: Ask, rule: PrometheusRule) -> Tried:
        try:
            return Tried(rule, await ask(rule, color, rule.window.total_seconds()))
        except NoNumber as error:
            return Tried(rule, error=error)

    async def all_of_them() -> list[Tried]:
        try:
            async with source.opened() as ask:
                return await asyncio.gather(*(one(ask, rule) for rule in rules))
        except BlueGreenError as error:
            return [Tried(rule, error=error) for rule in rules]

    return asyncio.run(all_of_them())
