"""A bad release on real HAProxy nodes under load: what the report counts and times is what the users' side saw."""

from __future__ import annotations

import asyncio
import json
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from bluegreen.catalog.load import load_file
from bluegreen.core.ports import Credentials
from bluegreen.core.stamp import now_utc
from bluegreen.release.adopt import adopt
from bluegreen.release.deploy import deploy
from bluegreen.release.plan import Request, plan
from bluegreen.release.report import Ran, Step, report
from bluegreen.release.shift import shift
from bluegreen.release.tally import tally
from bluegreen.release.watch import WatchSpec, baseline, watch
from bluegreen.release.wiring import ports_for
from demo.load import Load, LoadProcess
from demo.processes import LOOPBACK
from demo.shop import BAD, FIRST, LOAD_PATHS, Shop
from tests.rigs.webhook import SECRET, Webhook

pytestmark = pytest.mark.haproxy


@pytest.fixture
def folder():
    with tempfile.TemporaryDirectory(prefix="bg-") as short:  # a unix socket's path has 107 characters
        yield Path(short)


@pytest.fixture
def shop(folder):
    made = Shop(folder / "shop")
    try:
        yield made.start()
    finally:
        made.stop()


@pytest.fixture
def load(shop, folder):
    """Users on kept-alive connections."""
    targets = [(LOOPBACK, node.entry_port) for node in shop.nodes]
    made = LoadProcess(Load(targets, host_header="shop.test", connections=10, rate=200, paths=LOAD_PATHS), folder)
    yield made.start()
    made.kill()


def as_xcom(value):
    return json.loads(json.dumps(value, default=str))


def released(ports, until=timedelta(seconds=60)):
    """Release a bad version as the DAG does, until its watch has put it back."""
    adopt(ports, "tests", "begin", FIRST)
    made = plan(ports, Request(run="run-1", version=BAD, by="ann"))
    begun = tally(ports)
    deploy(ports, made)
    shifted = shift(ports, made, "canary_1", 50, made.epoch)
    since = now_utc()
    spec = WatchSpec(
        service=made.service, run=made.run, release=made.release, epoch=shifted.epoch, step="canary_1_watch",
        color=made.idle, since=since, until=since + until, baseline=baseline(ports),
    )  # fmt: skip
    end = asyncio.run(watch(ports, spec))
    steps = [Step("canary_1", "success", as_xcom(shifted.as_json()))]
    steps += [Step("canary_1_watch", "failed", None, as_xcom(end.model_dump(mode="json")))]
    reading, ended = as_xcom(ports.router.read().as_json()), tally(ports)
    ran = Ran(
        "release", "shop", "run-1", "not promoted", end.reason, "ann",
        plan=as_xcom(made.as_json()), reading=reading, begun=as_xcom(begun), ended=as_xcom(ended),
    )  # fmt: skip
    return report(ran, steps).as_json()


def seconds(text):
    return datetime.fromisoformat(text).timestamp()


def test_the_report_says_what_the_load_saw(shop, load, monkeypatch):
    monkeypatch.setenv("no_proxy", "*")
    service = load_file(shop.services_folder / "shop.yaml")
    with Webhook() as hook:
        service = service.model_copy(update={"notify": service.notify.model_copy(update={"webhook": "hook"})})
        said = []
        told = released(ports_for(service, lambda _: Credentials("", hook.url), said.append))
    series = load.wait_for_next().series
    back, bad = told["way_back"], next(one for one in series if one.version == BAD)
    assert back["last_answer"]["known"], back
    measured = seconds(back["last_answer"]["at"] or back["verdict_at"])
    # A sample each 0.1 s, and a machine that is busy; never before what the users saw.
    assert -0.05 < measured - bad.last_end < 0.5, (back, datetime.fromtimestamp(bad.last_end, UTC))
    assert seconds(back["verdict_at"]) <= seconds(back["restored_at"])

    counted = told["requests"]
    since, until = seconds(counted["since"]), seconds(counted["until"])
    seen = [r for r in load.records() if since <= r.start + r.latency_s < until and series[r.series].color]
    for color, ours in counted["colors"].items():
        theirs = [r for r in seen if series[r.series].color == color]
        proofs = sum(
            node["answers"].get(color, 0) for s in told["shifts"] for node in (s["proof"] or {}).get("nodes", [])
        )
        # At either end some answers are counted by one side only: 20 are 0.1 s of the load.
        assert abs(ours["requests"] - proofs - len(theirs)) <= 20, (color, counted, len(theirs))
        assert abs(ours["errors"] - sum(r.status >= 500 for r in theirs)) <= 5
    assert counted["colors"]["green"]["errors"] > 0
    assert counted["proofs"] >= 400
    *_, post = hook.got  # the verdict was told before the way back
    assert (post["event"], post["version"], post["live"]) == ("restored", BAD, "blue")
    assert SECRET not in "".join(said) + json.dumps(told)
