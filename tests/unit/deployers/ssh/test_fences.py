"""The fence of each host: a newer claim stops all, an older one is waited for."""

from __future__ import annotations

import json
import threading
from contextlib import ExitStack

import pytest

from bluegreen.core.errors import DeployError, DeployFenced
from bluegreen.hosts.host_fence import HostFence
from tests.unit.deployers.ssh.far import NEEDS_SSHD, RELEASE, before, deploy

pytestmark = NEEDS_SSHD


def test_each_host_has_its_own_record(make):
    rig = make()
    deploy(rig)
    records = [json.loads(rig.fence(host).read_text().splitlines()[0]) for host in rig.hosts]
    assert [(r["epoch"], r["release"], r["done"]) for r in records] == [(4, RELEASE, "2.0")] * 2


def test_a_newer_claim_on_one_host_stops_all_of_them(make):
    rig = make()
    with HostFence(str(rig.fence(rig.hosts[1]).parent), "shop", "green").enter(5, "newer@5", 0):
        pass
    with pytest.raises(DeployFenced, match=r"fence has epoch 5 of newer@5 .*found epoch 4") as raised:
        deploy(rig)
    assert "nothing was touched" in str(raised.value)
    assert [rig.ran(host) for host in rig.hosts] == [0, 0]


def test_an_older_deploy_that_runs_is_waited_for_and_named(make):
    rig = make(count=1)
    fence = HostFence(str(rig.fence(rig.hosts[0]).parent), "shop", "green")
    with fence.enter(3, "older@3", 0), pytest.raises(DeployFenced, match=r"held by epoch 3 of older@3 \(process"):
        deploy(rig)
    with ExitStack() as stack:
        stack.enter_context(fence.enter(3, "older@3", 0))
        timer = threading.Timer(2, stack.pop_all().close)
        timer.start()
        assert deploy(rig, wait=20).ready == 1
        assert timer.finished.is_set()


@pytest.mark.parametrize("step", ["stage", "put", "commit", "run", "finish"])
def test_a_deploy_that_was_overtaken_is_refused_at_each_step(make, monkeypatch, step):
    rig = make(count=1, upload=[{"from": "FOLDER/app", "to": "FOLDER/$HOST/app"}])
    host = rig.hosts[0]
    (rig.folder / "app").write_text("new")
    rig.on(host, "app").write_text("old")

    def overtake(_):
        rig.fence(host).unlink()  # as somebody did who found it in the way
        with HostFence(str(rig.fence(host).parent), "shop", "green").enter(5, "newer@5", 0):
            pass

    before(monkeypatch, step, overtake)
    with pytest.raises(DeployFenced, match=r"epoch 5 of newer@5"):
        deploy(rig)
    assert rig.on(host, "app").read_text() == ("new" if step in ("run", "finish") else "old")
    assert rig.ran(host) == (1 if step == "finish" else 0)
    assert json.loads(rig.fence(host).read_text().splitlines()[0])["epoch"] == 5


def test_a_connection_that_was_lost_is_never_taken_up_again(make, monkeypatch):
    rig = make(count=1, upload=[{"from": "/etc/hostname", "to": "FOLDER/$HOST/app"}])
    before(monkeypatch, "run", lambda _: rig.sshds[rig.hosts[0]].cut())
    with pytest.raises(DeployError, match=r"was lost|is lost"):
        deploy(rig)
    assert rig.deploys() == 0
