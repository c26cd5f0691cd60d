"""The sequential test: its false alarms however often it is looked at, its power, and its numbers against others'."""

from __future__ import annotations

import math
import random
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from savvi.multinomial import Multinomial
from scipy.stats import beta, binom

from bluegreen.analysis.judgement import State
from bluegreen.analysis.sequential import RATIOS, Sequential, against, beside, mixed, upper_bound
from bluegreen.analysis.series import Counted, Row, Series
from bluegreen.analysis.simulation import Traffic, binomial, poisson, simulate, watched
from bluegreen.catalog.evidence import SequentialRule, ThresholdRule
from bluegreen.core.colors import Color
from bluegreen.core.evidence import Outlook

NEW, OLD = Color.GREEN, Color.BLUE
RULE = SequentialRule(type="sequential")
ALIKE = Traffic(rps=100, share=0.1, baseline=0.005, candidate=0.005, seconds=300)
ALPHA, RUNS = 0.05, 400
MOST = int(binom.ppf(0.9999, RUNS, ALPHA))
"""More false alarms than this come once in 10,000 times where the rate is ``ALPHA``."""


def rows(*counts):
    """Cumulative rows from (requests, errors) of new and old in each stretch."""
    made, new, old = [Row(0.0, {NEW: Counted(), OLD: Counted()})], Counted(), Counted()
    for at, (n, n_errors, o, o_errors) in enumerate(counts, start=1):
        new = Counted(new.requests + n, new.errors + n_errors)
        old = Counted(old.requests + o, old.errors + o_errors)
        made.append(Row(float(at), {NEW: new, OLD: old}))
    return made


@pytest.mark.parametrize(
    "traffic",
    [ALIKE, replace(ALIKE, share=0.5), replace(ALIKE, rps=20, baseline=0.05, candidate=0.05)],
    ids=["canary", "half", "few"],
)
def test_good_versions_are_put_back_no_more_often_than_stated(traffic):
    found = simulate(partial(watched, (RULE,), ALPHA), traffic, RUNS)
    assert found.stopped * RUNS <= MOST


@pytest.mark.parametrize("past", [Counted(27_000, 135), Counted(600, 3), Counted(300, 0)], ids=str)
def test_the_same_holds_against_the_past(past):
    """The past itself is drawn anew each time: its luck is a part of the error."""
    drawn, rate = random.Random(7), 0.005
    alarms = 0
    for _ in range(RUNS // 4):
        seen = Counted(past.requests, binomial(drawn, past.requests, rate))
        judge = partial(watched, (RULE,), ALPHA, seen)
        alarms += simulate(judge, replace(ALIKE, share=1.0), 1, drawn.randrange(1 << 30)).stopped > 0
    assert alarms <= binom.ppf(0.9999, RUNS // 4, ALPHA)


def test_a_test_for_one_look_that_is_looked_at_each_second_would_not_pass_the_test_above():
    def one_look():
        def judge(series, ended):
            last = series.rows[-1]
            new, old = last.colors[NEW], last.colors[OLD]
            if new.requests < RULE.min_requests or not old.requests:
                return Outlook.UNKNOWN
            errors = new.errors + old.errors
            by_chance = binom.sf(new.errors - 1, errors, new.requests / (new.requests + old.requests))
            return Outlook.UNHEALTHY if by_chance <= ALPHA else Outlook.HEALTHY if ended else Outlook.UNKNOWN

        return judge

    assert simulate(one_look, ALIKE, 100).stopped > MOST / RUNS


@pytest.mark.parametrize(("candidate", "least"), [(0.02, 0.97), (0.05, 1.0), (0.2, 1.0), (0.5, 1.0), (1.0, 1.0)])
def test_bad_versions_are_stopped_and_harm_few_requests(candidate, least):
    found = simulate(partial(watched, (RULE,), 0.01), replace(ALIKE, candidate=candidate), 200)
    assert found.stopped >= least
    assert found.harmed_mean <= 15


def test_the_threshold_of_the_guide_misses_what_this_one_finds():
    guide = ThresholdRule(type="threshold", metric="error_rate", max=5, min_requests=1)
    slow = replace(ALIKE, candidate=0.02, interval=10)
    ours = simulate(partial(watched, (RULE,), 0.01), replace(ALIKE, candidate=0.02), 100)
    theirs = simulate(partial(watched, (guide,), 0.01), slow, 100)
    assert theirs.stopped < ours.stopped


def test_with_a_beta_prior_it_is_the_multinomial_test_of_another_implementation():
    """With a constant share and a Beta prior's quadrature in place of our ratios: Lindon and Malek, as savvi has it."""
    new, old, steps = 7, 12, 4000
    share = np.array([0.1, 0.9])
    theirs = Multinomial(0.05, share, k=20)
    theirs.update(np.array([new, old]))
    prior = beta(*(20 * share))
    shares = [prior.ppf((n + 0.5) / steps) for n in range(steps)]
    # The ratio that gives the new color this part of all errors: odds over odds.
    ratios = [(p / (1 - p)) / (share[0] / share[1]) for p in shares]
    found = mixed(beside(rows((100, new, 900, old)), NEW, 1.0, ratios))
    assert found == pytest.approx(math.log(theirs.odds), abs=2e-3)


def test_against_a_known_rate_it_is_the_binomial_likelihood_ratio():
    for ratio, found in zip(RATIOS, against(0.001, 500, 4), strict=True):
        rate = 0.001 * ratio
        assert found == pytest.approx(binom.logpmf(4, 500, rate) - binom.logpmf(4, 500, 0.001))


def test_its_mean_is_one_when_both_fail_alike():
    """A likelihood ratio's mean under what it is held against; exact, over all ways in which 6 errors can fall."""
    total = 0.0
    for new in range(7):
        chance = binom.pmf(new, 6, 0.1)
        total += chance * math.exp(mixed(beside(rows((50, new, 450, 6 - new)), NEW, 1.0)))
    assert total == pytest.approx(1.0)


@pytest.mark.parametrize(("requests", "errors"), [(100, 0), (100, 3), (10_000, 50), (50, 50)])
def test_the_upper_bound_is_one(requests, errors):
    bound = upper_bound(Counted(requests, errors), 0.005)
    assert bound >= errors / requests
    assert binom.cdf(errors, requests, bound) <= 0.005 + 1e-12 or bound == pytest.approx(1.0)


def test_a_changing_share_of_the_traffic_is_no_evidence():
    """Where the new color has more traffic it has more errors; pooled, the shares would say something else."""
    quiet, busy = [(100, 1, 9900, 99)] * 20, [(900, 90, 100, 10)] * 20
    made = rows(*quiet, *busy)
    assert mixed(beside(made, NEW, 1.0)) < 0
    assert mixed(beside([made[0], made[-1]], NEW, 1.0)) > 100


def judged(made, alpha=0.01, past=None, rule=RULE):
    return Sequential(rule, alpha, past).judge(Series({}, rows=made), NEW)


def test_it_says_what_it_saw_and_how_sure_it_is():
    found = judged(rows((100, 0, 900, 4), (100, 12, 900, 5)))
    assert found.state is State.BROKEN
    assert found.text.startswith(
        "error_rate by sequential test: 6.00 % of 200 requests, at most 0.50 % of 1800 beside it"
    )
    assert "by chance at most 1 in " in found.text


def test_tolerance_lets_pass_what_fails_that_many_times_as_often():
    twice = rows(*[(100, 2, 900, 9)] * 60)
    assert judged(twice).state is State.BROKEN
    assert judged(twice, rule=RULE.model_copy(update={"tolerance": 2.0})).state is State.KEPT


@pytest.mark.parametrize(
    ("counts", "past", "said"),
    [
        ((4, 4, 900, 0), None, "4 requests, 5 are needed"),
        ((30, 0, 900, 0), None, "30 requests, 50 are needed to call it healthy"),
        ((60, 0, 0, 0), None, "0 requests of the old color, 5 are needed"),
        ((60, 0, 0, 0), Counted(0, 0), "the old color had no requests since the release began"),
    ],
)
@pytest.mark.parametrize(
    ("no_data", "state"), [("hold", State.NO_DATA), ("fail", State.BROKEN), ("ignore", State.KEPT)]
)
def test_too_few_requests_are_no_verdict(counts, past, said, no_data, state):
    found = judged(rows(counts), past=past, rule=RULE.model_copy(update={"no_data": no_data}))
    assert (found.state, found.text) == (state, f"error_rate by sequential test: {said}")


def test_what_was_thinned_out_row_by_row_is_judged_as_the_rows_that_are_left():
    drawn, series = random.Random(3), Series({})
    live, counts = Sequential(RULE, 0.01), {NEW: [0, 0], OLD: [0, 0]}
    from tests.unit.analysis.test_replay import counters

    for second in range(1, 1000):
        for color, rps in ((NEW, 10), (OLD, 90)):
            requests = poisson(drawn, rps)
            counts[color][0] += requests
            counts[color][1] += binomial(drawn, requests, 0.005)
        series.add(float(second), counters(counts))
        found = live.judge(series, NEW)
    assert series.thinned
    assert found == Sequential(RULE, 0.01).judge(series, NEW)


FEWER = SequentialRule(type="sequential", source="orders", worse="fewer")


def ordered(rule, candidate, baseline, runs, past=None):
    """Watches of a source that counts something good in so many of the requests; how many were stopped."""
    traffic = replace(ALIKE, baseline=baseline, candidate=candidate, share=1.0 if past else 0.1)

    def judge():
        test = Sequential(rule, ALPHA, past)

        def says(series, _ended):
            return Outlook.UNHEALTHY if test.judge(series, NEW).state is State.BROKEN else Outlook.UNKNOWN

        return says

    return simulate(judge, traffic, runs).stopped


@pytest.mark.parametrize("rate", [0.03, 0.5, 0.99])
def test_as_many_good_things_as_before_are_no_alarm(rate):
    assert ordered(FEWER, rate, rate, RUNS) * RUNS <= MOST


@pytest.mark.parametrize(
    ("candidate", "baseline"),
    [(0.01, 0.03), (0.3, 0.5), (0.95, 0.99), (0.0, 0.03)],
    ids=["rare", "half", "rule", "none"],
)
@pytest.mark.parametrize("past", [None, 27_000])
def test_fewer_good_things_are_found_where_they_are_rare_and_where_they_are_the_rule(candidate, baseline, past):
    before = Counted(past, round(past * baseline)) if past else None
    assert ordered(FEWER, candidate, baseline, 40, before) >= 0.95
    assert ordered(FEWER, min(1.0, baseline * 1.01), baseline, 40, before) <= 0.1, "more is not worse"


def test_a_tolerance_lets_some_be_missing():
    half = FEWER.model_copy(update={"tolerance": 2.0})
    assert ordered(half, 0.02, 0.03, 100) * 100 <= binom.ppf(0.9999, 100, ALPHA)
    assert ordered(half, 0.005, 0.03, 40) >= 0.95


def test_it_says_what_is_missing():
    made = rows(*[(100, 0, 900, 30)] * 10)
    found = judged(made, rule=FEWER)
    assert found.state is State.BROKEN
    assert "fewer by orders by sequential test: 0.00 % of 1000 requests, at least 3.33 % of 9000" in found.text
