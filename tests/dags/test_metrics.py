"""Metrics of our own through Airflow's real StatsD client: what arrives at a socket, and that none of it can fail a release."""

from __future__ import annotations

import asyncio
import re
import socket
from datetime import timedelta

import pytest
from airflow.sdk._shared.observability.metrics.base_stats_logger import NoStatsLogger
from airflow.sdk._shared.observability.metrics.statsd_logger import get_statsd_logger
from airflow.sdk.observability import stats
from statsd import StatsClient

from bluegreen import metrics
from bluegreen.core.colors import Color
from bluegreen.core.errors import RouterUnreachable
from bluegreen.release.guard import guard
from bluegreen.release.restore import restore
from bluegreen.release.shift import shift
from bluegreen.release.watch import watch
from tests.dags.test_operators import context
from tests.unit.release.test_watch import RealTime, canary
from tests.unit.release.world import claimed


@pytest.fixture
def received():
    """What came to the socket, as {name with tags: (value, kind)}."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sink:
        sink.bind(("127.0.0.1", 0))
        sink.settimeout(0.2)
        port = sink.getsockname()[1]

        def make():
            return get_statsd_logger(
                stats_class=StatsClient, host="127.0.0.1", port=port, prefix="airflow",
                influxdb_tags_enabled=True, statsd_influxdb_enabled=True,
            )  # fmt: skip

        stats.initialize(factory=make, export_legacy_names=False)

        def read():
            found = {}
            try:
                while True:
                    name, value, kind = re.fullmatch(r"(.+):([\d.+-]+)\|(\w+)", sink.recv(4096).decode()).groups()
                    found[name] = (float(value), kind)
            except TimeoutError:
                return found

        yield read
        stats.initialize(factory=NoStatsLogger, export_legacy_names=False)


def shifted(world, share=10):
    return shift(world.ports(), world.release, "canary_1", share, world.release.epoch)


def test_a_shift_says_its_phase_and_whether_it_was_proven(received):
    metrics.shifted("shop", shifted(claimed()).as_json())
    assert received() == {"airflow.bluegreen.shifts,service=shop,phase=canary,proven=proven": (1, "c")}


def test_a_bad_watch_counts_its_verdict_its_restore_and_the_seconds(received):
    world = RealTime()
    ports, spec = canary(world, lasts=30)
    world.errors[Color.GREEN] = 0.5
    end = asyncio.run(watch(ports, spec)).model_dump(mode="json")
    metrics.watched("shop", end, "canary_1_watch")
    found = received()
    assert found["airflow.bluegreen.watches,service=shop,verdict=unhealthy"] == (1, "c")
    assert found["airflow.bluegreen.restores,service=shop,by=watch,outcome=restored"] == (1, "c")
    milliseconds, kind = found["airflow.bluegreen.restore_seconds,service=shop"]
    assert (0 <= milliseconds < 5000, kind) == (True, "ms")


def test_renewals_that_fail_are_counted(received, monkeypatch):
    world = RealTime()
    ports, spec = canary(world, lasts=0.6)

    def renew(*_):
        raise RouterUnreachable("gone", service="shop", next_step="none")

    monkeypatch.setattr(ports.router, "renew", renew)
    end = asyncio.run(watch(ports, spec)).model_dump(mode="json")
    metrics.watched("shop", end, "watch")
    assert end["renewals_missed"] >= 1
    assert received()["airflow.bluegreen.lease_renewals_missed,service=shop"] == (end["renewals_missed"], "c")


def test_who_only_confirms_a_restore_counts_none(received):
    world = claimed()
    shifted(world)
    for by in ("rollback", "safe"):
        metrics.restored("shop", restore(world.ports(), "it failed", by, world.release.run).as_json(), by)
    assert received() == {"airflow.bluegreen.restores,service=shop,by=rollback,outcome=restored": (1, "c")}


def test_a_persons_name_is_no_label(received):
    metrics.restored("shop", {"outcome": "restored"}, "ann@example.com")
    assert received() == {"airflow.bluegreen.restores,service=shop,by=person,outcome=restored": (1, "c")}


def test_the_guard_tells_what_it_sees(received):
    world = claimed()
    shifted(world)
    metrics.guarded("shop", guard(world.ports(), "guardian"))
    found = received()
    assert found["airflow.bluegreen.guard_looks,service=shop,action=none"] == (1, "c")
    assert [name for name, (value, _) in found.items() if "phase=" in name and value] == [
        "airflow.bluegreen.phase,service=shop,phase=canary"
    ]
    assert found["airflow.bluegreen.traffic_share,service=shop,color=green"] == (10, "g")
    assert found["airflow.bluegreen.unfinished_seconds,service=shop"][0] > 0


def test_the_guards_own_restore_counts_as_the_guardians(received):
    world = claimed()
    shifted(world)
    world.time += timedelta(hours=1)
    metrics.guarded("shop", guard(world.ports(), "guardian"))
    found = received()
    assert found["airflow.bluegreen.restores,service=shop,by=guardian,outcome=restored"] == (1, "c")
    assert found["airflow.bluegreen.unfinished_seconds,service=shop"] == (0, "g")


def test_a_router_that_cannot_be_asked_is_a_failed_look_and_no_zero(received):
    metrics.guarded("shop", None)
    assert received() == {"airflow.bluegreen.guard_looks,service=shop,action=failed": (1, "c")}


REPORT = {
    "kind": "release",
    "outcome": "not promoted",
    "began": "2026-11-24T12:00:00+00:00",
    "written": "2026-11-24T12:01:30+00:00",
    "requests": {"colors": {"blue": {"requests": 900, "errors": 0}, "green": {"requests": 100, "errors": 7}}},
}


def test_a_run_that_is_over_says_outcome_duration_and_failed_requests(received):
    metrics.released("shop", REPORT)
    found = received()
    assert found["airflow.bluegreen.runs,service=shop,kind=release,outcome=not_promoted"] == (1, "c")
    assert found["airflow.bluegreen.run_seconds,service=shop,kind=release,outcome=not_promoted"] == (90_000, "ms")
    assert found["airflow.bluegreen.release_failed_requests,service=shop,color=green"] == (7, "c")
    assert "airflow.bluegreen.release_failed_requests,service=shop,color=blue" not in found


def test_a_receiver_that_breaks_changes_nothing_and_its_words_are_not_logged(caplog):
    class Broken:
        def incr(self, *_, **__):
            raise OSError("s3cret")

    stats.initialize(factory=Broken, export_legacy_names=False)
    try:
        metrics.released("shop", REPORT)
    finally:
        stats.initialize(factory=NoStatsLogger, export_legacy_names=False)
    assert "no metric from released: OSError" in caplog.text
    assert "s3cret" not in caplog.text


@pytest.mark.parametrize("emit", [metrics.shifted, metrics.released])
def test_what_cannot_be_read_is_one_line_in_the_log(emit, caplog):
    emit("shop", {})
    assert f"no metric from {emit.__name__}: KeyError" in caplog.text


@pytest.fixture
def acted(monkeypatch):
    """Run steps of a release on a world, and return the marks that they leave in dashboards."""
    from bluegreen.operators import base, ending, release_steps, traffic

    marks = []
    monkeypatch.setattr(base, "marked", lambda _, __, mark, ___: lambda: marks.append((mark.turn, mark.text)))
    world = claimed()
    for operator in (traffic.ShiftOperator, ending.FinishOperator, release_steps.PlanOperator):
        monkeypatch.setattr(operator, "ports", lambda *_: world.ports())
    monkeypatch.setattr(ending.RollbackOperator, "way_back_ports", lambda *_: world.ports())
    left = {("plan", "return_value"): world.release.as_json()}

    def act(operator, **more):
        at = context(left | more.pop("left", {}), **more)
        value = operator.execute(at)
        left[operator.task_id, "return_value"] = value
        return value

    act.marks, act.world = marks, world
    return act


def test_every_step_that_moves_traffic_is_counted_and_marked(received, acted):
    from bluegreen.operators.ending import FinishOperator
    from bluegreen.operators.traffic import ShiftOperator

    healthy = {"says": "healthy", "release": acted.world.release.release}
    acted(ShiftOperator(task_id="canary_1", service="shop", canary=0, after=["plan"]))
    assert "airflow.bluegreen.shifts,service=shop,phase=canary,proven=proven" in received()
    assert acted.marks == [], "a canary is no turn of a release"
    after = {"watches": ["canary_1_watch"], "after": ["plan", "canary_1"]}
    switch = acted(
        ShiftOperator(task_id="switch", service="shop", **after), left={("canary_1_watch", "return_value"): healthy}
    )
    assert "airflow.bluegreen.shifts,service=shop,phase=switched,proven=proven" in received()
    acted(
        FinishOperator(task_id="finish", service="shop"),
        left={("watch", "return_value"): healthy | {"epoch": switch["epoch"]}},
    )
    assert "airflow.bluegreen.shifts,service=shop,phase=settled,proven=proven" in received()
    assert acted.marks == [
        ("switch", "shop: all traffic on green, 2; it is watched now"),
        ("finish", "shop: 2 is live on green"),
    ]


def test_a_rollback_is_counted_with_who_did_it(received, acted):
    from bluegreen.operators.ending import RollbackOperator
    from bluegreen.operators.traffic import ShiftOperator

    acted(ShiftOperator(task_id="canary_1", service="shop", canary=0, after=["plan"]))
    acted(RollbackOperator(task_id="rollback", service="shop"))
    assert "airflow.bluegreen.restores,service=shop,by=rollback,outcome=restored" in received()


def test_a_watch_passes_its_word_on_to_the_counters(received, acted):
    from bluegreen.sensors.watch import WatchSensor

    ports, spec = canary(RealTime(), lasts=0.5)
    end = asyncio.run(watch(ports, spec)).model_dump(mode="json")
    sensor = WatchSensor(task_id="canary_1_watch", service="shop", shift="canary_1", canary=0)
    sensor.resume(context(), end, spec.model_dump(mode="json"))
    assert received()["airflow.bluegreen.watches,service=shop,verdict=healthy"] == (1, "c")
