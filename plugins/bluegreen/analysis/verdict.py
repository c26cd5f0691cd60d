"""All rules of a watch, and the verdict that they make together."""

from __future__ import annotations

from collections.abc import Sequence

from bluegreen.analysis.judgement import Judgement, State
from bluegreen.analysis.series import Series
from bluegreen.analysis.serving import Serving
from bluegreen.analysis.threshold import judge
from bluegreen.catalog.models import ThresholdRule
from bluegreen.core.colors import Color
from bluegreen.core.evidence import Outlook, Verdict


def verdict(rules: Sequence[ThresholdRule], series: Series, serving: Serving, color: Color, *, ended: bool) -> Verdict:
    """
    Judge the evidence so far.

    :param color: the new color
    :param ended: the watch is over, so that missing data is not waited for any more
    :returns: unhealthy as soon as one rule is broken; healthy only at the end, when all are kept
    """
    judgements = [serving.judge(color), *(judge(rule, series, color) for rule in rules)]
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


def _texts(judgements: Sequence[Judgement]) -> str:
    return "; ".join(j.text for j in judgements)
