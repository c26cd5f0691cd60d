"""Rules over counts: resets, gaps and too few requests are missing data, not zero."""

from __future__ import annotations

import pytest

from bluegreen.analysis.judgement import State
from bluegreen.analysis.series import Series
from bluegreen.analysis.serving import PATIENCE, Serving, told_by
from bluegreen.analysis.threshold import judge
from bluegreen.analysis.verdict import verdict
from bluegreen.catalog.evidence import PrometheusRule, ThresholdRule
from bluegreen.core.colors import Color
from bluegreen.core.evidence import Counters, Outlook

GREEN = Color.GREEN


def sample(requests, errors=0, ready=2, latency=5.0, **more):
    return {"one": {c: Counters(requests, errors, 0, ready, 2, latency) for c in Color}} | more


def rule(**more):
    return ThresholdRule.model_validate({"type": "threshold", "metric": "error_rate", "max": 5} | more)


def seen():
    serving = Serving()
    serving.add(told_by(sample(0)))
    return serving


def series(*samples):
    made = Series(samples[0])
    for second, counters in enumerate(samples[1:], start=1):
        made.add(float(second), counters)
    return made


@pytest.mark.parametrize(
    ("errors", "state"), [(0, State.KEPT), (5, State.KEPT), (6, State.BROKEN), (100, State.BROKEN)]
)
def test_error_rate_is_broken_above_its_bound_only(errors, state):
    assert judge(rule(), series(sample(1000, 7), sample(1100, 7 + errors)), GREEN).state is state


def test_a_late_outburst_counts_against_its_window_not_the_whole_watch():
    calm = [sample(n * 100) for n in range(300)]
    bad = series(*calm, sample(30_000, 60), sample(30_100, 130))
    assert judge(rule(window="10s"), bad, GREEN).state is State.BROKEN
    assert judge(rule(window="200s"), bad, GREEN).state is State.KEPT


@pytest.mark.parametrize(
    ("no_data", "state"), [("hold", State.NO_DATA), ("fail", State.BROKEN), ("ignore", State.KEPT)]
)
def test_fewer_requests_than_the_minimum_are_no_verdict(no_data, state):
    few = series(sample(0), sample(19, 19))
    assert judge(rule(no_data=no_data), few, GREEN).state is state


def test_a_counter_reset_is_missing_data_and_named():
    reset = series(sample(1000, 500), sample(10, 0), sample(110, 0))
    found = judge(rule(min_requests=1), reset, GREEN)
    assert found.state is State.KEPT
    assert found.numbers["requests"] == 100
    assert reset.gaps == ["one began its counts anew at 1 s"] * 2


def test_a_node_that_is_gone_for_a_while_goes_on_from_its_counts():
    gone = series(sample(0), {}, sample(500, 50))
    assert judge(rule(), gone, GREEN).numbers["requests"] == 500
    assert "one gave no counts at 1 s" in gone.gaps


def test_latency_takes_the_slowest_node_and_is_missing_without_any():
    slow = series(sample(0), sample(100, two={GREEN: Counters(0, 0, 0, 2, 2, 900.0)}))
    assert judge(rule(metric="latency_ms", max=800), slow, GREEN).state is State.BROKEN
    assert judge(rule(metric="latency_ms", max=1000), slow, GREEN).state is State.KEPT
    none = series(sample(0), sample(100, latency=None))
    assert judge(rule(metric="latency_ms", max=1), none, GREEN).state is State.NO_DATA


def test_a_dead_color_counts_after_some_samples_in_a_row():
    serving = Serving()
    for _ in range(PATIENCE - 1):
        serving.add(told_by(sample(0, ready=0)))
    serving.add(told_by(sample(0, ready=1)))
    for _ in range(PATIENCE - 1):
        serving.add(told_by(sample(0, ready=0)))
    assert serving.judge(GREEN).state is State.KEPT
    serving.add(told_by(sample(0, ready=0)))
    assert serving.judge(GREEN).state is State.BROKEN


def test_the_verdict_is_healthy_only_at_the_end_and_unhealthy_at_once():
    good, bad = series(sample(0), sample(100)), series(sample(0), sample(100, 50))
    assert verdict([rule()], good, seen(), GREEN, ended=False).says is Outlook.UNKNOWN
    assert verdict([rule()], good, seen(), GREEN, ended=True).says is Outlook.HEALTHY
    assert verdict([rule()], bad, seen(), GREEN, ended=False).says is Outlook.UNHEALTHY


def test_missing_data_at_the_end_is_not_healthy():
    assert verdict([rule()], series(sample(0), sample(3)), seen(), GREEN, ended=True).says is Outlook.UNKNOWN


def test_a_watch_without_any_sample_is_never_healthy():
    blind = verdict([rule(no_data="ignore")], Series({}), Serving(), GREEN, ended=True)
    assert blind.says is Outlook.UNHEALTHY
    assert "nobody tells whether both colors serve" in blind.reason


def test_a_rule_that_nobody_asks_is_never_healthy():
    asking = PrometheusRule(type="prometheus", metric="error_rate", max=5, no_data="ignore")
    good = series(sample(0), sample(100))
    assert verdict([rule(), asking], good, seen(), GREEN, ended=True).says is Outlook.UNKNOWN


def test_a_stretch_without_samples_is_named():
    late = Series(sample(0))
    late.add(300.0, sample(5000))
    assert late.gaps == ["nothing was sampled for 300 s before 300 s"]
