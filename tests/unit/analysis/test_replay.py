"""A watch's evidence as JSON gives the same verdict again; what is no such evidence is refused."""

from __future__ import annotations

import json

import pytest

from bluegreen.analysis.replay import record, replay
from bluegreen.analysis.series import Counted, Series, Stream
from bluegreen.analysis.serving import Serving, Sight
from bluegreen.analysis.verdict import CountRules, verdict
from bluegreen.catalog.evidence import ComparedRule, PrometheusRule, SequentialRule, ThresholdRule
from bluegreen.core.colors import Color
from bluegreen.core.evidence import Counters, Outlook

NEW, OLD = Color.GREEN, Color.BLUE
RULES = (
    SequentialRule(type="sequential"),
    ThresholdRule(type="threshold", metric="error_rate", max=50),
    ComparedRule(type="compared", max_ratio=3, margin=1),
)
ASKED = PrometheusRule(type="prometheus", metric="error_rate", max=5, no_data="ignore")


def counters(counts):
    return {"one": {color: Counters(*counts[color], ready=1, total=1, latency_ms=5.0) for color in Color}}


def watch(failing, rules=RULES, past=None, seconds=60):
    """Watch a new color of which so many of each 10 requests fail, until the verdict is clear."""
    series, serving, counting = Series(counters({NEW: (0, 0), OLD: (0, 0)})), Serving(), CountRules(rules, 0.01, past)
    serving.add(dict.fromkeys(Color, Sight(serves=True)))
    for second in range(1, seconds + 1):
        series.add(float(second), counters({NEW: (10 * second, failing * second), OLD: (90 * second, second // 4)}))
        found = verdict(rules, series, serving, NEW, ended=second == seconds, counting=counting)
        if found.says is not Outlook.UNKNOWN:
            break
    told = record(rules, 0.01, Stream(series, past), {}, NEW, ended=second == seconds)
    return found, json.loads(json.dumps(told)), second


@pytest.mark.parametrize(("failing", "says"), [(0, Outlook.HEALTHY), (1, Outlook.UNHEALTHY), (10, Outlook.UNHEALTHY)])
@pytest.mark.parametrize("past", [None, Counted(30_000, 90)])
def test_the_same_evidence_gives_the_same_verdict_at_the_same_second(failing, says, past):
    found, told, second = watch(failing, past=past)
    again, at = replay(told, found.numbers["rules"])
    assert (found.says, again.says, at) == (says, says, second)
    assert again.reason == found.reason


def test_too_little_evidence_is_unknown_again():
    found, told, _ = watch(0, seconds=3)
    assert found.says is Outlook.UNKNOWN
    assert replay(told, found.numbers["rules"])[0].says is Outlook.UNKNOWN


def test_other_evidence_gives_another_verdict():
    found, told, _ = watch(0)
    rows = [[at, *counts[:4], counts[4] + (40 if at > 30 else 0), counts[5]] for at, *counts in told["rows"]]
    assert replay(told | {"rows": rows}, found.numbers["rules"])[0].says is Outlook.UNHEALTHY


def test_what_others_told_is_taken_as_it_was_told():
    found, told, _ = watch(0)
    rules = [*found.numbers["rules"], {"state": "broken", "text": "error_rate by Prometheus 7.00 %, at most 5 %"}]
    again, _ = replay(told, rules)
    assert (again.says, again.reason) == (Outlook.UNHEALTHY, "error_rate by Prometheus 7.00 %, at most 5 %")


@pytest.mark.parametrize("broken", [{"rows": []}, {"rows": [[1, 2]]}, {"rules": [{"type": "magic"}]}, {"color": "red"}])
def test_what_is_no_record_is_refused(broken):
    found, told, _ = watch(0)
    with pytest.raises(ValueError, match=r"."):
        replay(told | broken, found.numbers["rules"])


def test_compared_holds_the_new_color_against_the_old_one_or_its_past():
    for past, said in ((None, "beside it"), (Counted(1000, 5), "before")):
        found, _, _ = watch(4, rules=RULES[2:], past=past)
        assert (found.says, said in found.reason) == (Outlook.UNHEALTHY, True)
    assert watch(0, rules=RULES[2:])[0].says is Outlook.HEALTHY


def test_compared_latency_has_no_past():
    slow = (ComparedRule(type="compared", metric="latency_ms", max_ratio=2, margin=0),)
    assert watch(0, rules=slow)[0].says is Outlook.HEALTHY
    found, _, _ = watch(0, rules=slow, past=Counted(1000, 5))
    assert (found.says, "nobody tells it of both colors" in found.reason) == (Outlook.UNKNOWN, True)
