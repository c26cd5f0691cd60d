"""Retire, diagnose, and roles that follow the traffic."""

from __future__ import annotations

from contextlib import suppress
from datetime import timedelta

import pytest

from bluegreen.core.colors import Color
from bluegreen.core.errors import DeployError, DeployFenced
from bluegreen.deployers.ssh_hosts import SshDeployer
from bluegreen.hosts.host_fence import HostFence
from tests.unit.deployers.ssh.far import GREEN, NEEDS_SSHD, deploy, sh

pytestmark = NEEDS_SSHD


def retire(rig, epoch=4, lines=None):
    log = (lambda _: None) if lines is None else lines.append
    SshDeployer(rig.service, rig.secrets, log, timedelta(seconds=0.3)).retire(GREEN, epoch)


def test_retire_goes_on_where_a_host_is_down_and_names_it(make):
    rig = make()
    one, two = rig.hosts
    deploy(rig)
    rig.sshds[one].stop()
    with pytest.raises(DeployError) as raised:
        retire(rig)
    assert f"1 of 2 hosts failed:\n    {one}: " in str(raised.value)
    assert not rig.on(two, "green.version").exists()
    assert rig.on(one, "green.version").exists()


def test_retire_without_a_command_says_so(make, lines):
    retire(make(count=1, retire=None), lines=lines)
    assert "no retire command" in lines[0]


def test_diagnose_asks_each_host_and_never_fails(make, monkeypatch):
    monkeypatch.setattr("bluegreen.deployers.health_wait.DIAGNOSE_TIMEOUT", timedelta(seconds=0.5))
    rig = make(diagnose=sh('echo "log of $HOST"; [ -e "$0/slow" ] && sleep 60; seq 1 5000'))
    one, two = rig.hosts
    rig.on(one, "slow").touch()
    text = rig.deployer().diagnose(GREEN).splitlines()
    assert f"{one}: log of {one}" in text
    assert f"{one}: sh: did not end within 0.5 s and was killed" in text
    assert f"{two}: log of {two}" in text
    assert len(text) <= 200
    rig.sshds[two].stop()
    assert f"{two}: root@{two} cannot be reached" in rig.deployer().diagnose(GREEN)
    assert not rig.fence(one).exists()


def test_diagnose_runs_while_somebody_holds_the_fence(make):
    rig = make(count=1)
    fence = HostFence(str(rig.fence(rig.hosts[0]).parent), "shop", "green")
    with fence.enter(3, "older@3", 0), suppress(DeployError):
        assert f"log of green on {rig.hosts[0]}" in rig.deployer().diagnose(GREEN)


# Roles

VERSIONS = {Color.BLUE: "1.0", GREEN: "2.0"}


def test_a_role_stops_on_the_hosts_of_one_color_and_starts_on_those_of_the_other(make):
    rig = make(count=3, apart=True)
    blue, *green = rig.hosts
    rig.deployer().run_roles(Color.BLUE, 1, "run@1", VERSIONS)
    assert rig.processes[blue].runs("worker") == {Color.BLUE}
    rig.deployer().run_roles(GREEN, 2, "run@1", VERSIONS)
    assert rig.processes[blue].runs("worker") == set()
    assert [rig.processes[host].runs("worker") for host in green] == [{GREEN}] * 2
    assert rig.deployer().roles() == {"worker": GREEN, "cron": GREEN}


def test_a_role_is_not_started_while_a_host_where_it_may_run_is_not_reached(make):
    rig = make(apart=True)
    blue, green = rig.hosts
    rig.deployer().run_roles(Color.BLUE, 1, "run@1", VERSIONS)
    rig.sshds[blue].stop()
    with pytest.raises(DeployError) as raised:
        rig.deployer().run_roles(GREEN, 2, "run@1", VERSIONS)
    assert f"{blue}: root@{blue} cannot be reached" in str(raised.value)
    assert "it may still run on blue, so it was not started on green" in str(raised.value)
    assert not any(move.startswith("start") for move in rig.processes[green].moves())
    assert rig.deployer().roles() == {"worker": None, "cron": None}
    rig.sshds[green].stop()
    with pytest.raises(DeployError, match="2 of 2 hosts failed"):
        rig.deployer().roles()


def test_hosts_that_differ_are_half_way(make):
    rig = make(apart=True)
    rig.deployer().run_roles(Color.BLUE, 1, "run@1", VERSIONS)
    folder = rig.fence(rig.hosts[1]).parent
    with HostFence(str(folder), "shop", "worker").enter(2, "run@1", 0) as held:
        held.finish("green")
    assert rig.deployer().roles() == {"worker": None, "cron": Color.BLUE}


def test_who_moves_a_role_at_this_moment_is_waited_for_and_named(make):
    rig = make(apart=True)
    folder = str(rig.fence(rig.hosts[1]).parent)
    deployer = SshDeployer(rig.service, rig.secrets, lambda _: None, timedelta(seconds=0.3))
    with (
        HostFence(folder, "shop", "worker").enter(1, "run@1", 0),
        pytest.raises(DeployFenced, match=r"held by epoch 1 of run@1"),
    ):
        deployer.run_roles(GREEN, 2, "run@1", VERSIONS)
    assert rig.processes[rig.hosts[1]].runs("worker") == set()
    assert rig.processes[rig.hosts[1]].runs("cron") == {GREEN}


def test_without_roles_no_host_is_asked(make):
    rig = make(count=1, roles={})
    rig.sshds[rig.hosts[0]].stop()
    assert rig.deployer().roles() == {}
    rig.deployer().run_roles(GREEN, 2, "run@1", VERSIONS)
