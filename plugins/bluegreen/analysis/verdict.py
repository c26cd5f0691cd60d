"""All rules of a watch, and the verdict that they make together."""

from __future__ import annotations

from collections.abc import Sequence

from bluegreen.analysis.judgement import Judgement, State
from bluegreen.analysis.polled import Polled
from bluegreen.analysis.series import Series
from bluegreen.analysis.serving import Serving
from bluegreen.analysis.threshold import judge
from bluegreen.catalog.evidence import Rule, ThresholdRule
from bluegreen.core.colors import Color
from bluegreen.core.evidence import Outlook, Verdict


def verdict(
    rules: Sequence[Rule], series: Series, serving: Serving, color: Color, *, ended: bool, polled: Polled | None = None
) -> Verdict:
    """
    Judge the evidence so far.

    :param color: the new color
    :param polled: the latest answers to the rules that ask somebody
    :param ended: the watch is over, so that missing data is not waited for any more
    :returns: unhealthy as soon as one rule is broken; healthy only at the end, when all are kept
    """
    judgements = [serving.judge(color)]
    judgements += [judge(rule, series, color) for rule in rules if isinstance(rule, ThresholdRule)]
    judgements += polled.judgements() if polled else [_unasked(rule) for rule in rules if rule.type != "threshold"]
    broken = [j for j in judgements if j.state is State.BROKEN]
    missing = [j for j in judgements if j.state is State.NO_DATA]
    told = [{"state": str(j.state), "text": j.text, **j.numbers} for j in judgements]
    numbers = {"rules": told, "colors": series.totals(), "gaps": series.gaps}
    if broken:
        return Verdict(Outlook.UNHEALTHY, _texts(broken), numbers)
    if ended and missing:
        return Verdict(Outlook.UNHEALTHY, f"too little evidence when the watch ended: {_texts(missing)}", numbers)
    if ended:
        return Verdict(Outlook.HEALTHY, _texts(judgements[1:]), numbers)
    return Verdict(Outlook.UNKNOWN, _texts(judgements[1:]), numbers)


def _unasked(rule: Rule) -> Judgement:
    return Judgement(State.NO_DATA, f"{rule.type}: nobody was asked")


def _texts(judgements: Sequence[Judgement]) -> str:
    return "; ".join(j.text for j in judgements)
