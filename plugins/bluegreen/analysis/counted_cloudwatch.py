"""CloudWatch metrics: four sums in one GetMetricData, through boto3."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from bluegreen.analysis.counted import Told, each, refuse
from bluegreen.analysis.counted_points import Point, Points, one_series
from bluegreen.analysis.counted_thread import ThreadCounts
from bluegreen.catalog.evidence import COLOR
from bluegreen.catalog.sources import CloudWatchCounts, CloudWatchMetric
from bluegreen.core.colors import Color
from bluegreen.core.errors import CheckFailed
from bluegreen.core.ports import Credentials

_NOT_UNDERSTOOD = ("ValidationError", "InvalidParameterValue", "InvalidParameterCombination", "MissingParameter")


class CloudWatchCountSource(ThreadCounts[CloudWatchCounts]):
    """See ``counted.py``."""

    who = "CloudWatch"
    at_once = True

    def connect(self, credentials: Credentials | None) -> tuple[Any, tuple[str, ...]]:
        """See ``ThreadCounts``."""
        try:
            import boto3  # noqa: PLC0415 - only who has such a source needs it
            from botocore.config import Config  # noqa: PLC0415
        except ImportError as error:
            raise CheckFailed(
                "boto3 is not installed",
                part=f"source {self.section.name}",
                next_step="install it: pip install 'airflow-blue-green[cloudwatch]', or boto3",
            ) from error
        seconds = self.section.timeout.total_seconds()
        # One try: the next question is the next try.
        config = Config(connect_timeout=seconds, read_timeout=seconds, retries={"total_max_attempts": 1})
        keys = _keys(credentials) if credentials else {}
        client = boto3.session.Session().client(
            "cloudwatch", region_name=self.section.region, endpoint_url=self.section.url, config=config, **keys
        )
        return client, tuple(value for name, value in keys.items() if name != "aws_access_key_id" and value)

    def ask(self, client: Any, colors: tuple[Color, ...], since: datetime, until: datetime) -> Told:
        """See ``ThreadCounts``."""
        from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415

        queries = [
            self._query(f"{color}_{what}", getattr(self.section, what), color)
            for color in colors
            for what in ("requests", "errors")
        ]
        try:
            found = client.get_metric_data(
                MetricDataQueries=queries, StartTime=since, EndTime=until, ScanBy="TimestampAscending"
            )
        except ClientError as error:
            said = error.response.get("Error", {})
            refuse(f"{self.who} says {error}", query=str(said.get("Code")) in _NOT_UNDERSTOOD)
        except BotoCoreError as error:
            refuse(f"{self.who} gives no answer: {error}")
        if found.get("NextToken"):
            refuse("incomplete: there are more points than one answer holds; make step longer")
        return each(colors, lambda color: self._counted(found["MetricDataResults"], color).counted(since, until))

    def _query(self, name: str, metric: CloudWatchMetric, color: Color) -> Mapping[str, Any]:
        dimensions = [{"Name": key, "Value": text.replace(COLOR, color)} for key, text in metric.dimensions.items()]
        meant = {"Namespace": metric.namespace, "MetricName": metric.metric, "Dimensions": dimensions}
        stat = {"Metric": meant, "Period": int(self.section.step.total_seconds()), "Stat": "Sum"}
        return {"Id": name, "MetricStat": stat}

    def _counted(self, results: Sequence[Any], color: Color) -> Points:
        requests, errors = (_points(results, f"{color}_{what}") for what in ("requests", "errors"))
        return Points(requests, errors, self.section.step)


def _keys(credentials: Credentials) -> dict[str, str | None]:
    return {
        "aws_access_key_id": credentials.login,
        "aws_secret_access_key": credentials.password,
        "aws_session_token": credentials.extra.get("aws_session_token"),
    }


def _points(results: Sequence[Any], name: str) -> Sequence[Point]:
    found = one_series([result for result in results if result["Id"] == name], name)
    if not found:
        return ()
    if found.get("StatusCode", "Complete") != "Complete":
        refuse(f"incomplete: {found['StatusCode']} of {name}")
    return list(zip(found["Timestamps"], found["Values"], strict=True))
