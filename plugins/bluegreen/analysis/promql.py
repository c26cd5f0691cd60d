"""The PromQL of ready-made metrics, and the placeholders of one's own."""

from __future__ import annotations

import json

from bluegreen.catalog.evidence import COLOR, WINDOW, Prometheus, PrometheusRule
from bluegreen.core.colors import Color

# A series of failed requests that is not there, as before the first one fails, is no failed request; 0 times all
# requests says so, and says nothing where there are no requests either.
_ERROR_RATE = (
    "100 * (sum(rate({requests}{{{labels},{errors}}}[{window}])) or 0 * sum(rate({requests}{{{labels}}}[{window}])))"
    " / sum(rate({requests}{{{labels}}}[{window}]))"
    " and sum(increase({requests}{{{labels}}}[{window}])) >= {least}"
)
_P99_MS = (
    "1000 * histogram_quantile(0.99, sum by (le) (rate({duration}_bucket{{{labels}}}[{window}])))"
    " and sum(increase({duration}_count{{{labels}}}[{window}])) >= {least}"
)
_READY_MADE = {"error_rate": _ERROR_RATE, "p99_ms": _P99_MS}


def promql(evidence: Prometheus, rule: PrometheusRule, color: Color, elapsed: float) -> str:
    """
    Return a rule's query.

    :param elapsed: seconds since the evidence begins: a window is not longer, so that nothing counts against a version
        that another one did on its color
    """
    window = f"{max(1, int(1000 * min(rule.window.total_seconds(), elapsed)))}ms"
    if rule.query is not None:
        return rule.query.replace(COLOR, color).replace(WINDOW, window)
    labels = ",".join(f"{name}={_text(value.replace(COLOR, color))}" for name, value in evidence.labels.items())
    return _READY_MADE[rule.metric or ""].format(
        requests=evidence.requests,
        errors=evidence.errors,
        duration=evidence.duration,
        labels=labels,
        window=window,
        least=rule.min_requests,
    )


def _text(value: str) -> str:
    return json.dumps(value, ensure_ascii=False)
