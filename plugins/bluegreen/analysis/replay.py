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
from bluegreen.analysis.series import Counted, Row, Series, Stream
from bluegreen.analysis.verdict import CountRules, together
from bluegreen.catalog.evidence import CountRule, Rule, counted
from bluegreen.core.colors import Color
from bluegreen.core.evidence import Verdict

_RULE: TypeAdapter[CountRule] = TypeAdapter(CountRule)


class Source(BaseModel):
    """
    What one of those who count beside the router told.

    :param rows: ``Row.as_json`` each
    :param past: the old color's counts before
    :param missing: why it told nothing at the end
    :param waiting: it might have told something yet
    """

    model_config = ConfigDict(frozen=True)

    rows: tuple[tuple[Any, ...], ...]
    past: Mapping[str, Any] | None = None
    missing: str = ""
    waiting: bool = False

    @classmethod
    def of(cls, stream: Stream) -> Source:
        """Write what it told."""
        rows = tuple(tuple(row.as_json()) for row in stream.series.rows)
        past = asdict(stream.past) if stream.past else None
        return cls(rows=rows, past=past, missing=stream.missing, waiting=stream.waiting)

    def stream(self) -> Stream:
        """
        Read it again.

        :raises ValueError: it has no rows, or no such
        """
        if not self.rows:
            raise ValueError("the record has no rows")
        series = Series({}, rows=[Row.of_json(row) for row in self.rows])
        return Stream(series, Counted(**self.past) if self.past else None, self.missing, self.waiting)


class Record(BaseModel):
    """
    What a watch saw, and what it held against it.

    :param color: the new color
    :param rules: the rules that are held against counts
    :param false_alarms: what the sequential ones may put back wrongly
    :param past: the old color's counts before, for a watch after the full switch
    :param ended: the watch's time was over
    :param rows: ``Row.as_json`` each
    :param sources: the same of those who count beside the router, by name
    """

    model_config = ConfigDict(frozen=True)

    color: Color
    rules: tuple[Mapping[str, Any], ...]
    false_alarms: float
    past: Mapping[str, Any] | None
    ended: bool
    rows: tuple[tuple[Any, ...], ...]
    sources: Mapping[str, Source] = {}


def record(
    rules: Sequence[Rule],
    false_alarms: float,
    router: Stream,
    sources: Mapping[str, Stream],
    color: Color,
    *,
    ended: bool,
) -> dict[str, Any]:
    """Write a watch's evidence as JSON."""
    own = Source.of(router)
    found = Record(
        color=color,
        rules=tuple(rule.model_dump(mode="json") for rule in counted(rules)),
        false_alarms=false_alarms,
        past=own.past,
        ended=ended,
        rows=own.rows,
        sources={name: Source.of(stream) for name, stream in sources.items()},
    )
    return found.model_dump(mode="json")


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
    router = Source(rows=found.rows, past=found.past).stream()
    series, sources = router.series, {name: source.stream() for name, source in found.sources.items()}
    own = CountRules(rules, found.false_alarms, router.past).judgements(series, found.color, sources)
    # The first one tells whether both colors serve; what follows the counts' own was asked of somebody else.
    first, *others = (_told(one) for one in judged)
    numbers: dict[str, object] = {"colors": series.totals(), "gaps": []}
    return together([first, *own, *others[len(own) :]], ended=found.ended, numbers=numbers), series.rows[-1].at


def _told(one: Mapping[str, Any]) -> Judgement:
    return Judgement(State(one["state"]), str(one["text"]), {})
