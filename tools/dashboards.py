"""
Writes the Grafana dashboards of ``include/monitoring/dashboards``: ``make dashboards``.

The guide's two panels (request rate and error rate by environment) and what a release needs beside them. Colors on the
screen are the colors' own; every expression is asked of a real Prometheus in ``tests/monitoring``.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from grafana_foundation_sdk.builders import common, prometheus, timeseries
from grafana_foundation_sdk.builders import dashboard as build
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import common as options
from grafana_foundation_sdk.models import dashboard as model

FOLDER = Path(__file__).parents[1] / "include" / "monitoring" / "dashboards"
SOURCE = model.DataSourceRef(type_val="prometheus", uid="${datasource}")
ONE = 'service="$service"'
HTTP = f'haproxy_backend_http_responses_total{{{ONE}, color!=""}}'
FAILED = f'haproxy_backend_http_responses_total{{{ONE}, color!="", code="5xx"}}'
BUCKETS = f"http_request_duration_seconds_bucket{{{ONE}}}"

Queries = Sequence[tuple[str, str]]
"""Pairs of PromQL and legend."""


def quantile(share: float) -> str:
    """Return the PromQL of a response time by color, in seconds."""
    return f"histogram_quantile({share}, sum by (le, color) (rate({BUCKETS}[$__rate_interval])))"


def panel(title: str, unit: str, queries: Queries, *, says: str = "", most: float | None = None) -> timeseries.Panel:
    """
    Return one panel over time.

    :param unit: Grafana's name of it
    :param says: what to look for
    :param most: the upper end of its axis
    """
    made = timeseries.Panel().title(title).description(says).unit(unit).datasource(SOURCE).min(0).span(12).height(8)
    made = made.fill_opacity(10).show_points(options.VisibilityMode.NEVER)
    made = made.tooltip(common.VizTooltipOptions().mode(options.TooltipDisplayMode.MULTI))
    if most is not None:
        made = made.max(most)
    for color in ("blue", "green"):
        shade = model.FieldColor(mode=model.FieldColorModeId.FIXED, fixed_color=color)
        made = made.override_by_regexp(
            f"/^{color}/",
            [model.DynamicConfigValue(id_val="color", value=json.loads(json.dumps(shade, cls=JSONEncoder)))],
        )
    for number, (expr, legend) in enumerate(queries):
        query = prometheus.Dataquery().expr(expr).legend_format(legend).ref_id(chr(ord("A") + number))
        made = made.with_target(query.datasource(SOURCE))
    return made


def traffic() -> list[timeseries.Panel]:
    """What users get, by color; from HAProxy's exporter and the services' histograms."""
    rate = f"sum by (color) (rate({HTTP}[$__rate_interval]))"
    errors = f"sum by (color) (rate({FAILED}[$__rate_interval]))"
    whole = f"sum(rate({HTTP}[$__rate_interval])) > 0"
    sessions = f'sum by (color) (haproxy_backend_current_sessions{{{ONE}, color!=""}})'
    queued = f'sum by (color) (haproxy_backend_current_queue{{{ONE}, color!=""}})'
    up = f'min by (color) (haproxy_backend_active_servers{{{ONE}, color!=""}})'
    return [
        panel(
            "Traffic split", "percent",
            [(f"100 * {rate} / on () group_left () ({whole})", "{{color}} measured"),
             (f"max by (color) (bluegreen_traffic_share{{{ONE}}})", "{{color}} written")],
            says="What the stamp says, and what HAProxy really sends", most=100,
        ),
        panel("Request rate by color", "reqps", [(rate, "{{color}}")]),
        panel("Error rate", "percent", [(f"100 * {errors} / ({rate} > 0)", "{{color}}")], says="Answers 500 to 599"),
        panel("Response time", "s", [(quantile(0.5), "{{color}} p50"), (quantile(0.99), "{{color}} p99")]),
        panel("Connections by color", "short", [(sessions, "{{color}}"), (queued, "{{color}} queued")]),
        panel(
            "Drain of the old color", "short",
            [(f"{sessions} and on (color) max by (color) (bluegreen_traffic_share{{{ONE}}}) == 0", "{{color}}")],
            says="Requests in flight on the color that gets no new ones: it falls to 0",
        ),
        panel("Servers that take requests", "short", [(up, "{{color}}")], says="Of the node that sees fewest"),
    ]  # fmt: skip


def releases() -> list[timeseries.Panel]:
    """What the releases do, from Airflow's metrics."""
    every = 'service=~"$service"'

    def grown(name: str, by: str) -> str:
        return f"sum by ({by}) (increase(bluegreen_{name}_total{{{every}}}[$__rate_interval]))"

    def slow(name: str, by: str) -> str:
        rate = f"rate(bluegreen_{name}_bucket{{{every}}}[$__rate_interval])"
        return f"histogram_quantile(0.9, sum by (le, {by}) ({rate}))"

    return [
        panel("Phase", "short", [(f"bluegreen_phase{{{every}}} == 1", "{{service}} {{phase}}")]),
        panel("Not ended for", "s", [(f"bluegreen_unfinished_seconds{{{every}}}", "{{service}}")]),
        panel("Runs by outcome", "short", [(grown("runs", "kind, outcome"), "{{kind}}: {{outcome}}")]),
        panel("Duration, p90", "s", [(slow("run_seconds", "kind, outcome"), "{{kind}}: {{outcome}}")]),
        panel("Shifts", "short", [(grown("shifts", "phase, proven"), "{{phase}}, {{proven}}")]),
        panel("Verdicts of watches", "short", [(grown("watches", "verdict"), "{{verdict}}")]),
        panel("Restores by who", "short", [(grown("restores", "by, outcome"), "{{by}}: {{outcome}}")]),
        panel("Verdict to restored, p90", "s", [(slow("restore_seconds", "service"), "{{service}}")]),
        panel(
            "Failed requests during releases", "short",
            [(grown("release_failed_requests", "service, color"), "{{color}} {{service}}")],
        ),
        panel("Looks of the guard", "short", [(grown("guard_looks", "action"), "{{action}}")]),
        panel("Renewals missed", "short", [(grown("lease_renewals_missed", "service"), "{{service}}")]),
        panel("Router nodes that lag", "short", [(f"bluegreen_nodes_lagging{{{every}}}", "{{service}}")]),
    ]  # fmt: skip


def markers() -> build.AnnotationQuery:
    """Return the lines that ``notify.markers`` leaves in Grafana."""
    made = build.AnnotationQuery().name("Releases").enable(True).icon_color("purple")
    made = made.datasource(model.DataSourceRef(type_val="grafana", uid="-- Grafana --"))
    return made.target(build.AnnotationTarget().limit(100).match_any(False).tags(["bluegreen"]).type("tags"))


def dashboard(uid: str, title: str, panels: Sequence[timeseries.Panel], *, several: bool) -> str:
    """
    Return a dashboard as Grafana's JSON.

    :param several: more than one service may be chosen
    """
    services = (
        build.QueryVariable("service")
        .label("Service")
        .datasource(SOURCE)
        .query("label_values(bluegreen_phase, service)")
    )
    services = services.multi(several).include_all(several).refresh(model.VariableRefresh.ON_DASHBOARD_LOAD)
    made = build.Dashboard(title).uid(uid).tags(["bluegreen"]).refresh("10s").time("now-1h", "now").readonly()
    made = made.with_variable(build.DatasourceVariable("datasource").label("Prometheus").type("prometheus"))
    made = made.with_variable(services).annotation(markers())
    for each in panels:
        made = made.with_panel(each)
    return json.dumps(made.build(), cls=JSONEncoder, indent=2, sort_keys=True) + "\n"


def dashboards() -> dict[str, str]:
    """Return file names and what is to stand in them."""
    return {
        "service.json": dashboard("bluegreen-service", "Blue-green: one service", traffic(), several=False),
        "releases.json": dashboard("bluegreen-releases", "Blue-green: releases", releases(), several=True),
    }


if __name__ == "__main__":
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, text in dashboards().items():
        (FOLDER / name).write_text(text)
