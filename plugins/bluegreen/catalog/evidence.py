"""What every watch holds: rules, and where those that ask somebody get their numbers."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from bluegreen.catalog.durations import Duration
from bluegreen.catalog.section import ConnectionId, Section, Url

COLOR, WINDOW = "$color", "$window"
"""
Placeholders in queries and labels. PromQL is full of braces, so a placeholder in braces would need escapes, and Airflow
takes double ones for its own; ``$word`` is what dashboards write, and PromQL has a ``$`` only at a pattern's end.
"""
METRIC_NAME = r"^[a-zA-Z_:][a-zA-Z0-9_:]*$"
LABEL_NAME = r"^[a-zA-Z_][a-zA-Z0-9_]*$"
_LEAST = timedelta(milliseconds=100)
MetricName = Annotated[str, Field(pattern=METRIC_NAME)]
NoData = Literal["fail", "hold", "ignore"]
HOLD = "hold: the watch goes on for release.extend, then a person is asked"
ROUTER = "router"
CountedBy = Annotated[
    str, Field(min_length=1, description="who counts: the router, or the name of one of the service's sources")
]
TooFewRequests = Annotated[NoData, Field(description=f"too few requests: fail at once, ignore, or {HOLD}")]


class Prometheus(Section):
    """Prometheus, or what answers its HTTP API, and the metrics that the service has there."""

    type: Literal["prometheus"]
    url: Url = Field(description="its address, without /api/v1", examples=["http://prometheus:9090"])
    connection: ConnectionId | None = Field(
        None, description="login and password (HTTP basic), or a password alone (bearer token)"
    )
    ca_file: Path | None = Field(None, description="own certificate authority for https")
    timeout: Duration = Field(timedelta(seconds=5), ge=_LEAST, description="for one answer")
    interval: Duration = Field(timedelta(seconds=10), ge=_LEAST, description="between two questions of a rule")
    max_age: Duration = Field(timedelta(minutes=2), description="older samples are no evidence")
    labels: dict[Annotated[str, Field(pattern=LABEL_NAME)], str] = Field(
        {"environment": COLOR}, description="which series are a color's; $color is blue or green"
    )
    requests: MetricName = Field("http_requests_total", description="counter of answered requests")
    errors: str = Field('status=~"5.."', min_length=1, description="what a failed one's labels match")
    duration: MetricName = Field(
        "http_request_duration_seconds",
        description="histogram of response times in seconds, without _bucket; its buckets must reach beyond the rule's max",
    )

    @field_validator("labels")
    @classmethod
    def _tell_colors_apart(cls, labels: dict[str, str]) -> dict[str, str]:
        if not any(COLOR in value for value in labels.values()):
            raise ValueError(f"no label has {COLOR} in its value: both colors would be judged alike")
        return labels


Evidence = Annotated[Prometheus, Field(discriminator="type")]


class ThresholdRule(Section):
    """A bound on one number of the new color, of counts."""

    type: Literal["threshold"]
    metric: Literal["error_rate", "latency_ms"] = Field(description="per cent of requests; mean response time")
    source: CountedBy = ROUTER
    max: float = Field(ge=0, allow_inf_nan=False)
    window: Duration = Field(
        timedelta(seconds=10), description="the latest stretch that is judged; longer where it has too few requests"
    )
    min_requests: int = Field(20, ge=1, description="no verdict on fewer")
    no_data: TooFewRequests = "hold"

    @property
    def says(self) -> str:
        """How logs call it, with its bound."""
        return f"{self.metric}{by(self)} at most {self.max:g}"


class PrometheusRule(Section):
    """A bound on one number of the new color that Prometheus tells: a ready-made one, or a query of one's own."""

    type: Literal["prometheus"]
    metric: Literal["error_rate", "p99_ms"] | None = Field(
        None, description="ready-made: per cent of requests; 99th percentile of the response time"
    )
    query: str | None = Field(
        None, description="PromQL that gives one number; $color is the new color, $window what has passed of the window"
    )
    name: str | None = Field(None, min_length=1, description="how logs and reports call a query")
    max: float | None = Field(None, allow_inf_nan=False)
    min: float | None = Field(None, allow_inf_nan=False)
    window: Duration = Field(
        timedelta(minutes=1),
        ge=timedelta(seconds=1),
        description="the latest stretch that is asked for, since the shift",
    )
    min_requests: int = Field(20, ge=1, description="of a ready-made metric: no verdict on fewer in the window")
    no_data: NoData = Field(
        "hold",
        description=f"no number: fail when a whole window has passed, ignore, or {HOLD}",
    )

    @model_validator(mode="after")
    def _one_number_and_its_bounds(self) -> Self:
        if (self.metric is None) == (self.query is None):
            raise ValueError("wanted either metric (error_rate, p99_ms) or query: write one of them")
        if self.query is not None and self.name is None:
            raise ValueError("a query needs a name, by which logs and reports call it: add name")
        if self.query is not None and COLOR not in self.query:
            raise ValueError(f"the query does not say {COLOR}: both colors would be judged alike")
        if self.max is None and self.min is None:
            raise ValueError("there is no bound: add max, or min")
        if self.max is not None and self.min is not None and self.min > self.max:
            raise ValueError(f"min {self.min:g} is above max {self.max:g}")
        return self

    @property
    def says(self) -> str:
        """How logs and reports call it."""
        return self.name or f"{self.metric} by Prometheus"


class ComparedRule(Section):
    """The new color against the old one that serves beside it; after the full switch against the old one's past."""

    type: Literal["compared"]
    metric: Literal["error_rate", "latency_ms"] = Field(
        "error_rate", description="per cent of requests; mean response time, which has no past after the full switch"
    )
    source: CountedBy = ROUTER
    max_ratio: float = Field(1.5, ge=1, allow_inf_nan=False, description="times the old color's number, at most")
    margin: float = Field(1.0, ge=0, allow_inf_nan=False, description="and this much above that, in % or ms")
    window: Duration = Field(
        timedelta(seconds=30), description="the latest stretch that is judged; longer where it has too few requests"
    )
    min_requests: int = Field(50, ge=1, description="no verdict on fewer of either color")
    no_data: TooFewRequests = "hold"

    @property
    def says(self) -> str:
        """How logs call it, with its bound."""
        return f"{self.metric}{by(self)} at most {self.max_ratio:g} times the old color's + {self.margin:g}"


class SequentialRule(Section):
    """
    A test whether the new color fails more often than the old one; valid however often it is looked at.

    Its rate of false alarms over the whole watch is ``release.false_alarms``, shared by all rules of this type.
    """

    type: Literal["sequential"]
    metric: Literal["error_rate"] = "error_rate"
    source: CountedBy = ROUTER
    worse: Literal["more", "fewer"] = Field(
        "more", description="fewer: what the source counts as errors is something good, as orders or fast requests are"
    )
    tolerance: float = Field(
        1.0, ge=1, le=100, allow_inf_nan=False, description="times the old color's rate that are as good as the same"
    )
    min_requests: int = Field(5, ge=1, description="no verdict on fewer of either color")
    healthy_requests: int = Field(50, ge=1, description="not called healthy on fewer")
    no_data: TooFewRequests = "hold"

    @property
    def says(self) -> str:
        """How logs call it, with its bound."""
        what = self.metric if self.worse == "more" else "fewer"
        return f"{what}{by(self)} by sequential test"


CountRule = ThresholdRule | ComparedRule | SequentialRule
"""What is held against counts, the router's or a source's."""
Rule = Annotated[ThresholdRule | ComparedRule | SequentialRule | PrometheusRule, Field(discriminator="type")]


def by(rule: CountRule) -> str:
    """Return who counts for a rule, as logs say it; nothing where it is the router."""
    return "" if rule.source == ROUTER else f" by {rule.source}"


def of_source(rules: Iterable[Rule], name: str) -> list[CountRule]:
    """Return the rules that a source counts for."""
    return [rule for rule in counted(rules) if rule.source == name]


def counted(rules: Iterable[Rule]) -> list[CountRule]:
    """Return the rules that are held against counts."""
    return [rule for rule in rules if not isinstance(rule, PrometheusRule)]


def asked(rules: Iterable[Rule]) -> list[PrometheusRule]:
    """Return the rules that somebody else is asked for."""
    return [rule for rule in rules if isinstance(rule, PrometheusRule)]


def check_rules(rules: Iterable[Rule], evidence: Evidence | None, sources: Iterable[str]) -> None:
    """
    Hold each rule against who could tell it anything.

    :param sources: names of those that count
    :raises ValueError: nobody can
    """
    rules, known = list(rules), [ROUTER, *sources]
    if asked(rules) and evidence is None:
        raise ValueError("a rule of type prometheus has nothing to ask: add evidence: {type: prometheus, url: …}")
    for rule in counted(rules):
        if rule.source not in known:
            raise ValueError(f"no source is called {rule.source}: allowed are {', '.join(known)}; or add it to sources")
        if isinstance(rule, SequentialRule) and rule.worse == "fewer" and rule.source == ROUTER:
            raise ValueError("worse: fewer is of what a source counts, and the router counts errors: name a source")
        if rule.metric == "latency_ms" and rule.source != ROUTER:
            raise ValueError(f"latency_ms is told by the router only, found source {rule.source}: take source out")
