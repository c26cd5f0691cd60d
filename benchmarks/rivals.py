"""
The rules of others that `detection` holds ours against: each is its own documented defaults, read as strongly as is fair.

All get perfect evidence: exact counts of the canary alone, at the very second at which they look. None waits for a
scrape, and none loses a look to missing data. Where the documents leave a choice, it is what decides fastest.
"""

from __future__ import annotations

from datetime import timedelta
from itertools import pairwise

import numpy as np
import numpy.typing as npt
from scipy.stats import mannwhitneyu

from bluegreen.analysis.judgement import State
from bluegreen.analysis.series import Series
from bluegreen.analysis.simulation import NEW, OLD, Judge
from bluegreen.analysis.threshold import judge
from bluegreen.catalog.evidence import ThresholdRule
from bluegreen.core.colors import Color
from bluegreen.core.evidence import Outlook

Points = npt.NDArray[np.float64]


class Looks:
    """
    A fixed bound on the canary's error rate, looked at now and then; the first look that breaks it stops the release.

    :param most: per cent; more is broken
    :param window: seconds; the latest of them count, or what there is of them
    :param first: seconds until the first look
    :param every: seconds from one look to the next
    """

    def __init__(self, most: float, window: float, first: float, every: float) -> None:
        self._rule = ThresholdRule(
            type="threshold", metric="error_rate", max=most, window=timedelta(seconds=window), min_requests=1
        )
        self._next, self._every = first, every

    def __call__(self, series: Series, ended: bool) -> Outlook:
        """Judge as `bluegreen.analysis.simulation.Judge`."""
        if series.rows[-1].at >= self._next:
            self._next += self._every
            if judge(self._rule, series, NEW).state is State.BROKEN:
                return Outlook.UNHEALTHY
        return Outlook.HEALTHY if ended else Outlook.UNKNOWN


def guide() -> Judge:
    """
    Return the guide's `automated_rollback.py`: each 10 s, errors over `rate(...[1m])` above 5 %, for 300 s.

    Its first look, at once, would end in an IndexError, for there is no data yet: here it comes after 10 s. (The guide's
    `deploy-bluegreen.sh` reads column 14 of `show stat`, failed connections, in which no 500 is ever counted.)
    """
    return Looks(most=5, window=60, first=10, every=10)


def flagger() -> Judge:
    """
    Return Flagger's defaults: each 60 s, `request-success-rate` of the last 1m below 99 %; one failed check is enough.

    Interval, metric interval and threshold (1) are the defaults of its code (`pkg/apis/flagger/v1beta1/canary.go`);
    99 % is the example of its documents (fluxcd.io/flagger/usage/metrics). Their examples mostly say `threshold: 5` or
    `10`, with which nothing would be stopped before 300 s. Its code rolls back one interval after the check that was one
    too many; its documents say `interval * threshold`, which is taken here.
    """
    return Looks(most=1, window=60, first=60, every=60)


def argo() -> Judge:
    """
    Return Argo Rollouts' `success-rate` template (docs/features/analysis.md): `result[0] >= 0.95` over `[5m]`.

    Of its forms on that page it is the one with `interval: 60s, count: 5`, whose five minutes are those of the watch,
    and whose `failureLimit` is the default, 0. The form that is copied most, `interval: 5m, failureLimit: 3`, needs four
    bad measurements, and makes two in 300 s: it would stop nothing. The first measurement, at once, finds no data, and
    is tried again after 10 s (the error retry's default). `irate`, which the template has, would use the last two
    scrapes only: all of the five minutes that have passed count here.
    """
    return Looks(most=5, window=300, first=10, every=60)


class Kayenta:
    """
    Kayenta's NetflixACAJudge on one metric, the error rate, of which more is worse.

    Mann-Whitney at confidence 0.98, tolerance 0.25: the metric is High when the interval of the shift between the
    colors lies wholly above a quarter of the Hodges-Lehmann estimate (`MannWhitneyClassifier.scala`). A lower end above
    a value is the same as a one-sided test of the points less that value at half of 1 - confidence, which is what scipy
    gives, with the same normal approximation, continuity correction and ranks of ties.

    An analysis in Spinnaker may be judged each minute, the shortest that can be set, over all points since its begin;
    the first judgement below the marginal score ends it, and one High metric scores 0. The points are 6 s apart: 50 in
    300 s, as many as its best practices ask for. Closer ones would hold no failed request mostly, and all be ties.

    :param step: seconds of one point; rows of the series are a second apart
    :param every: seconds from one judgement to the next
    """

    CONFIDENCE = 0.98
    TOLERANCE = 0.25

    def __init__(self, step: int = 6, every: float = 60) -> None:
        self._step, self._next, self._every = step, every, every

    def __call__(self, series: Series, ended: bool) -> Outlook:
        """Judge as `bluegreen.analysis.simulation.Judge`."""
        if series.rows[-1].at >= self._next:
            self._next += self._every
            if self.high(self._points(series, NEW), self._points(series, OLD)):
                return Outlook.UNHEALTHY
        return Outlook.HEALTHY if ended else Outlook.UNKNOWN

    def _points(self, series: Series, color: Color) -> Points:
        grown = (after.since(before, color) for before, after in pairwise(series.rows[:: self._step]))
        return np.array([counted.errors / counted.requests for counted in grown if counted.requests])  # no NaN

    @classmethod
    def high(cls, canary: Points, baseline: Points) -> bool:
        """Classify the canary's points against the baseline's."""
        together = np.concatenate([canary, baseline])
        if not len(canary) or not len(baseline) or (together == together[0]).all():
            return False
        bound = cls.TOLERANCE * abs(float(np.median(np.subtract.outer(canary, baseline))))
        found = mannwhitneyu(canary - bound, baseline, alternative="greater", method="asymptotic")
        return bool(found.pvalue < (1 - cls.CONFIDENCE) / 2)


RIVALS = {"guide": guide, "flagger": flagger, "argo": argo, "kayenta": Kayenta}
"""By name, what makes the judge of one watch."""
