"""Hosts that are down, changed, bare or lost in the middle."""

from __future__ import annotations

import sys
import threading

import pytest

from bluegreen.core.errors import DeployError
from bluegreen.core.ports import Deployed
from tests.rigs.ssh_deploy import SCRIPT
from tests.unit.deployers.ssh.far import GREEN, NEEDS_SSHD, RELEASE, deploy, pid_in, sh
from tests.unit.deployers.test_child import gone

pytestmark = NEEDS_SSHD


def test_a_host_that_is_down_keeps_every_other_from_being_touched(make):
    rig = make()
    one, two = rig.hosts
    rig.sshds[two].stop()
    with pytest.raises(DeployError) as raised:
        deploy(rig)
    assert f"1 of 2 hosts failed:\n    {two}: root@{two} cannot be reached" in str(raised.value)
    assert f"{one}: as before: nothing was begun" in str(raised.value)
    assert "nothing was touched" in str(raised.value)
    assert not rig.fence(one).exists()


def test_a_changed_host_key_is_said_and_nothing_is_touched(make):
    rig = make()
    rig.sshds[rig.hosts[1]].change_host_key()
    with pytest.raises(DeployError, match="has CHANGED") as raised:
        deploy(rig)
    assert "ssh-keygen" in str(raised.value)
    assert [rig.ran(host) for host in rig.hosts] == [0, 0]


def test_no_python_there_is_said(make):
    rig = make(count=1, python="/no/python3")
    with pytest.raises(DeployError, match=r"there is no /no/python3 on root@"):
        deploy(rig)


def test_a_host_that_is_lost_in_the_middle_is_named_and_the_others_too(make):
    rig = make(commands=[sh(f'echo $$ > "$0/pid"; [ -e "$0/last" ] && sleep 60; {SCRIPT}')])
    one, two = rig.hosts
    rig.on(two, "last").touch()

    def cut():
        pid_in(rig.on(two, "pid"))
        rig.sshds[two].cut()

    thread = threading.Thread(target=cut)
    thread.start()
    with pytest.raises(DeployError) as raised:
        deploy(rig)
    thread.join()
    assert f"{two}: command 1 of 1: sh: root@{two} was lost in the middle" in str(raised.value)
    assert f"{one}: 2.0 is there" in str(raised.value)
    assert gone(pid_in(rig.on(two, "pid")))


def test_without_asyncssh_the_targets_can_be_asked_and_a_deploy_says_what_to_install(make, monkeypatch):
    rig = make(count=1)
    for module in ("bluegreen.hosts.ssh_session", "bluegreen.hosts.ssh_login", "bluegreen.deployers.ssh_hosts"):
        monkeypatch.delitem(sys.modules, module, raising=False)
    monkeypatch.setitem(sys.modules, "asyncssh", None)
    assert rig.deployer().status(GREEN) == Deployed(None, 0, 1)
    with pytest.raises(DeployError, match=r"asyncssh is not installed here\n; nothing was touched; pip install"):
        rig.deployer().deploy(GREEN, "2.0", 4, RELEASE)
