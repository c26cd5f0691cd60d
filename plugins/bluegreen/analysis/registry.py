"""Which class makes which kind of evidence source. A new kind is a line here."""

from __future__ import annotations

from collections.abc import Mapping
from pkgutil import resolve_name
from typing import cast

from bluegreen.analysis.counted import CountSource
from bluegreen.analysis.polled import Source
from bluegreen.catalog.models import Service
from bluegreen.core.ports import Secrets

SOURCES = {
    "prometheus": "bluegreen.analysis.prometheus_api:PrometheusSource",
}
"""Type in the service file -> module and class, imported when a service wants it; made with (section, secrets)."""

COUNT_SOURCES = {
    "prometheus": "bluegreen.analysis.counted_prometheus:PrometheusCountSource",
    "datadog": "bluegreen.analysis.counted_datadog:DatadogCountSource",
    "newrelic": "bluegreen.analysis.counted_newrelic:NewRelicCountSource",
    "cloudwatch": "bluegreen.analysis.counted_cloudwatch:CloudWatchCountSource",
    "graphite": "bluegreen.analysis.counted_graphite:GraphiteCountSource",
    "influxdb": "bluegreen.analysis.counted_influxdb:InfluxCountSource",
    "sql": "bluegreen.analysis.counted_sql:SqlCountSource",
    "http": "bluegreen.analysis.counted_endpoint:EndpointCountSource",
    "loki": "bluegreen.analysis.counted_loki:LokiCountSource",
    "elasticsearch": "bluegreen.analysis.counted_elasticsearch:ElasticsearchCountSource",
    "splunk": "bluegreen.analysis.counted_splunk:SplunkCountSource",
}
"""The same for sources that count by color (``counted.py``)."""


def make_source(service: Service, secrets: Secrets) -> Source | None:
    """Make the source of a service's evidence beyond the router's counters; None where the service names none."""
    if service.evidence is None:
        return None
    return cast("Source", resolve_name(SOURCES[service.evidence.type])(service.evidence, secrets))


def make_count_sources(service: Service, secrets: Secrets) -> Mapping[str, CountSource]:
    """Make the sources of a service that count by color, by their names."""
    return {
        section.name: cast("CountSource", resolve_name(COUNT_SOURCES[section.type])(section, secrets))
        for section in service.sources
    }
