"""The detection bench: each rival decides as its documents say, all judge the same traffic, and the table hides nothing."""

from __future__ import annotations

import random
from functools import partial

import numpy as np
import pytest
from scipy.optimize import brentq
from scipy.stats import norm, rankdata

from benchmarks.detection import CANDIDATES, OURS, RULES, report
from benchmarks.detection_stack import Cell, watch
from benchmarks.rivals import RIVALS, Kayenta, argo, flagger, guide
from bluegreen.analysis.simulation import Traffic, compare, follow, poisson, simulate
from bluegreen.catalog.evidence import SequentialRule
from bluegreen.core.colors import Color
from bluegreen.core.evidence import Counters, Outlook

NEW, OLD = Color.GREEN, Color.BLUE


def samples(errors_of, seconds=300, requests=1000):
    """Each second so many requests of each color; ``errors_of`` a second are the new color's errors in it."""
    new = old = 0
    for at in range(seconds + 1):
        if at:
            new, old = new + errors_of(at), old + 5
        counts = {color: Counters(at * requests, n, ready=1, total=1) for color, n in ((NEW, new), (OLD, old))}
        yield float(at), {"node": counts}


def end(make, errors_of):
    return follow({"it": make()}, samples(errors_of), 300.0)["it"]


@pytest.mark.parametrize(
    ("make", "kept", "broken", "at"),
    [(guide, 50, 51, 10), (flagger, 10, 11, 60), (argo, 50, 51, 10), (Kayenta, 5, 20, 60)],
)
def test_a_rival_stops_what_is_above_its_bound_at_its_first_look(make, kept, broken, at):
    # Not twice the same: Mann-Whitney judges ranks.
    assert end(make, lambda second: kept - second % 2).says is Outlook.HEALTHY
    found = end(make, lambda second: broken + second % 2)
    assert (found.says, found.at) == (Outlook.UNHEALTHY, at)


@pytest.mark.parametrize(
    ("make", "begins", "at"),
    # All fail from then on: the guide's minute and Argo's five hold what was before, Flagger's minute is over.
    [(guide, 101, 110), (flagger, 60, 60), (flagger, 101, 120), (argo, 101, 130)],
)
def test_what_begins_later_is_seen_at_the_next_look(make, begins, at):
    assert end(make, lambda second: 1000 * (second >= begins)).at == at


@pytest.mark.parametrize(("second", "says"), [(55, Outlook.HEALTHY), (61, Outlook.UNHEALTHY)])
def test_what_is_older_than_a_minute_does_not_count_for_the_guide(second, says):
    """Each alone is at most 5 % of a minute's 60,000, both together are more; the look is at 120."""
    assert end(guide, lambda now: {second: 3000, 118: 2900}.get(now, 0)).says is says


def interval(x, y, confidence):
    """The shift's lower end and estimate as Kayenta's own code finds them: a root of the standardized rank sum."""

    def standardized(shift, quantile):
        ranks = rankdata(np.concatenate([x - shift, y]))
        n, m = len(x), len(y)
        off = ranks[:n].sum() - n * (n + 1) / 2 - n * m / 2
        ties = sum(int(c) ** 3 - int(c) for c in np.unique(ranks, return_counts=True)[1])
        sigma = np.sqrt(n * m / 12 * (n + m + 1 - ties / ((n + m) * (n + m - 1))))
        return (off - np.sign(off) * 0.5) / sigma - quantile

    least, most = x.min() - y.max() - 1e-9, x.max() - y.min() + 1e-9
    quantile = norm.ppf(1 - (1 - confidence) / 2)
    lower = least if standardized(least, quantile) <= 0 else brentq(standardized, least, most, args=(quantile,))
    return lower, brentq(standardized, least, most, args=(0,))


def test_kayenta_is_high_when_its_interval_lies_above_a_quarter_of_its_estimate():
    drawn, found = np.random.default_rng(5), []
    for _ in range(300):
        x, y = drawn.normal(drawn.uniform(0, 2), 1, 12), drawn.normal(0, 1, 15)
        lower, estimate = interval(x, y, 0.98)
        if abs(lower - 0.25 * abs(estimate)) < 0.02:
            continue  # the estimate is a root of a staircase there, and the median of differences here
        found.append(Kayenta.high(x, y))
        assert found[-1] == (lower > 0.25 * abs(estimate))
    assert 30 < sum(found) < len(found) - 30


def test_kayenta_calls_nothing_high_that_it_cannot_compare():
    some, none = np.array([1.0, 1.0, 1.0]), np.array([])
    assert not Kayenta.high(some, some)
    assert not Kayenta.high(none, some)
    assert not Kayenta.high(some, none)
    assert not Kayenta.high(none, none)


def test_all_judges_watch_the_same_drawn_traffic():
    traffic = Traffic(rps=50, share=0.1, baseline=0.005, candidate=0.05, seconds=120)
    never = lambda: lambda series, ended: Outlook.UNKNOWN  # noqa: E731
    found = compare({"one": flagger, "never": never, "other": flagger}, traffic, 20)
    assert found["one"] == found["other"]
    assert found["one"].harmed_mean < found["never"].harmed_mean
    assert found["never"] == simulate(never, traffic, 20)


@pytest.mark.parametrize("mean", [45.0, 900.0])
def test_many_arrivals_at_once_are_drawn_as_often_as_poisson_says(mean):
    drawn, runs = random.Random(11), 100_000
    counts = np.array([poisson(drawn, mean) for _ in range(runs)])
    assert counts.mean() == pytest.approx(mean, abs=5 * np.sqrt(mean / runs))
    assert counts.var() == pytest.approx(mean, rel=5 * np.sqrt(2 / runs))


def test_ours_is_the_product_s_rule_with_its_defaults():
    ours = RULES[OURS]
    assert isinstance(ours, partial)
    assert ours.args == ((SequentialRule(type="sequential"),), 0.01)
    assert set(RULES) == {*RIVALS, "sequential"}


def result(**ours):
    """A result in which every rule did the same, but for ours with a good candidate."""
    same = {"baseline": 0.5, "stopped": 1.0, "detected_s_p50": 60.0, "harmed_mean": 12.0, "runs": 7}
    rows = [
        {"rule": rule, "rps": rps, "candidate": candidate, "how": how, **same}
        | (ours if rule == OURS and candidate == 0.5 else {})
        for how, traffics in (("simulation", (20, 100, 1000)), ("stack", (20, 100)))
        for rps in traffics
        for candidate in CANDIDATES
        for rule in RULES
    ]
    names = ("canary_share", "seconds_simulation", "seconds_stack", "requests", "overdue", "failed_otherwise")
    shares = {"cpu_share_of_load": 0.1, "cpu_share_of_everything": 0.5}
    return {"rows": rows, **dict.fromkeys(names, 1), **shares}


def test_the_table_has_every_row_and_says_what_was_missed():
    text = report(result(stopped=0.02, detected_s_p50=None))
    assert text.count("| 100 %, 60 s, 12 |") > 5 * 5  # five tables
    assert text.count("2 %, -, 12") == 5
    lines = [line for line in text.splitlines() if line.startswith("| false alarms")]
    assert len(lines) == 3
    assert all(line.endswith("| 0.02 | 0.01 | **missed** |") for line in lines)
    assert "| stack: harmed at 100 requests/s and 20 %, of flagger's | 1 | 0.1 | **missed** |" in text
    assert "| stack: harmed at 100 requests/s and 2 %, mean | 12 | 15 | met |" in text


@pytest.mark.haproxy
def test_a_real_canary_is_counted_by_the_product_s_router_and_judged_by_all(tmp_path_factory):
    cells = [Cell(200, 0.5, 0.5), Cell(200, 0.5, 100.0)]
    workdir = tmp_path_factory.mktemp("d")
    found = watch(workdir, cells, RULES, print, lanes=1, batches=1, seconds=4)
    good, bad = (found.ends[cell] for cell in cells)
    assert len(good) == len(bad) == 1
    assert bad[0][OURS].says is Outlook.UNHEALTHY
    # One in ten of 200 requests a second until then, all of which fail.
    assert bad[0]["flagger"].says is Outlook.HEALTHY
    assert bad[0]["flagger"].harmed == pytest.approx(80, abs=45)
    assert bad[0][OURS].harmed < bad[0]["flagger"].harmed
    assert good[0]["flagger"].harmed <= 5
    assert found.failed_otherwise == 0
