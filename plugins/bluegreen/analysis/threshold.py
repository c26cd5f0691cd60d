"""The threshold rule: a bound on the new color's error rate or mean response time (the guide's rule)."""

from __future__ import annotations

from bluegreen.analysis.judgement import Judgement, State, no_data
from bluegreen.analysis.series import Series
from bluegreen.catalog.evidence import ThresholdRule, by
from bluegreen.core.colors import Color


def judge(rule: ThresholdRule, series: Series, color: Color) -> Judgement:
    """
    Hold the rule against the evidence.

    :param color: the new color
    """
    requests, errors, seconds = series.stretch(color, rule.window.total_seconds(), rule.min_requests)
    numbers = {"requests": requests, "errors": errors, "seconds": round(seconds, 1)}
    if requests < rule.min_requests:
        return no_data(rule, f"{requests} requests, {rule.min_requests} are needed", **numbers)
    slowest = series.rows[-1].colors[color].latency_ms
    value = 100 * errors / requests if rule.metric == "error_rate" else slowest
    if value is None:
        return Judgement(State.NO_DATA, f"{rule.metric}: no node tells it", numbers)
    unit = "%" if rule.metric == "error_rate" else "ms"
    text = f"{rule.metric}{by(rule)} {value:.2f} {unit} of {requests} requests in {seconds:.0f} s, at most {rule.max:g} {unit}"
    return Judgement(State.BROKEN if value > rule.max else State.KEPT, text, numbers | {rule.metric: round(value, 3)})
