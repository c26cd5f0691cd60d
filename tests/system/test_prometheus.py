"""Prometheus's rules in a real triggerer: the login comes from an Airflow connection, and stands nowhere else."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import pytest

from tests.rigs.prometheus import BINARY, LOGIN, PASSWORD, PrometheusRig

pytestmark = [
    pytest.mark.prometheus,
    pytest.mark.skipif(BINARY is None, reason="no prometheus here: apt-get install prometheus"),
]
RULES = [
    {"type": "prometheus", "metric": "error_rate", "max": 5, "min_requests": 5},
    {"type": "prometheus", "metric": "p99_ms", "max": 1000, "min_requests": 5},
]


@pytest.fixture(scope="module")
def prometheus(whole_stack):
    with PrometheusRig(login=True) as rig:
        found = {"connection_id": "metrics", "conn_type": "http", "login": LOGIN, "password": PASSWORD}
        whole_stack.api.post("connections", found | {"extra": '{"a": "field"}'})
        yield rig


@pytest.fixture
def asking(stack, prometheus):
    """The service with rules of Prometheus alone."""
    prometheus.reset()
    told = {"type": "prometheus", "url": prometheus.url, "connection": "metrics", "interval": "500ms"}
    release = stack.shop.service()["release"] | {"rules": RULES}
    stack.write(evidence=told, release=release)
    return stack


def test_a_good_version_goes_live_by_prometheus_alone(asking):
    run = asking.release()
    assert run.ended() == "success", run.note()
    for watch in ("canary_1_watch", "watch"):
        end = asking.api.xcom(asking.dag, run.run_id, watch)
        assert [rule.get("value") for rule in end["verdict"]["numbers"]["rules"]][1] == 0, end
    left = [run.log(task) for task in ("plan", "canary_1_watch", "watch", "finish")]
    left.append(str(asking.api.xcom(asking.dag, run.run_id, "plan")))
    assert PASSWORD not in "".join(left)


def test_a_version_that_prometheus_calls_bad_is_put_back_by_the_trigger(asking, prometheus):
    before = asking.status()["live"]
    prometheus.traffic[{"blue": "green", "green": "blue"}[before]].errors = 0.5
    run = asking.release(canary_watch="60s")
    run.reaches("canary_1_watch", "deferred")
    assert PASSWORD not in database(asking)
    assert run.ended() == "failed"
    assert (asking.status()["live"], asking.phase()) == (before, "restored")
    assert "canary_1_watch: error_rate by Prometheus" in run.note()
    end = asking.api.xcom(asking.dag, run.run_id, "canary_1_watch", "end")
    assert end["restored"]["outcome"] == "restored"  # by the trigger itself, not by the rollback task


def database(stack):
    """All of Airflow's database as text; what Airflow encrypts cannot be read there, what we leave can."""
    with closing(sqlite3.connect(next(stack.airflow.home.glob("*.db")))) as found:
        return "\n".join(found.iterdump())
