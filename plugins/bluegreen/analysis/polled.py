"""
Rules that ask somebody, each at the source's own pace: the latest answers, and what they say.

Each rule is asked by itself, so that a slow answer holds up no other rule, no sample and no lease.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Protocol

from bluegreen.analysis.judgement import Judgement, State
from bluegreen.analysis.pace import PATIENCE, Latest, keep_asking
from bluegreen.catalog.evidence import PrometheusRule
from bluegreen.core.colors import Color
from bluegreen.core.errors import BlueGreenError, NoNumber, QueryRefused

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
        self._latest = [(rule, Latest[float]()) for rule in rules]

    @property
    def complete(self) -> bool:
        """Each rule was asked once: not so when a watch has only just begun again after a triggerer's restart."""
        return all(latest.asked for _, latest in self._latest)

    async def poll(self) -> None:
        """Ask again and again, until cancelled; whatever goes wrong is missing data."""
        questions = [(latest, partial(self._ask, rule)) for rule, latest in self._latest]
        await keep_asking(self._source.opened, questions, self._source.interval)

    async def _ask(self, rule: PrometheusRule, ask: Ask) -> float:
        return await ask(rule, self._color, self._elapsed())

    def judgements(self) -> list[Judgement]:
        """Hold each rule against its latest answer."""
        return [self._judge(rule, latest) for rule, latest in self._latest]

    def _judge(self, rule: PrometheusRule, latest: Latest[float]) -> Judgement:
        if latest.value is not None and latest.in_row < PATIENCE:
            return bounded(rule, latest.value)
        # A window that has only begun holds too little of anything.
        fails = latest.in_row >= PATIENCE and self._elapsed() >= rule.window.total_seconds()
        fail = State.BROKEN if fails else State.NO_DATA
        state = {"fail": fail, "hold": State.NO_DATA, "ignore": State.KEPT}[rule.no_data]
        return Judgement(state, f"{rule.says}: no data: {latest.missing}", {"rule": rule.says, "value": None})


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
    One question, asked once.

    :param says: the rule or source whose it is, as logs call it
    :param value: the number
    :param error: why there is none
    """

    says: str
    value: float | None = None
    error: BlueGreenError | None = None

    @property
    def refused(self) -> bool:
        """The source does not understand the question."""
        return isinstance(self.error, QueryRefused)


def try_once(source: Source, rules: Sequence[PrometheusRule], color: Color) -> list[Tried]:
    """Ask each rule once, at the same time, over a whole window; what cannot be asked is told, not raised."""

    async def one(ask: Ask, rule: PrometheusRule) -> Tried:
        try:
            return Tried(rule.says, await ask(rule, color, rule.window.total_seconds()))
        except NoNumber as error:
            return Tried(rule.says, error=error)

    async def all_of_them() -> list[Tried]:
        try:
            async with source.opened() as ask:
                return await asyncio.gather(*(one(ask, rule) for rule in rules))
        except BlueGreenError as error:
            return [Tried(rule.says, error=error) for rule in rules]

    return asyncio.run(all_of_them())
