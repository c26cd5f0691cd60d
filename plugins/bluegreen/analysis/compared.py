"""The compared rule: the new color against the old one beside it, or against the old one's past after the switch."""

from __future__ import annotations

from bluegreen.analysis.judgement import Judgement, State, no_data
from bluegreen.analysis.series import Counted, Series
from bluegreen.catalog.evidence import ComparedRule
from bluegreen.core.colors import Color

_UNITS = {"error_rate": "%", "latency_ms": "ms"}


def compare(rule: ComparedRule, series: Series, color: Color, past: Counted | None) -> Judgement:
    """
    Hold the rule against the evidence.

    :param color: the new color
    :param past: the old color's counts before; None while it serves beside the new one
    """
    requests, errors, seconds = series.stretch(color, rule.window.total_seconds(), rule.min_requests)
    old = past or series.counted(color.other)
    for whose, count in (("", requests), (" of the old color", old.requests)):
        if count < rule.min_requests:
            return no_data(rule, f"{count} requests{whose}, {rule.min_requests} are needed", requests=requests)
    value, other = _value(rule, Counted(requests, errors, series.rows[-1].colors[color].latency_ms)), _value(rule, old)
    if value is None or other is None:
        return no_data(rule, "nobody tells it of both colors", requests=requests)
    bound, unit = rule.max_ratio * other + rule.margin, _UNITS[rule.metric]
    text = (
        f"{rule.says}: {value:.2f} {unit} of {requests} requests in {seconds:.0f} s, at most {bound:.2f} {unit}: "
        f"{other:.2f} {unit} {'before' if past else 'beside it'}"
    )
    numbers = {"requests": requests, "errors": errors, "value": round(value, 3), "bound": round(bound, 3)}
    return Judgement(State.BROKEN if value > bound else State.KEPT, text, numbers)


def _value(rule: ComparedRule, counted: Counted) -> float | None:
    if rule.metric == "error_rate":
        return 100 * counted.errors / counted.requests
    return counted.latency_ms
