"""
The sequential rule: does the new color fail more often than the old one? It may be looked at after every sample.

Beside each other (canary) the errors of each stretch between two samples are split between the colors as their requests
are, when both fail alike. Each likelihood ratio "fails rho times as often" against "fails as often as is tolerated" is
a martingale then, and so is their mean; by Ville's inequality it exceeds 1/alpha ever with a probability of alpha at
most, however often somebody looks. The test is after Lindon, Sanden and Shirikian, arXiv 2205.14762, with the requests of each stretch as its predictable share of the traffic, and a mixture over a fixed set of ratios in
place of their Beta prior: it is one-sided, and the share may change from stretch to stretch.

After the full switch nothing serves beside the new color. Its past is the old color's counts since the release began:
half of alpha pays for an upper bound of the old error rate (Chernoff's, in Kullback and Leibler's form), the other half
for the same mixture test of the new color's errors against that bound.

Where fewer is worse, what is counted is something good: orders, or requests that were fast. Its mixture has the same ratios
turned over, and beside them those of the requests without it, for good things that are rare and for such as are the rule.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise

from bluegreen.analysis.judgement import Judgement, State, no_data
from bluegreen.analysis.series import Counted, Row, Series
from bluegreen.catalog.evidence import SequentialRule
from bluegreen.core.colors import Color

RATIOS = (1.5, 2.0, 3.0, 4.0, 6.0, 10.0, 20.0, 50.0, 200.0)
"""How many times as often a bad version may fail; each has the same weight in the mixture."""
_FEWER = tuple(1 / ratio for ratio in RATIOS)
_MOST = 0.999


def beside(rows: Sequence[Row], color: Color, tolerance: float, ratios: Sequence[float] = RATIOS) -> list[float]:
    """
    Return the logarithm of each ratio's likelihood ratio over consecutive rows.

    :param rows: cumulative counts of both colors
    :param tolerance: how many times the other color's error rate is as good as the same
    """
    found = [0.0] * len(ratios)
    for before, after in pairwise(rows):
        new, old = after.since(before, color), after.since(before, color.other)
        errors = new.errors + old.errors
        if not errors or not new.requests or not old.requests:
            continue  # nothing failed, or nothing to compare it with
        weighed = tolerance * new.requests
        for at, ratio in enumerate(ratios):
            share = math.log(weighed + old.requests) - math.log(ratio * weighed + old.requests)
            found[at] += new.errors * math.log(ratio) + errors * share
    return found


def against(past: float, requests: int, errors: int, ratios: Sequence[float] = RATIOS) -> list[float]:
    """
    Return the logarithm of each ratio's likelihood ratio against a known error rate.

    :param past: the rate, 0 to 1
    """
    found = []
    for ratio in ratios:
        rate = min(ratio * past, max(past, _MOST))
        kept = (requests - errors) * (math.log1p(-rate) - math.log1p(-past))
        found.append(errors * (math.log(rate) - math.log(past)) + kept)
    return found


def mixed(logs: Sequence[float]) -> float:
    """Return the logarithm of the mean of what these are the logarithms of."""
    top = max(logs)
    return top + math.log(sum(math.exp(one - top) for one in logs) / len(logs))


def upper_bound(past: Counted, alpha: float) -> float:
    """
    Return a rate that the true one exceeds with a probability of ``alpha`` at most.

    It solves ``requests * KL(errors / requests, rate) = log(1 / alpha)``, by halving.
    """
    seen, limit = past.errors / past.requests, math.log(1 / alpha) / past.requests
    low, high = seen, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if _divergence(seen, middle) < limit else (low, middle)
    return high


def _divergence(p: float, q: float) -> float:
    if q >= 1:
        return math.inf
    first = p * math.log(p / q) if p else 0.0
    return first + ((1 - p) * math.log((1 - p) / (1 - q)) if p < 1 else 0.0)


@dataclass
class Sequential:
    """
    The rule over one watch.

    :param alpha: the rate of false alarms over the whole watch, 0 to 1
    :param past: the old color's counts since the release began; None while it serves beside the new one
    """

    rule: SequentialRule
    alpha: float
    past: Counted | None = None
    _logs: list[float] = field(default_factory=list)
    _judged: int = 0
    _thinned: int = 0

    def judge(self, series: Series, color: Color) -> Judgement:
        """
        Hold the rule against the evidence.

        :param color: the new color
        """
        rule, new = self.rule, series.counted(color)
        if new.requests < rule.min_requests:
            return no_data(rule, f"{new.requests} requests, {rule.min_requests} are needed", requests=new.requests)
        if self.past is not None and not self.past.requests:
            return no_data(rule, "the old color had no requests since the release began", requests=new.requests)
        found, bound = self._weigh(series, color)
        old = self.past or series.counted(color.other)
        numbers = {
            "requests": new.requests,
            "errors": new.errors,
            "evidence": round(found, 3),
            "bound": round(bound, 3),
        }
        text = f"{rule.says}: {_rate(new)} of {new.requests} requests, {self._old(old)}"
        if found >= bound:
            return Judgement(State.BROKEN, f"{text}; by chance at most 1 in {math.exp(min(found, 50.0)):.0f}", numbers)
        if old.requests < rule.min_requests:
            return no_data(rule, f"{old.requests} requests of the old color, {rule.min_requests} are needed", **numbers)
        if new.requests < rule.healthy_requests:
            fact = f"{new.requests} requests, {rule.healthy_requests} are needed to call it healthy"
            return no_data(rule, fact, **numbers)
        return Judgement(State.KEPT, text, numbers)

    def _old(self, old: Counted) -> str:
        where = "before" if self.past else "beside it"
        many = f"{self.rule.tolerance:g} times " if self.rule.tolerance != 1 else ""
        if self._fewer:
            part = f" / {self.rule.tolerance:g}" if many else ""
            return f"at least {_rate(old)}{part} of {old.requests} {where}"
        return f"at most {many}{_rate(old)} of {old.requests} {where}"

    @property
    def _fewer(self) -> bool:
        return self.rule.worse == "fewer"

    def _weigh(self, series: Series, color: Color) -> tuple[float, float]:
        """Return the logarithms of the evidence and of what it must not reach."""
        if self.past is None:
            return mixed(self._beside(series, color)), math.log(1 / self.alpha)
        new, tolerance = series.counted(color), self.rule.tolerance
        if not self._fewer:
            logs = against(min(tolerance * self._most_bad, _MOST), new.requests, new.errors)
        else:
            logs = against(max((1 - self._most_bad) / tolerance, 1 - _MOST), new.requests, new.errors, _FEWER)
            if tolerance == 1:
                logs += against(self._most_bad, new.requests, new.requests - new.errors)
        return mixed(logs), math.log(2 / self.alpha)

    @cached_property
    def _most_bad(self) -> float:
        """The share of bad requests that the past excuses; it stays the same, and is looked for once."""
        assert self.past is not None  # noqa: S101 - for mypy: asked only where there is one
        bad = without(self.past) if self._fewer else self.past
        return min(upper_bound(bad, self.alpha / 2), _MOST)

    def _beside(self, series: Series, color: Color) -> list[float]:
        """Add the rows that are new; all of them anew where old ones were thinned out, so that the rows alone decide."""
        if self._thinned != series.thinned:
            self._logs, self._judged, self._thinned = [], 0, series.thinned
        late = series.rows[max(0, self._judged - 1) :]
        found = self._families(late, color)
        self._logs = [a + b for a, b in zip(self._logs or [0.0] * len(found), found, strict=True)]
        self._judged = len(series.rows)
        return self._logs

    def _families(self, rows: Sequence[Row], color: Color) -> list[float]:
        tolerance = self.rule.tolerance
        if not self._fewer:
            return beside(rows, color, tolerance)
        found = beside(rows, color, 1 / tolerance, _FEWER)
        if tolerance == 1:  # for another one the others' share is no multiple of the old color's
            others = [Row(row.at, {c: without(counted) for c, counted in row.colors.items()}) for row in rows]
            found += beside(others, color, 1.0)
        return found


def without(counted: Counted) -> Counted:
    """Return the same requests, and as errors those that were none."""
    return Counted(counted.requests, counted.requests - counted.errors)


def _rate(counted: Counted) -> str:
    return f"{100 * counted.errors / counted.requests:.2f} %" if counted.requests else "-"
