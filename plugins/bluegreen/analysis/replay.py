"""
Replay: a watch's evidence as JSON, and the same verdict from it again, without any router or source.

A watch ends with the row that made its verdict clear, so the rules that are held against counts are judged anew with the
last one. What others told, whether a color serves or a number of Prometheus's, was told at that time: it is taken as it
stands in the record.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from pydantic import BaseModel, ConfigDict, TypeAdapter

from bluegreen.analysis.judgement import Judgement, State
from bluegreen.analysis.series import Counted, Row, Series
from bluegreen.analysis.verdict import CountRules, together
from bluegreen.catalog.evidence import CountRule, Rule, counted
from bluegreen.core.colors import Color
from bluegreen.core.evidence import Verdict

_RULE: TypeAdapter[CountRule] = TypeAdapter(CountRule)


class Record(BaseModel):
    """
    What a watch saw, and what it held against it.

    :param color: the new color
    :param rules: the rules that are held against counts
    :param false_alarms: what the sequential ones may put back wrongly
    :param past: the old color's counts before, for a watch after the full switch
    :param ended: the watch's time was over
    :param rows: ``Row.as_json`` each
    """

    model_config = ConfigDict(frozen=True)

    color: Color
    rules: tuple[Mapping[str, Any], ...]
    false_alarms: float
    past: Mapping[str, Any] | None
    ended: bool
    rows: tuple[tuple[Any, ...], ...]


def record(
    rules: Sequence[Rule], false_alarms: float, past: Counted | None, series: Series, color: Color, *, ended: bool
) -> dict[str, Any]:
    """Write a watch's evidence as JSON."""
    return {
        "color": str(color),
        "rules": [rule.model_dump(mode="json") for rule in counted(rules)],
        "false_alarms": false_alarms,
        "past": asdict(past) if past else None,
        "ended": ended,
        "rows": [row.as_json() for row in series.rows],
    }


def replay(told: Mapping[str, Any], judged: Sequence[Mapping[str, Any]]) -> tuple[Verdict, float]:
    """
    Judge recorded evidence again.

    :param told: what ``record`` wrote
    :param judged: the ``rules`` of the verdict that it made
    :returns: the verdict, and the second of the watch at which it was clear
    :raises ValueError: this is no such record
    """
    found = Record.model_validate(told)
    rules = [_RULE.validate_python(dict(rule)) for rule in found.rules]
    counting = CountRules(rules, found.false_alarms, Counted(**found.past) if found.past else None)
    series = Series({}, rows=[Row.of_json(row) for row in found.rows])
    if not series.rows:
        raise ValueError("the record has no rows")
    own = counting.judgements(series, found.color)
    # The first one tells whether both colors serve; what follows the counts' own was asked of somebody else.
    first, *others = (_told(one) for one in judged)
    numbers: dict[str, object] = {"colors": series.totals(), "gaps": []}
    return together([first, *own, *others[len(own) :]], ended=found.ended, numbers=numbers), series.rows[-1].at


def _told(one: Mapping[str, Any]) -> Judgement:
    return Judgement(State(one["state"]), str(one["text"]), {})
