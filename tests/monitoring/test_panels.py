"""Every panel and every recorded number has data: real HAProxy, real StatsD through Airflow's client, a real Prometheus."""

from __future__ import annotations

import asyncio
import time
from datetime import timedelta

import pytest
from airflow.sdk._shared.observability.metrics.base_stats_logger import NoStatsLogger
from airflow.sdk._shared.observability.metrics.statsd_logger import get_statsd_logger
from airflow.sdk.observability import stats
from statsd import StatsClient

from bluegreen import metrics
from bluegreen.core.colors import Color
from bluegreen.release.guard import guard
from bluegreen.release.shift import shift
from bluegreen.release.watch import watch
from tests.dags.test_metrics import REPORT
from tests.monitoring.test_files import expressions
from tests.rigs.monitoring import EXPORTER, MonitoringRig, StatsdExporter
from tests.rigs.prometheus import BINARY
from tests.unit.release.test_watch import RealTime, canary
from tests.unit.release.world import claimed

pytestmark = [
    pytest.mark.prometheus,
    pytest.mark.haproxy,
    pytest.mark.skipif(BINARY is None, reason="no prometheus here: apt-get install prometheus"),
    pytest.mark.skipif(
        EXPORTER is None, reason="no statsd_exporter here: go install github.com/prometheus/statsd_exporter"
    ),
]


def sent(number):
    """What a bad release sends; the guard looks at a world that goes on."""
    world = claimed()
    left = shift(world.ports(), world.release, "canary_1", 10, world.release.epoch).as_json()
    metrics.shifted("shop", left)
    if number % 2:
        world.time += timedelta(hours=1)
    metrics.guarded("shop", guard(world.ports(), "guardian"))
    metrics.released("shop", REPORT)


def verdict():
    world = RealTime()
    ports, spec = canary(world, lasts=30)
    world.errors[Color.GREEN] = 0.5
    return asyncio.run(watch(ports, spec)).model_dump(mode="json") | {"renewals_missed": 1}


@pytest.fixture(scope="module")
def rig():
    with StatsdExporter() as exporter, MonitoringRig(exporter.address) as rig:

        def make():
            client = {"stats_class": StatsClient, "host": "127.0.0.1", "port": exporter.port, "prefix": "airflow"}
            return get_statsd_logger(**client, influxdb_tags_enabled=True, statsd_influxdb_enabled=True)

        stats.initialize(factory=make, export_legacy_names=False)
        rig.services.traffic["green"].seconds = 0.7
        rig.backends.set_error_rate("green", 1.0)
        rig.node.command(f"set map {rig.node.map_path} green 30")
        end, until, number = verdict(), time.monotonic() + 8, 0
        while time.monotonic() < until:
            sent(number)
            metrics.watched("shop", end, "canary_1_watch")
            for _ in range(10):
                rig.request()
            number += 1
            time.sleep(0.2)
        yield rig
        stats.initialize(factory=NoStatsLogger, export_legacy_names=False)


@pytest.mark.parametrize(("where", "expr"), [pytest.param(*both, id=both[0]) for both in expressions("10s")])
def test_the_panel_has_numbers(rig, where, expr):
    # The world of the last look has both colors under traffic: nothing drains there.
    found = rig.ask(expr.replace("== 0", "< 101") if "Drain" in where else expr)
    assert found
    assert all(row["value"][1] not in ("NaN", "+Inf") for row in found), found


def value(rig, expr):
    (row,) = rig.ask(expr)
    return float(row["value"][1])


def test_the_numbers_are_right(rig):
    told = dict(expressions("10s"))
    split = {row["metric"]["color"]: float(row["value"][1]) for row in rig.ask(told["service.json: Traffic split: A"])}
    assert split["blue"] + split["green"] == pytest.approx(100)
    assert 15 < split["green"] < 45
    errors = {row["metric"]["color"]: float(row["value"][1]) for row in rig.ask(told["service.json: Error rate: A"])}
    assert errors == {"blue": 0, "green": pytest.approx(100)}
    p99 = {row["metric"]["color"]: float(row["value"][1]) for row in rig.ask(told["service.json: Response time: B"])}
    assert p99["blue"] <= 0.1
    assert 0.5 < p99["green"] <= 1.0


def test_airflows_metrics_arrive_under_the_names_that_the_rules_ask_for(rig):
    assert value(rig, 'bluegreen_run_seconds_sum{outcome="not_promoted"} / bluegreen_run_seconds_count') == 90
    assert value(rig, 'bluegreen_release_failed_requests_total{color="green"} / on () bluegreen_runs_total') == 7
    assert value(rig, 'sum(bluegreen_restores_total{by="guardian"}) > bool 0') == 1
    assert value(rig, "count(count by (phase) (bluegreen_phase))") == 8


def test_the_recorded_numbers_are_there(rig):
    colors = {row["metric"]["color"] for row in rig.ask("service_color:requests:rate1m > 0")}
    assert colors == {"blue", "green"}
    assert value(rig, 'service_color:error_ratio:rate1m{color="green"}') == pytest.approx(1)
