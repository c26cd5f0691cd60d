"""What a service's rules would detect, how fast, and what they would put back wrongly: watches over traffic that is drawn."""

from __future__ import annotations

import math
import random
import statistics
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from bluegreen.analysis.series import Counted, Series
from bluegreen.analysis.serving import Serving, Sight
from bluegreen.analysis.verdict import CountRules, verdict
from bluegreen.catalog.evidence import Rule
from bluegreen.core.colors import Color
from bluegreen.core.evidence import Counters, NodeCounters, Outlook

NEW, OLD = Color.GREEN, Color.BLUE
_FEW = 30


@dataclass(frozen=True)
class Traffic:
    """
    Traffic that is drawn: each request goes to a color and fails by chance; it never is slow.

    :param rps: requests per second, both colors together
    :param share: of the new color, 0 to 1
    :param baseline: error rate of the old color, 0 to 1
    :param candidate: error rate of the new color, 0 to 1
    :param seconds: length of the watch
    :param interval: seconds between two samples
    """

    rps: float
    share: float
    baseline: float
    candidate: float
    seconds: float
    interval: float = 1.0


@dataclass(frozen=True)
class Detection:
    """
    What came of many watches.

    :param stopped: share of them that ended unhealthy
    :param unknown: share of them that ended with too little evidence
    :param detected_s_p50: seconds until that, in the median of those; None where none did
    :param harmed_mean: failed requests of the new color until the watch ended, in the mean of all
    """

    stopped: float
    unknown: float
    detected_s_p50: float | None
    harmed_mean: float


Judge = Callable[[Series, bool], Outlook]
"""Judges a series, and is told whether the watch's time is over."""


def watched(rules: Sequence[Rule], false_alarms: float, past: Counted | None = None) -> Judge:
    """Return what judges as a watch with these rules does, whose colors both serve."""
    counting, serving = CountRules(rules, false_alarms, past), Serving()
    serving.add(dict.fromkeys(Color, Sight(serves=True)))

    def judge(series: Series, ended: bool) -> Outlook:
        return verdict(rules, series, serving, NEW, ended=ended, counting=counting).says

    return judge


def simulate(made: Callable[[], Judge], traffic: Traffic, runs: int, seed: int = 1) -> Detection:
    """
    Watch drawn traffic many times.

    :param made: makes what judges one watch
    :param runs: how many watches
    """
    return compare({"": made}, traffic, runs, seed)[""]


def compare(
    made: Mapping[str, Callable[[], Judge]], traffic: Traffic, runs: int, seed: int = 1
) -> dict[str, Detection]:
    """
    Let several judges watch the same drawn traffic, many times.

    :param made: by name, makes what judges one watch
    :param runs: how many watches of each
    """
    drawn = random.Random(seed)  # noqa: S311 - drawn to be drawn again, not to be kept secret
    steps = round(traffic.seconds / traffic.interval)
    ends = [
        follow({name: make() for name, make in made.items()}, _samples(traffic, steps, drawn), steps * traffic.interval)
        for _ in range(runs)
    ]
    return {name: detection([end[name] for end in ends]) for name in made}


@dataclass(frozen=True)
class End:
    """
    How one watch ended.

    :param at: seconds since it began
    :param harmed: failed requests of the new color until then
    """

    says: Outlook
    at: float
    harmed: int


def detection(ends: Sequence[End]) -> Detection:
    """Return what came of these watches; there is at least one."""
    stopped = [end.at for end in ends if end.says is Outlook.UNHEALTHY]
    return Detection(
        stopped=len(stopped) / len(ends),
        unknown=sum(end.says is Outlook.UNKNOWN for end in ends) / len(ends),
        detected_s_p50=statistics.median(stopped) if stopped else None,
        harmed_mean=statistics.fmean(end.harmed for end in ends),
    )


def follow(
    judges: Mapping[str, Judge], samples: Iterable[tuple[float, NodeCounters]], seconds: float
) -> dict[str, End]:
    """
    Let each judge watch the same samples until it says unhealthy, or to the end.

    :param samples: seconds and counters; the first are those that the watch begins with
    :param seconds: the last sample's
    """
    ends: dict[str, End] = {}
    left, each = dict(judges), iter(samples)
    series = Series(next(each)[1])
    for at, counters in each:
        series.add(at, counters)
        for name, judge in list(left.items()):
            ends[name] = End(judge(series, at >= seconds), at, series.counted(NEW).errors)
            if ends[name].says is Outlook.UNHEALTHY:
                del left[name]
        if not left:
            break
    return ends


def _samples(traffic: Traffic, steps: int, drawn: random.Random) -> Iterator[tuple[float, NodeCounters]]:
    totals = dict.fromkeys(Color, (0, 0))
    yield 0.0, _counters(totals)
    rates = {NEW: (traffic.share, traffic.candidate), OLD: (1 - traffic.share, traffic.baseline)}
    for step in range(1, steps + 1):
        for color, (share, rate) in rates.items():
            requests = poisson(drawn, traffic.rps * share * traffic.interval)
            before = totals[color]
            totals[color] = (before[0] + requests, before[1] + binomial(drawn, requests, rate))
        yield step * traffic.interval, _counters(totals)


def _counters(totals: dict[Color, tuple[int, int]]) -> NodeCounters:
    return {"drawn": {color: Counters(*counts, ready=1, total=1, latency_ms=0.0) for color, counts in totals.items()}}


def binomial(drawn: random.Random, n: int, p: float) -> int:
    """Draw how many of ``n`` fail, each with probability ``p``, by the gaps between those that do."""
    if p <= 0 or n <= 0:
        return 0
    if p >= 1:
        return n
    found, at, scale = 0, 0, math.log1p(-p)
    while True:
        at += int(math.log(1 - drawn.random()) / scale) + 1
        if at > n:
            return found
        found += 1


def poisson(drawn: random.Random, mean: float) -> int:
    """Draw a count by the exponential gaps between arrivals (Knuth's way), many gaps at once where there are many."""
    found, at = 0, 0.0
    while mean > _FEW:
        # After Ahrens and Dieter: when does the arrival come that is a little before the last one?
        jumped = int(mean * 7 / 8)
        came = drawn.gammavariate(jumped, 1.0)
        if came > mean:  # too late: those before it are spread evenly until then
            return found + jumped - 1 - binomial(drawn, jumped - 1, 1 - mean / came)
        found, mean = found + jumped, mean - came
    while True:
        at -= math.log(1 - drawn.random())
        if at > mean:
            return found
        found += 1
