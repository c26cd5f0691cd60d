"""How a deploy ends before its time: its worker killed, its task cancelled, its command too slow."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from datetime import timedelta
from pathlib import Path

import pytest

import bluegreen
from bluegreen.core.errors import DeployError
from bluegreen.deployers.fence import Fence
from bluegreen.hosts.host_fence import HostFence
from tests.unit.deployers.ssh.far import GREEN, NEEDS_SSHD, deploy, pid_in, sh
from tests.unit.deployers.test_child import Cancelled, gone

pytestmark = NEEDS_SSHD

ROOT = Path(bluegreen.__file__).parents[2]

WORKER = """
import json, sys
from bluegreen.catalog.models import Service
from bluegreen.core.colors import Color
from bluegreen.core.ports import Credentials
from bluegreen.deployers.ssh_hosts import SshDeployer
service, key = json.loads(sys.stdin.read())
credentials = Credentials("root", extra={"private_key": key})
SshDeployer(Service.model_validate(service), lambda _: credentials).deploy(Color.GREEN, "2.0", 4, "run@4")
"""


@pytest.mark.parametrize("sudo", [False, True])
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_killed_worker_takes_the_remote_group_along_but_no_daemon(make, number, sudo):
    daemon = 'setsid sleep 50 >/dev/null 2>&1 & echo $! > "$0/daemon"; '
    rig = make(
        count=1,
        sudo=sudo,
        fence="FOLDER/fences",
        commands=[sh(daemon + 'sleep 60 & echo $! > "$0/child"; echo $$ > "$0/pid"; wait')],
    )
    host, sshd = rig.hosts[0], rig.sshds[rig.hosts[0]]
    env = {**os.environ, "PYTHONPATH": f"{ROOT}/plugins:{ROOT}"}
    worker = subprocess.Popen([sys.executable, "-c", WORKER], env=env, stdin=subprocess.PIPE, text=True)
    worker.stdin.write(json.dumps([rig.service.frozen(), sshd.private_key]))
    worker.stdin.close()
    pids = [pid_in(rig.on(host, name)) for name in ("child", "pid")]
    daemon = pid_in(rig.on(host, "daemon"))
    try:
        worker.send_signal(number)
        worker.wait()
        assert all(gone(pid, 10) for pid in pids)
        assert not gone(daemon, 0)
        with Fence(rig.folder / "fences", "shop", GREEN).enter(5, "next@5", timedelta(seconds=10)):
            assert sshd.programs() == []
    finally:
        os.kill(daemon, signal.SIGKILL)


def test_a_cancelled_task_takes_the_remote_group_along(make):
    rig = make(count=1, commands=[sh('sleep 60 & echo $! > "$0/child"; wait')])
    child = rig.on(rig.hosts[0], "child")

    def cancel(*_):
        raise Cancelled

    def alarm():
        pid_in(child)
        os.kill(os.getpid(), signal.SIGALRM)

    handler = signal.signal(signal.SIGALRM, cancel)
    thread = threading.Thread(target=alarm)
    thread.start()
    try:
        with pytest.raises(Cancelled):
            deploy(rig)
    finally:
        signal.signal(signal.SIGALRM, handler)
        thread.join()
    assert gone(pid_in(child), 10)
    assert deploy_again(rig)


def deploy_again(rig):
    """The fence is free soon."""
    with HostFence(str(rig.fence(rig.hosts[0]).parent), "shop", "green").enter(5, "next@5", 10):
        return True


def test_a_command_has_time_to_clean_up_when_the_connection_ends(make):
    rig = make(count=1, commands=[sh('trap \'echo > "$0/clean"; exit\' TERM; echo $$ > "$0/pid"; sleep 60 & wait')])
    host = rig.hosts[0]

    def cut():
        pid_in(rig.on(host, "pid"))
        rig.sshds[host].cut()

    thread = threading.Thread(target=cut)
    thread.start()
    with pytest.raises(DeployError):
        deploy(rig)
    thread.join()
    assert gone(pid_in(rig.on(host, "pid")))
    assert rig.on(host, "clean").exists()


def test_a_command_that_does_not_end_is_ended_there(make):
    rig = make(count=1, timeout="400ms", commands=[sh('echo begun; echo $$ > "$0/pid"; sleep 60 & wait')])
    with pytest.raises(DeployError, match=r"did not end within 0.4 s and was killed; its last lines:\s+begun"):
        deploy(rig)
    assert gone(pid_in(rig.on(rig.hosts[0], "pid")))
