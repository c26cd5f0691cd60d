"""All rules of a watch, and the verdict that they make together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from bluegreen.analysis.compared import compare
from bluegreen.analysis.judgement import Judgement, State, no_data
from bluegreen.analysis.polled import Polled
from bluegreen.analysis.sequential import Sequential
from bluegreen.analysis.series import Counted, Series, Stream
from bluegreen.analysis.serving import Serving
from bluegreen.analysis.threshold import judge
from bluegreen.catalog.evidence import ComparedRule, CountRule, Rule, SequentialRule, asked, counted
from bluegreen.core.colors import Color
from bluegreen.core.evidence import Outlook, Verdict

FALSE_ALARMS = 0.01
Streams = Mapping[str, Stream]


class CountRules:
    """
    The rules of one watch that are held against counts, the router's or a source's.

    :param false_alarms: what the sequential rules may put back wrongly over the whole watch, all together; each gets
        an equal part of it (Bonferroni), so that the sum holds whatever their evidence has in common
    :param past: the old color's counts before, by the router; None while it serves beside the new one
    """

    def __init__(self, rules: Sequence[Rule], false_alarms: float = FALSE_ALARMS, past: Counted | None = None) -> None:
        self._rules, self._past = counted(rules), past
        self._alpha = false_alarms / max(1, sum(isinstance(rule, SequentialRule) for rule in self._rules))
        self._tests: dict[int, Sequential] = {}

    def judgements(self, series: Series, color: Color, sources: Streams | None = None) -> list[Judgement]:
        """
        Hold each rule against the evidence so far.

        :param series: the router's
        :param color: the new color
        :param sources: what the others counted, by name
        """
        router = Stream(series, self._past)
        return [self._judge(rule, (sources or {}).get(rule.source, router), color) for rule in self._rules]

    def _judge(self, rule: CountRule, of: Stream, color: Color) -> Judgement:
        if of.missing:
            waits = Judgement(State.NO_DATA, f"{rule.says}: {of.missing}")
            return waits if of.waiting else no_data(rule, f"no data: {of.missing}")
        if isinstance(rule, SequentialRule):
            test = self._tests.setdefault(id(rule), Sequential(rule, self._alpha, of.past))
            return test.judge(of.series, color)
        if isinstance(rule, ComparedRule):
            return compare(rule, of.series, color, of.past)
        return judge(rule, of.series, color)


def verdict(
    rules: Sequence[Rule],
    series: Series,
    serving: Serving,
    color: Color,
    *,
    ended: bool,
    polled: Polled | None = None,
    sources: Streams | None = None,
    counting: CountRules | None = None,
) -> Verdict:
    """
    Judge the evidence so far.

    :param color: the new color
    :param polled: the latest answers to the rules that ask somebody
    :param sources: what those who count beside the router have told, by name
    :param counting: what holds the other rules; made for this once where there is none
    :param ended: the watch's time is over
    :returns: unhealthy as soon as one rule is broken; healthy only at the end, when all are kept; unknown until then,
        and at the end where a rule has too little evidence
    """
    judgements = [serving.judge(color), *(counting or CountRules(rules)).judgements(series, color, sources)]
    judgements += polled.judgements() if polled else [_unasked(rule) for rule in asked(rules)]
    gaps = [*series.gaps, *(f"{name}: {gap}" for name, of in (sources or {}).items() for gap in of.series.gaps)]
    others = {name: of.series.totals() for name, of in (sources or {}).items()}
    return together(judgements, ended=ended, numbers={"colors": series.totals(), "sources": others, "gaps": gaps})


def together(judgements: Sequence[Judgement], *, ended: bool, numbers: dict[str, object]) -> Verdict:
    """
    Make one verdict of all rules' words.

    :param judgements: first whether both colors serve, then each rule
    :param numbers: what the verdict holds beside them
    """
    broken = [j for j in judgements if j.state is State.BROKEN]
    missing = [j for j in judgements if j.state is State.NO_DATA]
    told = [{"state": str(j.state), "text": j.text, **j.numbers} for j in judgements]
    numbers = {"rules": told, **numbers}
    if broken:
        return Verdict(Outlook.UNHEALTHY, _texts(broken), numbers)
    if ended and missing:
        # Nobody may be asked to go on where nobody knows whether there is a way back.
        says = Outlook.UNHEALTHY if judgements[0] in missing else Outlook.UNKNOWN
        return Verdict(says, f"too little evidence when the watch ended: {_texts(missing)}", numbers)
    return Verdict(Outlook.HEALTHY if ended else Outlook.UNKNOWN, _texts(judgements[1:]), numbers)


def _unasked(rule: Rule) -> Judgement:
    return Judgement(State.NO_DATA, f"{rule.type}: nobody was asked")


def _texts(judgements: Sequence[Judgement]) -> str:
    return "; ".join(j.text for j in judgements)
