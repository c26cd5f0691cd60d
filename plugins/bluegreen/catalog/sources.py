"""Sources that count: how many requests a color answered since the evidence began, and how many of them were errors."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from bluegreen.catalog.durations import Duration
from bluegreen.catalog.evidence import COLOR, ROUTER
from bluegreen.catalog.section import ConnectionId, Section, Url

SINCE, UNTIL = "$since", "$until"
"""Placeholders in an address: seconds since 1970."""
_LEAST = timedelta(milliseconds=100)


def _tells_colors_apart(query: str) -> str:
    if COLOR not in query:
        raise ValueError(f"it does not say {COLOR}: both colors would be judged alike")
    return query


Query = Annotated[str, Field(min_length=1), AfterValidator(_tells_colors_apart)]
Condition = Annotated[str, Field(min_length=1)]


class SourceSection(Section):
    """What every source has."""

    type: str
    name: str = Field("", description="how rules, logs and reports call it; its type by default")
    interval: Duration = Field(timedelta(seconds=10), ge=_LEAST, description="between two questions")
    timeout: Duration = Field(timedelta(seconds=5), ge=_LEAST, description="for one answer")
    max_age: Duration = Field(
        timedelta(minutes=2), description="a count that ends earlier than this ago is no evidence"
    )
    connection: ConnectionId | None = Field(
        None, description="login and password (HTTP basic), or a password alone (bearer token)"
    )

    @model_validator(mode="before")
    @classmethod
    def _named_after_its_type(cls, given: Any) -> Any:
        return {**given, "name": given.get("name") or given.get("type", "")} if isinstance(given, dict) else given


class HttpSection(SourceSection):
    """A source that is asked over HTTP."""

    url: Url = Field(description="its address, without the API's own path")
    ca_file: Path | None = Field(None, description="own certificate authority for https")


class PrometheusCounts(HttpSection):
    """Counters in Prometheus, or in what answers its HTTP API: Thanos, Mimir, VictoriaMetrics."""

    type: Literal["prometheus"]
    tenant: str | None = Field(None, min_length=1, description="sent as X-Scope-OrgID")
    requests: Query = Field(
        description="selector of the counters of answered requests",
        examples=['http_requests_total{environment="$color"}'],
    )
    errors: Query = Field(
        description="selector of those that failed; a series that is not there yet is no error",
        examples=['http_requests_total{environment="$color",status=~"5.."}'],
    )


class DatadogCounts(HttpSection):
    """Datadog metrics. The connection's extra has api_key and app_key, as Airflow's Datadog connection does."""

    type: Literal["datadog"]
    url: Url = Field("https://api.datadoghq.com", description="the API address of your Datadog site")
    connection: ConnectionId = Field(description="its extra has api_key and app_key")
    step: Duration = Field(timedelta(seconds=10), ge=timedelta(seconds=1), description="of a point")
    requests: Query = Field(
        description="metric query that counts answered requests", examples=["sum:shop.hits{env:$color}.as_count()"]
    )
    errors: Query = Field(description="the same of those that failed; no point is no error")


class NewRelicCounts(HttpSection):
    """New Relic events, by NRQL through NerdGraph."""

    type: Literal["newrelic"]
    url: Url = Field(
        "https://api.newrelic.com/graphql", description="NerdGraph; https://api.eu.newrelic.com/graphql in Europe"
    )
    connection: ConnectionId = Field(description="its password is the user key")
    account: int = Field(ge=1, description="account id")
    events: str = Field("Transaction", pattern=r"^[A-Za-z0-9_:`. ]+$", description="event type, one event a request")
    requests: Query = Field(description="WHERE of a color's requests", examples=["environment = '$color'"])
    errors: Condition = Field("error IS true", description="WHERE of those that failed")


class CloudWatchMetric(Section):
    """One metric; its Sum is taken."""

    namespace: str = Field(min_length=1, examples=["AWS/ApplicationELB"])
    metric: str = Field(min_length=1, examples=["RequestCount"])
    dimensions: dict[str, str] = Field(description="$color is blue or green")

    @model_validator(mode="after")
    def _differs_by_color(self) -> Self:
        _tells_colors_apart(" ".join(self.dimensions.values()))
        return self


class CloudWatchCounts(SourceSection):
    """CloudWatch metrics. Needs boto3."""

    type: Literal["cloudwatch"]
    connection: ConnectionId | None = Field(
        None,
        description="login and password are key id and secret key, extra may have aws_session_token; else boto3's own",
    )
    region: str = Field(pattern=r"^[a-z0-9-]+$", examples=["eu-west-1"])
    url: Url | None = Field(None, description="another endpoint, as of a VPC")
    step: Duration = Field(timedelta(minutes=1), ge=timedelta(seconds=1), description="of a point: the metric's period")
    max_age: Duration = Field(
        timedelta(minutes=5), description="a count that ends earlier than this ago is no evidence"
    )
    interval: Duration = Field(timedelta(seconds=30), ge=_LEAST, description="between two questions")
    requests: CloudWatchMetric
    errors: CloudWatchMetric


class GraphiteCounts(HttpSection):
    """Graphite's render API."""

    type: Literal["graphite"]
    requests: Query = Field(
        description="target: one series, requests in each point",
        examples=["sumSeries(stats_counts.shop.$color.*.requests)"],
    )
    errors: Query = Field(description="the same of those that failed; no series is no error")


class InfluxCounts(HttpSection):
    """InfluxDB 1, or 2 and 3 through their InfluxQL API."""

    type: Literal["influxdb"]
    connection: ConnectionId | None = Field(
        None, description="login and password; in InfluxDB 2 any login, and the token as password"
    )
    database: str = Field(min_length=1, description="in InfluxDB 2 the one that is mapped to the bucket")
    step: Duration = Field(timedelta(seconds=10), ge=timedelta(seconds=1), description="of a point")
    requests: Query = Field(
        description="InfluxQL that ends in its WHERE; time and GROUP BY are added",
        examples=['SELECT sum("count") FROM "requests" WHERE "color" = \'$color\''],
    )
    errors: Query = Field(description="the same of those that failed; no row is no error")


def _bound(query: str) -> str:
    missing = [name for name in (":color", ":since") if name not in query]
    if missing:
        raise ValueError(f"it does not say {' and '.join(missing)}; :color, :since and :until are bound")
    return query


class SqlCounts(SourceSection):
    """One SELECT a color, through SQLAlchemy. Needs sqlalchemy and the driver of its URL."""

    type: Literal["sql"]
    connection: ConnectionId = Field(description="its password is the SQLAlchemy URL, whole")
    query: Annotated[str, AfterValidator(_bound)] = Field(
        description="gives one row: requests, errors, and the time of the latest as latest; :color, :since, :until are bound",
        examples=["SELECT count(*) AS requests, … WHERE color = :color AND at >= :since AND at < :until"],
    )


class EndpointCounts(HttpSection):
    """Any address that answers JSON."""

    type: Literal["http"]
    url: Url = Field(
        description="$color, $since and $until (seconds since 1970) are filled in",
        examples=["http://stats.example/counts?color=$color&since=$since&until=$until"],
    )
    requests: Condition = Field("requests", description="JMESPath; $color is filled in")
    errors: Condition = Field("errors", description="JMESPath; $color is filled in")
    at: Condition | None = Field(
        None, description="JMESPath of the time until which it is counted, seconds since 1970; else the question's"
    )

    @model_validator(mode="after")
    def _by_color_and_time(self) -> Self:
        if SINCE not in self.url:
            raise ValueError(f"url does not say {SINCE}: it would count what was before the evidence begins")
        if COLOR not in self.url and not all(COLOR in path for path in (self.requests, self.errors)):
            raise ValueError(
                f"neither url nor both of requests and errors say {COLOR}: both colors would be judged alike"
            )
        return self


class LokiCounts(HttpSection):
    """Log lines in Loki. Without ``requests`` only errors are counted; requests are the router's."""

    type: Literal["loki"]
    tenant: str | None = Field(None, min_length=1, description="sent as X-Scope-OrgID")
    lines: Query = Field(description="selector of all lines of a color", examples=['{app="shop", color="$color"}'])
    errors: Condition = Field(description="what is added to it for error lines", examples=['|= "level=error"'])
    requests: Condition | None = Field(None, description="what is added to it for one line a request")


class ElasticsearchCounts(HttpSection):
    """Log lines in Elasticsearch or OpenSearch. Without ``requests`` only errors are counted."""

    type: Literal["elasticsearch"]
    index: str = Field(pattern=r"^[^/?#\s]+$", description="index, alias or pattern", examples=["logs-shop-*"])
    time: str = Field("@timestamp", min_length=1, description="field with a line's time")
    lines: Query = Field(description="query_string of all lines of a color", examples=["service:shop AND color:$color"])
    errors: Condition = Field(description="query_string of error lines among them", examples=["level:error"])
    requests: Condition | None = Field(None, description="query_string of one line a request")


class SplunkCounts(HttpSection):
    """Log lines in Splunk. Without ``requests`` only errors are counted."""

    type: Literal["splunk"]
    lines: Query = Field(description="search of all lines of a color", examples=["index=web app=shop color=$color"])
    errors: Condition = Field(description="eval expression of error lines", examples=['level="ERROR"'])
    requests: Condition | None = Field(None, description="eval expression of one line a request")


EvidenceSource = Annotated[
    PrometheusCounts
    | DatadogCounts
    | NewRelicCounts
    | CloudWatchCounts
    | GraphiteCounts
    | InfluxCounts
    | SqlCounts
    | EndpointCounts
    | LokiCounts
    | ElasticsearchCounts
    | SplunkCounts,
    Field(discriminator="type"),
]


def _sources_differ(sources: tuple[EvidenceSource, ...]) -> tuple[EvidenceSource, ...]:
    names = [source.name for source in sources]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"source names must differ, found {', '.join(twice)} twice: give each a name")
    if ROUTER in names:
        raise ValueError(f"{ROUTER} is how rules call the router itself: give the source another name")
    return sources


Sources = Annotated[tuple[EvidenceSource, ...], AfterValidator(_sources_differ)]
