"""
Answers of APIs that cannot be run here, as their public documentation shows them, played by a real HTTP server.

Each class says which document; ``answer`` makes a body of that shape with the values that a test wants to hear, and
``understands`` looks whether the question is one that the document describes.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.rigs.deploy_targets import Asked

SECRET = "planted-source-7f3a91"  # noqa: S105 - what must be in no error
Words = Mapping[str, "Says"]


@dataclass(frozen=True)
class Says:
    """
    What a source says of one color.

    :param age: seconds that the count is old
    :param times: how many series say so; 0 for none
    """

    requests: Any = 1000
    errors: Any = 5
    age: float = 7.0
    times: int = 1


@dataclass
class Recorded:
    """
    One API.

    :param section: of the service file, without address
    :param password: and ``extra`` of the connection
    :param sent_as: the header that its secret goes in
    :param cannot: no-data cases that the API cannot have, and why
    """

    section: Mapping[str, Any]
    password: str = SECRET
    login: str = "watcher"
    extra: Mapping[str, str] = field(default_factory=dict)
    sent_as: str = "Authorization"
    cannot: Mapping[str, str] = field(default_factory=dict)
    step = timedelta(seconds=10)

    def told_at(self, says: Says, until: datetime) -> datetime:
        """Return the time that the count must have."""
        return until - timedelta(seconds=says.age)

    def points(self, says: Says, what: str, since: datetime, until: datetime) -> Iterator[tuple[datetime, Any]]:
        """Yield points of a count; the first one began before the evidence, and must not be counted."""
        last = self.told_at(says, until) - self.step
        yield since - self.step / 2, 1_000_000
        yield last - self.step, 0
        yield last, getattr(says, what)


def form(asked: Asked) -> dict[str, list[str]]:
    return parse_qs(asked.body.decode()) or parse_qs(urlsplit(asked.path).query)


class Vectors(Recorded):
    """Prometheus, "HTTP API", instant queries: https://prometheus.io/docs/prometheus/latest/querying/api/."""

    names = ("requests", "errors", "at")

    def answer(self, words: Words, since: datetime, until: datetime) -> str:
        result = [
            {"metric": {"bluegreen": f"{color} {name}"}, "value": [until.timestamp(), value]}
            for color, says in words.items()
            for name, value in self.values(says, until).items()
            for _ in range(says.times)
        ]
        return json.dumps({"status": "success", "data": {"resultType": "vector", "result": result}})

    def values(self, says: Says, until: datetime) -> Mapping[str, str]:
        at = f"{until.timestamp() - says.age}"
        return {"requests": str(says.requests), "errors": str(says.errors), "at": at}

    def understands(self, asked: Asked, since: datetime, until: datetime) -> None:
        assert asked.path == "/api/v1/query"
        found = form(asked)
        assert float(found["time"][0]) == until.timestamp()
        span = f"[{int(1000 * (until - since).total_seconds())}ms]"
        for color in ("blue", "green"):
            assert f'sum(increase(hits{{color="{color}"}}{span}))' in found["query"][0]
            assert f'"bluegreen", "{color} errors", "", ""' in found["query"][0]
        assert asked.headers["X-Scope-OrgID"] == "team"


class Loki(Vectors):
    """Grafana Loki, "HTTP API", query at a single point: https://grafana.com/docs/loki/latest/reference/loki-http-api/."""

    def told_at(self, says: Says, until: datetime) -> datetime:
        return until  # LogQL tells no line's time

    def values(self, says: Says, until: datetime) -> Mapping[str, str]:
        fresh = {"latest": "3"} if says.age < 120 else {}
        return {"lines": "4000", "errors": str(says.errors), "requests": str(says.requests), **fresh}

    def understands(self, asked: Asked, since: datetime, until: datetime) -> None:
        assert asked.path.startswith("/loki/api/v1/query?")
        query = form(asked)["query"][0]
        assert form(asked)["time"] == [str(int(until.timestamp()) * 10**9)]
        assert 'sum(count_over_time({color="green"} |= "level=error" [900000ms]))' in query
        assert 'sum(count_over_time({color="green"} [120000ms]))' in query


class Datadog(Recorded):
    """Datadog, "Query timeseries data across multiple products" (v2): https://docs.datadoghq.com/api/latest/metrics/."""

    def answer(self, words: Words, since: datetime, until: datetime) -> str:
        rows = [
            (index, dict(self.points(says, what, since, until)))
            for index, (says, what) in enumerate((s, w) for s in words.values() for w in ("requests", "errors"))
            for _ in range(says.times)
        ]
        times = sorted({at for _, points in rows for at in points})
        attributes = {
            "series": [{"group_tags": [], "query_index": index, "unit": None} for index, _ in rows],
            "times": [int(at.timestamp() * 1000) for at in times],
            "values": [[points.get(at) for at in times] for _, points in rows],
        }
        return json.dumps({"data": {"id": "0", "type": "timeseries_response", "attributes": attributes}})

    def understands(self, asked: Asked, since: datetime, until: datetime) -> None:
        assert (asked.method, asked.path) == ("POST", "/api/v2/query/timeseries")
        assert (asked.headers["DD-API-KEY"], asked.headers["DD-APPLICATION-KEY"]) == ("the-api-key", SECRET)
        wanted = json.loads(asked.body)["data"]["attributes"]
        assert (wanted["from"], wanted["to"]) == (since.timestamp() * 1000, until.timestamp() * 1000)
        assert wanted["queries"][3]["query"] == "sum:shop.errors{env:green}.as_count()"
        assert wanted["formulas"][3] == {"formula": wanted["queries"][3]["name"]}


class NewRelic(Recorded):
    """New Relic, "NerdGraph tutorial: Query your data using NRQL": https://docs.newrelic.com/docs/apis/nerdgraph/examples/."""

    def answer(self, words: Words, since: datetime, until: datetime) -> str:
        account = {color: {"results": self.rows(says, until)} for color, says in words.items()}
        return json.dumps({"data": {"actor": {"account": account}}})

    def rows(self, says: Says, until: datetime) -> list[Mapping[str, Any]]:
        if not says.times:
            return [{"requests": 0, "errors": 0, "latest": None}]
        at = int(self.told_at(says, until).timestamp() * 1000)
        return [{"requests": says.requests, "errors": says.errors, "latest": at}] * says.times

    def understands(self, asked: Asked, since: datetime, until: datetime) -> None:
        assert asked.headers["API-Key"] == SECRET
        query = json.loads(asked.body)["query"]
        assert query.startswith('{actor {account(id: 42) {blue: nrql(query: "SELECT count(*) AS requests, ')
        assert (
            f"WHERE environment = 'green' SINCE {int(since.timestamp() * 1000)} UNTIL {int(until.timestamp() * 1000)}"
            in query
        )


class CloudWatch(Recorded):
    """AWS, "GetMetricData": https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/API_GetMetricData.html."""

    step = timedelta(minutes=1)

    def answer(self, words: Words, since: datetime, until: datetime) -> str:
        results = []
        for color, says in words.items():
            for what in ("requests", "errors"):
                points = list(self.points(says, what, since, until)) if says.times else []
                one = {"Id": f"{color}_{what}", "Label": what, "StatusCode": "Complete"}
                one |= {"Timestamps": [at.timestamp() for at, _ in points], "Values": [value for _, value in points]}
                results += [one] * max(1, says.times)
        return json.dumps({"MetricDataResults": results, "Messages": []})

    def understands(self, asked: Asked, since: datetime, until: datetime) -> None:
        assert asked.headers["X-Amz-Target"].endswith(".GetMetricData")
        wanted = json.loads(asked.body)
        assert (wanted["StartTime"], wanted["EndTime"]) == (since.timestamp(), until.timestamp())
        stat = wanted["MetricDataQueries"][3]["MetricStat"]
        assert stat["Metric"]["Dimensions"] == [{"Name": "TargetGroup", "Value": "shop-green"}]
        assert (stat["Stat"], stat["Period"]) == ("Sum", 60)


class Graphite(Recorded):
    """Graphite, "The Render URL API", format json: https://graphite.readthedocs.io/en/latest/render_api.html."""

    def answer(self, words: Words, since: datetime, until: datetime) -> str:
        series = [
            {"target": f"{color} {what}", "datapoints": [[v, int(at.timestamp())] for at, v in self._with_gap(says, what, since, until)]}
            for color, says in words.items()
            for what in ("requests", "errors")
            for _ in range(says.times)
        ]  # fmt: skip
        return json.dumps(series)

    def _with_gap(self, says: Says, what: str, since: datetime, until: datetime) -> list[tuple[datetime, Any]]:
        early, *points = self.points(says, what, since, until)
        # Its own first point is a step before the second one; null is a gap.
        return [early, (early[0] + self.step, None), *points, (points[-1][0] + self.step, None)]

    def understands(self, asked: Asked, since: datetime, until: datetime) -> None:
        found = form(asked)
        assert asked.path == "/render"
        assert found["target"][2] == 'alias(sumSeries(shop.green.*.requests), "green requests")'
        assert (found["from"], found["until"]) == ([str(int(since.timestamp()) - 1)], [str(int(until.timestamp()))])


class Influx(Recorded):
    """InfluxData, "InfluxDB HTTP API", /query: https://docs.influxdata.com/influxdb/v1/tools/api/#query-http-endpoint."""

    def answer(self, words: Words, since: datetime, until: datetime) -> str:
        results = []
        for says, what in ((says, what) for says in words.values() for what in ("requests", "errors")):
            rows = [[int(at.timestamp() * 1000), value] for at, value in self.points(says, what, since, until)]
            series = [{"name": what, "columns": ["time", "sum"], "values": rows}] * says.times
            results.append({"statement_id": len(results)} | ({"series": series} if series else {}))
        return json.dumps({"results": results})

    def understands(self, asked: Asked, since: datetime, until: datetime) -> None:
        found = form(asked)
        statement = found["q"][0].split("; ")[3]
        assert (found["db"], found["epoch"]) == (["shop"], ["ms"])
        assert statement.startswith('SELECT sum("errors") FROM "hits" WHERE "color" = \'green\' AND time >= ')
        assert f"time < {int(until.timestamp() * 1000)}ms GROUP BY time(10s, " in statement


class Endpoint(Recorded):
    """An endpoint of one's own: what the docs say it should answer."""

    def answer(self, words: Words, since: datetime, until: datetime) -> str:
        told = {}
        for color, says in words.items():
            requests = says.requests if says.times < 2 else [says.requests] * says.times
            told[color] = {"requests": requests, "errors": says.errors, "at": until.timestamp() - says.age}
        return json.dumps({color: told[color] for color, says in words.items() if says.times})

    def understands(self, asked: Asked, since: datetime, until: datetime) -> None:
        assert asked.path == f"/counts?since={since.timestamp():.3f}"


class Elasticsearch(Recorded):
    """Elastic, "Filters aggregation": https://www.elastic.co/guide/en/elasticsearch/reference/current/search-aggregations-bucket-filters-aggregation.html."""

    def answer(self, words: Words, since: datetime, until: datetime) -> str:
        buckets = {color: self.bucket(says, until) for color, says in words.items()}
        shards = {"total": 2, "successful": 2, "skipped": 0, "failed": 0}
        found = {"took": 3, "timed_out": False, "_shards": shards, "aggregations": {"colors": {"buckets": buckets}}}
        return json.dumps(found)

    def bucket(self, says: Says, until: datetime) -> Mapping[str, Any]:
        at = self.told_at(says, until).timestamp() * 1000 if says.times else None
        counts = {"errors": {"doc_count": says.errors}, "requests": {"doc_count": says.requests}}
        return {"doc_count": 4000, "latest": {"value": at}, **counts}

    def understands(self, asked: Asked, since: datetime, until: datetime) -> None:
        assert (asked.method, asked.path) == ("POST", "/logs-shop-*/_search")
        wanted = json.loads(asked.body)
        assert wanted["query"]["range"]["@timestamp"] == {"gte": since.isoformat(), "lt": until.isoformat()}
        assert wanted["aggs"]["colors"]["filters"]["filters"]["green"] == {"query_string": {"query": "color:green"}}


class Splunk(Recorded):
    """Splunk, "Search endpoints", search/jobs/export with output_mode=json: https://docs.splunk.com/Documentation/Splunk/latest/RESTREF/RESTsearch."""

    def answer(self, words: Words, since: datetime, until: datetime) -> str:
        lines = [
            {"preview": True, "offset": 0, "result": {"bluegreen": "blue", "lines": "1", "errors": "1", "latest": "1"}}
        ]
        for color, says in words.items():
            row = {"bluegreen": color, "lines": "4000", "requests": str(says.requests), "errors": str(says.errors)}
            row |= {"latest": f"{self.told_at(says, until).timestamp()}"} if says.times else {"errors": "0"}
            lines += [{"preview": False, "offset": len(lines), "result": row}] * max(1, says.times)
        return "\n".join(json.dumps(line) for line in lines) + "\n"

    def understands(self, asked: Asked, since: datetime, until: datetime) -> None:
        found = form(asked)
        assert asked.path == "/services/search/jobs/export"
        assert found["output_mode"] == ["json"]
        span = f"earliest={since.timestamp():.3f} latest={until.timestamp():.3f}"
        assert f"| append [search (index=web color=green) {span} | stats count AS lines" in found["search"][0]
        assert 'count(eval(level="ERROR")) AS errors' in found["search"][0]


_HITS = {"requests": 'hits{color="$color"}', "errors": 'hits{color="$color",failed="1"}'}
_METRIC = {"namespace": "AWS/ApplicationELB", "dimensions": {"TargetGroup": "shop-$color"}}
_INFLUX = 'SELECT sum("%s") FROM "hits" WHERE "color" = \'$color\''
RECORDED: dict[str, Recorded] = {
    "prometheus": Vectors({**_HITS, "tenant": "team"}),
    "loki": Loki({"lines": '{color="$color"}', "errors": '|= "level=error"', "requests": '|= "GET"', "tenant": "team"}),
    "datadog": Datadog(
        {what: f"sum:shop.{what}{{env:$color}}.as_count()" for what in ("requests", "errors")},
        extra={"api_key": "the-api-key", "app_key": SECRET}, sent_as="DD-APPLICATION-KEY",
    ),
    "newrelic": NewRelic({"account": 42, "requests": "environment = '$color'"}, sent_as="API-Key"),
    "cloudwatch": CloudWatch(
        {"region": "eu-west-1", "requests": {**_METRIC, "metric": "RequestCount"}, "errors": {**_METRIC, "metric": "HTTPCode_Target_5XX_Count"}}
    ),
    "graphite": Graphite({what: f"sumSeries(shop.$color.*.{what})" for what in ("requests", "errors")}),
    "influxdb": Influx({"database": "shop", **{what: _INFLUX % what for what in ("requests", "errors")}}),
    "http": Endpoint(
        {"url": "/counts?since=$since", "requests": "$color.requests", "errors": "$color.errors", "at": "$color.at"}
    ),
    "elasticsearch": Elasticsearch(
        {"index": "logs-shop-*", "lines": "color:$color", "errors": "level:error", "requests": "type:access"},
        cannot={"two series": "a bucket has a name, and a name is there once"},
    ),
    "splunk": Splunk({"lines": "index=web color=$color", "errors": 'level="ERROR"', "requests": 'kind="access"'}),
}  # fmt: skip


def since_until() -> tuple[datetime, datetime]:
    """Return a span of a quarter of an hour, in whole seconds."""
    until = datetime.now(UTC).replace(microsecond=0)
    return until - timedelta(minutes=15), until
